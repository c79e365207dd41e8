//! What was found or made by hand once is held for ever: every file of `corpus` goes through its target.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

/// What one target may keep.
const MOST_FILES: usize = 200;
/// What all of them may.
const MOST_BYTES: u64 = 1 << 20;

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("there is such a target");
    let files = files_in(&here().join("corpus").join(name));
    assert!(!files.is_empty(), "nothing is kept for {name}: its target would hold nothing");
    assert!(files.len() <= MOST_FILES, "{} files are kept for {name}", files.len());
    for file in files {
        let bytes = fs::read(&file).expect("it can be read");
        assert!(catch_unwind(|| target(&bytes)).is_ok(), "{} breaks {name}", file.display());
    }
}

macro_rules! replayed {
    ($($target:ident)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*
    };
}

replayed!(csv footer json listing msgpack multipart pass segment sql);

#[test]
fn every_target_has_a_program_a_corpus_and_a_test_here() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let named = |directory: &str| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        files_in(&here().join(directory)).into_iter().map(stem).collect()
    };
    assert_eq!(targets, named("fuzz_targets"));
    assert_eq!(targets, named("corpus"));
    assert_eq!(targets, REPLAYED.iter().map(|name| (*name).to_owned()).collect());
    let manifest = fs::read_to_string(here().join("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name} is not built"
        );
    }
}

#[test]
fn the_corpus_stays_small() {
    let directories = files_in(&here().join("corpus"));
    let bytes: u64 = directories
        .iter()
        .flat_map(|directory| files_in(directory))
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes are kept");
}
