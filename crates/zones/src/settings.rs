//! What an operator may say about zones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::marker::Owner;
use crate::s3::{Address, Hosts};
use crate::{GraveKey, s3};

/// One zone of a role: a directory, or a place in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSettings {
    /// The name, for people and in the zone's own marker.
    pub name: String,
    /// The directory, on a disk that fails on its own. Empty where the zone is in a store.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub path: PathBuf,
    /// `https://host:port/bucket/prefix`: the place in a store that speaks the protocol of Amazon S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the store calls where it is. `us-east-1` unless said, which most stores but Amazon's take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The file with the access key and its secret, which only its owner may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// The file with the authorities that may certify the store, PEM. Those of the system unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// Where a zone is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<'a> {
    /// In a directory.
    Directory(&'a Path),
    /// In a store.
    Store {
        /// Where there.
        address: Address,
        /// What the store calls where it is.
        region: &'a str,
        /// The file of the access key.
        credentials: &'a Path,
        /// The file of authorities, if it is not the system's.
        ca: Option<&'a Path>,
    },
}

impl ZoneSettings {
    /// Where it is, or in words what does not fit together.
    pub fn place(&self) -> Result<Place<'_>, SettingsError> {
        let refuse = |why: &str| {
            Err(SettingsError::Place {
                zone: self.name.clone(),
                why: why.to_owned(),
            })
        };
        let Some(url) = &self.url else {
            if self.region.is_some() || self.credentials.is_some() || self.ca.is_some() {
                return refuse("region, credentials and ca belong to a zone with a url");
            }
            if is_empty(&self.path) {
                return refuse("it needs a path, or a url");
            }
            return Ok(Place::Directory(&self.path));
        };
        if !is_empty(&self.path) {
            return refuse("it has a path or a url, not both");
        }
        let address = match Address::parse(url) {
            Ok(address) => address,
            Err(why) => return refuse(&format!("its url cannot be used: {why}")),
        };
        let region = self.region.as_deref().unwrap_or("us-east-1");
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=64).contains(&region.len()) || !region.bytes().all(plain) {
            return refuse("a region has 1 to 64 characters of a-z, 0-9 and '-'");
        }
        let Some(credentials) = self.credentials.as_deref() else {
            return refuse("a zone with a url needs credentials: the path of a file with the access key");
        };
        if [Some(credentials), self.ca.as_deref()]
            .into_iter()
            .flatten()
            .any(|path| !path.is_absolute())
        {
            return refuse("the paths of credentials and ca must begin with /");
        }
        Ok(Place::Store {
            address,
            region,
            credentials,
            ca: self.ca.as_deref(),
        })
    }
}

/// The zones of a role and how long it waits for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZonesSettings {
    /// An odd number of zones; a majority must hold an object before it counts.
    pub zones: Vec<ZoneSettings>,
    /// Written into each zone's marker, so that another installation's directory is not taken for ours. Empty: not compared.
    pub installation: String,
    /// Written there too, so that no role takes another's place for its own. Set by the role, never from a file. Empty: not compared.
    #[serde(skip)]
    pub role: String,
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
    /// How many objects one zone may list that most zones lack, those deleted not counted; one that lists more is taken for down. What a
    /// role remembers of a listing is bounded by it.
    pub most_alone: usize,
    /// Under which the role marks what it deleted. Set by the role from its own secret, never from a file.
    #[serde(skip)]
    pub grave_key: GraveKey,
    /// Where the addresses of stores come from. Set by whoever starts the role, never from a file.
    #[serde(skip)]
    pub hosts: Hosts,
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
            role: String::new(),
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
            most_alone: 50_000,
            grave_key: GraveKey::default(),
            hosts: Hosts::default(),
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
    /// Where a zone is to be cannot be told.
    #[error("zone {zone}: {why}")]
    Place {
        /// Which one.
        zone: String,
        /// What is wrong, in words for an operator.
        why: String,
    },
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
            ..ZoneSettings::default()
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
        let places: Vec<Place<'_>> = self.zones.iter().map(ZoneSettings::place).collect::<Result<_, _>>()?;
        for (i, zone) in self.zones.iter().enumerate() {
            let earlier = self.zones[..i].iter().zip(&places);
            if earlier
                .clone()
                .any(|(other, place)| other.name == zone.name || meet(place, &places[i]))
            {
                return Err(SettingsError::Twice(zone.name.clone()));
            }
        }
        Ok(())
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner {
            installation: self.installation.clone(),
            role: self.role.clone(),
        }
    }

    /// The addresses of all stores.
    pub fn stores(&self) -> Vec<Address> {
        let address = |zone: &ZoneSettings| match zone.place() {
            Ok(Place::Store { address, .. }) => Some(address),
            _ => None,
        };
        self.zones.iter().filter_map(address).collect()
    }

    /// The files that have to be read for zones in stores: access keys and authorities.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for zone in &self.zones {
            if let Ok(Place::Store { credentials, ca, .. }) = zone.place() {
                files.push(credentials.to_owned());
                files.extend(ca.map(Path::to_owned).or_else(s3::system_certificates));
            }
        }
        files
    }
}

