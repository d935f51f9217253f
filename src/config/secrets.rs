//! Keeps values that came from outside the files out of messages.

use super::tree::{Node, Value};

/// What stands for such a value.
pub(crate) const HIDDEN: &str = "***";

/// Shorter ones are only hidden where they stand alone, or every message would be full of holes.
const DISTINCT: usize = 4;

/// The values that may not be shown.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// All that was put in below `node`. With `words`, also the words they consist of: what is said of a value
    /// may quote a part of it.
    pub fn of(node: &Node, words: bool) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.collect(node, words);
        // The longest first: one may be a part of another.
        secrets.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
        secrets.0.dedup();
        secrets
    }

    /// These and those of another.
    pub fn and(mut self, other: Secrets) -> Secrets {
        self.0.extend(other.0);
        self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self
    }

    fn collect(&mut self, node: &Node, words: bool) {
        if let Some(written) = &node.written {
            let secrets = written.pieces.iter().filter(|piece| piece.is_secret);
            for value in secrets.filter_map(|piece| written.result.get(piece.to.clone())) {
                self.add(value);
                let parts = value.split(|c: char| !c.is_alphanumeric() && c != '_');
                parts.filter(|part| words && part.len() >= DISTINCT).for_each(|part| self.add(part));
            }
        }
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| self.collect(item, words)),
            Value::Map(entries) => entries.iter().for_each(|entry| self.collect(&entry.node, words)),
            _ => {}
        }
    }

    fn add(&mut self, value: &str) {
        let escaped = value.escape_debug().to_string();
        if escaped != value {
            self.0.push(escaped);
        }
        if !value.trim().is_empty() {
            self.0.push(value.to_owned());
        }
    }

    /// The text without them.
    pub fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| replace(&text, secret))
    }
}

/// A line of a file with `*` for each character of the users, paths and queries of addresses in it, which may be secrets.
pub(crate) fn hide_addresses(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + "://".len());
        let ends = |c: char| c.is_whitespace() || "\"'`,{}$<>[]()".contains(c);
        let (address, after) = behind.split_at(behind.find(ends).unwrap_or(behind.len()));
        let (authority, path) = address.split_at(address.find(['/', '?', '#']).unwrap_or(address.len()));
        let (user, host) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let stars = |text: &str| "*".repeat(text.chars().count());
        let root = path.chars().next().map(String::from).unwrap_or_default();
        out.extend([before, &stars(user), host, &root, &stars(path.get(root.len()..).unwrap_or_default())]);
        rest = after;
    }
    out + rest
}

fn replace(text: &str, secret: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, behind) = (&rest[..at], &rest[at + secret.len()..]);
        let touches = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let is_alone = !touches(before.chars().next_back()) && !touches(behind.chars().next());
        out.push_str(before);
        out.push_str(if is_alone || secret.len() >= DISTINCT { HIDDEN } else { secret });
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{Secrets, hide_addresses, replace};

    #[test]
    fn of_an_address_in_a_line_scheme_host_and_port_are_shown_and_nothing_moves() {
        for (line, shown) in [
            ("    url: https://me:pw@h:8443/T0KEN/x?k=v # why", "    url: https://******h:8443/*********** # why"),
            ("endpoints: [\"http://a:1\", 'http://b/c']", "endpoints: [\"http://a:1\", 'http://b/*']"),
            ("generator_url: 'http://p/x?y={{ .a }}'", "generator_url: 'http://p/****{{ .a }}'"),
            ("broker: kafka:9092", "broker: kafka:9092"),
            ("u: http://h?\u{e4}b", "u: http://h?**"),
        ] {
            assert_eq!(hide_addresses(line), shown);
        }
    }

    #[test]
    fn whole_values_are_hidden_and_short_ones_only_where_they_stand_alone() {
        assert_eq!(replace("no host `hunter22`", "hunter22"), "no host `***`");
        assert_eq!(replace("a bad `a`", "a"), "*** bad `***`");
        assert_eq!(replace("a bad", "b"), "a bad");
        let mut secrets = Secrets::default();
        secrets.add("one\ntwo");
        assert_eq!(secrets.hide(format!("not {:?}", "one\ntwo")), "not \"***\"");
    }
}
