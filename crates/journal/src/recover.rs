//! Reading a journal back: which segments there are, which of them are to be believed, and in which order they stand.
//!
//! No payload is opened for this, so it needs no private key.

use base::{ProductId, Role, Timestamp};
use bytes::Bytes;
use futures::{StreamExt, stream};
use seal::InstallationKey;
use tokio::sync::Mutex;
use zones::{GetError, ObjectName, Zones};

use crate::chain::{self, Damage, Head, Standing, Tail, Unreadable};
use crate::record::{self, PREAMBLE};
use crate::{HeadError, RecoverError, Segment, SegmentId, trim};

/// How many heads are read at once.
const AT_ONCE: usize = 16;
/// Longer heads, and whole segments, are read one at a time: whoever owns a zone may say that any of its objects has one.
const LONG_HEAD: u64 = 1 << 20;

/// A journal as found.
#[derive(Debug)]
pub struct Recovered {
    /// The segments that count, in order. Openings are left out: one at the end may yet give way to another.
    pub segments: Vec<Segment>,
    /// Refused attempts and abandoned ends: believed, but beside the chain. They never counted.
    pub orphans: Vec<ObjectName>,
    /// Earlier forms of segments that were trimmed, and copies under other days: nothing needs them any more.
    pub superseded: Vec<ObjectName>,
    /// Objects among the segments that are not segments of this journal.
    pub refused: Vec<Refused>,
    /// The latest moment at which a segment that was read was written, as its writer says.
    pub latest: Timestamp,
    /// What is missing or wrong; empty unless [`survey`] was asked.
    pub damage: Vec<Damage>,
    /// Objects of which no zone that answers has a good copy and that one which does not may have; empty unless [`survey`]
    /// was asked.
    pub doubts: Vec<ObjectName>,
    /// One of those refused that a newer version wrote, and its format.
    newer: Option<(ObjectName, u8)>,
    after: Head,
    tail: Tail,
    /// Unreadable objects after the end, which count as never accepted: where the end is missed, they may be what is left of it.
    strays: Vec<(u64, ObjectName)>,
}

/// An object that is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The object.
    pub name: ObjectName,
    /// Why.
    pub why: String,
}

impl Recovered {
    /// Where the next writer goes on.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// What another role should remember.
    pub fn head(&self) -> Head {
        self.tail.head
    }

    /// Whether the journal still is what another role remembers, or a continuation of it.
    pub fn check_head(&self, remembered: &Head) -> Result<(), HeadError> {
        let Head { length, hash } = *remembered;
        if length > self.head().length {
            let missed = |(sequence, _): &&(u64, ObjectName)| *sequence < length;
            return Err(HeadError::Shorter {
                found: self.head().length,
                remembered: length,
                unreadable: self.strays.iter().filter(missed).map(|(_, name)| name.clone()).collect(),
            });
        }
        let Some(sequence) = length.checked_sub(1) else { return Ok(()) };
        let held = match self.segments.iter().find(|segment| segment.id.sequence == sequence) {
            Some(segment) => segment.hash,
            None if length == self.after.length => self.after.hash,
            // Before what was read: that it is unchanged follows from the chain, which began at `after`.
            None if length < self.after.length => return Ok(()),
            None => return Err(HeadError::Another { sequence }),
        };
        if held == hash {
            Ok(())
        } else {
            Err(HeadError::Another { sequence })
        }
    }
}

/// Recovers a whole journal. Anything missing or wrong in it is an error.
pub async fn recover(
    zones: &Zones,
    key: &InstallationKey,
    role: Role,
    name: &str,
    product: Option<ProductId>,
) -> Result<Recovered, RecoverError> {
    recover_after(zones, key, role, name, product, &Head::default()).await
}

