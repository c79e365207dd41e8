//! Object storage over zones: every object is written to all of them and counts when a majority has it durably.
//!
//! Promise: what [`Zones::put`] has accepted survives the loss of any minority of zones and a power cut in all of them;
//! what it has refused never appears later.
//!
//! Start at [`Zones`]; one zone is a [`Zone`]. Objects are immutable and carry the digest of their bytes in their name, so
//! a repair is a copy and there are no versions to compare. There is no consensus here: no two writers ever use one name.
//! Knows files, stores and digests. Does not know what is in an object, nor what it is sealed with.

mod directory;
mod disk;
mod forgetful;
mod grave;
mod marker;
mod memory;
mod name;
mod opening;
mod quorum;
pub mod s3;
mod settings;
pub mod turn;
mod vouch;
mod zone;

#[cfg(test)]
mod contract;

pub use directory::{DirectoryZone, Empty};
pub use forgetful::{ForgetfulZone, Negligence, Power};
pub use grave::GraveKey;
pub use memory::MemoryZone;
pub use name::{NameError, ObjectName};
pub use quorum::away::{Absence, DrillError};
pub use quorum::{Circuit, Condition, GetError, ListError, Listed, PutError, SettleError, Settled, ZoneState, Zones};
pub use quorum::{Named, Progress, ScrubReport, ScrubbedZone, Scrubber};
pub use s3::S3Zone;
pub use settings::{Place, SettingsError, ZoneSettings, ZonesSettings};
pub use vouch::Vouch;
pub use zone::{Zone, ZoneError};
