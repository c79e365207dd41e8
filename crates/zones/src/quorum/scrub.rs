//! Scrubbing: what lies in the zones is compared and read before somebody needs it, and put right from a good copy.
//!
//! Promise: every name is compared in each run, and every copy is read within 28 scheduled ones. A run takes the memory of a few objects
//! and no more of the disks than the settings say. Nothing is copied that has a grave or that the role does not vouch for.
//!
//! Start at [`Scrubber`], which runs it by itself; one run is [`Zones::scrub`].

mod copy;
mod report;
mod runs;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;

pub use report::{Named, Progress, ScrubReport, ScrubbedZone};
pub use runs::Scrubber;

use copy::Held;

use super::pace::Pace;
use super::walk::{Step, Walk, What};
use super::{GetError, Zones};
use crate::ObjectName;

/// How many objects are looked at at once.
const AT_ONCE: usize = 4;
/// In so many parts is everything read.
const SLICES: u32 = 28;

/// Which copies are read, by the slice of the object's digest. The names of all are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample(u32);

impl Sample {
    const ALL: Self = Self((1 << SLICES) - 1);

    pub(super) fn of_slice(slice: u32) -> Self {
        Self(1 << (slice % SLICES))
    }

    pub(super) fn has(self, name: &ObjectName) -> bool {
        let digits = u32::from_str_radix(&name.digest()[..6], 16).unwrap_or_default();
        self.0 & (1 << (digits % SLICES)) != 0
    }
}

/// What became of one object.
#[derive(Debug, Default)]
struct Examined {
    read: bool,
    bytes: u64,
    /// In the order of the members.
    missing: Vec<usize>,
    wrong: Vec<usize>,
    repaired: Vec<usize>,
    /// Zones that did not answer, with what they said.
    silent: Vec<(usize, String)>,
    verdict: Verdict,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Verdict {
    #[default]
    Good,
    Foreign,
    Lost,
    Doubtful,
}

impl Zones {
    /// One run over everything.
    async fn scrub(self: &Arc<Self>, sample: Sample, pace: &Pace, progress: &watch::Sender<Progress>) -> ScrubReport {
        let mut report = ScrubReport::new(self.members.iter().map(|member| member.zone.name()));
        let silent = self.hear_of_graves().await;
        let mut walk = Walk::without(self, What::Objects(""), silent);
        let mut running = FuturesUnordered::new();
        let mut names_left = true;
        loop {
            while names_left && running.len() < AT_ONCE {
                let Some(mut step) = walk.next(self).await else {
                    names_left = false;
                    break;
                };
                report.list(&step);
                if report.objects.is_multiple_of(1024) {
                    progress.send_modify(|now| report.show(now));
                }
                if walk.answering() < self.needed() {
                    // A grave may lie in those that do not answer.
                    step.lacking.clear();
                }
                if let Some(work) = self.work_on(step, sample) {
                    running.push(self.examine(work, pace));
                }
            }
            let Some((name, examined)) = running.next().await else { break };
            report.add(&name, examined);
            progress.send_modify(|now| report.show(now));
        }
        drop(running);
        for at in 0..self.members.len() {
            if let Some(error) = walk.failed(at) {
                report.silent(at, error.detail());
            }
        }
        report
    }

    /// What there is to do about an object; nothing in most cases.
    fn work_on(&self, mut step: Step, sample: Sample) -> Option<Work> {
        if self.is_in_flight(&step.name) {
            return None;
        }
        if self.is_dead(&step.name) {
            for member in step.holders.iter().filter_map(|at| self.members.get(*at)) {
                member.queue([step.name.clone()]);
            }
            return None;
        }
        // A zone that is new is filled by catching up.
        step.lacking
            .retain(|at| self.members.get(*at).is_some_and(|member| member.zone.is_complete()));
        let read = sample.has(&step.name);
        (read || !step.lacking.is_empty()).then_some(Work { step, read })
    }

    async fn examine(self: &Arc<Self>, work: Work, pace: &Pace) -> (ObjectName, Examined) {
        let Work { step, read } = work;
        let Step { name, holders, lacking } = step;
        let mut examined = Examined {
            read,
            ..Examined::default()
        };
        let mut good = None;
        for at in lacking {
            match self.look_for(at, &name).await {
                Held::Missing => examined.missing.push(at),
                Held::Silent(why) => examined.silent.push((at, why)),
                Held::Good(_) | Held::Wrong => {}
            }
        }
        for at in holders.iter().copied().filter(|_| read) {
            match self.read_copy(at, &name, pace, &mut examined.bytes).await {
                Held::Good(bytes) => good = good.or(bytes),
                Held::Wrong => examined.wrong.push(at),
                Held::Missing => examined.missing.push(at),
                Held::Silent(why) => examined.silent.push((at, why)),
            }
        }
        if self.is_dead(&name) || self.is_in_flight(&name) {
            // It was deleted meanwhile, or is about to be.
            return (name, Examined::default());
        }
        let to_mend: Vec<usize> = examined.missing.iter().chain(&examined.wrong).copied().collect();
        if to_mend.is_empty() {
            if good.is_some_and(|bytes| !self.vouching.is_own(&name, &bytes)) {
                examined.verdict = Verdict::Foreign;
            }
            return (name, examined);
        }
        let source = match good {
            Some(bytes) => Ok(bytes),
            None => {
                pace.wait().await;
                let fetched = self.fetch_behind(&name).await.map(|(bytes, _)| bytes);
                pace.spend(fetched.as_ref().map_or(0, bytes::Bytes::len));
                fetched
            }
        };
        match source {
            Ok(bytes) if !self.vouching.is_own(&name, &bytes) => examined.verdict = Verdict::Foreign,
            Ok(bytes) => {
                for at in to_mend {
                    let Some(member) = self.members.get(at) else { continue };
                    match self.put_one(member, &name, bytes.clone()).await {
                        Ok(()) => {
                            member.was_repaired();
                            examined.repaired.push(at);
                        }
                        Err(_) => member.queue_of(name.clone(), Some(bytes.len() as u64)),
                    }
                }
            }
            // Every zone has answered, and none has a good one.
            Err(GetError::Corrupt { .. }) => examined.verdict = Verdict::Lost,
            // It was listed, and now none has it: it was withdrawn meanwhile, unless it still is listed.
            Err(GetError::NotFound { .. }) => match self.still_listed(&holders, &name).await {
                _ if self.is_dead(&name) => return (name, Examined::default()),
                Ok(true) => examined.verdict = Verdict::Lost,
                Ok(false) => return (name, Examined::default()),
                Err(silent) => {
                    examined.silent.push(silent);
                    examined.verdict = Verdict::Doubtful;
                }
            },
            Err(GetError::Unavailable { .. }) => examined.verdict = Verdict::Doubtful,
        }
        if examined.verdict != Verdict::Foreign {
            self.note(&name, &examined);
        }
        (name, examined)
    }

    /// Counts and logs what is wrong with an object.
    fn note(&self, name: &ObjectName, examined: &Examined) {
        for (at, is_wrong) in examined
            .wrong
            .iter()
            .map(|at| (at, true))
            .chain(examined.missing.iter().map(|at| (at, false)))
        {
            let Some(member) = self.members.get(*at) else { continue };
            let zone = member.zone.name();
            if is_wrong {
                member.gave_wrong_copy();
                tracing::warn!(zone, object.name = %name, "the copy of {name} in zone {zone} is corrupt");
            } else {
                member.lacked(name);
                tracing::warn!(zone, object.name = %name, "zone {zone} lacks {name}");
            }
        }
    }
}

struct Work {
    step: Step,
    read: bool,
}
