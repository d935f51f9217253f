//! `weir init`: a first graph from a template.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;

use weir::error::{Error, ErrorKind, Result};

use crate::Exit;
use crate::args::Init;
use crate::print::{errln, outln};

/// A graph to begin with; each is an example that is validated and tested like any other.
struct Template {
    name: &'static str,
    text: &'static str,
}

macro_rules! templates {
    ($($name:literal $file:literal)*) => {
        &[$(Template { name: $name, text: include_str!(concat!("../../../config-examples/", $file)) },)*]
    };
}

const TEMPLATES: &[Template] = templates! {
    "filter" "filter.yaml"
    "remap" "remap.yaml"
    "route" "route.yaml"
    "dedupe" "dedupe.yaml"
    "throttle" "throttle.yaml"
    "sample" "sample.yaml"
    "aggregate" "aggregate.yaml"
    "cache" "cache.yaml"
    "codecs" "codecs.yaml"
    "points" "points.yaml"
    "errors" "errors.yaml"
    "files" "files.yaml"
    "key-events" "key-events/graph.yaml"
    "streaming-events" "streaming-events/graph.yaml"
    "firing-alerts" "firing-alerts/graph.yaml"
    "scaling-signal" "scaling-signal/graph.yaml"
};

impl Template {
    /// The first sentence of the file's opening comment.
    fn summary(&self) -> String {
        let comment = self.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
        let comment = comment.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        comment.split(['.', ':', ';']).next().unwrap_or_default().to_owned()
    }
}

pub(super) fn run(args: &Init) -> Exit {
    let template = match &args.template {
        Some(name) => TEMPLATES.iter().find(|template| template.name == *name),
        None => ask(),
    };
    let Some(template) = template else {
        if let Some(name) = &args.template {
            errln!("there is no template `{name}`");
        }
        errln!("name one of these templates, as in `weir init route`:");
        TEMPLATES.iter().for_each(|template| errln!("  {:<18} {}", template.name, template.summary()));
        return Exit::Usage;
    };
    match write_graph(&args.dir, template.text) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            errln!("{error}");
            Exit::Failed
        }
    }
}

/// Lets a person at a terminal choose.
fn ask() -> Option<&'static Template> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    outln!("What is the graph to do?");
    for (number, template) in TEMPLATES.iter().enumerate() {
        outln!("  {:>2}  {:<18} {}", number + 1, template.name, template.summary());
    }
    crate::print::out(format_args!("Number: "));
    let _shown = std::io::stdout().flush();
    let mut answer = String::new();
    std::io::stdin().lock().take(80).read_line(&mut answer).ok()?;
    TEMPLATES.get(answer.trim().parse::<usize>().ok()?.checked_sub(1)?)
}

/// Writes a new graph into a folder and says what to do with it.
pub(super) fn write_graph(dir: &Path, text: &str) -> Result<()> {
    let file = dir.join("graph.yaml");
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, "write the graph", "the file system refused")
            .with("path", file.display())
            .caused_by(error)
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    if file.exists() {
        return Err(Error::new(ErrorKind::Io, "write the graph", "the file is there already; choose another folder")
            .with("path", file.display()));
    }
    std::fs::write(&file, text).map_err(failed)?;
    let file = file.display();
    outln!("wrote {file}");
    outln!("next:  weir validate {file}");
    outln!("       weir test {file}");
    outln!("       weir run {file}");
    Ok(())
}
