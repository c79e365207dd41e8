//! The audit journal's form: records, the tree over them, signed heads, and the check that nothing was changed.
//!
//! Promise: a record holds no secret and no identity, except as a keyed hash, and has one spelling; whoever keeps a head that vault and
//! accounts signed finds out by it when a record that came before is missing, changed, moved or another one.
//!
//! Start at [`Record`] for what is written, [`Frontier`] for the tree (RFC 6962, section 2.1) and [`verify`] for the check. A second program
//! that checks the same and shares nothing with this one is `docs/audit/verify.py`.
//! Does no I/O. Does not know where records are kept, or who asks for them.

mod bound;
mod draft;
mod export;
mod head;
mod record;
mod repeated;
#[doc(hidden)]
pub mod sample;
mod tree;

pub use bound::Bound;
pub use draft::{Decision, Digest, Draft, DraftError, Object, Who};
pub use export::{Fault, GapLine, Header, ProductHead, Report, SignedHead, SignedProductHead, Verifier, verify};
pub use head::{HeadError, Statement, TreeHead};
pub use record::{HashKey, Numbers, Record, RecordError};
pub use repeated::Repeated;
pub use tree::{Frontier, Hash, Node, consistency, consistent, empty_root, included, inclusion, leaf_hash, node_hash, parts, prefix_parts};

#[cfg(test)]
mod tests;
