//! What a run found, as it is kept and shown.

use serde::{Deserialize, Serialize};

use super::{Examined, Verdict};
use crate::ObjectName;
use crate::quorum::walk::Step;

/// So many names are kept of each kind; the rest is counted.
const NAMES: usize = 100;

/// Names of objects, the first hundred of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<String>,
}

impl Named {
    fn add(&mut self, name: &ObjectName) {
        self.count += 1;
        if self.first.len() < NAMES {
            self.first.push(name.as_str().to_owned());
        }
    }
}

/// What a run found in one zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubbedZone {
    /// Its name.
    pub name: String,
    /// What it said instead of answering, at least once; empty where it answered to the end.
    pub silent: String,
    /// How many objects it lists.
    pub objects: u64,
    /// How many it lacked.
    pub missing: u64,
    /// How many of its copies were wrong.
    pub corrupt: u64,
    /// How many of both were put right.
    pub repaired: u64,
}

/// What a run found. Times are microseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubReport {
    /// When it began.
    pub began_at: i64,
    /// When it ended.
    pub ended_at: i64,
    /// Whether every copy was read. Otherwise names were compared and one copy of 28 was read.
    pub full: bool,
    /// How many objects there are.
    pub objects: u64,
    /// Of how many all copies were read.
    pub read: u64,
    /// How many bytes were read for that.
    pub bytes: u64,
    /// Zone by zone.
    pub zones: Vec<ScrubbedZone>,
    /// What no zone has a good copy of.
    pub lost: Named,
    /// What no zone that answers has a good copy of.
    pub doubtful: Named,
    /// What is none of the role's own: it is left where it is.
    pub foreign: Named,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether one is under way.
    pub running: bool,
    /// How many objects were listed.
    pub objects: u64,
    /// How many there were the last time, as far as is known.
    pub expected: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// How many copies were missing or wrong.
    pub faults: u64,
}

impl ScrubReport {
    pub(super) fn new<'a>(zones: impl Iterator<Item = &'a str>) -> Self {
        let zone = |name: &str| ScrubbedZone {
            name: name.to_owned(),
            ..ScrubbedZone::default()
        };
        Self {
            zones: zones.map(zone).collect(),
            ..Self::default()
        }
    }

    /// Whether every zone answered to the end and nothing is left to be put right.
    pub fn is_complete(&self) -> bool {
        let whole = |zone: &ScrubbedZone| zone.silent.is_empty() && zone.repaired == zone.missing + zone.corrupt;
        self.doubtful.count == 0 && self.zones.iter().all(whole)
    }

    pub(super) fn list(&mut self, step: &Step) {
        self.objects += 1;
        for at in &step.holders {
            if let Some(zone) = self.zones.get_mut(*at) {
                zone.objects += 1;
            }
        }
    }

    pub(super) fn silent(&mut self, at: usize, why: String) {
        if let Some(zone) = self.zones.get_mut(at)
            && zone.silent.is_empty()
        {
            zone.silent = why;
        }
    }

    pub(super) fn add(&mut self, name: &ObjectName, examined: Examined) {
        self.read += u64::from(examined.read);
        self.bytes += examined.bytes;
        let mut count = |places: Vec<usize>, of: fn(&mut ScrubbedZone) -> &mut u64| {
            for at in places {
                if let Some(zone) = self.zones.get_mut(at) {
                    *of(zone) += 1;
                }
            }
        };
        // What is none of ours is missing nowhere.
        if examined.verdict != Verdict::Foreign {
            count(examined.missing, |zone| &mut zone.missing);
            count(examined.wrong, |zone| &mut zone.corrupt);
            count(examined.repaired, |zone| &mut zone.repaired);
        }
        for (at, why) in examined.silent {
            self.silent(at, why);
        }
        match examined.verdict {
            Verdict::Good => {}
            Verdict::Foreign => self.foreign.add(name),
            Verdict::Lost => self.lost.add(name),
            Verdict::Doubtful => self.doubtful.add(name),
        }
    }

    pub(super) fn show(&self, progress: &mut Progress) {
        (progress.objects, progress.bytes) = (self.objects, self.bytes);
        progress.faults = self.zones.iter().map(|zone| zone.missing + zone.corrupt).sum();
    }
}
