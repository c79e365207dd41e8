//! Turns to write to a place in a store: small objects that are created only where they are not (`If-None-Match`). What they are for is in
//! [`crate::turn`].

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;

use super::Inner;
use super::client::Ask;
use super::listing::Begin;
use super::requests::Got;
use crate::ZoneError;
use crate::turn::{TurnStore, Turned};

/// Below this lie the turns. No object's name has this form: it has no digest.
const TURNS: &str = "writers/";
/// More pages than there are turns.
const PAGES: usize = 100;

fn key(turn: u64) -> String {
    format!("{TURNS}{turn:020}")
}

#[async_trait]
impl TurnStore for Inner {
    async fn turns(&self) -> Result<Vec<u64>, ZoneError> {
        let (mut turns, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let from = token.as_deref().map_or(Begin::First, Begin::Token);
            let page = self.page(TURNS, from, super::listing::KEYS).await?;
            let number = |key: &String| self.parts.address.name(key)?.strip_prefix(TURNS)?.parse::<u64>().ok();
            // Whoever may write there could leave a number without a successor.
            turns.extend(page.keys.iter().filter_map(number).filter(|turn| *turn < u64::MAX - 1));
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(turns),
            }
        }
        Err(self.endless())
    }

    async fn create_turn(&self, turn: u64) -> Result<bool, ZoneError> {
        self.create(&key(turn), b"turn").await.map_err(|failed| failed.into_zone(self))
    }

    async fn is_taken(&self, turn: u64) -> Result<bool, ZoneError> {
        match self.fetch(&key(turn), 100, self.parts.put_timeout).await? {
            Got::Nothing => Ok(false),
            Got::Bytes(_) | Got::Longer(_) | Got::Odd(_) => Ok(true),
        }
    }

    async fn remove_turn(&self, turn: u64) {
        let _ = self.send(Ask::new(Method::DELETE, Some(&key(turn)), self.parts.put_timeout)).await;
    }
}

impl Inner {
    /// Takes a turn at the first call; later, sees whether somebody has taken the next one.
    pub(super) async fn take_turn(&self) -> Result<(), ZoneError> {
        let before = self.turn.is_held();
        let turned = self.turn.take(self).await?;
        self.ours(turned, before)
    }

    /// That nobody has taken the turn after ours.
    pub(super) async fn check_turn(&self) -> Result<(), ZoneError> {
        let before = self.turn.is_held();
        let turned = self.turn.look(self).await?;
        self.ours(turned, before)
    }

    fn ours(&self, turned: Turned, before: bool) -> Result<(), ZoneError> {
        match turned {
            Turned::Ours => Ok(()),
            Turned::Contended => Err(self.down("others keep taking it over")),
            Turned::TakenOver => {
                self.ready.store(false, Ordering::SeqCst);
                if before {
                    let zone = self.parts.name.as_str();
                    tracing::error!(zone, "another process has taken zone {zone} over: only one may run on it");
                }
                Err(self.down(
                    "another process has taken it over, and this one writes nothing more: only one may run on it. Stop one of the two, and start the other again",
                ))
            }
        }
    }

    /// Writes an object and says so only if it still is this process's turn.
    pub(super) async fn put_in_turn(&self, name: &crate::ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.put(name, bytes).await?;
        // It is there, whatever comes of this.
        self.check_turn().await.map_err(|error| self.unclear(error.detail()))
    }

    /// Removes an object and says that it is gone only if it still is this process's turn: a successor may have found it and copied it
    /// to other zones, and a write that was taken back would not be.
    pub(super) async fn delete_in_turn(&self, name: &crate::ObjectName) -> Result<(), ZoneError> {
        self.delete(name).await?;
        self.check_turn().await.map_err(|error| self.unclear(error.detail()))
    }
}
