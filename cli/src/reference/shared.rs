//! Options that several components have in common, such as `tls` and `buffer`: explained once, on a page of their own.

use weir::component::Component;

use super::options::OptionEntry;
use super::{Page, list};

/// Fewer nested options than this are repeated on each component's page.
const LEAST_NESTED: usize = 2;

/// The groups of options that at least two components have in common.
pub(super) struct Shared {
    groups: Vec<Group>,
}

/// An option with nested options, the same in several components.
struct Group {
    options: Vec<OptionEntry>,
    users: Vec<String>,
}

impl Shared {
    /// Compares the options of all components.
    pub(super) fn find(components: &[&Component], options: &[Vec<OptionEntry>]) -> Shared {
        let mut groups: Vec<Group> = Vec::new();
        for (component, options) in components.iter().zip(options) {
            for group in options.chunk_by(|one, next| one.top() == next.top() && next.is_nested()) {
                if group.len() <= LEAST_NESTED {
                    continue;
                }
                let user = format!("{} {}", component.name, component.kind.name());
                match groups.iter_mut().find(|known| known.nested() == &group[1..] && known.top() == group[0].top()) {
                    Some(known) if known.users.contains(&user) => {}
                    Some(known) => known.users.push(user),
                    None => groups.push(Group { options: group.to_vec(), users: vec![user] }),
                }
            }
        }
        groups.retain(|group| group.users.len() > 1);
        groups.sort_by(|one, other| one.top().cmp(other.top()));
        Shared { groups }
    }

    /// The options with those of shared groups replaced by a link.
    pub(super) fn replaced(&self, options: &[OptionEntry]) -> Vec<OptionEntry> {
        let mut out = Vec::new();
        for group in options.chunk_by(|one, next| one.top() == next.top() && next.is_nested()) {
            let known = self.groups.iter().find(|known| known.nested() == &group[1..] && known.top() == group[0].top());
            let Some(known) = known else {
                out.extend_from_slice(group);
                continue;
            };
            let mut option = group[0].clone();
            option.text += &format!("\n\nOptions: [`{}`](shared.md#{}).", known.top(), self.anchor(known));
            option.text = option.text.trim_start().to_owned();
            out.push(option);
        }
        out
    }

    /// The page that explains all groups.
    pub(super) fn page(&self) -> Page {
        let mut text = "# Shared options\n\nOptions that several components have in common.\n".to_owned();
        for group in &self.groups {
            let users = group.users.join(", ");
            text +=
                &format!("\n## {}\n\nUsed by: {users}.\n\n{}", self.title(group), list(group.explained()).trim_end());
            text.push('\n');
        }
        Page { file: "shared.md".to_owned(), title: "Shared options".to_owned(), package: None, text }
    }

    /// The option's name; with its users if groups of another content have the same name.
    fn title(&self, group: &Group) -> String {
        let is_unique = self.groups.iter().filter(|other| other.top() == group.top()).count() == 1;
        if is_unique { group.top().to_owned() } else { format!("{} ({})", group.top(), group.users.join(", ")) }
    }

    /// The title as GitHub and mdBook turn it into the anchor of a heading.
    fn anchor(&self, group: &Group) -> String {
        let title = self.title(group).to_lowercase();
        let kept = title.chars().filter(|one| one.is_alphanumeric() || matches!(one, '-' | '_' | ' '));
        kept.map(|one| if one == ' ' { '-' } else { one }).collect()
    }
}

impl Group {
    fn top(&self) -> &str {
        self.options[0].top()
    }

    /// The nested options, and the option itself if it accepts words that need an explanation.
    fn explained(&self) -> &[OptionEntry] {
        if self.options[0].words.is_empty() { self.nested() } else { &self.options }
    }

    fn nested(&self) -> &[OptionEntry] {
        &self.options[1..]
    }
}
