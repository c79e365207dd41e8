//! Catching up: a zone that was away is given what it lacks and loses what was deleted meanwhile.
//!
//! The durable list of what a zone lacks is the zones' own listings, compared at the start and whenever a zone comes back;
//! the queue in memory is what became known between.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::member::{Member, Use};
use super::{GetError, Zones};
use crate::ObjectName;

/// How many objects are copied to one zone at once: enough to hide a sync, few enough to leave room for new writes.
const AT_ONCE: usize = 4;

impl Zones {
    /// Asks each zone every second (by default) whether it works, and brings those that do up to date, until cancelled.
    pub fn spawn_catch_up(self: &Arc<Self>, cancel: CancellationToken) -> JoinHandle<()> {
        let zones = Arc::clone(self);
        tokio::spawn(async move {
            let each = zones.members.iter().map(|member| zones.look_after(member));
            tokio::select! {
                () = cancel.cancelled() => {}
                _ = join_all(each) => {}
            }
        })
    }

    async fn look_after(self: &Arc<Self>, member: &Arc<Member>) {
        loop {
            self.visit(member).await;
            tokio::time::sleep(self.settings.probe_every).await;
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
            let Some(compared) = self.compare(member).await else {
                member.request_compare();
                return;
            };
            with_all = compared == self.members.len();
            if !self.deliver(member).await {
                return;
            }
        }
        if joins && with_all && member.status().waiting == 0 {
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
        match self.fetch(name, self.settings.max_object_bytes).await {
            Ok(bytes) if !self.vouching.is_own(name, &bytes) => {
                tracing::warn!(object.name = %name, "{name} is none of ours and is not copied: take it out of the zones that hold it");
                member.unqueue(name);
                true
            }
            // It takes itself off the queue, and undoes itself if the object was deleted meanwhile.
            Ok(bytes) => self.put_one(member, name, bytes).await.is_ok(),
            Err(GetError::Unavailable { .. }) => true,
            Err(error) => {
                tracing::warn!(object.name = %name, "nothing to copy: {error}");
                member.unqueue(name);
                true
            }
        }
    }

    /// Compares the zone's listing with all others and queues what is missing on either side. Says how many zones were compared;
    /// nothing when it could not be done.
    async fn compare(self: &Arc<Self>, member: &Arc<Member>) -> Option<usize> {
        let (holdings, _) = self.holdings("").await;
        let (_, mine) = holdings.iter().find(|(m, _)| Arc::ptr_eq(m, member))?;
        // Alone it cannot know what it lacks, unless it is alone by design.
        if holdings.len() < 2 && self.members.len() > 1 {
            return None;
        }
        let alive = |name: &&ObjectName| !self.is_dead(name) && !self.is_in_flight(name);
        let grave = |name: &ObjectName| name.tombstone(&self.settings.grave_key).ok().map(|(grave, _)| grave);
        let mut copies: BTreeSet<ObjectName> = BTreeSet::new();
        for (other, theirs) in holdings.iter().filter(|(m, _)| !Arc::ptr_eq(m, member)) {
            copies.extend(theirs.objects.difference(&mine.objects).filter(alive).cloned());
            copies.extend(theirs.buried.difference(&mine.buried).filter_map(grave));
            other.queue(mine.objects.difference(&theirs.objects).filter(alive).cloned());
            other.queue(mine.buried.difference(&theirs.buried).filter_map(grave));
        }
        let count = copies.len();
        member.queue(copies);
        if count > 0 {
            tracing::info!(
                zone = member.zone.name(),
                objects = count,
                "zone {} lacks {count} objects",
                member.zone.name()
            );
        }
        let mut clean = true;
        for name in mine.objects.iter().filter(|name| self.is_dead(name)) {
            clean &= self.drop_copy(member, name).await;
        }
        clean.then_some(holdings.len())
    }
}
