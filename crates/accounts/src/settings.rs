//! What an operator may write about this role.

use journal::JournalSettings;
use serde::{Deserialize, Serialize};
use zones::ZonesSettings;

/// Settings of the accounts role.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountsSettings {
    /// Where the journal lies. Other directories or buckets than any other role's.
    pub zones: ZonesSettings,
    /// How the journal is written.
    pub journal: JournalSettings,
}
