//! The small file that makes a place a zone: which zone it is, whose, and whether it lacks nothing.
//!
//! Promise: a place that one role of one installation has taken is nobody else's. Markers of before roles were named say nothing of a role;
//! the first role that finds one writes its name into it.

use serde::{Deserialize, Serialize};

/// Its name in the zone. No object has it.
pub(crate) const MARKER: &str = "zone.json";
/// What a marker may have at most.
pub(crate) const MARKER_BYTES: u64 = 4096;

/// What it says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    format: u32,
    zone: String,
    #[serde(default)]
    installation: String,
    #[serde(default)]
    role: String,
    /// Whether it has been compared with all others since it was empty. Where nothing is said it was so from the beginning.
    #[serde(default = "complete")]
    complete: bool,
}

fn complete() -> bool {
    true
}

/// Whose a zone is. What is empty is not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) installation: String,
    pub(crate) role: String,
}

impl Marker {
    pub(crate) fn new(zone: &str, owner: &Owner, complete: bool) -> Self {
        Self {
            format: 1,
            zone: zone.to_owned(),
            installation: owner.installation.clone(),
            role: owner.role.clone(),
            complete,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether it says less than its owner knows: not which role's it is.
    pub(crate) fn lacks_role(&self, owner: &Owner) -> bool {
        self.role.is_empty() && !owner.role.is_empty()
    }

    pub(crate) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// What the marker says; or why it is not that of this zone of this owner. `place` is what it is in, in a word.
    pub(crate) fn judge(bytes: &[u8], zone: &str, owner: &Owner, place: &str) -> Result<Self, String> {
        let Ok(marker) = serde_json::from_slice::<Self>(bytes) else {
            return Err(unreadable());
        };
        let named = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
        if marker.format != 1 {
            return Err(format!(
                "the zone was written by a newer version of Coffer (format {}, this one knows format 1): use that version, or a newer one",
                marker.format
            ));
        }
        if marker.zone != zone {
            return Err(format!("the {place} belongs to zone {}", marker.zone));
        }
        if !named(&marker.installation, &owner.installation) {
            return Err(format!("the {place} belongs to another installation"));
        }
        if !named(&marker.role, &owner.role) {
            return Err(format!(
                "the {place} belongs to the role {}: give each role a {place} or a prefix of its own",
                short(&marker.role)
            ));
        }
        Ok(marker)
    }
}

/// What another wrote, as far as it is fit to be shown.
fn short(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).take(40).collect()
}

/// What is said of a marker that is none.
pub(crate) fn unreadable() -> String {
    format!("{MARKER} cannot be read")
}

/// The name of what an operator puts into an empty place that is to be taken for the zone.
pub(crate) fn word(zone: &str) -> String {
    format!("adopt-as-{zone}")
}
