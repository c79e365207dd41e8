//! The binary: the program as it is, and nothing else.
//!
//! Start at [`coffer::program`].

use std::process::ExitCode;

fn main() -> ExitCode {
    coffer::program(coffer::Parts::default())
}
