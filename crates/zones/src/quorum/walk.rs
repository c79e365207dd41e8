//! Going through what several zones hold, in the order of the names, a page of each at a time.
//!
//! Promise: however much lies in the zones, this takes the memory of a page for each, and no single request lists more than a page.
//! However much one of them says it holds, it comes to an end: a zone that lists too much of what most others lack is not listened to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Zones;
use super::member::{Member, Use};
use crate::name::TOMBSTONES;
use crate::{ObjectName, Zone, ZoneError};

/// The first text after all names of graves.
const AFTER_GRAVES: &str = "tombstones0";

/// What to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// Objects below a prefix, without graves.
    Objects(&'a str),
    /// The graves of objects below a prefix.
    Graves(&'a str),
}

/// One name, and who has it. Members stand for themselves by their place among all.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: ObjectName,
    pub(super) holders: Vec<usize>,
    /// Who answers and does not have it.
    pub(super) lacking: Vec<usize>,
}

/// On the way through.
#[derive(Debug)]
pub(super) struct Walk {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    pages: Pages,
    ready: VecDeque<ObjectName>,
    failed: Option<ZoneError>,
    /// How many names it has listed that most zones lack.
    alone: usize,
}

/// One zone's names, page by page.
#[derive(Debug)]
pub(super) struct Pages {
    member: Arc<Member>,
    prefix: String,
    objects: bool,
    after: String,
    ended: bool,
    /// Its own, see [`Zone::list_step`].
    listing: u64,
}

static LISTINGS: AtomicU64 = AtomicU64::new(0);

impl Pages {
    pub(super) fn new(member: &Arc<Member>, what: What<'_>) -> Self {
        let (prefix, objects) = match what {
            What::Objects(prefix) => (prefix.to_owned(), true),
            What::Graves("") => (TOMBSTONES.to_owned(), false),
            What::Graves(prefix) => (format!("{TOMBSTONES}/{prefix}"), false),
        };
        Self {
            member: Arc::clone(member),
            prefix,
            objects,
            after: String::new(),
            ended: false,
            listing: LISTINGS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The next names; `None` at the end. A page may be empty.
    pub(super) async fn next(&mut self, zones: &Zones) -> Result<Option<Vec<ObjectName>>, ZoneError> {
        if self.ended {
            return Ok(None);
        }
        let most = zones.settings.page.max(1);
        let mut names = loop {
            if let Some(names) = self.step(zones, most).await? {
                break names;
            }
        };
        self.ended = names.len() < most;
        if let Some(last) = names.last() {
            last.as_str().clone_into(&mut self.after);
        }
        if self.objects {
            names.retain(|name| !name.is_tombstone());
            if self.after.starts_with("tombstones/") {
                AFTER_GRAVES.clone_into(&mut self.after);
            }
        }
        Ok(Some(names))
    }

    /// Asks the zone once: the page, or nothing when there is more to ask for it.
    async fn step(&self, zones: &Zones, most: usize) -> Result<Option<Vec<ObjectName>>, ZoneError> {
        let (listing, prefix, after) = (self.listing, self.prefix.clone(), self.after.clone());
        let list = move |zone: Arc<dyn Zone>| async move {
            let Some(names) = zone.list_step(listing, &prefix, &after, most).await? else {
                return Ok(None);
            };
            let in_order = names.first().is_none_or(|first| first.as_str() > after.as_str()) && names.is_sorted_by(|a, b| a < b);
            if names.len() > most || !in_order || !names.iter().all(|name| name.is_below(&prefix)) {
                // Taken as it is it would be gone through for ever, or pass for what the zone lacks.
                let (zone, detail) = (zone.name().to_owned(), "what it lists is not what it was asked for".to_owned());
                return Err(ZoneError::Down { zone, detail });
            }
            Ok(Some(names))
        };
        self.member.call(Use::Read, zones.settings.read_timeout, list).await
    }
}

impl Walk {
    pub(super) fn new(zones: &Zones, what: What<'_>) -> Self {
        Self::without(zones, what, zones.members.iter().map(|_| None).collect())
    }

    /// The same without the zones that have failed before, each in its place.
    pub(super) fn without(zones: &Zones, what: What<'_>, failed: Vec<Option<ZoneError>>) -> Self {
        let column = |(member, failed)| Column {
            pages: Pages::new(member, what),
            ready: VecDeque::new(),
            failed,
            alone: 0,
        };
        Self {
            columns: zones.members.iter().zip(failed).map(column).collect(),
        }
    }

    /// The next name in order. A zone that fails on the way says nothing from then on, see [`Walk::failed`].
    pub(super) async fn next(&mut self, zones: &Zones) -> Option<Step> {
        futures::future::join_all(self.columns.iter_mut().map(|column| column.fill(zones))).await;
        let name = self.columns.iter().filter_map(|column| column.ready.front()).min()?.clone();
        let mut step = Step {
            name,
            holders: Vec::new(),
            lacking: Vec::new(),
        };
        for (at, column) in self.columns.iter_mut().enumerate() {
            if column.failed.is_some() {
                continue;
            }
            if column.ready.front() == Some(&step.name) {
                column.ready.pop_front();
                step.holders.push(at);
            } else {
                step.lacking.push(at);
            }
        }
        self.count(zones, &step);
        Some(step)
    }

    /// Counts of what each has listed what a majority says it lacks. What is in a grave may lie in a zone that was away; a zone that was put in a lost one's place
    /// lacks everything.
    fn count(&mut self, zones: &Zones, step: &Step) {
        let lacks = |at: &&usize| zones.members.get(**at).is_some_and(|member| member.zone.is_complete());
        if step.holders.len() >= zones.needed() || step.lacking.iter().filter(lacks).count() < zones.needed() || zones.is_dead(&step.name) {
            return;
        }
        for (at, member) in step.holders.iter().filter_map(|at| Some((*at, zones.members.get(*at)?))) {
            let Some(column) = self.columns.get_mut(at) else { continue };
            column.alone += 1;
            if column.alone > zones.settings.most_alone {
                let (zone, detail) = (member.zone.name().to_owned(), member.listed_too_much(zones.settings.most_alone));
                column.failed = Some(ZoneError::Down { zone, detail });
                // Invariant: who has failed has no names ready, or they would be gone through for ever.
                column.ready.clear();
            }
        }
    }

    /// What the zone in that place answered instead of going on.
    pub(super) fn failed(&self, at: usize) -> Option<&ZoneError> {
        self.columns.get(at).and_then(|column| column.failed.as_ref())
    }

    /// What each zone answered instead of going on.
    pub(super) fn failures(self) -> Vec<Option<ZoneError>> {
        self.columns.into_iter().map(|column| column.failed).collect()
    }

    /// Whether a zone is not listened to any more because it has listed too much.
    pub(super) fn has_listed_too_much(&self, zones: &Zones) -> bool {
        self.columns.iter().any(|column| column.alone > zones.settings.most_alone)
    }

    /// How many zones have answered so far.
    pub(super) fn answering(&self) -> usize {
        self.columns.iter().filter(|column| column.failed.is_none()).count()
    }
}

impl Column {
    async fn fill(&mut self, zones: &Zones) {
        while self.ready.is_empty() && self.failed.is_none() {
            match self.pages.next(zones).await {
                Ok(Some(names)) => self.ready.extend(names),
                Ok(None) => return,
                Err(error) => self.failed = Some(error),
            }
        }
    }
}
