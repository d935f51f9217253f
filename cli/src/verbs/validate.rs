//! `weir validate`

use weir::config;

use crate::Exit;
use crate::args::{OutputFormat, Validate};
use crate::print::{dataln, outln};
use crate::screen::Screen;

pub(super) fn run(args: &Validate) -> Exit {
    let loaded = super::load(&args.graph);
    match args.format {
        OutputFormat::Json => dataln!("{:#}", config::render_json(&loaded)),
        OutputFormat::Text => {
            crate::print::err_as_is(&config::render_text(&loaded, Screen::err().has_colour));
            if let Some(graph) = &loaded.graph {
                outln!("{}: {} nodes, ok; next: weir test, weir run", graph.name, graph.nodes.len());
            }
        }
    }
    if loaded.graph.is_some() { Exit::Ok } else { Exit::BadConfig }
}
