//! Command lines of the documentation: their words are as the programs take them, and the files they name are there.

use weir_tests::pages::{Page, root};

use crate::is_there;

/// Programs of the system, of which nothing is checked.
const SYSTEM: [&str; 7] = ["cat", "cp", "docker", "export", "head", "mkdir", "sed"];

/// Checks every command of a block.
pub(crate) fn check(page: &Page, text: &str) -> Result<(), String> {
    let text = text.replace("\\\n", " ");
    text.lines().flat_map(commands).try_for_each(|words| command(page, &words))
}

/// The commands of a line, as words.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
        let length = match first {
            '|' | ';' | '&' => {
                commands.push(Vec::new());
                rest.find(|other| other != first).unwrap_or(rest.len())
            }
            quote @ ('\'' | '"') => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
            _ => rest.find([' ', '|', ';', '\'', '"']).unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(length);
        if !"|;&".contains(first)
            && let Some(words) = commands.last_mut()
        {
            words.push(word.trim_matches(['\'', '"']).to_owned());
        }
        rest = behind.trim_start();
    }
    commands.retain(|words| !words.is_empty());
    commands
}

fn command(page: &Page, words: &[String]) -> Result<(), String> {
    let is_assignment = |word: &&String| word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'));
    let words: Vec<&String> = words.iter().skip_while(is_assignment).collect();
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    // What a redirection writes need not be there.
    let mut arguments: Vec<&str> = arguments.iter().map(|word| word.as_str()).collect();
    if let Some(at) = arguments.iter().position(|word| word.starts_with(['<', '>'])) {
        arguments.truncate(at);
    }
    match program.as_str() {
        "eval" => {
            let inside = arguments.join(" ");
            let inside = inside.trim_start_matches("$(").trim_end_matches(')').to_owned();
            commands(&inside).iter().try_for_each(|words| command(page, words))
        }
        "cargo" => cargo(&arguments),
        "just" => recipe(&arguments),
        "weir" | "target/release/weir" | "target/release/weir-custom" => weir(page, &arguments),
        script if script.contains('/') && is_there(script) => Ok(()),
        system if SYSTEM.contains(&system) => Ok(()),
        other => Err(format!("`{other}` is no program that this test knows, and no file of the project")),
    }
}

/// clap takes the line, and the graphs it names are files of the project or shown on the page.
fn weir(page: &Page, arguments: &[&str]) -> Result<(), String> {
    let line = [&["weir"], arguments].concat();
    weir_cli::command().try_get_matches_from(line).map_err(|error| error.to_string())?;
    let is_shown = |file: &str| {
        let name = file.trim_end_matches(".yaml");
        // `graph.yaml` is any graph; another name is that of a graph on the page.
        name == "graph" || page.text.lines().any(|line| line == format!("name: {name}"))
    };
    let graphs = arguments.iter().filter(|word| word.ends_with(".yaml") || word.starts_with("config-examples/"));
    match graphs.copied().find(|file| !is_there(file) && !is_shown(file)) {
        Some(file) => Err(format!("there is no `{file}` in the project, nor a graph of that name on the page")),
        None => Ok(()),
    }
}

/// The crates and tests that a line of cargo names are there.
fn cargo(arguments: &[&str]) -> Result<(), String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).map_err(|error| error.to_string())?;
    for pair in arguments.windows(2) {
        let (is_known, what) = match pair[0] {
            "-p" => (manifest.contains(&format!("\n{} = {{ path", pair[1])) || pair[1] == "weir-tests", "crate"),
            "--test" => (
                ["tests/tests", "cli/tests", "components/kafka/tests"]
                    .iter()
                    .any(|folder| is_there(&format!("{folder}/{}.rs", pair[1]))),
                "test",
            ),
            _ => continue,
        };
        if !is_known {
            return Err(format!("there is no {what} `{}`", pair[1]));
        }
    }
    Ok(())
}

fn recipe(arguments: &[&str]) -> Result<(), String> {
    let recipes = std::fs::read_to_string(root().join("justfile")).map_err(|error| error.to_string())?;
    let Some(name) = arguments.first() else { return Ok(()) };
    let is_recipe = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', ' ']));
    if recipes.lines().any(is_recipe) { Ok(()) } else { Err(format!("the justfile has no `{name}`")) }
}
