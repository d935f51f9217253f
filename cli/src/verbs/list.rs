//! `weir list`

use weir::component::{codecs, components};
use weir::config::nearest_name;

use crate::Exit;
use crate::args::{List, ListFormat};
use crate::print::{dataln, errln, out_as_is, outln};
use crate::screen::{Screen, Style};

pub(super) fn run(args: &List) -> Exit {
    if !args.components.is_empty() {
        return options_of(&args.components);
    }
    let all = components();
    let codecs = [("decoding", codecs(true)), ("encoding", codecs(false))];
    let codecs = codecs.into_iter().flat_map(|(kind, codecs)| codecs.into_iter().map(move |codec| (kind, codec)));
    match args.format {
        ListFormat::Json => {
            let mut entries: Vec<_> = all
                .iter()
                .map(|component| {
                    serde_json::json!({
                        "kind": component.kind.name(),
                        "name": component.name,
                        "package": component.package,
                        "summary": component.summary(),
                        "example": component.example,
                    })
                })
                .collect();
            entries.extend(codecs.map(|(kind, (name, summary))| {
                serde_json::json!({ "kind": kind, "name": name, "summary": summary, "example": format!("{kind}: {name}") })
            }));
            dataln!("{:#}", serde_json::Value::from(entries));
        }
        ListFormat::Markdown => {
            let pages = crate::reference::pages();
            outln!("{}", pages.iter().map(|page| page.text.as_str()).collect::<Vec<_>>().join("\n"));
        }
        ListFormat::Text => {
            let screen = Screen::out();
            let components = all.iter().map(|component| (component.kind.name(), component.name, component.summary()));
            let codecs = codecs.map(|(kind, (name, summary))| (kind, name, summary));
            for (kind, name, summary) in components.chain(codecs) {
                let name = format!(
                    "{}{:pad$}",
                    screen.paint(Style::Heading, name),
                    "",
                    pad = 24_usize.saturating_sub(name.len())
                );
                out_as_is(&format!("{kind:<10} {name} {}\n", screen.wrap(&summary, 36)));
            }
        }
    }
    Exit::Ok
}

/// Prints the reference page of each named component; a source and a sink can have the same name.
fn options_of(names: &[String]) -> Exit {
    let pages = crate::reference::complete_pages();
    let mut exit = Exit::Ok;
    for name in names {
        let mut found = pages.iter().filter(|page| page.package.is_some() && page.title == *name).peekable();
        if found.peek().is_none() {
            errln!("{}", unknown(name));
            exit = Exit::Usage;
        }
        found.for_each(|page| outln!("{}", page.text));
    }
    exit
}

/// Says that a name is none of a component, and what was probably meant.
fn unknown(name: &str) -> String {
    let (decodings, encodings) = (codecs(true), codecs(false));
    let is_in = |codecs: &[(&str, String)]| codecs.iter().any(|(codec, _)| *codec == name);
    let (decodes, encodes) = (is_in(&decodings), is_in(&encodings));
    let option = match (decodes, encodes) {
        (true, true) => "`decoding` or `encoding`",
        (true, false) => "`decoding`",
        (false, true) => "`encoding`",
        (false, false) => {
            let names = components().into_iter().map(|component| component.name);
            let codecs = decodings.iter().chain(&encodings).map(|(codec, _)| *codec);
            let names: Vec<&str> = names.chain(codecs).collect();
            return match nearest_name(name, &names) {
                Some(meant) => {
                    format!("there is no component `{name}`; did you mean `{meant}`? `weir list` prints all")
                }
                None => format!("there is no component `{name}`; `weir list` prints all of them"),
            };
        }
    };
    format!(
        "`{name}` is a codec, not a component: write it for {option} of a node; `weir list file` prints its options"
    )
}
