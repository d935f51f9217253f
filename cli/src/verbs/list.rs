//! `weir list`

use weir::component::components;

use crate::Exit;
use crate::args::{List, OutputFormat};

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
            println!("{:#}", serde_json::Value::from(entries));
        }
        OutputFormat::Text => {
            for component in all {
                println!("{:<10} {:<12} {}", component.kind.name(), component.name, component.summary());
            }
        }
    }
    Exit::Ok
}
