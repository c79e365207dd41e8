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
    /// After how long at most a read also asks the next zone: earlier where a zone's reads take less, see `hedge_at_least`.
    #[serde(with = "humantime_serde")]
    pub hedge_after: Duration,
    /// A read asks the next zone when it takes longer than 95 of 100 reads did lately, and not before this.
    #[serde(with = "humantime_serde")]
    pub hedge_at_least: Duration,
    /// How often each zone is asked whether it works.
    #[serde(with = "humantime_serde")]
    pub probe_every: Duration,
    /// How long at most a zone that keeps failing is left alone between two tries. They begin with `probe_every` and double.
    #[serde(with = "humantime_serde")]
    pub back_off_to: Duration,
    /// How many bytes a second are copied, at most, to zones that lag. 0 for no bound.
    pub catch_up_bytes_per_second: u64,
    /// How often a part of all copies is read and compared with their digests; 28 times are the whole.
    #[serde(with = "humantime_serde")]
    pub scrub_every: Duration,
    /// How many bytes a second are read for that, at most. 0 for no bound.
    pub scrub_bytes_per_second: u64,
    /// How many names are asked of a zone at once.
    pub page: usize,
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
            hedge_at_least: Duration::from_millis(5),
            probe_every: Duration::from_secs(1),
            back_off_to: Duration::from_secs(8),
            catch_up_bytes_per_second: 64 << 20,
            scrub_every: Duration::from_secs(24 * 3600),
            scrub_bytes_per_second: 32 << 20,
            page: 8192,
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
