//! What is said of a mistake in a program, in the words of whoever typed it: VRL's own texts name its tokens and rules.

use super::{Access, Problem};

/// VRL's numbers of errors (its `diagnostic` codes).
const FALLIBLE_ASSIGNMENT: &str = "E103";
const FALLIBLE_PREDICATE: &str = "E102";

/// Words of other languages, and what VRL has.
const WORDS: &[(&str, &str)] = &[
    ("and", "&&"),
    ("AND", "&&"),
    ("or", "||"),
    ("OR", "||"),
    ("not", "!"),
    ("NOT", "!"),
    ("is", "=="),
    ("<>", "!="),
    ("elif", "else if"),
    ("elsif", "else if"),
    ("elseif", "else if"),
];

/// Functions for what other languages have operators for.
const FUNCTIONS: &[(&str, &str)] = &[
    ("in", "includes([\"a\", \"b\"], .field)"),
    ("contains", "contains(string!(.field), \"text\")"),
    ("like", "match(string!(.field), r'pattern')"),
    ("matches", "match(string!(.field), r'pattern')"),
    ("startswith", "starts_with(string!(.field), \"text\")"),
    ("endswith", "ends_with(string!(.field), \"text\")"),
];

/// Functions of other languages, and what VRL has.
const NAMES: &[(&str, &str)] = &[
    ("len", "length(.field)"),
    ("size", "length(.field)"),
    ("count", "length(.field)"),
    ("rename", ".new = del(.old)"),
    ("delete", "del(.field)"),
    ("remove_field", "del(.field)"),
    ("to_integer", "to_int(.field)"),
    ("to_number", "to_float(.field)"),
    ("lower", "downcase(.field)"),
    ("lowercase", "downcase(.field)"),
    ("upper", "upcase(.field)"),
    ("uppercase", "upcase(.field)"),
    ("json_decode", "parse_json!(.field)"),
    ("json_encode", "encode_json(.field)"),
    ("substring", "slice!(.field, 0, 10)"),
    ("regex_replace", "replace(string!(.field), r'pattern', \"text\")"),
    ("gsub", "replace(string!(.field), r'pattern', \"text\")"),
    ("date", "parse_timestamp!(.field, \"%Y-%m-%d\")"),
];

/// VRL's number of the error for a function that does not exist.
const NO_FUNCTION: &str = "E105";

/// What was meant by a word that is no variable.
pub(super) fn for_variable(name: &str) -> String {
    match name {
        "True" | "TRUE" => "write `true`".to_owned(),
        "False" | "FALSE" => "write `false`".to_owned(),
        "None" | "nil" | "NULL" | "Null" | "undefined" => "write `null`".to_owned(),
        name if name.contains("{{") => "join texts with `+`, as in `\"host \" + string!(.host)`".to_owned(),
        name => format!("put a text in quotes: `\"{name}\"`; a field of the event begins with a dot: `.{name}`"),
    }
}

/// Says a problem again where there is a better way to say it.
pub(super) fn rephrase(problem: &mut Problem, source: &str, access: Access) {
    if problem.message.starts_with("syntax error") {
        syntax(problem, source);
    } else if problem.code == FALLIBLE_ASSIGNMENT || problem.message.starts_with("unhandled fallible assignment") {
        fallible(problem, source, access);
    } else if problem.code == NO_FUNCTION {
        let called = source.get(problem.span.clone()).unwrap_or_default();
        let name = called.split(['(', '!']).next().unwrap_or_default().trim();
        if let Some((_, ours)) = NAMES.iter().find(|(theirs, _)| *theirs == name) {
            say(problem, format!("VRL has no function `{name}`"), format!("write `{ours}`"));
        }
    } else if problem.code == FALLIBLE_PREDICATE {
        problem.message = "the condition of an `if` must be true or false".to_owned();
    }
    for note in &mut problem.notes {
        *note = note.replace("update the expression to be infallible by adding a `!`: ", "write ");
    }
}

/// Says what is wrong, and what to write instead.
fn say(problem: &mut Problem, what: String, instead: String) {
    problem.message = what;
    problem.notes = vec![instead];
}

