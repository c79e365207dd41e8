//! The edge of every role: TLS in and out, certificate to role, pass to `Op`, error kind to response, the kernel sandbox.
//!
//! Promise: a handler runs only after the caller's certificate was found in the table of calls and its pass, where one is shown,
//! was verified, is live and is meant for this role. Whatever cannot be decided is refused.
//!
//! Start at [`serve_role`] (what other roles call), [`public`] (what the world calls) and [`sandbox::enter`].
//! Knows TLS, gRPC, the kernel, and how to ask zones how they are. Does not know what a role's methods do, SQL, or what is stored.

mod asked;
mod call;
mod connections;
mod context;
mod drills;
mod enrol;
mod guard;
mod kinds;
mod metrics;
mod operator;
mod passes;
mod patience;
mod peers;
mod process;
pub mod proving;
pub mod public;
mod readiness;
pub mod rebuild;
mod recording;
pub mod revocations;
pub mod sandbox;
mod server;
mod stages;
mod table;
mod tls;
mod zones;

pub use asked::Concerns;
pub use call::{Peer, op, raw_pass, with_pass};
pub use context::{CurrentSigner, RoleContext};
pub use drills::Drills;
pub use enrol::{EnrolError, enrol, spawn_renewal};
pub use kinds::{http_status, kind_of, status};
pub use metrics::{Counter, Counters, Gauge, Gauges, Histogram, Histograms, Labels, Metrics};
pub use operator::{Keyless, operator_channel, serve_keyless};
pub use peers::Peers;
pub use process::{UserError, become_user, harden_process, install_crypto};
pub use readiness::{Readiness, SEALED};
pub use recording::{Auditing, ByVault, Order, Recorder};
pub use server::{ServeError, serve_role};
pub use stages::{Lap, Stages};
pub use table::Table;
pub use tls::{RoleTls, TlsError, TlsKey, read_certificate};
pub use zones::ZoneReport;

#[cfg(test)]
mod tests;
