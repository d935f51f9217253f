//! `weir list`

use weir::component::components;

use crate::Exit;
use crate::args::{List, ListFormat};
use crate::print::outln;

pub(super) fn run(args: &List) -> Exit {
    let all = components();
    match args.format {
        ListFormat::Json => {
            let entries: Vec<_> = all
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
            outln!("{:#}", serde_json::Value::from(entries));
        }
        ListFormat::Markdown => {
            let pages = crate::reference::pages();
            outln!("{}", pages.iter().map(|page| page.text.as_str()).collect::<Vec<_>>().join("\n"));
        }
        ListFormat::Text => {
            for component in all {
                outln!("{:<10} {:<12} {}", component.kind.name(), component.name, component.summary());
            }
        }
    }
    Exit::Ok
}
