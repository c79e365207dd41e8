//! What a fuzzer runs: for each parser of bytes from outside a function that takes any bytes and says what must hold for them.
//!
//! Promise: a function here panics only when a promise of the parser is broken. `cargo xtask fuzz` makes bytes for them without end;
//! a test of this crate gives them those that were kept, in `corpus`.
//!
//! Start at [`TARGETS`]. Knows the parsers of all crates. Imported by nothing of the product.

pub mod csv;
#[cfg(feature = "footer")]
pub mod footer;
pub mod json;
#[cfg(feature = "listing")]
pub mod listing;
pub mod msgpack;
#[cfg(feature = "multipart")]
pub mod multipart;
#[cfg(feature = "pass")]
pub mod pass;
mod rows;
#[cfg(feature = "segment")]
pub mod segment;
#[cfg(feature = "sql")]
pub mod sql;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All of them by name, as in `fuzz_targets` and `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("csv", csv::one),
    #[cfg(feature = "footer")]
    ("footer", footer::one),
    ("json", json::one),
    #[cfg(feature = "listing")]
    ("listing", listing::one),
    ("msgpack", msgpack::one),
    #[cfg(feature = "multipart")]
    ("multipart", multipart::one),
    #[cfg(feature = "pass")]
    ("pass", pass::one),
    #[cfg(feature = "segment")]
    ("segment", segment::one),
    #[cfg(feature = "sql")]
    ("sql", sql::one),
];

/// `genuine` with changes that `edits` says: two bytes where, the first byte the lower, and one that is not zero for which bits.
#[cfg(any(feature = "footer", feature = "pass", feature = "segment"))]
fn edited(genuine: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = genuine.to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
        let length = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at % length) {
            *byte ^= edit[2];
        }
    }
    bytes
}
