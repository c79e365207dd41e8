//! Real installations for tests: started, asked, broken and searched from outside, as a user, an operator and a disaster would.
//!
//! Promise: a test waits for conditions with a deadline, never for a while; and whatever it started is gone when it ends.
//!
//! Start at [`Installation`]. [`Client`] speaks the td protocol, [`markers`] searches bytes, [`python()`] runs the clients of others,
//! [`stores::Stores`] stores that speak S3.
//! Knows the binary by its command line, its ports and its files alone. Imported by tests only.

mod client;
mod clock;
mod installation;
pub mod markers;
mod msgpack;
mod processes;
mod python;
pub mod stores;
mod wait;

pub use client::{Answer, Client, Connection};
pub use clock::Clock;
pub use installation::{Installation, Product, Ran};
pub use msgpack::{gzip, packed_rows};
pub use python::python;
pub use wait::until;
