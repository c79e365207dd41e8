//! What an operator may say about zones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::GraveKey;

/// One zone of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSettings {
    /// The name, for people and in the zone's own marker.
    pub name: String,
    /// The directory, on a disk that fails on its own.
    pub path: PathBuf,
}

/// The zones of a role and how long it waits for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZonesSettings {
    /// An odd number of zones; a majority must hold an object before it counts.
    pub zones: Vec<ZoneSettings>,
    /// Written into each zone's marker, so that another installation's directory is not taken for ours. Empty: not compared.
    pub installation: String,
    /// How long one zone may take for one write before it counts as failed there; a second longer for each 16 MiB.
    #[serde(with = "humantime_serde")]
    pub put_timeout: Duration,
    /// How long one zone may take for one read or listing.
    #[serde(with = "humantime_serde")]
    pub read_timeout: Duration,
    /// After how long a read also asks the next zone.
    #[serde(with = "humantime_serde")]
    pub hedge_after: Duration,
    /// How often each zone is asked whether it works.
    #[serde(with = "humantime_serde")]
    pub probe_every: Duration,
    /// Under which the role marks what it deleted. Set by the role from its own secret, never from a file.
    #[serde(skip)]
    pub grave_key: GraveKey,
    /// How many requests one zone may have open; one that hangs costs no more than these.
    pub max_in_flight: usize,
    /// How many bytes an object can have; what is longer in a zone is no copy of it.
    pub max_object_bytes: u64,
}

impl Default for ZonesSettings {
    fn default() -> Self {
        Self {
            zones: Vec::new(),
            installation: String::new(),
            put_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(10),
            hedge_after: Duration::from_millis(300),
            probe_every: Duration::from_secs(1),
            grave_key: GraveKey::default(),
            max_in_flight: 16,
            max_object_bytes: 1 << 30,
        }
    }
}

/// Why settings cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// An even number tolerates no more losses than one zone fewer, and none tolerates nothing.
    #[error("{0} zones are set up, an odd number is needed (one, three or five)")]
    NotOdd(usize),
    /// Two zones in one place fail together.
    #[error("two zones share the name or the path of zone {0}")]
    Twice(String),
}

impl SettingsError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl ZonesSettings {
    /// Zones of these names, each a directory below `directory`.
    pub fn below(directory: &Path, names: &[&str]) -> Self {
        let zone = |name: &&str| ZoneSettings {
            name: (*name).to_owned(),
            path: directory.join(name),
        };
        Self {
            zones: names.iter().map(zone).collect(),
            ..Self::default()
        }
    }

    /// How long one zone may take to write so many bytes.
    pub(crate) fn put_timeout_for(&self, bytes: usize) -> Duration {
        // A merged file has hundreds of mebibytes; no disk that is worth using takes a second for sixteen of them.
        self.put_timeout.saturating_add(Duration::from_secs(bytes as u64 >> 24))
    }

    /// Refuses what cannot give the promise of this crate.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.zones.len().is_multiple_of(2) {
            return Err(SettingsError::NotOdd(self.zones.len()));
        }
        for (i, zone) in self.zones.iter().enumerate() {
            if self.zones[..i]
                .iter()
                .any(|other| other.name == zone.name || other.path == zone.path)
            {
                return Err(SettingsError::Twice(zone.name.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_keep_the_promise_are_refused() {
        let at = |names: &[&str]| ZonesSettings::below(Path::new("z"), names).check();
        assert_eq!(at(&["a", "b", "c"]), Ok(()));
        assert_eq!(at(&["a"]), Ok(()));
        assert_eq!(at(&[]), Err(SettingsError::NotOdd(0)));
        assert_eq!(at(&["a", "b"]), Err(SettingsError::NotOdd(2)));
        assert_eq!(at(&["a", "b", "a"]), Err(SettingsError::Twice("a".into())));
    }

    #[test]
    fn a_large_object_may_take_longer_to_write() {
        let settings = ZonesSettings::default();
        assert_eq!(settings.put_timeout_for(1 << 20), Duration::from_secs(2));
        assert_eq!(settings.put_timeout_for(256 << 20), Duration::from_secs(18));
    }

    #[test]
    fn unknown_settings_are_errors() {
        let read = |text| serde_json::from_str::<ZonesSettings>(text);
        assert_eq!(read(r#"{"put_timeout":"3s"}"#).unwrap().put_timeout, Duration::from_secs(3));
        assert!(read(r#"{"put_time":"3s"}"#).is_err());
    }
}
