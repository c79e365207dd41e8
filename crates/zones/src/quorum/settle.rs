//! At a start: making certain what there is.
//!
//! A writer that died may have left an object in fewer zones than a majority. Nobody was told that it was accepted, and
//! nobody that it was refused. Before anything is built on it, it is copied to a majority, so that it cannot come and go with
//! a zone.
//!
//! What cannot be read cannot be copied. Whether it matters is told by who lists it: what was accepted is in a majority, so an
//! object that even with all silent zones is in fewer was never accepted, whatever its one holder did to it.

use std::sync::Arc;

use super::member::Member;
use super::{GetError, SettleError, Zones};
use crate::ObjectName;

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Every object below the prefix, sorted; each is in a majority of zones.
    pub objects: Vec<ObjectName>,
    /// How many had to be copied to a majority first.
    pub copied: usize,
    /// Objects of which no copy can be read, in so few zones that none of them was ever accepted.
    pub unreadable: Vec<ObjectName>,
    /// Objects of which no copy can be read now, in fewer zones than a majority, that may have been accepted all the same: the
    /// zones that do not answer may hold them.
    pub doubtful: Vec<ObjectName>,
    /// Objects in fewer zones than a majority that are not the role's own (see [`Zones::vouch_with`]): left where they are.
    pub strangers: Vec<ObjectName>,
    /// How many zones did not say what they hold, or are new and not filled: there may be more that was never accepted.
    pub silent: usize,
    /// Whether what a zone failed at is over once it has said so (see [`Zone::is_final`](crate::Zone::is_final)): if not, what a dead writer
    /// sent may arrive yet.
    pub is_final: bool,
}

impl Zones {
    /// Copies whatever lies below `prefix` in fewer zones than a majority to one, and says what there is.
    ///
    /// Needs a majority of zones: with fewer, something that was accepted could be overlooked. A zone that was put in a lost
    /// one's place is not among them before it is filled.
    pub async fn settle(&self, prefix: &str) -> Result<Settled, SettleError> {
        let zones = self.arc();
        let settled = zones.settle_now(prefix).await;
        let open = match &settled {
            Ok(settled) => !settled.doubtful.is_empty(),
            Err(error) => matches!(error, SettleError::TooFewZones { .. }),
        };
        // With one of them away no other can be filled for certain, and it would only take long to say so.
        let open = open && zones.members.iter().all(|member| member.is_up());
        let mut filled = false;
        for member in zones.members.iter().filter(|member| open && !member.zone.is_complete()) {
            zones.visit(member).await;
            filled |= member.zone.is_complete();
        }
        if filled { zones.settle_now(prefix).await } else { settled }
    }

    async fn settle_now(self: &Arc<Self>, prefix: &str) -> Result<Settled, SettleError> {
        let zones = self;
        let holdings = zones.holdings(prefix).await;
        let needed = zones.needed();
        let member = |at: &usize| zones.members.get(*at);
        let speaks = |at: &usize| matches!(holdings.zones.get(*at), Some(Ok(true)));
        let answering = (0..zones.members.len()).filter(speaks).count();
        if answering < needed {
            let mut silent = holdings.silent();
            let new = zones
                .members
                .iter()
                .zip(&holdings.zones)
                .filter(|(_, says)| matches!(says, Ok(false)));
            silent.extend(new.map(|(member, _)| format!("zone {} is new and not filled yet", member.zone.name())));
            return Err(SettleError::TooFewZones {
                answering,
                needed,
                detail: silent.join("; "),
            });
        }
        let mut settled = Settled {
            silent: zones.members.len() - answering,
            is_final: zones.members.iter().all(|member| member.zone.is_final()),
            ..Settled::default()
        };
        for (name, holders) in &holdings.objects {
            if zones.is_in_flight(name) {
                continue;
            }
            if zones.is_dead(name) {
                for member in holders.iter().filter_map(member) {
                    zones.drop_copy(member, name).await;
                }
                continue;
            }
            let answers = |at: &usize| matches!(holdings.zones.get(*at), Some(Ok(_)));
            let lacking = (0..zones.members.len()).filter(|at| answers(at) && !holders.contains(at));
            let lacking: Vec<&Arc<Member>> = lacking.filter_map(|at| member(&at)).collect();
            if holders.len() >= needed {
                lacking.iter().for_each(|member| member.queue([name.clone()]));
                settled.objects.push(name.clone());
                continue;
            }
            match zones.spread(name, holders.len(), lacking).await {
                Ok(()) => {
                    settled.copied += 1;
                    settled.objects.push(name.clone());
                }
                Err(Spread::Unreadable(error)) => {
                    tracing::warn!(object.name = %name, "an object in fewer zones than a majority cannot be read: {error}");
                    let perhaps = (0..zones.members.len()).filter(|at| holders.contains(at) || !speaks(at));
                    if perhaps.count() < needed {
                        settled.unreadable.push(name.clone());
                    } else {
                        settled.doubtful.push(name.clone());
                    }
                }
                Err(Spread::Stranger) => settled.strangers.push(name.clone()),
                Err(Spread::Failed(held, detail)) => {
                    return Err(SettleError::NotCopied {
                        name: name.clone(),
                        held,
                        needed,
                        detail,
                    });
                }
            }
        }
        Ok(settled)
    }

    async fn spread(self: &Arc<Self>, name: &ObjectName, held: usize, lacking: Vec<&Arc<Member>>) -> Result<(), Spread> {
        let bytes = self.fetch(name, self.settings.max_object_bytes).await;
        let bytes = bytes.map_err(Spread::Unreadable)?;
        if !self.vouching.is_own(name, &bytes) {
            return Err(Spread::Stranger);
        }
        let (mut held, mut details) = (held, Vec::new());
        for member in lacking {
            match self.put_one(member, name, bytes.clone()).await {
                Ok(()) => held += 1,
                Err(error) => {
                    member.queue([name.clone()]);
                    details.push(error.to_string());
                }
            }
        }
        if held >= self.needed() {
            Ok(())
        } else {
            Err(Spread::Failed(held, details.join("; ")))
        }
    }
}

enum Spread {
    Unreadable(GetError),
    Stranger,
    Failed(usize, String),
}
