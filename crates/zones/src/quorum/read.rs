//! Reading: the first good copy, whichever zone it is in; what was found wrong is repaired.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base::time::sleep;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use tokio::sync::Mutex;

use super::member::{Member, Use};
use super::walk::{Step, Walk, What};
use super::write::is_object;
use super::{GetError, ListError, Zones};
use crate::{ObjectName, Zone, ZoneError};

/// An object that some zone holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// In how many of the zones that answered it is.
    pub zones: usize,
}

/// What the zones hold below a prefix. Zones stand for themselves by their place among all.
#[derive(Debug)]
pub(super) struct Holdings {
    /// In order, each with who has it.
    pub(super) objects: Vec<(ObjectName, Vec<usize>)>,
    /// Of each zone that said what it holds, whether what it lacks says something: not where it has yet to be filled.
    pub(super) zones: Vec<Result<bool, ZoneError>>,
}

impl Holdings {
    /// What those said that did not say what they hold.
    pub(super) fn silent(&self) -> Vec<String> {
        self.zones
            .iter()
            .filter_map(|zone| zone.as_ref().err())
            .map(ToString::to_string)
            .collect()
    }
}

/// Objects up to this size are read at the same time as others; longer ones one at a time.
const LARGE: u64 = 64 << 20;
/// The same for copies and comparisons, of which several go on at once while nobody waits for them.
pub(super) const LARGE_BEHIND: u64 = 8 << 20;

/// What came of asking one zone after another.
struct Search {
    found: Option<Bytes>,
    /// Who has a copy that may be good and was not read, for its length.
    large: Vec<Arc<Member>>,
    wrong: Vec<Arc<Member>>,
    lacking: Vec<Arc<Member>>,
    silent: Vec<String>,
}

impl Zones {
    /// A whole object, its digest verified. A copy found missing or wrong on the way is repaired in the background; one of more
    /// than `most` bytes is wrong.
    pub async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, GetError> {
        if self.is_dead(name) {
            return Err(GetError::NotFound { name: name.clone() });
        }
        self.fetch(name, most).await
    }

