//! Whose turn it is to write to a place in a store. In directories a lock of the role sees to that; a store locks nothing.
//!
//! Every process takes a turn of its own before it reads or writes anything: the next number, created as a small object that must not be
//! there (`If-None-Match`), so of several who try at once one gets it. After each write it looks whether the number after its own has been
//! taken, and says that the write is done only if not.
//!
//! Promise: what a zone says that it has, every later process finds there. (Written, then looked and nobody had the next turn; whoever has it
//! took it after that, and lists later still.) So of what a majority acknowledged nothing is missed by a successor, however many processes
//! believe that they are the writer; who has a successor acknowledges nothing more, and finds out by the next look at the zone.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Method;

use super::Inner;
use super::client::Ask;
use super::listing::Begin;
use super::requests::Got;
use crate::ZoneError;

/// Below this lie the turns. No object's name has this form: it has no digest.
const TURNS: &str = "writers/";
/// How often somebody else may be quicker.
const TRIES: usize = 16;
/// More pages than there are turns.
const PAGES: usize = 100;
/// How many turns are kept. Who has lived through more starts of others than these would not find out.
const KEPT: u64 = 1000;
/// How many older ones are removed at once.
const REMOVED: usize = 20;

fn key(turn: u64) -> String {
    format!("{TURNS}{turn:020}")
}

impl Inner {
    /// Takes a turn at the first call; later, sees whether somebody has taken the next one.
    pub(super) async fn take_turn(&self) -> Result<(), ZoneError> {
        if self.turn.load(Ordering::SeqCst) != 0 {
            return self.check_turn().await;
        }
        for _ in 0..TRIES {
            let turns = self.turns().await?;
            let next = turns.iter().max().map_or(1, |last| last + 1);
            if self.create(&key(next), b"turn").await.map_err(|failed| failed.into_zone(self))? {
                self.turn.store(next, Ordering::SeqCst);
                for old in turns.into_iter().filter(|turn| turn + KEPT < next).take(REMOVED) {
                    // Left behind it takes room and nothing else.
                    let _ = self.send(Ask::new(Method::DELETE, Some(&key(old)), self.parts.put_timeout)).await;
                }
                return Ok(());
            }
        }
        Err(self.down("others keep taking it over"))
    }

    /// That nobody has taken the turn after ours.
    pub(super) async fn check_turn(&self) -> Result<(), ZoneError> {
        let taken_over = || {
            self.down("another process has taken it over, and this one writes nothing more: only one may run on it. Stop one of the two, and start the other again")
        };
        if self.taken_over.load(Ordering::SeqCst) {
            return Err(taken_over());
        }
        let next = key(self.turn.load(Ordering::SeqCst) + 1);
        match self.fetch(&next, 100, self.parts.put_timeout).await? {
            Got::Nothing => Ok(()),
            Got::Bytes(_) | Got::Longer(_) | Got::Odd(_) => {
                self.ready.store(false, Ordering::SeqCst);
                if !self.taken_over.swap(true, Ordering::SeqCst) {
                    let zone = self.parts.name.as_str();
                    tracing::error!(zone, "another process has taken zone {zone} over: only one may run on it");
                }
                Err(taken_over())
            }
        }
    }

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

    /// Writes an object and says so only if it still is this process's turn.
    pub(super) async fn put_in_turn(&self, name: &crate::ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.put(name, bytes).await?;
        // It is there, whatever comes of this.
        self.check_turn().await.map_err(|error| self.unclear(error.detail()))
    }
}
