//! The second program, which shares nothing with this one.

use std::path::{Path, PathBuf};
use std::process::Command;

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit/verify.py")
}

/// What it says of an export: its exit code and its words.
pub(super) fn verdict(export: &[String], kept: &[String]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: String, lines: &[String]| {
        let path = directory.path().join(name);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    };
    let mut command = Command::new("python3");
    command.arg("-I").arg(program()).arg(write("export".into(), export));
    for (at, head) in kept.iter().enumerate() {
        command.arg("--head").arg(write(format!("head-{at}"), std::slice::from_ref(head)));
    }
    let key = export.first().and_then(|line| {
        serde_json::from_str::<serde_json::Value>(line).ok()?["key"]
            .as_str()
            .map(str::to_owned)
    });
    if let Some(key) = key {
        command.arg("--key").arg(key);
    }
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    (ran.status.code().unwrap(), said)
}

#[test]
fn it_is_short_enough_to_be_read() {
    let text = std::fs::read_to_string(program()).unwrap();
    assert!(text.lines().count() <= 150, "{} lines", text.lines().count());
    let needs: Vec<_> = text.lines().filter(|line| line.contains("import")).collect();
    assert_eq!(needs, ["import argparse, functools, hashlib, json, sys, time"]);
}
