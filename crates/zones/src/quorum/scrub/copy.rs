//! Looking at one zone's copy of an object without keeping it whole in memory.

use std::sync::Arc;

use bytes::Bytes;

use crate::quorum::Zones;
use crate::quorum::member::{Member, Use};
use crate::quorum::pace::Pace;
use crate::quorum::write::is_object;
use crate::{ObjectName, ZoneError};

/// How much of an object is read at once.
const PIECE: u64 = 4 << 20;

/// As many names as differ in the last letter of a digest, and more.
const NEIGHBOURS: usize = 64;

/// What one zone has under a name.
pub(super) enum Held {
    /// A good copy; with its bytes where it is short.
    Good(Option<Bytes>),
    /// Something else than the object.
    Wrong,
    /// Nothing.
    Missing,
    /// It did not say.
    Silent(String),
}

impl From<ZoneError> for Held {
    fn from(error: ZoneError) -> Self {
        match error {
            ZoneError::NotFound { .. } => Self::Missing,
            ZoneError::Short { .. } | ZoneError::Long { .. } | ZoneError::Wrong { .. } => Self::Wrong,
            ZoneError::Down { .. } | ZoneError::Unclear { .. } => Self::Silent(error.detail()),
        }
    }
}

impl Zones {
    /// Whether a zone that did not list an object lacks it: it may have come since. What it has is not verified.
    pub(super) async fn look_for(&self, at: usize, name: &ObjectName) -> Held {
        let Some(member) = self.members.get(at) else {
            return Held::Good(None);
        };
        if member.is_on_its_way(name) {
            return Held::Good(None);
        }
        match self.piece(member, name, 0, 1).await {
            Ok(_) | Err(ZoneError::Short { .. }) => Held::Good(None),
            Err(error) => error.into(),
        }
    }

    /// Whether one of these zones lists an object now; who of them does not say, if none does.
    pub(super) async fn still_listed(&self, holders: &[usize], name: &ObjectName) -> Result<bool, (usize, String)> {
        let mut silent = None;
        for at in holders {
            let Some(member) = self.members.get(*at) else { continue };
            let (prefix, listed) = (name.prefix().to_owned(), name.clone());
            let ask = move |zone: Arc<dyn crate::Zone>| async move {
                // From just before it on: what else is there has all but the last letter of its name.
                let before = listed.as_str().get(..listed.as_str().len() - 1).unwrap_or_default();
                Ok(zone.list_page(&prefix, before, NEIGHBOURS).await?.contains(&listed))
            };
            match member.call(Use::Read, self.settings.read_timeout, ask).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => silent = silent.or(Some((*at, error.detail()))),
            }
        }
        silent.map_or(Ok(false), Err)
    }

    /// Reads all of a zone's copy and compares it with its digest.
    pub(super) async fn read_copy(&self, at: usize, name: &ObjectName, pace: &Pace, read: &mut u64) -> Held {
        let Some(member) = self.members.get(at) else {
            return Held::Good(None);
        };
        pace.wait().await;
        let whole = {
            let name = name.clone();
            let get = |zone: Arc<dyn crate::Zone>| async move { zone.get(&name, PIECE).await };
            member.call(Use::Read, self.settings.read_timeout, get).await
        };
        match whole {
            Ok(bytes) => {
                pace.spend(bytes.len());
                *read += bytes.len() as u64;
                if is_object(name, &bytes).await {
                    Held::Good(Some(bytes))
                } else {
                    Held::Wrong
                }
            }
            Err(ZoneError::Long { length, .. }) if length <= self.settings.max_object_bytes => {
                self.read_in_pieces(member, name, length, pace, read).await
            }
            Err(error) => error.into(),
        }
    }

    async fn read_in_pieces(&self, member: &Arc<Member>, name: &ObjectName, length: u64, pace: &Pace, read: &mut u64) -> Held {
        let mut hasher = blake3::Hasher::new();
        let mut from = 0;
        while from < length {
            pace.wait().await;
            let to = length.min(from + PIECE);
            let piece = match self.piece(member, name, from, to).await {
                Ok(piece) => piece,
                Err(error) => return error.into(),
            };
            pace.spend(piece.len());
            *read += piece.len() as u64;
            let hashed = tokio::task::spawn_blocking(move || {
                hasher.update(&piece);
                hasher
            });
            hasher = match hashed.await {
                Ok(hasher) => hasher,
                Err(_) => return Held::Silent("its copy could not be looked at".into()),
            };
            from = to;
        }
        if *hasher.finalize().to_hex() == *name.digest() {
            Held::Good(None)
        } else {
            Held::Wrong
        }
    }

    async fn piece(&self, member: &Arc<Member>, name: &ObjectName, from: u64, to: u64) -> Result<Bytes, ZoneError> {
        let name = name.clone();
        let read = move |zone: Arc<dyn crate::Zone>| async move { zone.get_range(&name, from..to).await };
        member.call(Use::Read, self.settings.read_timeout, read).await
    }
}
