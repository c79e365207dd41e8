//! What is written in the files: headers, size, nothing unfinished, nothing of one machine.

use crate::checks::Outcome;
use crate::repo::{Repo, TextFile};

const MOST_LINES: usize = 700;

// Split, so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("FIX", "ME"),
    concat!("#[", "ignore"),
];

/// Folders that exist on the machine where something was written, and nowhere else.
const MACHINE_PATHS: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
];

/// A registry's host says where somebody's machine fetched from; the tools know that themselves.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("deb.debian", ".org"),
];

/// Reads every text file that is or would be committed.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<Outcome> {
    let files = repo.text_files()?;
    let problems = files.iter().flat_map(judge).collect();
    Ok(Outcome::new(problems, format!("{} files", files.len())))
}

fn judge(file: &TextFile) -> Vec<String> {
    let mut problems = Vec::new();
    let path = &file.path;
    if path.ends_with(".rs") {
        let lines = file.text.lines().count();
        if lines > MOST_LINES {
            problems.push(format!("{path} has {lines} lines; nobody reads more than {MOST_LINES} whole"));
        }
        let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("/tests/") && !path.contains("/src/");
        if is_root && !file.text.starts_with("//!") {
            problems.push(format!(
                "{path} does not begin with what it is, what it promises and where to start (`//!`)"
            ));
        }
        for (number, line) in numbered(file) {
            for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{path}:{number}: {word} is unfinished work"));
            }
        }
    }
    if !path.ends_with(".lock") {
        for (number, line) in numbered(file) {
            for found in MACHINE_PATHS.iter().filter(|found| begins_a_path(line, found)) {
                problems.push(format!("{path}:{number}: {found}… is a path of one machine"));
            }
            for found in REGISTRY_HOSTS.iter().filter(|found| line.contains(**found)) {
                problems.push(format!("{path}:{number}: names the registry host {found}"));
            }
        }
    }
    problems
}

fn numbered(file: &TextFile) -> impl Iterator<Item = (usize, &str)> {
    file.text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether `folder` stands in `line` as the start of a path, not in the middle of one.
fn begins_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        !line[..at]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_alphanumeric() || "_-.*}$~".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        judge(&TextFile {
            path: path.into(),
            text: text.into(),
        })
        .len()
    }

    #[test]
    fn planted_words_are_found() {
        assert_eq!(found("crates/x/src/lib.rs", "pub fn f() {}"), 1);
        assert_eq!(found("crates/x/tests/y.rs", "fn f() {}"), 1);
        assert_eq!(found("crates/x/src/y.rs", &format!("fn f() {{ {}) }}", UNFINISHED[0])), 1);
        assert_eq!(found("crates/x/src/y.rs", &"\n".repeat(MOST_LINES + 1)), 1);
        assert_eq!(found("docs/a.md", &format!("see {}me/notes", MACHINE_PATHS[0])), 1);
        assert_eq!(
            found(
                "tests/python/requirements.txt",
                &format!("--index-url https://{}/simple", REGISTRY_HOSTS[2])
            ),
            1
        );
    }

    #[test]
    fn other_words_pass() {
        assert_eq!(found("crates/x/src/lib.rs", "//! What it is."), 0);
        assert_eq!(found("docs/a.md", &format!("https://example.net{}page", MACHINE_PATHS[1])), 0);
    }
}
