//! Reading a journal back: which segments there are, which of them are to be believed, and in which order they stand.
//!
//! No payload is opened for this, so it needs no private key.

use base::{ProductId, Role};
use bytes::Bytes;
use futures::{StreamExt, stream};
use prost::Message;
use seal::{Domain, InstallationKey, SealError};
use tokio::sync::Mutex;
use zones::{GetError, ObjectName, Zones};

use crate::chain::{self, Damage, Head, Standing, Tail, Unreadable};
use crate::record::{self, HeadRecord, PREAMBLE};
use crate::{HeadError, RecoverError, Segment};

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
    /// Objects among the segments that are not segments of this journal.
    pub refused: Vec<Refused>,
    /// What is missing or wrong; empty unless [`survey`] was asked.
    pub damage: Vec<Damage>,
    /// Objects of which no zone that answers has a good copy and that one which does not may have; empty unless [`survey`]
    /// was asked.
    pub doubts: Vec<ObjectName>,
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

/// Whether an object is a segment of one of the role's journals, under its own name: what the role vouches for before it is copied
/// from zone to zone.
pub fn is_segment(key: &InstallationKey, role: Role, name: &ObjectName, object: &Bytes) -> bool {
    let read = || {
        let (journal, _day) = name.prefix().rsplit_once('/')?;
        let (head, _) = record::split(object)?;
        let verified = seal::verify(key, Domain::SEGMENT, role, &head).ok()?;
        let record = HeadRecord::decode(&verified.payload[..]).ok()?;
        let said = record::parse_object_id(name.id())?;
        let is_here = record.journal == journal;
        let segment = Segment::from_record(name.clone(), record, *blake3::hash(&head).as_bytes())?;
        Some(is_here && (segment.id, segment.attempt) == said && verified.certificate.covers(segment.created_at))
    };
    read().unwrap_or(false)
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
        let (silent, strangers) = (settled.silent > 0, settled.strangers);
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

        let (mut believed, mut unreadable, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(object) = found.next().await {
            match object.map_err(|source| RecoverError::Read {
                journal: self.journal.to_owned(),
                source,
            })? {
                Found::Believed(segment) => believed.push(*segment),
                Found::Unreadable(object) => unreadable.push(object),
                Found::Refused(object) => refused.push(object),
                // Passed over, all that it says would be gone, and the next writer would write in its place.
                Found::Newer(name, version) => {
                    return Err(RecoverError::Newer {
                        journal: self.journal.to_owned(),
                        name,
                        version,
                    });
                }
                Found::Older => {}
            }
        }
        let (last, believed): (Vec<_>, Vec<_>) = believed.into_iter().partition(|s| s.id.sequence < after.length);
        let last = last.into_iter().find(|segment| segment.hash == after.hash);
        let known = after.length == 0 || last.is_some();
        let uncertain = silent || !unreadable.is_empty();
        let mut chain = chain::link(after, known, believed, unreadable);
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
            refused,
            damage: chain.damage,
            doubts: chain.doubts,
            after,
            tail: chain.tail,
            strays: chain.strays,
        })
    }

    async fn read_upto(&self, upto: Head) -> Result<Vec<Segment>, RecoverError> {
        let journal = || self.journal.to_owned();
        let listed = self.zones.list(self.journal).await;
        let listed = listed.map_err(|source| RecoverError::List {
            journal: journal(),
            source,
        })?;
        let within = |name: &ObjectName| record::parse_object_id(name.id()).is_some_and(|(id, _)| id.sequence < upto.length);
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
        let mut chain = chain::link(Head::default(), true, believed, Vec::new());
        if chain.damage.is_empty() && chain.tail.head != upto {
            chain.damage.push(Damage::Rewritten { length: upto.length });
        }
        if chain.damage.is_empty() {
            Ok(chain.segments.into_iter().filter(|segment| !segment.is_opening()).collect())
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
        let said = record::parse_object_id(name.id()).filter(|_| day_prefix.is_some_and(|day| !day.contains('/')));
        let Some((id, attempt)) = said else {
            return Ok(Found::Refused(Refused {
                name,
                why: "its name is not that of a segment".into(),
            }));
        };
        if id.sequence < from {
            return Ok(Found::Older);
        }
        let unreadable = |name| {
            let sequence = id.sequence;
            Ok(Found::Unreadable(Unreadable { sequence, name, standing }))
        };
        if standing != Standing::Majority {
            return unreadable(name);
        }
        let mut verdict = match self.read_head(&name).await {
            Ok(head) => self.believe(&name, &head),
            Err(_) => Err("it is too short".into()),
        };
        if verdict.is_err() {
            // Perhaps only one zone's copy is wrong: read it whole, which compares digests and repairs.
            let _one_at_a_time = self.long.lock().await;
            verdict = match self.zones.get(&name, record::MAX_OBJECT).await {
                Ok(object) => match record::split(&object) {
                    Some((head, _)) => self.believe(&name, &head),
                    None => match record::newer_version(&object) {
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
            Ok(segment) if (segment.id, segment.attempt) == (id, attempt) => Found::Believed(Box::new(segment)),
            Ok(segment) => Found::Refused(Refused {
                why: format!("it is segment {}", segment.id),
                name,
            }),
            Err(why) => Found::Refused(Refused { name, why }),
        })
    }

    async fn read_head(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        let preamble = self.zones.get_range(name, 0..PREAMBLE).await?;
        let length = record::head_length(&preamble).ok_or_else(|| GetError::Corrupt { name: name.clone() })?;
        let _one_at_a_time = if length > LONG_HEAD { Some(self.long.lock().await) } else { None };
        self.zones.get_range(name, PREAMBLE..PREAMBLE + length).await
    }

    /// Whether a head was signed by this journal's role, for this journal.
    fn believe(&self, name: &ObjectName, head: &[u8]) -> Result<Segment, String> {
        let verified = seal::verify(self.key, Domain::SEGMENT, self.role, head).map_err(|e: SealError| e.to_string())?;
        let record = HeadRecord::decode(&verified.payload[..]).map_err(|_| "its head is not in the form it should have")?;
        if record.journal != self.journal {
            return Err(format!("it belongs to journal {}", record.journal));
        }
        let hash = *blake3::hash(head).as_bytes();
        let segment = Segment::from_record(name.clone(), record, hash).ok_or("its head is not in the form it should have")?;
        if segment.product != self.product {
            return Err("it belongs to another product".into());
        }
        if !verified.certificate.covers(segment.created_at) {
            return Err("its signer's certificate was not in force when it was written".into());
        }
        Ok(segment)
    }
}
