//! Letters that lay elsewhere, such as a topic, put into the log of a graph, from where they can be tried again. They are
//! letters of that graph then, whichever graph wrote them.

use super::DeadLetter;
use super::writer::open_log;
use crate::config::Graph;
use crate::delivery::log::AppendError;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::runtime::{folder_error, io_error, lock_stopped};

/// Adds letters to the log of a graph that does not run; durable when it returns. All of them, or an error.
pub fn import_dead_letters(graph: &Graph, letters: &[DeadLetter]) -> Result<()> {
    let _lock = lock_stopped(graph)?;
    let dir = graph.dead_letters_dir();
    let failed = |error| io_error("import dead letters", &dir, error);
    let mut log = open_log(graph).map_err(|error| folder_error("import dead letters", &dir, error))?;
    for letter in letters {
        match log.append(&letter.clone().of_graph(&graph.name).to_json()) {
            Ok(_) => {}
            Err(AppendError::Io(error)) => return Err(failed(error)),
            Err(error) => {
                let why = format!("{error}: raise dead_letters.max_size, or try those there again first");
                return Err(Error::new(ErrorKind::Config, "import dead letters", why));
            }
        }
    }
    log.sync().map_err(failed)
}
