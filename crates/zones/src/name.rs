//! Names of objects: a path whose last part ends in the digest of the bytes.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;

use crate::GraveKey;

/// Why a text is not the name of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A path segment is empty, too long, starts with a dot or has other characters than `a-z 0-9 - _ .`.
    #[error("a path segment of an object name has 1 to 250 characters of a-z, 0-9, '-', '_' and '.' and starts with no dot")]
    Segment,
    /// No digest at the end.
    #[error("an object name ends in '.' and 64 hex digits")]
    Digest,
    /// Over 1024 characters, or a first segment that zones keep for themselves.
    #[error("an object name has at most 1024 characters and does not begin with a reserved segment")]
    Reserved,
}

/// `<path segments>/<id>.<64 hex digits of BLAKE3 of the bytes>`.
///
/// The digest is part of the name, so whoever has the name can tell whether bytes are the object, and two objects of the
/// same name are the same object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

const DIGEST: usize = 64;
/// How long a name can be.
pub(crate) const MAX_NAME: usize = 1024;
/// The one segment below which zones keep the graves of deleted objects.
pub(crate) const TOMBSTONES: &str = "tombstones";

impl ObjectName {
    /// The name of `bytes` as `id` below `prefix` (one or more path segments).
    pub fn new(prefix: &str, id: &str, bytes: &[u8]) -> Result<Self, NameError> {
        format!("{prefix}/{id}.{}", blake3::hash(bytes).to_hex()).parse()
    }

    /// Reads a name. Same as `text.parse()`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        text.parse()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits at the end.
    pub fn digest(&self) -> &str {
        // Invariant of the constructor: at least 64 ASCII characters stand at the end.
        &self.0[self.0.len() - DIGEST..]
    }

    /// The path segments before the last one.
    pub fn prefix(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(prefix, _)| prefix)
    }

    /// The last segment without the digest.
    pub fn id(&self) -> &str {
        let last = self.0.rsplit_once('/').map_or(&*self.0, |(_, last)| last);
        &last[..last.len() - DIGEST - 1]
    }

    /// Whether `bytes` are this object.
    pub fn is_name_of(&self, bytes: &[u8]) -> bool {
        *blake3::hash(bytes).to_hex() == *self.digest()
    }

    /// Whether the object lies below `prefix`, counted in whole segments. Everything lies below the empty prefix.
    pub fn is_below(&self, prefix: &str) -> bool {
        prefix.is_empty() || self.0.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The grave of this object: its name, and what it holds.
    pub(crate) fn tombstone(&self, key: &GraveKey) -> Result<(Self, Bytes), NameError> {
        let (prefix, last) = self.0.rsplit_once('/').ok_or(NameError::Segment)?;
        let epitaph = key.epitaph(self);
        let name = Self::checked(&format!("{TOMBSTONES}/{prefix}/{last}.{}", blake3::hash(&epitaph).to_hex()))?;
        Ok((name, epitaph))
    }

    /// Whose grave this is. A grave that was not dug with the key is nobody's: else the owner of one zone could bury everything.
    pub(crate) fn buried(&self, key: &GraveKey) -> Option<Self> {
        let rest = self.0.strip_prefix(TOMBSTONES)?.strip_prefix('/')?;
        let name = Self::checked(&rest[..rest.len().checked_sub(DIGEST + 1)?]).ok()?;
        if self.is_name_of(&key.epitaph(&name)) {
            return Some(name);
        }
        tracing::error!(grave = %self, "a zone holds a tombstone that none of us made, it is ignored");
        None
    }

    /// Whether zones keep this name for themselves.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.is_below(TOMBSTONES)
    }

    /// A name as found in a zone, graves included.
    pub(crate) fn checked(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_NAME || text.starts_with("zone.json/") {
            return Err(NameError::Reserved);
        }
        if !text.contains('/') || !text.split('/').all(is_segment) {
            return Err(NameError::Segment);
        }
        let last = text.rsplit_once('/').map_or(text, |(_, last)| last);
        let (id, digest) = last.rsplit_once('.').ok_or(NameError::Digest)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if id.is_empty() || digest.len() != DIGEST || !digest.bytes().all(hex) {
            return Err(NameError::Digest);
        }
        Ok(Self(text.into()))
    }
}

/// Whether `text` may be one segment of a path.
fn is_segment(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    (1..=250).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed)
}

/// Whether `text` is empty or whole path segments: what may be listed.
pub(crate) fn is_prefix(text: &str) -> bool {
    text.is_empty() || text.split('/').all(is_segment)
}

impl FromStr for ObjectName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = Self::checked(text)?;
        if name.is_tombstone() { Err(NameError::Reserved) } else { Ok(name) }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ObjectName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_the_bytes_are() {
        let name = ObjectName::new("raw/7/20261123", "w-0", b"hello").unwrap();

        assert_eq!((name.prefix(), name.id()), ("raw/7/20261123", "w-0"));
        assert!(name.is_name_of(b"hello") && !name.is_name_of(b"hello!"));
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        assert!(name.is_below("raw/7") && name.is_below("") && !name.is_below("raw/70") && !name.is_below("raw/7/2026"));
    }

    #[test]
    fn what_could_leave_the_zone_is_no_name() {
        let digest = "0".repeat(64);
        for bad in ["..", ".", "", ".hidden", "A", "a b", "a\\b", "a\0", "ä", &"x".repeat(251)] {
            assert!(format!("{bad}/x.{digest}").parse::<ObjectName>().is_err(), "{bad:?}");
            assert!(!is_prefix(&format!("raw/{bad}")), "{bad:?}");
        }
        for bad in [
            "raw/x".to_owned(),
            format!("raw/.{digest}"),
            format!("x.{digest}"),
            format!("raw/x.{}", "G".repeat(64)),
        ] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad:?}");
        }
        assert_eq!(format!("tombstones/raw/x.{digest}").parse::<ObjectName>(), Err(NameError::Reserved));
    }

    #[test]
    fn a_grave_names_who_lies_in_it() {
        let name = ObjectName::new("raw/7", "a.b", b"x").unwrap();
        let (ours, theirs) = (GraveKey::new([1; 32]), GraveKey::new([2; 32]));
        let (grave, epitaph) = name.tombstone(&ours).unwrap();

        assert!(grave.is_tombstone() && grave.is_name_of(&epitaph) && !name.is_tombstone());
        assert_eq!(grave.buried(&ours), Some(name.clone()));
        assert_eq!(name.buried(&ours), None);
        assert_eq!(grave.buried(&theirs), None);
    }
}