/// Recovers what came after a head that the caller has recovered and kept before; older segments are not read.
pub async fn recover_after(
    zones: &Zones,
    key: &InstallationKey,
    role: Role,
    name: &str,
    product: Option<ProductId>,
    after: &Head,
) -> Result<Recovered, RecoverError> {
    let recovered = Reader {
        zones,
        key,
        role,
        journal: name,
        product,
        long: Mutex::default(),
    }
    .read(*after)
    .await?;
    let journal = name.to_owned();
    // Passed over, all that it says would be gone, and the next writer would write in its place.
    if let Some((name, version)) = recovered.newer.clone() {
        return Err(RecoverError::Newer { journal, name, version });
    }
    if !recovered.damage.is_empty() {
        let damage = recovered.damage;
        Err(RecoverError::Damaged { journal, damage })
    } else if !recovered.doubts.is_empty() {
        let objects = recovered.doubts;
        Err(RecoverError::InDoubt { journal, objects })
    } else {
        Ok(recovered)
    }
}

/// Reads whatever is left of a journal, and says what is wrong with it.
pub async fn survey(
    zones: &Zones,
    key: &InstallationKey,
    role: Role,
    name: &str,
    product: Option<ProductId>,
) -> Result<Recovered, RecoverError> {
    Reader {
        zones,
        key,
        role,
        journal: name,
        product,
        long: Mutex::default(),
    }
    .read(Head::default())
    .await
}

/// Whether an object is a segment of one of the role's journals, as it was written or trimmed, under its own name: what the role vouches
/// for before it is copied from zone to zone.
pub fn is_segment(key: &InstallationKey, role: Role, name: &ObjectName, object: &Bytes) -> bool {
    let read = || {
        let (journal, _day) = name.prefix().rsplit_once('/')?;
        let (head, _) = record::split(object)?;
        let said = record::parse_object_id(name.id())?;
        let segment = Segment::believed(key, role, name, &head, journal).ok()?;
        Some((segment.id, segment.attempt) == said)
    };
    read().unwrap_or(false) || trim::is_trimmed(key, role, name, object)
}

/// What an object's entries say in clear, and whether it holds anything sealed; `None` when it is no segment that the role signed. For
/// whoever proves without any key that something is gone.
pub fn in_clear(key: &InstallationKey, role: Role, object: &Bytes) -> Option<(Vec<Bytes>, bool)> {
    let (head, payload) = record::split(object).or_else(|| trim::split(object).map(|(head, _, payload)| (head, payload)))?;
    let verified = seal::verify(key, seal::Domain::SEGMENT, role, &head).ok()?;
    let record = <record::HeadRecord as prost::Message>::decode(&verified.payload[..]).ok()?;
    let headers = record.entries.into_iter().map(|entry| entry.header).collect();
    Some((headers, !payload.is_empty()))
}

/// Reads back what a journal that is being written holds, up to `upto`, its writer's own head. Nothing is settled, copied or decided
/// here, so the writer goes on meanwhile. The chain is verified as [`recover`] does, and must end in exactly this head.
pub async fn read_back(
    zones: &Zones,
    key: &InstallationKey,
    role: Role,
    name: &str,
    product: Option<ProductId>,
    upto: &Head,
) -> Result<Vec<Segment>, RecoverError> {
    let (segments, _) = read_back_forms(zones, key, role, name, product, upto).await?;
    Ok(segments)
}

/// The same, and the objects of earlier forms of these segments, which nothing needs any more.
pub async fn read_back_forms(
    zones: &Zones,
    key: &InstallationKey,
    role: Role,
    name: &str,
    product: Option<ProductId>,
    upto: &Head,
) -> Result<(Vec<Segment>, Vec<ObjectName>), RecoverError> {
    Reader {
        zones,
        key,
        role,
        journal: name,
        product,
        long: Mutex::default(),
    }
    .read_upto(*upto)
    .await
}

