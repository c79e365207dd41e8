//! Another broken twin: its warehouse's files are tied to no product, table or name, and its vault gives all products one lookup key.
//!
//! Promise: as of the other twin; see `src/main.rs`. Start at `crates/coffer/tests/proofs.rs`, which runs it. For tests only.

use std::process::ExitCode;

fn main() -> ExitCode {
    coffer::program(coffer::Parts {
        files: warehouse::Files::Untied,
        lookups: vault::Lookups::OneForAll,
        ..coffer::Parts::default()
    })
}
