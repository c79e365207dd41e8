//! A broken twin: the whole program with one weakness, which a drill has to find out. Its warehouse acknowledges rows before any zone has them.
//!
//! Promise: it is a program of its own that no installation comes with. The weakness is a value in this file; nothing that the real
//! program reads can say it.
//!
//! Start at `crates/coffer/tests/drill.rs`, which runs it. For tests only.

use std::process::ExitCode;

use journal::Acknowledge;

fn main() -> ExitCode {
    coffer::program(coffer::Parts {
        acknowledge: Acknowledge::TooEarly,
        ..coffer::Parts::default()
    })
}