/// One segment of a journal, found by its place: the form of it that counts, and the objects of earlier forms. `None` where no zone has it.
/// The chain is not followed: what is found is a segment that the role signed, and whoever asks knows that it was accepted.
pub async fn find(
    zones: &Zones,
    key: &InstallationKey,
    role: Role,
    journal: &str,
    product: Option<ProductId>,
    id: SegmentId,
) -> Result<Option<(Segment, Vec<ObjectName>)>, RecoverError> {
    let reader = Reader {
        zones,
        key,
        role,
        journal,
        product,
        long: Mutex::default(),
    };
    let listed = zones.list(journal).await.map_err(|source| RecoverError::List {
        journal: journal.to_owned(),
        source,
    })?;
    let mut believed = Vec::new();
    for name in listed.into_iter().map(|object| object.name) {
        if said(&name).is_none_or(|said| said.id != id) {
            continue;
        }
        let found = reader.look_at(name, Standing::Majority, 0).await;
        let found = found.map_err(|source| RecoverError::Read {
            journal: journal.to_owned(),
            source,
        })?;
        if let Found::Believed(segment) = found {
            believed.push(*segment);
        }
    }
    let (latest, superseded) = trim::latest(believed);
    Ok(latest.into_iter().next().map(|segment| (segment, superseded)))
}

struct Reader<'a> {
    zones: &'a Zones,
    key: &'a InstallationKey,
    role: Role,
    journal: &'a str,
    product: Option<ProductId>,
    long: Mutex<()>,
}

enum Found {
    Believed(Box<Segment>),
    Unreadable(Unreadable),
    Refused(Refused),
    /// Its version.
    Newer(ObjectName, u8),
    Older,
}

