//! Writing: all zones at once, accepted at a majority, withdrawn below it.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;

use super::member::{Member, Use};
use super::{PutError, Zones};
use crate::{ObjectName, ZoneError};

/// From here on a digest is worth a thread of its own.
pub(super) const MUCH: usize = 256 << 10;

/// What to do with copies when there are too few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BelowMajority {
    /// Take them back: the writer is told that there is nothing.
    Withdraw,
    /// Leave them, and go on placing them: a deletion only ever goes forward.
    GoOn,
}

impl Zones {
    /// Keeps an object: returns when a majority of zones has it durably. The other zones get it in the background.
    ///
    /// On [`PutError::TooFewZones`] nothing of it is left anywhere and nothing of it will appear. The decision is taken even
    /// if the caller stops waiting for it.
    pub async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), PutError> {
        if name.is_tombstone() || !is_object(name, &bytes).await {
            return Err(PutError::WrongName { name: name.clone() });
        }
        if self.is_dead(name) {
            return Err(PutError::Deleted { name: name.clone() });
        }
        self.refuse_early(name).await?;
        self.place(name.clone(), bytes, BelowMajority::Withdraw).await
    }

    /// Deletes an object: returns when a majority of zones has its grave, which keeps it from coming back with a zone that
    /// was away. Where it fails, the deletion may be done yet, and can be asked for again.
    pub async fn delete(&self, name: &ObjectName) -> Result<(), PutError> {
        self.refuse_early(name).await?;
        let dug = name.tombstone(&self.settings.grave_key);
        let (grave, epitaph) = dug.map_err(|_| PutError::WrongName { name: name.clone() })?;
        self.dead.insert(name);
        self.place(grave, epitaph, BelowMajority::GoOn).await?;
        let zones = self.arc();
        join_all(zones.members.iter().map(|member| zones.drop_copy(member, name))).await;
        Ok(())
    }

    /// Refuses before anything is written when it is known that there are too few zones.
    async fn refuse_early(&self, name: &ObjectName) -> Result<(), PutError> {
        if !self.can_commit() {
            self.ask_those_down().await;
        }
        if self.can_commit() {
            return Ok(());
        }
        Err(PutError::TooFewZones {
            name: name.clone(),
            held: 0,
            needed: self.needed(),
        })
    }

    async fn place(&self, name: ObjectName, bytes: Bytes, below: BelowMajority) -> Result<(), PutError> {
        let (tell, told) = oneshot::channel();
        let undecided = PutError::Undecided {
            name: name.clone(),
            held: 0,
            needed: self.needed(),
        };
        // A task of its own, so that a caller who goes away leaves nothing half decided.
        tokio::spawn(self.arc().decide(name, bytes, below, tell));
        told.await.unwrap_or(Err(undecided))
    }

    async fn decide(self: Arc<Self>, name: ObjectName, bytes: Bytes, below: BelowMajority, tell: oneshot::Sender<Result<(), PutError>>) {
        let mut flight = Some(self.take_off(&name));
        let (needed, length) = (self.needed(), bytes.len() as u64);
        let one = |member: &Arc<Member>| {
            let (member, put) = (Arc::clone(member), self.put_one(member, &name, bytes.clone()));
            async move { (member, put.await) }
        };
        let mut puts: FuturesUnordered<_> = self.members.iter().map(one).collect();
        drop(bytes);

        let (mut tell, mut held, mut outcomes) = (Some(tell), 0, Vec::new());
        while let Some((member, outcome)) = puts.next().await {
            held += usize::from(outcome.is_ok());
            outcomes.push((member, outcome));
            if held >= needed
                && let Some(tell) = tell.take()
            {
                // From now on it is seen, even while a slow zone is still at it.
                flight = None;
                // Nobody listens any more when the caller has gone; it is decided all the same.
                let _ = tell.send(Ok(()));
            }
        }
        let accepted = held >= needed;
        if accepted || below == BelowMajority::GoOn {
            for (member, _) in outcomes.iter().filter(|(_, outcome)| outcome.is_err()) {
                member.queue_of(name.clone(), Some(length));
            }
        }
        if accepted {
            return;
        }
        let refused = match below {
            BelowMajority::Withdraw => self.withdraw(&name, &outcomes).await,
            BelowMajority::GoOn => false,
        };
        drop(flight);
        if let Some(tell) = tell {
            let _ = tell.send(Err(if refused {
                PutError::TooFewZones { name, held, needed }
            } else {
                PutError::Undecided { name, held, needed }
            }));
        }
    }

    /// Takes back what was placed. True when it is certain that nothing will appear.
    pub(super) async fn withdraw(self: &Arc<Self>, name: &ObjectName, outcomes: &[(Arc<Member>, Result<(), ZoneError>)]) -> bool {
        // Invariant: this comes first. A write that is on its way when it is looked for below undoes itself when it arrives; one
        // that is not has arrived before, and is undone below.
        self.dead.insert(name);
        let clear = join_all(outcomes.iter().map(|(member, outcome)| async move {
            match outcome {
                _ if member.is_on_its_way(name) => {
                    member.request_compare();
                    false
                }
                Err(ZoneError::Down { .. }) => true,
                // Whatever is deleted there now: the write may be done yet.
                Err(_) if !member.zone.is_final() => {
                    self.drop_copy(member, name).await;
                    member.request_compare();
                    false
                }
                _ => self.drop_copy(member, name).await,
            }
        }))
        .await;
        // Where all are clear, nothing is left and nothing is on its way. Else it is undecided, and what arrives may stay: no grave is dug,
        // and nothing that arrives later is undone, because by then another process may have counted it and built on it.
        self.dead.remove(name);
        clear.into_iter().all(|clear| clear)
    }

    /// Writes to one zone. A copy that arrives after its object was withdrawn is removed again.
    pub(super) fn put_one(
        self: &Arc<Self>,
        member: &Arc<Member>,
        name: &ObjectName,
        bytes: Bytes,
    ) -> impl Future<Output = Result<(), ZoneError>> + Send + use<> {
        let (zones, member, name) = (Arc::clone(self), Arc::clone(member), name.clone());
        async move {
            let keeper = Arc::clone(&member);
            let on_its_way = member.set_out(&name);
            let within = zones.settings.put_timeout_for(bytes.len());
            member
                .call(Use::Write, within, move |zone| async move {
                    // To the very end: an arrival counts as over only once it has been undone where that is needed.
                    let _on_its_way = on_its_way;
                    zone.put(&name, bytes).await?;
                    keeper.unqueue(&name);
                    if !zones.is_dead(&name) {
                        return Ok(());
                    }
                    let undone = zone.delete(&name).await;
                    if undone.is_err() {
                        // Nobody may be waiting to hear of it: the next comparison takes it away.
                        keeper.request_compare();
                    }
                    undone
                })
                .await
        }
    }

    /// Removes one zone's copy. True when it is certain that the zone has none.
    pub(super) async fn drop_copy(&self, member: &Arc<Member>, name: &ObjectName) -> bool {
        let gone = name.clone();
        let dropped = member.call(
            Use::Write,
            self.settings.put_timeout,
            |zone| async move { zone.delete(&gone).await },
        );
        let dropped = dropped.await.is_ok();
        member.unqueue(name);
        if !dropped {
            member.request_compare();
        }
        dropped
    }
}

/// Whether `bytes` are the object of that name.
pub(super) async fn is_object(name: &ObjectName, bytes: &Bytes) -> bool {
    if bytes.len() < MUCH {
        return name.is_name_of(bytes);
    }
    let (name, bytes) = (name.clone(), bytes.clone());
    tokio::task::spawn_blocking(move || name.is_name_of(&bytes)).await.unwrap_or(false)
}
