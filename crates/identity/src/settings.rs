//! What an operator may write about this role.

use journal::JournalSettings;
use serde::{Deserialize, Serialize};
use zones::ZonesSettings;

/// Settings of the identity role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentitySettings {
    /// Where the journals lie. Other directories or buckets than any other role's.
    pub zones: ZonesSettings,
    /// How the journals are written.
    pub journal: JournalSettings,
    /// How many people's sealing keys of one product are kept at hand while its lookup key is leased.
    pub hot_identities: usize,
    /// Of how many people one credential may be told within an hour who they are.
    pub reveals_per_hour: u32,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            zones: ZonesSettings::default(),
            journal: JournalSettings::default(),
            hot_identities: 200_000,
            reveals_per_hour: 100,
        }
    }
}
