//! The marker of a zone in a bucket, by the rules of the one in a directory.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Method;

use super::Inner;
use super::client::Ask;
use super::listing::Begin;
use super::requests::Got;
use super::trial::TRIALS;
use crate::marker::{MARKER, MARKER_BYTES, Marker, Owner, unreadable, word};
use crate::{Empty, ZoneError};

/// How many keys are looked at to see that a bucket is empty.
const FEW: usize = 1000;

/// How an empty bucket becomes a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Adoption {
    complete: bool,
    /// By the operator's word, which lies in the bucket.
    asked: bool,
}

impl Inner {
    /// Reads the marker; whether there is one.
    pub(super) async fn read_marker(&self) -> Result<Option<Marker>, ZoneError> {
        let bytes = match self.fetch(MARKER, MARKER_BYTES, self.parts.put_timeout).await? {
            Got::Bytes(bytes) => bytes,
            Got::Nothing => return Ok(None),
            Got::Longer(_) | Got::Odd(_) => return Err(self.down(unreadable())),
        };
        match Marker::judge(&bytes, &self.parts.name, &self.owner(), "bucket") {
            Ok(marker) => {
                self.complete.store(marker.is_complete(), Ordering::SeqCst);
                Ok(Some(marker))
            }
            Err(why) => Err(self.down(why)),
        }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner {
            installation: self.parts.installation.clone(),
            role: self.parts.role.clone(),
        }
    }

    /// Whether there is a marker, whatever it says.
    pub(super) async fn has_marker(&self) -> bool {
        matches!(
            self.fetch(MARKER, MARKER_BYTES, self.parts.put_timeout).await,
            Ok(Got::Bytes(_) | Got::Longer(_) | Got::Odd(_))
        )
    }

    /// That the marker is there. Where it is not, nothing more is changed in the zone.
    pub(super) async fn check_marker(&self) -> Result<(), ZoneError> {
        let read = match self.read_marker().await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => self.down(format!("the bucket has no {MARKER}")),
            Err(error) => error,
        };
        self.ready.store(false, Ordering::SeqCst);
        Err(read)
    }

    pub(super) async fn write_marker(&self, complete: bool) -> Result<(), ZoneError> {
        let marker = Marker::new(&self.parts.name, &self.owner(), complete).to_bytes();
        let marker = marker.map_err(|_| self.down("its marker cannot be written"))?;
        self.store(MARKER, Bytes::from(marker)).await
    }

    /// Whether a bucket without a marker may become the zone.
    pub(super) async fn may_adopt(&self, empty: Empty) -> Result<Adoption, ZoneError> {
        let word = word(&self.parts.name);
        let page = self.page("", Begin::First, FEW).await?;
        let names: Vec<&str> = page.keys.iter().filter_map(|key| self.parts.address.name(key)).collect();
        let is_foreign = |name: &&str| **name != *word && !name.starts_with(TRIALS);
        if page.next.is_some() || names.iter().any(is_foreign) {
            return Err(self.down(format!("the bucket is not empty and has no {MARKER}")));
        }
        let asked = names.contains(&word.as_str());
        if empty == Empty::Unknown && !asked {
            return Err(self.down(format!(
                "the bucket is empty: if it is the wrong one, correct its address; if it is to take the place of zone {}, put an object \
                 named {} into it",
                self.parts.name,
                self.parts.address.key(&word)
            )));
        }
        Ok(Adoption {
            complete: empty == Empty::New && !asked,
            asked,
        })
    }

    pub(super) async fn adopt(&self, adoption: Adoption) -> Result<(), ZoneError> {
        self.write_marker(adoption.complete).await?;
        if adoption.asked {
            // Left behind it does nothing: it is looked at only where there is no marker.
            let word = word(&self.parts.name);
            let _ = self.send(Ask::new(Method::DELETE, Some(&word), self.parts.put_timeout)).await;
        }
        Ok(())
    }
}
