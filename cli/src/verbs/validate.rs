//! `weir validate`

use std::io::IsTerminal;

use weir::config;

use crate::Exit;
use crate::args::{OutputFormat, Validate};

pub(super) fn run(args: &Validate) -> Exit {
    let loaded = super::load(&args.graph);
    match args.format {
        OutputFormat::Json => println!("{:#}", config::render_json(&loaded)),
        OutputFormat::Text => {
            eprint!("{}", config::render_text(&loaded, std::io::stderr().is_terminal()));
            if let Some(graph) = &loaded.graph {
                println!("{}: {} nodes, ok; next: weir test, weir run", graph.name, graph.nodes.len());
            }
        }
    }
    if loaded.graph.is_some() { Exit::Ok } else { Exit::BadConfig }
}
