//! Another broken twin: its vault lets the gateway lease product keys as well.
//!
//! Promise: as of the other twin; see `src/main.rs`. Start at `crates/coffer/tests/breach.rs`, which runs it. For tests only.

use std::process::ExitCode;

fn main() -> ExitCode {
    coffer::program(coffer::Parts {
        table: edge::Table::OneMore,
        ..coffer::Parts::default()
    })
}
