//! `weir list`

use weir::component::components;

use crate::Exit;
use crate::args::{List, OutputFormat};
use crate::print::outln;

pub(super) fn run(args: &List) -> Exit {
    let all = components();
    match args.format {
        OutputFormat::Json => {
            let entries: Vec<_> = all
                .iter()
                .map(|component| {
                    serde_json::json!({
                        "kind": component.kind.name(),
                        "name": component.name,
                        "summary": component.summary(),
                        "example": component.example,
                    })
                })
                .collect();
            outln!("{:#}", serde_json::Value::from(entries));
        }
        OutputFormat::Text => {
            for component in all {
                outln!("{:<10} {:<12} {}", component.kind.name(), component.name, component.summary());
            }
        }
    }
    Exit::Ok
}