impl Reader<'_> {
    async fn read(&self, after: Head) -> Result<Recovered, RecoverError> {
        let settled = self.zones.settle(self.journal).await;
        let settled = settled.map_err(|source| RecoverError::Settle {
            journal: self.journal.to_owned(),
            source,
        })?;
        let (unsettled, strangers) = (settled.silent > 0 || !settled.is_final, settled.strangers);
        // The last segment before is read along: it shows that the journal still is the one that was recovered.
        let from = after.length.saturating_sub(1);
        let mut listed = Vec::new();
        for (names, standing) in [
            (settled.objects, Standing::Majority),
            (settled.doubtful, Standing::Doubtful),
            (settled.unreadable, Standing::Minority),
        ] {
            listed.extend(names.into_iter().map(|name| (name, standing)));
        }
        let mut found = stream::iter(listed)
            .map(|(name, standing)| self.look_at(name, standing, from))
            .buffer_unordered(AT_ONCE);

        let (mut believed, mut unreadable, mut refused, mut newer) = (Vec::new(), Vec::new(), Vec::new(), None);
        while let Some(object) = found.next().await {
            match object.map_err(|source| RecoverError::Read {
                journal: self.journal.to_owned(),
                source,
            })? {
                Found::Believed(segment) => believed.push(*segment),
                Found::Unreadable(object) => unreadable.push(object),
                Found::Refused(object) => refused.push(object),
                Found::Newer(name, version) => {
                    let why = format!("a newer version of Coffer wrote it (format {version})");
                    refused.push(Refused { name: name.clone(), why });
                    newer = Some((name, version));
                }
                Found::Older => {}
            }
        }
        let (believed, superseded) = trim::latest(believed);
        let (last, believed): (Vec<_>, Vec<_>) = believed.into_iter().partition(|s| s.id.sequence < after.length);
        let (last, passed_over): (Vec<_>, Vec<_>) = last.into_iter().partition(|segment| segment.hash == after.hash);
        let last = last.into_iter().next();
        let latest = last.iter().chain(&believed).map(|segment| segment.created_at).max();
        let known = after.length == 0 || last.is_some();
        let uncertain = unsettled || !unreadable.is_empty();
        let mut chain = chain::link(after, known, &passed_over, believed, unreadable);
        chain.tail.uncertain = uncertain;
        if let Some(segment) = last {
            chain.tail.epoch = chain.tail.epoch.max(segment.epoch);
        }
        // In doubt it may yet turn up.
        if !known && chain.doubts.is_empty() {
            chain.damage.insert(0, Damage::Rewritten { length: after.length });
        }
        refused.extend(chain.strays.iter().map(|(_, name)| Refused {
            name: name.clone(),
            why: "no copy of it can be read, and too few zones hold it for it to have been accepted: take it out of them".into(),
        }));
        refused.extend(strangers.into_iter().map(|name| {
            Refused {
                name,
                why:
                    "it is not a segment that this role wrote, and too few zones hold it for it to have been accepted: take it out of them"
                        .into(),
            }
        }));
        refused.sort_by(|a, b| a.name.cmp(&b.name));
        for Refused { name, why } in &refused {
            tracing::error!(journal = self.journal, object.name = %name, "refused {name} in journal {}: {why}", self.journal);
        }
        Ok(Recovered {
            segments: chain.segments.into_iter().filter(|segment| !segment.is_opening()).collect(),
            orphans: chain.orphans,
            superseded,
            latest: latest.unwrap_or_default(),
            refused,
            damage: chain.damage,
            doubts: chain.doubts,
            newer,
            after,
            tail: chain.tail,
            strays: chain.strays,
        })
    }

    async fn read_upto(&self, upto: Head) -> Result<(Vec<Segment>, Vec<ObjectName>), RecoverError> {
        let journal = || self.journal.to_owned();
        let listed = self.zones.list(self.journal).await;
        let listed = listed.map_err(|source| RecoverError::List {
            journal: journal(),
            source,
        })?;
        let within = |name: &ObjectName| said(name).is_some_and(|said| said.id.sequence < upto.length);
        let names = listed.into_iter().map(|object| object.name).filter(within);
        // In how many zones they are does not matter: what is in the chain up to the head was accepted.
        let mut found = stream::iter(names)
            .map(|name| self.look_at(name, Standing::Majority, 0))
            .buffer_unordered(AT_ONCE);
        let mut believed = Vec::new();
        while let Some(object) = found.next().await {
            let object = object.map_err(|source| RecoverError::Read {
                journal: journal(),
                source,
            })?;
            if let Found::Believed(segment) = object {
                believed.push(*segment);
            }
        }
        let (believed, superseded) = trim::latest(believed);
        let mut chain = chain::link(Head::default(), true, &[], believed, Vec::new());
        if chain.damage.is_empty() && chain.tail.head != upto {
            chain.damage.push(Damage::Rewritten { length: upto.length });
        }
        if chain.damage.is_empty() {
            let segments = chain.segments.into_iter().filter(|segment| !segment.is_opening());
            Ok((segments.collect(), superseded))
        } else {
            let damage = chain.damage;
            Err(RecoverError::Damaged {
                journal: journal(),
                damage,
            })
        }
    }

    async fn look_at(&self, name: ObjectName, standing: Standing, from: u64) -> Result<Found, GetError> {
        let day_prefix = name.prefix().strip_prefix(self.journal).and_then(|rest| rest.strip_prefix('/'));
        let said = said(&name).filter(|_| day_prefix.is_some_and(|day| !day.contains('/')));
        let Some(said) = said else {
            return Ok(Found::Refused(Refused {
                name,
                why: "its name is not that of a segment".into(),
            }));
        };
        if said.id.sequence < from {
            return Ok(Found::Older);
        }
        let unreadable = |name| {
            let sequence = said.id.sequence;
            Ok(Found::Unreadable(Unreadable { sequence, name, standing }))
        };
        if standing != Standing::Majority {
            return unreadable(name);
        }
        let mut verdict = match self.read_front(&name, said.generation > 0).await {
            Ok(front) => self.believe(&name, &front),
            Err(_) => Err("it is too short".into()),
        };
        if verdict.is_err() {
            // Perhaps only one zone's copy is wrong: read it whole, which compares digests and repairs.
            let _one_at_a_time = self.long.lock().await;
            verdict = match self.zones.get(&name, trim::MAX_OBJECT).await {
                Ok(object) => match Front::of(&object, said.generation > 0) {
                    Some(front) => self.believe(&name, &front),
                    None => match record::newer_version(&object).or_else(|| trim::newer_version(&object)) {
                        Some(version) => return Ok(Found::Newer(name, version)),
                        None => Err("it is not in the form of a segment".into()),
                    },
                },
                // Zones that list it and then say that they have none are no better than zones whose copies are wrong.
                Err(GetError::Corrupt { .. } | GetError::NotFound { .. }) => return unreadable(name),
                Err(error) => return Err(error),
            };
        }
        Ok(match verdict {
            Ok(segment) if said.is(&segment) => Found::Believed(Box::new(segment)),
            Ok(segment) => Found::Refused(Refused {
                why: format!("it is segment {}", segment.id),
                name,
            }),
            Err(why) => Found::Refused(Refused { name, why }),
        })
    }

    async fn read_front(&self, name: &ObjectName, trimmed: bool) -> Result<Front, GetError> {
        let begin = if trimmed { trim::PREAMBLE } else { PREAMBLE };
        let preamble = self.zones.get_range(name, 0..begin).await?;
        let lengths = match trimmed {
            true => trim::lengths(&preamble),
            false => record::head_length(&preamble).map(|head| (head, 0)),
        };
        let (head, trim) = lengths.ok_or_else(|| GetError::Corrupt { name: name.clone() })?;
        let _one_at_a_time = if head + trim > LONG_HEAD {
            Some(self.long.lock().await)
        } else {
            None
        };
        let both = self.zones.get_range(name, begin..begin + head + trim).await?;
        let head = usize::try_from(head).unwrap_or(usize::MAX).min(both.len());
        Ok(Front {
            head: both.slice(..head),
            trim: trimmed.then(|| both.slice(head..)),
        })
    }

    fn believe(&self, name: &ObjectName, front: &Front) -> Result<Segment, String> {
        believe(self.key, self.role, self.journal, self.product, name, front)
    }
}

