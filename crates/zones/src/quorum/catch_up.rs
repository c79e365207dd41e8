//! Catching up: a zone that was away is given what it lacks and loses what was deleted meanwhile.
//!
//! The durable list of what a zone lacks is the zones' own listings, compared at the start and whenever a zone comes back;
//! the queue in memory is what became known between.
//!
//! Promise: this takes the memory of a few objects and of a page of each listing, whatever lags, and no more of the disks and lines than
//! the settings say.

use std::sync::Arc;

use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::member::{Member, Use};
use super::walk::{Step, Walk, What};
use super::{GetError, Zones};
use crate::{ObjectName, ZoneError};

/// How many objects are copied to one zone at once: enough to hide a sync, few enough to leave room for new writes.
const AT_ONCE: usize = 4;
/// From so many names on, what waits is copied before more is looked for.
const ENOUGH: usize = 10_000;

impl Zones {
    /// Asks each zone every second (by default) whether it works, and brings those that do up to date, until cancelled.
    pub fn spawn_catch_up(self: &Arc<Self>, cancel: CancellationToken) -> JoinHandle<()> {
        let zones = Arc::clone(self);
        tokio::spawn(async move {
            let each = zones.members.iter().map(|member| zones.look_after(member));
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                _ = join_all(each) => {}
            }
        })
    }

    async fn look_after(self: &Arc<Self>, member: &Arc<Member>) {
        loop {
            self.visit(member).await;
            // A zone that keeps failing is left alone for longer and longer, unless it gives a sign of life.
            tokio::select! {
                biased;
                () = base::time::sleep(member.pause(self.settings.probe_every)) => {}
                () = member.answered.notified() => {}
            }
        }
    }

    /// One look at one zone: does it work, and does anything wait for it?
    pub(super) async fn visit(self: &Arc<Self>, member: &Arc<Member>) {
        let _only_one = member.visit.lock().await;
        if !member.probe(self.settings.put_timeout).await {
            return;
        }
        // What is known to wait first: on a disk that is still full this fails without a listing.
        if !self.deliver(member).await {
            return;
        }
        let joins = !member.zone.is_complete();
        if joins && self.members.iter().all(|other| other.is_up()) {
            member.request_compare();
        }
        let mut with_all = false;
        if member.take_compare() {
            let comparing = Comparing::begin(self, member);
            let Some(compared) = self.compare(member, comparing).await else {
                return;
            };
            with_all = compared == self.members.len();
            if !self.deliver(member).await {
                return;
            }
        }
        if joins && with_all && member.waiting() == 0 {
            self.count_in(member).await;
        }
        member.caught_up();
    }

    /// A new zone has all that any other has: from now on it counts when it is asked what there is.
    async fn count_in(&self, member: &Arc<Member>) {
        let noted = member.call(
            Use::Write,
            self.settings.put_timeout,
            |zone| async move { zone.set_complete().await },
        );
        if noted.await.is_ok() {
            tracing::info!(zone = member.zone.name(), "zone {} is filled", member.zone.name());
        }
    }

    /// Copies what waits for the zone to it. False when the zone failed at that.
    async fn deliver(self: &Arc<Self>, member: &Arc<Member>) -> bool {
        let mut last = None;
        loop {
            let names = member.waiting_after(last.as_ref(), AT_ONCE);
            last = names.last().cloned();
            if names.is_empty() {
                return true;
            }
            let delivered = join_all(names.iter().map(|name| self.deliver_one(member, name))).await;
            if delivered.contains(&false) {
                return false;
            }
        }
    }

    async fn deliver_one(self: &Arc<Self>, member: &Arc<Member>, name: &ObjectName) -> bool {
        if self.is_in_flight(name) {
            return true;
        }
        if self.is_dead(name) {
            return self.drop_copy(member, name).await;
        }
        self.catch_up_pace.wait().await;
        let fetched = self.fetch_behind(name).await;
        match fetched {
            Ok((bytes, _)) if !self.vouching.is_own(name, &bytes) => {
                tracing::warn!(object.name = %name, "{name} is none of ours and is not copied: take it out of the zones that hold it");
                member.unqueue(name);
                true
            }
            // It takes itself off the queue, and undoes itself if the object was deleted meanwhile.
            Ok((bytes, wrong)) => {
                self.catch_up_pace.spend(bytes.len());
                let others = wrong.iter().filter(|other| !Arc::ptr_eq(other, member));
                others.for_each(|other| other.queue([name.clone()]));
                self.put_one(member, name, bytes).await.is_ok()
            }
            Err(GetError::Unavailable { .. }) => true,
            Err(error) => {
                tracing::warn!(object.name = %name, "nothing to copy: {error}");
                member.unqueue(name);
                true
            }
        }
    }

    /// Compares the zone's listing with all others and queues what is missing on either side, for this zone and for all others that wait
    /// to be compared. Says how many zones were compared; nothing when it could not be done.
    async fn compare(self: &Arc<Self>, member: &Arc<Member>, comparing: Comparing<'_>) -> Option<usize> {
        let me = self.members.iter().position(|other| Arc::ptr_eq(other, member))?;
        let silent = self.hear_of_graves().await;
        let mut walk = Walk::without(self, What::Objects(""), silent);
        let (mut lacks, mut full) = (0_usize, ENOUGH);
        while let Some(step) = walk.next(self).await {
            // Alone it cannot know what it lacks, unless it is alone by design.
            if walk.failed(me).is_some() || (walk.answering() < 2 && self.members.len() > 1) {
                return None;
            }
            if self.is_in_flight(&step.name) {
                continue;
            }
            if self.is_dead(&step.name) {
                self.queue_at(&step.holders, &step.name);
            } else if !step.lacking.is_empty() {
                lacks += usize::from(step.lacking.contains(&me));
                self.queue_at(&step.lacking, &step.name);
            }
            if member.waiting() >= full {
                if !self.deliver(member).await {
                    return None;
                }
                full = member.waiting() + ENOUGH;
            }
        }
        if walk.failed(me).is_some() || (walk.answering() < 2 && self.members.len() > 1) {
            return None;
        }
        comparing.done(|at| walk.failed(at).is_none());
        if lacks > 0 {
            tracing::info!(
                zone = member.zone.name(),
                objects = lacks,
                "zone {} lacked {lacks} objects",
                member.zone.name()
            );
        }
        Some(walk.answering())
    }

    /// Learns of all graves there are, and queues those that a zone lacks. Whoever does not say which it has is not to be heard about
    /// objects either: it may be the one that knows of a grave.
    pub(super) async fn hear_of_graves(self: &Arc<Self>) -> Vec<Option<ZoneError>> {
        let mut walk = Walk::new(self, What::Graves(""));
        while let Some(Step { name, lacking, .. }) = walk.next(self).await {
            if let Some(buried) = name.buried(&self.settings.grave_key) {
                self.dead.insert(&buried);
                self.queue_at(&lacking, &name);
            }
        }
        walk.failures()
    }

    /// What is queued at a zone is copied there if it is alive and removed there if it is dead.
    fn queue_at(&self, places: &[usize], name: &ObjectName) {
        for member in places.iter().filter_map(|at| self.members.get(*at)) {
            member.queue([name.clone()]);
        }
    }
}

/// A comparison under way, and for whom. Dropped before it is done, all of them ask for another.
struct Comparing<'a>(Vec<(usize, &'a Arc<Member>)>);

impl<'a> Comparing<'a> {
    /// For this zone, which has taken it up, and for all others that ask for one by now: after a start that is all of them, and each is
    /// listed once.
    fn begin(zones: &'a Zones, member: &Arc<Member>) -> Self {
        let each = zones.members.iter().enumerate();
        Self(
            each.filter(|(_, other)| Arc::ptr_eq(other, member) || other.take_compare())
                .collect(),
        )
    }

    /// It is done for those that have listed all they hold.
    fn done(mut self, listed: impl Fn(usize) -> bool) {
        self.0.drain(..).for_each(|(at, member)| member.compared(listed(at)));
    }
}

impl Drop for Comparing<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, member)| member.compared(false));
    }
}