    /// Exactly these bytes of an object, as some zone has them: it is for the caller to authenticate them, and to
    /// [`report_corrupt`](Self::report_corrupt) what does not hold.
    pub async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        if self.is_dead(name) {
            return Err(GetError::NotFound { name: name.clone() });
        }
        let read = |zone: Arc<dyn Zone>, name: ObjectName| -> BoxFuture<'static, Result<Bytes, ZoneError>> {
            let range = range.clone();
            Box::pin(async move { zone.get_range(&name, range).await })
        };
        let search = self.search(name, read, None).await;
        if search.found.is_some() && (!search.wrong.is_empty() || !search.lacking.is_empty()) {
            let (zones, name) = (self.arc(), name.clone());
            tokio::spawn(async move { zones.report_corrupt(&name).await });
        }
        search.outcome(name)
    }

    /// Looks at every zone's copy as a whole and replaces those that are wrong or missing.
    pub async fn report_corrupt(&self, name: &ObjectName) {
        let zones = &self.arc();
        if zones.is_dead(name) || zones.is_in_flight(name) {
            return;
        }
        let _one_at_a_time = zones.large.lock().await;
        let copies = join_all(zones.members.iter().map(|member| async move {
            let copy = zones.read_one(member, name).await;
            let good = match &copy {
                Ok(bytes) => is_object(name, bytes).await,
                Err(_) => false,
            };
            (member, copy, good)
        }))
        .await;
        let Some(good) = copies
            .iter()
            .find_map(|(_, copy, good)| copy.as_ref().ok().filter(|_| *good).cloned())
        else {
            tracing::error!(object.name = %name, "no zone that works has a good copy of {name}");
            return;
        };
        if !zones.vouching.is_own(name, &good) {
            return;
        }
        for (member, copy, is_good) in copies {
            match &copy {
                Err(ZoneError::NotFound { .. }) => member.lacked(name),
                _ if !is_good && !copy.as_ref().is_err_and(ZoneError::is_about_the_zone) => member.gave_wrong_copy(),
                _ => {}
            }
            if !is_good && !copy.is_err_and(|error| error.is_about_the_zone()) {
                zones.repair(member, name, good.clone());
            }
        }
    }

    /// Every object below `prefix` in any zone that answers, sorted; deleted ones and those being decided are left out.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ListError> {
        let holdings = self.holdings(prefix).await;
        if holdings.zones.iter().all(Result::is_err) {
            let detail = holdings.silent().join("; ");
            return Err(ListError { detail });
        }
        let visible = holdings
            .objects
            .into_iter()
            .filter(|(name, _)| !self.is_dead(name) && !self.is_in_flight(name));
        Ok(visible
            .map(|(name, holders)| Listed {
                name,
                zones: holders.len(),
            })
            .collect())
    }

    /// What each zone that answers holds, and what the others say. Graves found are remembered.
    pub(super) async fn holdings(&self, prefix: &str) -> Holdings {
        match self.holdings_as_listed(prefix).await {
            (holdings, false) => holdings,
            // It may have been away while much was deleted, of which this process has heard by now.
            (_, true) => self.holdings_as_listed(prefix).await.0,
        }
    }

    /// The same, and whether a zone listed too much to be listened to.
    async fn holdings_as_listed(&self, prefix: &str) -> (Holdings, bool) {
        // Before and after: another disk may be put in its place meanwhile.
        let complete = || self.members.iter().map(|member| member.zone.is_complete()).collect::<Vec<bool>>();
        let before = complete();
        let mut objects = Vec::new();
        // Objects before graves: what is deleted between the two is then known to be.
        let mut walk = Walk::new(self, What::Objects(prefix));
        while let Some(Step { name, holders, .. }) = walk.next(self).await {
            objects.push((name, holders));
        }
        let too_much = walk.has_listed_too_much(self);
        let mut walk = Walk::without(self, What::Graves(prefix), walk.failures());
        while let Some(step) = walk.next(self).await {
            if let Some(buried) = step.name.buried(&self.settings.grave_key) {
                self.dead.insert(&buried);
            }
        }
        let failed = walk.failures();
        let answers = |at: &usize| failed.get(*at).is_some_and(Option::is_none);
        objects.retain_mut(|(_, holders)| {
            // What it said before it failed may be a part.
            holders.retain(answers);
            !holders.is_empty()
        });
        let complete = before.into_iter().zip(complete()).map(|(before, after)| before && after);
        let zones = failed
            .into_iter()
            .zip(complete)
            .map(|(failed, complete)| failed.map_or(Ok(complete), Err));
        let zones = zones.collect();
        (Holdings { objects, zones }, too_much)
    }

    /// A good copy of at most `most` bytes from any zone, graves included.
    pub(super) async fn fetch(&self, name: &ObjectName, most: u64) -> Result<Bytes, GetError> {
        let (bytes, to_repair) = self.fetch_only(name, most, LARGE, &self.large).await?;
        if self.vouching.is_own(name, &bytes) {
            for member in &to_repair {
                self.arc().repair(member, name, bytes.clone());
            }
        }
        Ok(bytes)
    }

    /// A good copy for the background, with less memory, and who should be given it.
    pub(super) async fn fetch_behind(&self, name: &ObjectName) -> Result<(Bytes, Vec<Arc<Member>>), GetError> {
        let most = self.settings.max_object_bytes;
        self.fetch_only(name, most, LARGE_BEHIND, &self.large_behind).await
    }

    /// A good copy, and who should be given it. What has more than `large` bytes is read under the lock.
    async fn fetch_only(
        &self,
        name: &ObjectName,
        most: u64,
        large: u64,
        one_at_a_time: &Mutex<()>,
    ) -> Result<(Bytes, Vec<Arc<Member>>), GetError> {
        if name.is_tombstone() {
            let buried = name.buried(&self.settings.grave_key);
            return buried
                .map(|buried| (self.settings.grave_key.epitaph(&buried), Vec::new()))
                .ok_or_else(|| GetError::NotFound { name: name.clone() });
        }
        let read_up_to = |at_most: u64| {
            move |zone: Arc<dyn Zone>, name: ObjectName| -> BoxFuture<'static, Result<Bytes, ZoneError>> {
                Box::pin(async move { zone.get(&name, at_most).await })
            }
        };
        let mut search = self.search(name, read_up_to(most.min(large)), Some(most)).await;
        if search.found.is_none() && !search.large.is_empty() {
            let _one_at_a_time = one_at_a_time.lock().await;
            search = self.search(name, read_up_to(most), Some(most)).await;
        }
        let mut to_repair = Vec::new();
        if search.found.is_some() {
            // With a good copy found, none that is longer is one.
            for member in std::mem::take(&mut search.large) {
                member.gave_wrong_copy();
                to_repair.push(member);
            }
            search.lacking.iter().for_each(|member| member.lacked(name));
            to_repair.extend(search.wrong.iter().chain(&search.lacking).cloned());
        }
        search.outcome(name).map(|bytes| (bytes, to_repair))
    }

    /// Asks one zone after the other, the next as soon as one fails or is slow. `whole` is given where objects are read as a
    /// whole, and so verified, and says how long they can be.
    async fn search<R>(&self, name: &ObjectName, read: R, whole: Option<u64>) -> Search
    where
        R: Fn(Arc<dyn Zone>, ObjectName) -> BoxFuture<'static, Result<Bytes, ZoneError>>,
    {
        let mut order: Vec<&Arc<Member>> = self.members.iter().collect();
        order.sort_by_key(|member| member.rank());
        let mut left = order.into_iter().peekable();
        let ask = |member: &Arc<Member>| {
            let (member, work) = (Arc::clone(member), read(Arc::clone(&member.zone), name.clone()));
            let within = self.settings.read_timeout;
            async move {
                let answer = member.call(Use::Read, within, |_| work).await;
                (member, answer)
            }
        };
        let mut asked = FuturesUnordered::new();
        // How long whoever was asked last may take before it is not waited for alone.
        let mut patience = self.settings.hedge_after;
        let mut next = left.next();
        let mut search = Search {
            found: None,
            large: Vec::new(),
            wrong: Vec::new(),
            lacking: Vec::new(),
            silent: Vec::new(),
        };
        loop {
            if let Some(member) = next.take() {
                patience = self.patience(member);
                asked.push(ask(member));
            }
            tokio::select! {
                // An answer that is there is taken first, and a simulation can be repeated.
                biased;
                Some((member, answer)) = asked.next() => {
                    match answer {
                        Ok(bytes) if whole.is_none() || is_object(name, &bytes).await => {
                            search.found = Some(bytes);
                            return search;
                        }
                        Err(ZoneError::Long { length, .. }) if whole.is_some_and(|most| length <= most) => search.large.push(member),
                        Ok(_) | Err(ZoneError::Short { .. } | ZoneError::Long { .. } | ZoneError::Wrong { .. }) => {
                            tracing::warn!(zone = member.zone.name(), object.name = %name,
                                "the copy of {name} in zone {} is corrupt", member.zone.name());
                            member.gave_wrong_copy();
                            search.wrong.push(member);
                        }
                        Err(ZoneError::NotFound { .. }) => search.lacking.push(member),
                        Err(error) => search.silent.push(error.to_string()),
                    }
                    next = left.next();
                }
                // A zone that kept failing is asked only when the others have failed too.
                () = sleep(patience), if left.peek().is_some_and(|next| next.is_closed()) => next = left.next(),
                else => return search,
            }
        }
    }

    /// What 95 of its last 100 reads did not exceed, within the bounds that the settings give.
    pub(super) fn patience(&self, member: &Member) -> Duration {
        let (least, most) = (
            self.settings.hedge_at_least.min(self.settings.hedge_after),
            self.settings.hedge_after,
        );
        member.latency.p95().map_or(most, |p95| p95.clamp(least, most))
    }

    async fn read_one(&self, member: &Arc<Member>, name: &ObjectName) -> Result<Bytes, ZoneError> {
        let (name, most) = (name.clone(), self.settings.max_object_bytes);
        member
            .call(Use::Read, self.settings.read_timeout, move |zone| async move {
                zone.get(&name, most).await
            })
            .await
    }

    /// Gives a zone a good copy, in the background.
    fn repair(self: &Arc<Self>, member: &Arc<Member>, name: &ObjectName, bytes: Bytes) {
        if self.is_dead(name) || self.is_in_flight(name) {
            return;
        }
        let (put, member, name) = (self.put_one(member, name, bytes), Arc::clone(member), name.clone());
        tokio::spawn(async move {
            match put.await {
                Ok(()) => {
                    member.was_repaired();
                    tracing::info!(zone = member.zone.name(), object.name = %name,
                        "repaired {name} in zone {}", member.zone.name());
                }
                Err(_) => member.queue([name]),
            }
        });
    }
}

impl Search {
    fn outcome(self, name: &ObjectName) -> Result<Bytes, GetError> {
        let name = name.clone();
        match self.found {
            Some(bytes) => Ok(bytes),
            None if !self.silent.is_empty() => Err(GetError::Unavailable {
                name,
                detail: self.silent.join("; "),
            }),
            None if !self.wrong.is_empty() => Err(GetError::Corrupt { name }),
            None => Err(GetError::NotFound { name }),
        }
    }
}
