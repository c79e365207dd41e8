//! The order of segments: each names the hash of the one before.
//!
//! One chain runs through the whole journal, from writer to writer. A refused attempt, or a last segment that a dead writer
//! left in a zone that was away, is passed over by its successor: it stands beside the chain, is an orphan, and stays one.
//!
//! Of two segments in one place that stands which the latest writer built on. Should a process go on writing after its successor has
//! begun, what it wrote from there on stands beside the chain, all of it, however long it is.
//!
//! Of two ends without a successor the later writer's stands. Writers are counted, but one that left something only in a zone that
//! is away is not, nor one whose only segment is on its way through a network yet: its successor has the same number. So whoever starts
//! without having seen everything, or over zones where what a dead writer sent may arrive later, first writes an opening, a
//! segment without entries, and accepts entries after it only: whatever turns up beside the opening has no successor, or no entry
//! is lost with it. That is also why an opening at the end is not part of the head that others remember.
//!
//! What was found at such a start is decided by the same opening: it gives what it follows a later writer than anything that may yet
//! turn up beside it has. Before its own opening is accepted a writer tells nobody which end it found ([`Journal::decided`](crate::Journal::decided)),
//! and acknowledges nothing on the strength of it: another start may find another end, one that arrived meanwhile. An opening that
//! was found is not enough, for there may be one of the same number behind another end.
//!
//! An object of which no copy can be read says nothing but its name, which anybody may write who owns a zone. What it is follows
//! from its place and from who lists it: see [`Standing`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use zones::ObjectName;

use crate::Segment;

/// How long a journal is and what its last segment is: what another role remembers, so that an older state is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// How many segments.
    pub length: u64,
    /// Hash of the last one; zeros for an empty journal.
    pub hash: [u8; 32],
}

/// The end of a journal as recovered: where the next writer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    // Of all segments: where the next one goes.
    pub(crate) end: Head,
    // How many writers there were: a later writer wins against what an earlier one left undecided, whatever the clock says.
    pub(crate) epoch: u64,
    // The same without openings at the end.
    pub(crate) head: Head,
    // Whether there may have been a writer that is not counted, so that the next one has to begin with an opening.
    pub(crate) uncertain: bool,
}

impl Tail {
    /// Of a journal that was never written to.
    pub const fn empty() -> Self {
        Self {
            end: Head { length: 0, hash: [0; 32] },
            epoch: 0,
            head: Head { length: 0, hash: [0; 32] },
            uncertain: false,
        }
    }

    /// The head at this end, to be remembered.
    pub const fn head(&self) -> Head {
        self.head
    }
}

/// Something that is wrong with a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// There is no segment with this number, and there are later ones.
    Missing {
        /// The number.
        sequence: u64,
    },
    /// A segment does not follow the one before it.
    Broken {
        /// The segment.
        name: ObjectName,
    },
    /// There is a segment of which no copy verifies.
    Unreadable {
        /// The segment.
        name: ObjectName,
    },
    /// What was recovered before is not what is there now.
    Rewritten {
        /// How long the journal was then.
        length: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { sequence } => write!(f, "segment {sequence} is missing"),
            Self::Broken { name } => write!(f, "{name} does not follow the segment before it"),
            Self::Unreadable { name } => write!(f, "no copy of {name} verifies"),
            Self::Rewritten { length } => write!(f, "the first {length} segments are not those recovered before"),
        }
    }
}

/// How many zones list an object, and so whether it can have been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A majority: it may have been.
    Majority,
    /// Fewer than a majority, but with those that are silent it could be one: nobody can say.
    Doubtful,
    /// Fewer than a majority, whatever the silent ones hold: it was not.
    Minority,
}

/// An object of which no copy can be read. Its number is what its name says.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) sequence: u64,
    pub(crate) name: ObjectName,
    pub(crate) standing: Standing,
}

/// Segments in their order, and what is beside it.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) segments: Vec<Segment>,
    pub(crate) orphans: Vec<ObjectName>,
    pub(crate) damage: Vec<Damage>,
    /// Unreadable objects that may or may not be what is missing.
    pub(crate) doubts: Vec<ObjectName>,
    /// Unreadable objects after the end that never counted.
    pub(crate) strays: Vec<(u64, ObjectName)>,
    pub(crate) tail: Tail,
}

