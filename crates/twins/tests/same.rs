//! The twin is the program but for its weakness: no option makes it, and none tells it.
//!
//! Being here, this test also has the twin built wherever tests are, for `crates/coffer/tests/drill.rs`.

use std::process::Command;

#[test]
fn the_twin_has_no_word_of_its_own_weakness() {
    let help = Command::new(env!("CARGO_BIN_EXE_coffer-twin"))
        .args(["zones", "drill", "--help"])
        .output()
        .unwrap();
    assert!(help.status.success(), "{help:?}");
    // It has a name of its own, so that nobody takes it for the program.
    let words = String::from_utf8(help.stdout).unwrap().to_lowercase().replace("coffer-twin", "");
    assert!(words.contains("--kill"), "{words}");
    assert!(!words.contains("twin") && !words.contains("early"), "{words}");
}
