//! What was promised to whom, and whether it is kept.

use std::collections::BTreeMap;

use bytes::Bytes;
use journal::{Head, SegmentId};
use zones::ObjectName;

/// What the sender of an entry was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing, or that nobody knows.
    Nothing,
    Accepted(SegmentId),
    Refused,
}

/// An entry that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) told: Told,
    /// Whether its writer had a successor already when it was told.
    pub(crate) lingering: bool,
}

/// What the owner of a file was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing, or that nobody knows.
    Perhaps,
    Kept,
    Refused,
    /// It is being deleted: from now on it may be gone.
    Going,
    Deleted,
}

#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) bytes: Bytes,
    pub(crate) fate: Fate,
}

/// An entry as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) segment: SegmentId,
    pub(crate) text: String,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) sent: BTreeMap<String, Sent>,
    pub(crate) files: BTreeMap<ObjectName, File>,
    /// What the last process found that was alone when it started, and that was decided since: whoever comes later finds the same and more.
    pub(crate) seen: Vec<Found>,
    /// The newest head that a writer without a successor has told.
    pub(crate) head: Head,
    /// The latest process that has recovered.
    pub(crate) recovered: u64,
    pub(crate) broken: Vec<String>,
    pub(crate) starts: u64,
    pub(crate) refused_starts: u64,
}

impl Oracle {
    /// Compares what a process found in the journal with all that was promised. Returns what is broken.
    ///
    /// `seen_stays` says whether even what nobody was told of stays once a process has found it. (Where zones lose things while others are
    /// away, the segment without entries that decided about it can be lost for a while.)
    ///
    /// Only what was seen by a process that was alone, and that its journal then said to be decided, has to stay. While a predecessor goes on
    /// writing it may yet decide otherwise about an entry of which it has told nobody (as in seed 1647), and before a start's own opening is
    /// accepted what was under way may arrive and take the end's place (as in seed 3835). Nobody is told of such an end.
    pub(crate) fn look_at(&mut self, found: &[Found], seen_stays: bool) -> Vec<String> {
        let mut broken = Vec::new();
        let mut places: BTreeMap<&str, SegmentId> = BTreeMap::new();
        for entry in found {
            if places.insert(&entry.text, entry.segment).is_some() {
                broken.push(format!("{} is there twice", entry.text));
            }
            match self.sent.get(&entry.text).map(|sent| sent.told) {
                None => broken.push(format!("{} was never sent", entry.text)),
                Some(Told::Refused) => broken.push(format!("{} was refused and is there", entry.text)),
                Some(Told::Accepted(at)) if at != entry.segment => {
                    broken.push(format!("{} was accepted as {at} and is in {}", entry.text, entry.segment));
                }
                Some(_) => {}
            }
        }
        for (text, sent) in self.sent.iter().filter(|(_, sent)| !sent.lingering) {
            if let Told::Accepted(at) = sent.told
                && !places.contains_key(&**text)
            {
                broken.push(format!("{text} was accepted as {at} and is not there"));
            }
        }
        let order: Vec<u64> = found.iter().map(|entry| entry.segment.sequence).collect();
        if !order.is_sorted() {
            broken.push(format!("segments are out of order: {order:?}"));
        }
        let mut writers: BTreeMap<u64, SegmentId> = BTreeMap::new();
        for entry in found {
            let first = writers.entry(entry.segment.sequence).or_insert(entry.segment);
            if *first != entry.segment {
                broken.push(format!("{first} and {} stand in one place", entry.segment));
            }
        }
        if seen_stays && !found.starts_with(&self.seen) {
            broken.push("what an earlier process found is not what is there now".into());
        }
        broken
    }

    /// Files that are kept.
    pub(crate) fn kept(&self) -> Vec<ObjectName> {
        let kept = self.files.iter().filter(|(_, file)| file.fate == Fate::Kept);
        kept.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn fate(&self, name: &ObjectName) -> Option<Fate> {
        self.files.get(name).map(|file| file.fate)
    }

    pub(crate) fn set_fate(&mut self, name: &ObjectName, fate: Fate) {
        if let Some(file) = self.files.get_mut(name) {
            file.fate = fate;
        }
    }
}