fn syntax(problem: &mut Problem, source: &str) {
    let rest = source.get(problem.span.start..).unwrap_or_default();
    let word = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())];
    let before = source[..problem.span.start.min(source.len())].trim_end();
    if let Some(text) = rest.strip_prefix('\'') {
        let text = text.split('\'').next().unwrap_or_default();
        let line = text.lines().next().unwrap_or_default().replace('"', "\\\"");
        return say(
            problem,
            "VRL has no text in single quotes".to_owned(),
            format!("write it in double quotes: \"{line}\""),
        );
    }
    if rest.starts_with('~') && before.ends_with('=') {
        let instead = "write `match(string!(.field), r'pattern')`".to_owned();
        return say(problem, "VRL has no operator `=~`".to_owned(), instead);
    }
    // Such a word in front of a value is taken for a variable.
    let last = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    let is_last = |(theirs, _): &&(&str, &str)| *theirs == last;
    let is_next = |(theirs, _): &&(&str, &str)| *theirs == word || (word.is_empty() && rest.starts_with(theirs));
    let found = WORDS.iter().find(is_last);
    if found.is_some() {
        problem.span = before.len() - last.len()..before.len();
    }
    if let Some((theirs, ours)) = found.or_else(|| WORDS.iter().find(is_next)) {
        return say(problem, format!("VRL has no `{theirs}`"), format!("write `{ours}` instead"));
    }
    if let Some((theirs, ours)) = FUNCTIONS.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(word)) {
        return say(problem, format!("VRL has no operator `{theirs}`"), format!("write `{ours}` instead"));
    }
    // "expected one of: ..." lists tokens.
    let Some(expected) = problem.notes.iter().position(|note| note.starts_with("expected one of")) else { return };
    let begins = problem.notes[expected].contains("\"path literal\"");
    let wanted = match begins {
        true => "a value is expected here, such as `.field`, `\"text\"`, `1` or `function(.field)`",
        false => "an operator such as `==`, `&&` or `??`, or the end of the line is expected here",
    };
    problem.notes[expected] = wanted.to_owned();
    let shown: String = match rest.trim_start_matches([' ', '\t']).chars().next() {
        None => "the end".to_owned(),
        Some('\n') => "the end of the line".to_owned(),
        Some(_) if !word.is_empty() => format!("`{}`", word.chars().take(40).collect::<String>()),
        Some(c) => format!("`{c}`"),
    };
    problem.message = format!("{shown} is not expected here");
}

fn fallible(problem: &mut Problem, source: &str, access: Access) {
    let shown = source.get(problem.span.clone()).unwrap_or_default().lines().next().unwrap_or_default();
    let shown: String = shown.chars().take(60).collect();
    problem.message = format!("`{shown}` can fail, and nothing says what happens then");
    if access == Access::Write {
        problem.notes.retain(|note| !note.contains("argument type is"));
        for note in &mut problem.notes {
            *note = note.replace("or change this to an infallible assignment:", "or take the error:");
        }
        if !problem.notes.iter().any(|note| note.contains('!')) {
            problem.notes.insert(0, format!("give a default: `{shown} ?? null`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::script::{Condition, Script};

    #[test]
    fn words_of_other_languages_are_answered_with_vrls() {
        for (program, message, note) in [
            (".a = 'single'", "VRL has no text in single quotes", "write it in double quotes: \"single\""),
            (".a = .b and .c", "VRL has no `and`", "write `&&` instead"),
            (".a = .b or .c", "VRL has no `or`", "write `||` instead"),
            (".a = not .b", "VRL has no `not`", "write `!` instead"),
        ] {
            let problems = Script::compile(program).unwrap_err();
            assert_eq!(problems[0].message, message, "{program}: {problems:?}");
            assert!(problems[0].notes.iter().any(|said| said == note), "{program}: {problems:?}");
        }
    }

    #[test]
    fn no_token_of_the_parser_is_named() {
        for program in
            [".a = ", ".a = )", ".a == 1 .b", "if .a { .b = 1", ".a = [1, 2", ".a = {\"b\": }", "}", ".a = 1 +"]
        {
            for problem in Script::compile(program).unwrap_err() {
                let text = format!("{} {:?}", problem.message, problem.notes);
                assert!(!text.contains("literal") && !text.contains("Token"), "{program}: {text}");
            }
        }
        let problems = Script::compile(".x = len(.host)").unwrap_err();
        assert_eq!(problems[0].notes, ["write `length(.field)`"], "{problems:?}");
        let problems = Script::compile(".x = .level == error").unwrap_err();
        assert!(problems[0].notes[0].starts_with("put a text in quotes: `\"error\"`"), "{problems:?}");
        let problems = Condition::compile(".level").unwrap_err();
        assert!(problems[0].notes.iter().any(|note| note.contains("==")), "{problems:?}");
    }
}