/// Puts believed segments into their order, from `after` on. Where the chain is damaged it goes on with what is there.
///
/// `known` says whether the last segment before that was found again; `passed_over` are others that stand in its place.
pub(crate) fn link(after: Head, known: bool, passed_over: &[Segment], believed: Vec<Segment>, unreadable: Vec<Unreadable>) -> Chain {
    let mut chain = Chain {
        tail: Tail {
            end: after,
            head: after,
            ..Tail::empty()
        },
        ..Chain::default()
    };
    let mut slots: BTreeMap<u64, Vec<Segment>> = BTreeMap::new();
    for segment in believed {
        chain.tail.epoch = chain.tail.epoch.max(segment.epoch);
        slots.entry(segment.id.sequence).or_default().push(segment);
    }
    let built_on = built_on(&slots);
    // What stands beside the chain, and with it whatever was built on that.
    let mut abandoned: BTreeSet<[u8; 32]> = passed_over.iter().map(|segment| segment.hash).collect();
    let (mut filled, end) = (BTreeSet::new(), slots.keys().next_back().map_or(after.length, |last| last + 1));
    // Places where nothing is, and whether they are holes is not known before something follows; and the end before them.
    let (mut empty, mut before_them) = (Vec::new(), None);
    for sequence in after.length..end {
        let here = slots.remove(&sequence).unwrap_or_default();
        let (left, here): (Vec<_>, Vec<_>) = here.into_iter().partition(|s| abandoned.contains(&s.previous));
        abandoned.extend(left.iter().map(|segment| segment.hash));
        chain.orphans.extend(left.into_iter().map(|segment| segment.name));
        let next = slots.get(&(sequence + 1));
        let (follow, stray): (Vec<_>, Vec<_>) = here.into_iter().partition(|s| s.previous == chain.tail.end.hash);
        let (candidates, beside) = if follow.is_empty() { (stray, Vec::new()) } else { (follow, stray) };
        chain
            .damage
            .extend(beside.into_iter().map(|segment| Damage::Broken { name: segment.name }));
        // Orphans have no successors but those of a writer that was replaced; where neither has one, the later writer and the later
        // attempt stand.
        let rank = |s: &Segment| {
            let upon = built_on.get(&s.hash);
            (
                upon.copied().unwrap_or(0).max(s.epoch),
                upon.is_some(),
                s.epoch,
                s.id.writer,
                s.attempt,
            )
        };
        let Some(best) = candidates.iter().map(rank).max() else {
            before_them.get_or_insert(chain.tail.end);
            empty.push(sequence);
            // Nothing can be said about what its successor should follow, so that is not reported a second time.
            let successor = next.and_then(|next| next.iter().find(|next| !abandoned.contains(&next.previous)));
            chain.tail.end.hash = successor.map_or([0; 32], |next| next.previous);
            continue;
        };
        chain.damage.extend(empty.drain(..).map(|sequence| Damage::Missing { sequence }));
        before_them = None;
        for segment in candidates {
            if rank(&segment) != best {
                abandoned.insert(segment.hash);
                chain.orphans.push(segment.name);
                continue;
            }
            if segment.previous != chain.tail.end.hash {
                chain.damage.push(Damage::Broken {
                    name: segment.name.clone(),
                });
            }
            filled.insert(sequence);
            chain.tail.end = Head {
                length: sequence + 1,
                hash: segment.hash,
            };
            if !segment.is_opening() {
                chain.tail.head = chain.tail.end;
            }
            chain.segments.push(segment);
        }
    }
    if let Some(end) = before_them {
        // Nothing followed: these places are beyond the end.
        chain.tail.end = end;
    }
    for object in unreadable {
        let follows = |sequence: u64| sequence.checked_add(1).is_some_and(|next| filled.contains(&next));
        let spot = match object.sequence {
            sequence if sequence < after.length && known => Spot::Settled,
            sequence if filled.contains(&sequence) && follows(sequence) => Spot::Settled,
            sequence if filled.contains(&sequence) => Spot::Last,
            sequence if sequence < chain.tail.end.length => Spot::Hole,
            _ => Spot::Beyond,
        };
        chain.set_aside(object, spot);
    }
    chain
}

/// The latest epoch of what was built on each segment, directly or not; nothing for those without a successor.
fn built_on(slots: &BTreeMap<u64, Vec<Segment>>) -> BTreeMap<[u8; 32], u64> {
    let mut latest: BTreeMap<[u8; 32], u64> = BTreeMap::new();
    for segment in slots.values().rev().flatten() {
        let epoch = latest.get(&segment.hash).copied().unwrap_or(0).max(segment.epoch);
        let before = latest.entry(segment.previous).or_default();
        *before = epoch.max(*before);
    }
    latest
}

/// What stands where an unreadable object says that it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// A segment with a successor. Only what was accepted, or taken for accepted at a start, ever gets one.
    Settled,
    /// The last segment.
    Last,
    /// Nothing, and there are later segments.
    Hole,
    /// Nothing: the journal ends before.
    Beyond,
}

impl Chain {
    /// Decides what an unreadable object is. Fails closed: what may have been accepted is not passed over.
    fn set_aside(&mut self, object: Unreadable, spot: Spot) {
        let Unreadable { sequence, name, standing } = object;
        match (spot, standing) {
            (Spot::Settled, _) | (Spot::Last, Standing::Minority) => self.orphans.push(name),
            (Spot::Beyond, Standing::Minority) => self.strays.push((sequence, name)),
            (_, Standing::Doubtful) => {
                self.damage.retain(|damage| *damage != Damage::Missing { sequence });
                self.doubts.push(name);
            }
            // Something was accepted there, or a majority holds this: nobody can say that it was not this.
            (Spot::Hole, Standing::Minority) | (_, Standing::Majority) => {
                self.damage.retain(|damage| *damage != Damage::Missing { sequence });
                self.damage.push(Damage::Unreadable { name });
            }
        }
    }
}
