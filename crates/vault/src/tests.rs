//! The vault as other roles and the operator meet it: over TLS and the local socket, on real directories.

mod audit;
mod custody;
mod history;
mod keys;
mod people_keys;
mod proving;
mod rebuild;
mod shares;
mod token;
mod trust;
mod world;

use base::{Verb, Verbs};

/// Every verb: what accounts could be made to sign.
fn all() -> Verbs {
    Verbs::of(&Verb::ALL)
}
