//! Revocation: told by vault and accounts, heard by everyone who holds passes.
//!
//! Promise: what is revoked is refused by every role within a second, and a role that has not heard from **both** tellers
//! for eight seconds reads for nobody until it hears from them again.
//!
//! The same stream carries word of products whose settings have changed, so that nobody goes on with old ones until a pass ends.
//!
//! Start at [`Feed`] (who tells) and [`Watch`] (who hears). Does not know passes or what they lead to.

mod feed;
mod watch;

pub use feed::Feed;
pub use watch::{Ended, Watch};

use std::time::Duration;

/// How often a teller says that it is there.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long either teller may be silent before reading stops.
pub const SILENCE: Duration = Duration::from_secs(8);
/// How far back a new listener is told. Longer than any pass lives.
pub const REMEMBERED: Duration = Duration::from_secs(10 * 60);
