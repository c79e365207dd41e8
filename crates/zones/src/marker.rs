//! The small file that makes a place a zone: which zone it is, whose, and whether it lacks nothing.

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
    /// Whether it has been compared with all others since it was empty. Where nothing is said it was so from the beginning.
    #[serde(default = "complete")]
    complete: bool,
}

fn complete() -> bool {
    true
}

impl Marker {
    pub(crate) fn new(zone: &str, installation: &str, complete: bool) -> Self {
        Self {
            format: 1,
            zone: zone.to_owned(),
            installation: installation.to_owned(),
            complete,
        }
    }

    pub(crate) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Whether the zone that `bytes` mark is complete; or why it is not this zone of this installation. `place` is what it is in,
    /// in a word.
    pub(crate) fn judge(bytes: &[u8], zone: &str, installation: &str, place: &str) -> Result<bool, String> {
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
        if !named(&marker.installation, installation) {
            return Err(format!("the {place} belongs to another installation"));
        }
        Ok(marker.complete)
    }
}

/// What is said of a marker that is none.
pub(crate) fn unreadable() -> String {
    format!("{MARKER} cannot be read")
}

/// The name of what an operator puts into an empty place that is to be taken for the zone.
pub(crate) fn word(zone: &str) -> String {
    format!("adopt-as-{zone}")
}
