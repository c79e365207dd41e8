//! Trying a store out, before anything is entrusted to it.
//!
//! What a zone must do and a store may not: refuse to create what is there, let one of several win, show at once what was
//! written, replaced or removed, in reads and in listings, give parts, keep nothing that was deleted. It takes some twenty small
//! requests at each start.
//!
//! What no request can show: that it flushes (or copies) before it answers, and that it fails apart from the other zones.

use std::sync::atomic::Ordering;

use base::{Entropy, OsEntropy};
use bytes::Bytes;
use futures::future::join_all;
use http::{Method, StatusCode};

use super::Inner;
use super::answers;
use super::client::Ask;
use super::listing::Begin;
use super::requests::Got;
use super::transport::{Answer, Whole};
use crate::ZoneError;

/// Below this lies what trials leave. No object's name has this form: it has no digest.
pub(super) const TRIALS: &str = "probe/";
/// How many try to create one key at once. Few: some stores let those who lose wait for a lock.
const RACERS: u8 = 4;

/// Why a store did not pass.
#[derive(Debug)]
pub(super) enum Failed {
    /// It would break what a zone promises.
    Unfit(String),
    /// It could not be asked.
    Zone(ZoneError),
}

impl From<ZoneError> for Failed {
    fn from(error: ZoneError) -> Self {
        Self::Zone(error)
    }
}

impl Failed {
    pub(super) fn into_zone(self, inner: &Inner) -> ZoneError {
        match self {
            Self::Unfit(why) => inner.down(why),
            Self::Zone(error) => error,
        }
    }
}

fn unfit<T>(why: &str) -> Result<T, Failed> {
    Err(Failed::Unfit(why.to_owned()))
}

impl Inner {
    pub(super) async fn trial(&self) -> Result<(), Failed> {
        let place = format!("{TRIALS}{:016x}/", OsEntropy.next_u64());
        let tried = self.try_at(&place).await;
        // What is left of one that was broken off does no harm; of one that failed it is of no use.
        if tried.is_err() {
            let _ = self
                .send(Ask::new(Method::DELETE, Some(&format!("{place}key")), self.parts.put_timeout))
                .await;
        }
        tried
    }

    async fn try_at(&self, place: &str) -> Result<(), Failed> {
        let key = format!("{place}key");
        self.keeps_no_versions().await?;
        let winner = self.race(&key).await?;
        if self.create(&key, b"late").await? {
            return unfit("it lets what is there be created once more (If-None-Match)");
        }
        self.shows(&key, &winner).await?;
        self.gives_parts(&key, &winner).await?;
        if self.few(place, Begin::First).await? != [self.parts.address.key(&key)] {
            return unfit("it does not list what was just written");
        }

        self.store(&key, Bytes::from_static(b"replaced")).await?;
        self.shows(&key, b"replaced").await?;

        let answer = self.send(Ask::new(Method::DELETE, Some(&key), self.parts.put_timeout)).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&answer).into());
        }
        if answer.headers.contains_key("x-amz-delete-marker") {
            return unfit(VERSIONS);
        }
        match self.fetch(&key, 100, self.parts.read_timeout).await? {
            Got::Nothing => {}
            Got::Bytes(_) | Got::Longer(_) | Got::Odd(_) => return unfit("it still gives out what was just deleted"),
        }
        if !self.few(place, Begin::First).await?.is_empty() {
            return unfit("it still lists what was just deleted");
        }
        self.look_at_the_order(place).await
    }

    /// Whether a page may begin where the one before it ended. A store for which that is not so is listed in another way.
    async fn look_at_the_order(&self, place: &str) -> Result<(), Failed> {
        // The order of bytes; one of paths has the last of these first.
        let keys = ["o-k", "o.k", "o/k"].map(|end| format!("{place}{end}"));
        for key in &keys {
            self.store(key, Bytes::from_static(b"order")).await?;
        }
        let expected: Vec<String> = keys.iter().map(|key| self.parts.address.key(key)).collect();
        let ordered =
            self.few(place, Begin::First).await? == expected && self.few(place, Begin::After(&expected[0])).await? == expected[1..];
        self.ordered.store(ordered, Ordering::SeqCst);
        for key in &keys {
            self.send(Ask::new(Method::DELETE, Some(key), self.parts.put_timeout)).await?;
        }
        Ok(())
    }

    /// Several create the same key at the same time; what the one who could has written.
    async fn race(&self, key: &str) -> Result<Vec<u8>, Failed> {
        let racers = (0..RACERS).map(|n| async move {
            let body = format!("racer {n}").into_bytes();
            (self.create(key, &body).await, body)
        });
        let mut winners = Vec::new();
        for (created, body) in join_all(racers).await {
            if created? {
                winners.push(body);
            }
        }
        match (winners.pop(), winners.is_empty()) {
            (Some(winner), true) => Ok(winner),
            (None, _) => unfit("of several who create the same object nobody could"),
            (Some(_), false) => unfit("it lets several create the same object at once (If-None-Match)"),
        }
    }

    /// Creates an object if there is none; whether there was none.
    pub(super) async fn create(&self, key: &str, body: &[u8]) -> Result<bool, Failed> {
        let mut ask = Ask::new(Method::PUT, Some(key), self.parts.read_timeout);
        ask.headers = &[("if-none-match", "*")];
        ask.body = Bytes::copy_from_slice(body);
        let answer = self.send(ask).await?;
        match answer.status {
            status if status.is_success() => Ok(true),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Ok(false),
            StatusCode::NOT_IMPLEMENTED => unfit("it does not know how to create only what is not there (If-None-Match)"),
            _ => Err(self.refused(&answer).into()),
        }
    }

    async fn shows(&self, key: &str, expected: &[u8]) -> Result<(), Failed> {
        match self.fetch(key, 100, self.parts.read_timeout).await? {
            Got::Bytes(bytes) if bytes == expected => Ok(()),
            Got::Bytes(_) | Got::Longer(_) => unfit("it gives out something else than was just written"),
            Got::Nothing | Got::Odd(_) => unfit("it does not give out what was just written"),
        }
    }

    async fn gives_parts(&self, key: &str, whole: &[u8]) -> Result<(), Failed> {
        let mut ask = Ask::new(Method::GET, Some(key), self.parts.read_timeout);
        ask.headers = &[("range", "bytes=1-3")];
        ask.most = 100;
        match self.send(ask).await? {
            Answer {
                status: StatusCode::PARTIAL_CONTENT,
                body: Whole::Bytes(part),
                ..
            } if part == whole[1..4] => Ok(()),
            answer if answer.status.is_success() => unfit("it does not give parts of objects (Range)"),
            answer => Err(self.refused(&answer).into()),
        }
    }

    /// Where old versions are kept, what was deleted is still there. A store that does not say is asked by a deletion.
    async fn keeps_no_versions(&self) -> Result<(), Failed> {
        let mut ask = Ask::new(Method::GET, None, self.parts.read_timeout);
        ask.query = &[("versioning", "")];
        ask.most = 4096;
        let answer = self.send(ask).await?;
        match (answer.status, &answer.body) {
            (StatusCode::OK, Whole::Bytes(xml)) if answers::keeps_versions(xml) == Some(true) => unfit(VERSIONS),
            (status, _) if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => Err(self.refused(&answer).into()),
            _ => Ok(()),
        }
    }
}

const VERSIONS: &str = "it keeps old versions, so nothing would ever be deleted: switch versioning off for the bucket";