/// Whether a head, and for a trimmed form its trim record, was signed by this journal's role, for this journal.
pub(crate) fn believe(
    key: &InstallationKey,
    role: Role,
    journal: &str,
    product: Option<ProductId>,
    name: &ObjectName,
    front: &Front,
) -> Result<Segment, String> {
    let segment = Segment::believed(key, role, name, &front.head, journal)?;
    if segment.product != product {
        return Err("it belongs to another product".into());
    }
    match &front.trim {
        Some(trim) => trim::believe(key, role, segment, journal, trim),
        None => Ok(segment),
    }
}

/// The signed parts of an object.
pub(crate) struct Front {
    head: Bytes,
    /// Of a trimmed form.
    trim: Option<Bytes>,
}

impl Front {
    pub(crate) fn of(object: &Bytes, trimmed: bool) -> Option<Self> {
        if trimmed {
            let (head, trim, _) = trim::split(object)?;
            return Some(Self { head, trim: Some(trim) });
        }
        record::split(object).map(|(head, _)| Self { head, trim: None })
    }
}

/// What a name says an object is: to be believed only once what it holds says the same.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    pub(crate) id: SegmentId,
    pub(crate) attempt: u32,
    pub(crate) generation: u32,
}

impl Said {
    pub(crate) fn is(&self, segment: &Segment) -> bool {
        (segment.id, segment.attempt, segment.generation) == (self.id, self.attempt, self.generation)
    }
}

pub(crate) fn said(name: &ObjectName) -> Option<Said> {
    let written = record::parse_object_id(name.id()).map(|(id, attempt)| (id, attempt, 0));
    let (id, attempt, generation) = written.or_else(|| trim::parse_object_id(name.id()))?;
    Some(Said { id, attempt, generation })
}
