//! The Dockerfile names what is there; `scripts/image check` shows that its image works, where images can be built.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;

use weir_tests::command::weir;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The instructions of the Dockerfile, lines that go on joined.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').map(|(word, rest)| (word.to_owned(), rest.to_owned())).unwrap()).collect()
}

/// What is behind an instruction, the last time it stands there.
fn last(word: &str) -> String {
    instructions().into_iter().rfind(|(found, _)| found == word).unwrap_or_else(|| panic!("no {word}")).1
}

#[test]
fn it_builds_with_what_the_project_has() {
    let bases: Vec<String> =
        instructions().into_iter().filter(|(word, _)| word == "FROM").map(|(_, base)| base).collect();
    let version = read("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned));
    let version = version.unwrap().replace('"', "");
    assert_eq!(bases, [format!("rust:{version}-bookworm AS build"), "debian:bookworm-slim".to_owned()]);
    let run = last("RUN");
    let script = run.split_whitespace().find(|word| word.starts_with("scripts/")).unwrap();
    assert!(root().join(script).is_file(), "{script}");
    let profile = run.split_whitespace().skip_while(|word| *word != "--profile").nth(1).unwrap();
    assert!(read("Cargo.toml").contains(&format!("[profile.{profile}]")), "{profile}");
    assert!(run.contains(&format!("target/{profile}/weir ")), "what was built is what is taken: {run}");
}

#[test]
fn what_the_build_needs_is_not_ignored() {
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let members = members.split(',').map(|member| member.trim().trim_matches('"')).filter(|member| !member.is_empty());
    let needed: Vec<&str> = members.chain(["scripts", "config-examples", "Cargo.lock", "src"]).collect();
    let ignored = read(".dockerignore");
    for line in ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let hit = needed.iter().find(|path| path.split('/').next() == line.split('/').next());
        assert_eq!(hit, None, "{line} is needed");
    }
    assert!(ignored.lines().any(|line| line == "target"), "gigabytes would be sent to the builder");
}

#[test]
fn it_starts_what_the_binary_has_and_not_as_root() {
    let command = |word: &str| serde_json::from_str::<Vec<String>>(&last(word)).unwrap();
    let (_, health) = last("HEALTHCHECK").split_once("CMD ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let health: Vec<String> = serde_json::from_str(&health).unwrap();
    assert_eq!((command("ENTRYPOINT"), &health[0][..]), (vec!["weir".to_owned()], "weir"));
    let dir = tempfile::tempdir().unwrap();
    for args in [&command("CMD")[..], &health[1..]] {
        // The graph's place is empty here: the verb is known, and says what is missing.
        let args: Vec<&str> = args.iter().map(|arg| arg.strip_prefix('/').unwrap_or(arg)).collect();
        let done = weir(dir.path(), &args).exits(78);
        assert!(done.err.contains("etc/weir"), "{}", done.err);
    }
    let user = last("USER");
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
    assert!(read("Dockerfile").contains(&format!(
        "-o {0} -g {0} /out{1}",
        user.split(':').next().unwrap(),
        last("VOLUME")
    )));
}
