//! The dead letters a weir has left behind.

use std::path::Path;

/// A dead letter: node, position, code and body.
pub type Letter = (String, u64, String, Option<Vec<u8>>);

/// All there are of a graph, by node and position.
///
/// # Panics
/// When the log is damaged.
pub fn dead_letters(data_dir: &Path, graph: &str) -> Vec<Letter> {
    let mut letters = Vec::new();
    let each = |letter: weir::graph::DeadLetter| {
        let position = letter.id.rsplit('/').next().and_then(|position| position.parse().ok()).unwrap();
        letters.push((letter.node.clone(), position, letter.code.clone(), letter.bytes()));
    };
    let dir = data_dir.join(graph).join("dead-letters");
    weir::graph::read_dead_letters(&dir, each, |damage| panic!("{damage}")).unwrap();
    letters.sort();
    letters
}