impl ZoneSettings {
    /// Whether the files that the zone names can be used now, which changes without a change of settings. Blocks for a moment.
    pub fn check_files(&self) -> Result<(), SettingsError> {
        let Place::Store {
            address, credentials, ca, ..
        } = self.place()?
        else {
            return Ok(());
        };
        s3::check_files(&address, credentials, ca).map_err(|why| SettingsError::Place {
            zone: self.name.clone(),
            why,
        })
    }
}

/// Whether two zones are in one place, or one in the other.
fn meet(one: &Place<'_>, other: &Place<'_>) -> bool {
    match (one, other) {
        (Place::Directory(one), Place::Directory(other)) => one == other,
        (Place::Store { address: one, .. }, Place::Store { address: other, .. }) => one.meets(other),
        _ => false,
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
    fn a_zone_is_in_a_directory_or_in_a_store_and_what_does_not_fit_is_refused_without_being_repeated() {
        let read = |more: &str| serde_json::from_str::<ZoneSettings>(&format!(r#"{{"name":"a"{more}}}"#)).unwrap();
        let store = r#","url":"https://localhost:9000/events/a","credentials":"/keys/a""#;
        let zone = read(store);
        let Ok(Place::Store { address, region, ca, .. }) = zone.place() else {
            panic!("{:?}", zone.place())
        };
        assert_eq!((address.port(), region, ca), (9000, "us-east-1", None));
        assert_eq!(read(r#","path":"/a""#).place(), Ok(Place::Directory(Path::new("/a"))));
        for (more, expected) in [
            (String::new(), "needs a path, or a url"),
            (format!(r#","path":"/a"{store}"#), "not both"),
            (r#","path":"/a","ca":"/ca""#.into(), "belong to a zone with a url"),
            (r#","url":"https://localhost/events""#.into(), "needs credentials"),
            (r#","url":"http://localhost/hidden","credentials":"/k""#.into(), "https://"),
            (r#","url":"https://me:hidden@localhost/events","credentials":"/k""#.into(), "form"),
            (r#","url":"https://localhost/events","credentials":"hidden""#.into(), "begin with /"),
            (format!(r#"{store},"region":"Hidden hidden""#), "a region has"),
        ] {
            let said = read(&more).place().unwrap_err().to_string();
            assert!(said.contains(expected) && !said.contains("idden"), "{more}: {said}");
        }
    }

    #[test]
    fn two_zones_in_one_place_of_a_store_are_refused() {
        let zone = |name: &str, url: &str| ZoneSettings {
            name: name.into(),
            url: Some(url.into()),
            credentials: Some("/k".into()),
            ..ZoneSettings::default()
        };
        let check = |urls: [&str; 3]| {
            let zones = ["a", "b", "c"].iter().zip(urls).map(|(name, url)| zone(name, url)).collect();
            ZonesSettings {
                zones,
                ..ZonesSettings::default()
            }
            .check()
        };
        assert_eq!(check(["https://h/events/a", "https://h/events/b", "https://i/events/a"]), Ok(()));
        assert_eq!(
            check(["https://h/events/a", "https://i/events", "https://h/events/a/c"]),
            Err(SettingsError::Twice("c".into()))
        );
    }

    #[test]
    fn unknown_settings_are_errors() {
        let read = |text| serde_json::from_str::<ZonesSettings>(text);
        assert_eq!(read(r#"{"put_timeout":"3s"}"#).unwrap().put_timeout, Duration::from_secs(3));
        assert!(read(r#"{"put_time":"3s"}"#).is_err());
    }
}
