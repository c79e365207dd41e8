//! Another broken twin: its roles act before their record is durable, and its vault says that it recorded revocations and did not.
//!
//! Promise: as of the other twin; see `src/main.rs`. Start at `crates/coffer/tests/audit.rs`, which runs it. For tests only.

use std::process::ExitCode;

fn main() -> ExitCode {
    coffer::program(coffer::Parts {
        order: edge::Order::ActFirst,
        keeping: vault::Keeping::NoRevocations,
        ..coffer::Parts::default()
    })
}
