//! A segment without some of its entries: what takes an entry out of a journal whose chain stays whole.
//!
//! Object name: that of the segment with `-t<generation>` behind the attempt. Object: 8 bytes of magic with the version, the lengths of
//! the head and of the trim record (4 bytes each, little end first), the segment's head exactly as it was signed, the trim record, the
//! sealed payload of those entries that are kept; none of these, no payload.
//!
//! Promise: a trimmed form is believed only if the role signed that these entries, and no others, are kept of this very segment of this
//! journal, and if the segment's own head verifies as well. Its hash, and so its place in the chain, is that of the segment. What one
//! form of a segment leaves out is read from none of them.
//!
//! Invariant: a form is in a majority of zones before any earlier one is deleted, and generations go up. What a trimmed entry said in
//! clear stands in the head yet; what was sealed is gone. See docs/decisions/0012-trimmed-segments.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Entropy, ErrorKind, ProductId, Role, Timestamp};
use bytes::Bytes;
use prost::Message;
use seal::{Domain, InstallationKey, PrivateKey, PublicKey, Signer};
use zones::{ObjectName, PutError};

use crate::record::{self, MAX_HEAD};
use crate::{Entry, JournalParts, OpenError, Segment, SegmentId};

const MAGIC: [u8; 8] = *b"cftrim\0\x01";
/// Magic and two lengths.
pub(crate) const PREAMBLE: u64 = 16;
/// What a trim record may have at most: some bytes for each entry that a head has room for.
const MAX_TRIM: usize = 8 << 20;
/// What a trimmed form can have at most.
pub(crate) const MAX_OBJECT: u64 = record::MAX_OBJECT + 4 + MAX_TRIM as u64;

/// The signed part.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrimRecord {
    /// 0 for a journal of no product.
    #[prost(uint64, tag = "1")]
    pub(crate) product: u64,
    #[prost(string, tag = "2")]
    pub(crate) journal: String,
    /// Hash of the segment's head.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) segment: Vec<u8>,
    /// Counts the forms of the segment, from 1.
    #[prost(uint32, tag = "4")]
    pub(crate) generation: u32,
    /// Which of the segment's entries are kept, going up.
    #[prost(uint32, repeated, tag = "5")]
    pub(crate) kept: Vec<u32>,
    /// Of the sealed payload; empty where there is none.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) payload_hash: Vec<u8>,
    #[prost(int64, tag = "7")]
    pub(crate) trimmed_at: i64,
}

/// Why a segment was not trimmed. It is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrimError {
    /// Some entries are kept, and nobody lends the key to open them.
    #[error("what is kept of a segment has to be opened to be sealed anew, and no key is there")]
    Sealed,
    /// It cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Too few zones took the new form.
    #[error("the trimmed form of a segment was not kept")]
    Put(#[from] PutError),
    /// The signer's certificate is not in force: nobody would believe it.
    #[error("the certificate of the signing key is not in force")]
    NoCertificate,
    /// A mistake of ours.
    #[error("the trimmed form of a segment could not be made: {what}")]
    Internal {
        /// What went wrong.
        what: String,
    },
}

impl TrimError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sealed | Self::NoCertificate => ErrorKind::Unavailable,
            Self::Open(source) => source.kind(),
            Self::Put(source) => source.kind(),
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }
}

/// Takes entries out of a segment: those at the places `keep` of its `headers`, going up, stay. Returns when a majority of zones has the
/// trimmed form. From then on that counts, and whoever called deletes the object that was before, once nobody reads it any more.
///
/// Where nothing is kept no key is needed.
pub async fn trim(
    parts: &JournalParts,
    segment: &Segment,
    keep: &[usize],
    seal_to: &PublicKey,
    with: Option<&PrivateKey>,
) -> Result<Segment, TrimError> {
    let internal = |what: &str| TrimError::Internal { what: what.to_owned() };
    if !keep.is_sorted_by(|a, b| a < b) || keep.last().is_some_and(|last| *last >= segment.headers.len()) {
        return Err(internal("there is no such entry"));
    }
    if keep.len() == segment.headers.len() {
        return Ok(segment.clone());
    }
    let (head, entries) = if keep.is_empty() {
        (segment.read_head(&parts.zones).await?, Vec::new())
    } else {
        let with = with.ok_or(TrimError::Sealed)?;
        let (head, entries) = segment.open_with_head(&parts.zones, with).await?;
        let kept: Vec<Entry> = keep.iter().filter_map(|at| entries.get(*at).cloned()).collect();
        let is_same = |(at, entry): (&usize, &Entry)| segment.headers[*at] == entry.header;
        if entries.len() != segment.headers.len() || kept.len() != keep.len() || !keep.iter().zip(&kept).all(is_same) {
            return Err(internal("it holds other entries than its head says"));
        }
        (head, kept)
    };
    let signer = (parts.signer)();
    let now = parts.clock.now();
    if !signer.certificate().covers(now) {
        return Err(TrimError::NoCertificate);
    }
    let kept: Vec<u32> = keep.iter().map(|at| segment.places[*at]).collect();
    let (of, seal_to, entropy) = (segment.clone(), *seal_to, Arc::clone(&parts.entropy));
    let build = move || {
        let sources = Sources {
            head: &head,
            entries: &entries,
            now,
            seal_to: &seal_to,
            entropy: &*entropy,
            signer: &signer,
        };
        built(&of, kept, &sources)
    };
    let built = tokio::task::spawn_blocking(build).await;
    let (trimmed, object) = built.unwrap_or(Err("the work was broken off")).map_err(internal)?;
    if trimmed.headers.len() != keep.len() {
        return Err(internal("it would keep another number of entries"));
    }
    parts.zones.put(&trimmed.name, object).await?;
    tracing::debug!(segment.id = %segment.id, kept = keep.len(), of = segment.headers.len(), "trimmed segment {}", segment.id);
    Ok(trimmed)
}

/// The next form of a segment, and its object.
fn built(of: &Segment, kept: Vec<u32>, sources: &Sources<'_>) -> Result<(Segment, Bytes), &'static str> {
    let (journal, _day) = of.name.prefix().rsplit_once('/').ok_or("its name is not that of a segment")?;
    let mut trim = TrimRecord {
        product: of.product.map_or(0, ProductId::get),
        journal: journal.to_owned(),
        segment: of.hash.to_vec(),
        generation: of.generation + 1,
        kept,
        payload_hash: Vec::new(),
        trimmed_at: sources.now.as_micros(),
    };
    let mut payload = Vec::new();
    if !sources.entries.is_empty() {
        let plain: Vec<u8> = sources.entries.iter().map(|entry| &entry.payload[..]).collect::<Vec<_>>().concat();
        payload = seal::seal_to(sources.seal_to, &of.context_of(trim.generation), &plain, sources.entropy);
        trim.payload_hash = blake3::hash(&payload).as_bytes().to_vec();
    }
    let signed = seal::sign(sources.signer, Domain::TRIM, &trim.encode_to_vec());
    let length = |part: &[u8], most: usize| u32::try_from(part.len()).ok().filter(|_| part.len() <= most);
    let (head, too_much) = (sources.head, "too much is kept");
    let head_length = length(head, MAX_HEAD).ok_or(too_much)?;
    let trim_length = length(&signed, MAX_TRIM).ok_or(too_much)?;
    let object = [
        &MAGIC[..],
        &head_length.to_le_bytes(),
        &trim_length.to_le_bytes(),
        head,
        &signed,
        &payload,
    ]
    .concat();
    let object = Bytes::from(object);
    let id = object_id(of.id, of.attempt, trim.generation);
    let name = ObjectName::new(of.name.prefix(), &id, &object).map_err(|_| "its name cannot be made")?;
    let mut next = of.clone().trimmed_to(&trim).ok_or("it could not be read back")?;
    next.name = name;
    Ok((next, object))
}

/// What a form is made of.
struct Sources<'a> {
    head: &'a Bytes,
    /// Those that are kept.
    entries: &'a [Entry],
    now: Timestamp,
    seal_to: &'a PublicKey,
    entropy: &'a dyn Entropy,
    signer: &'a Signer,
}

/// The lengths of head and trim record, from the first bytes of an object.
pub(crate) fn lengths(preamble: &[u8]) -> Option<(u64, u64)> {
    let length = |at: usize| Some(u32::from_le_bytes(preamble.get(at..at + 4)?.try_into().ok()?));
    let (head, trim) = (length(8)?, length(12)?);
    let is_one = preamble[..8] == MAGIC && head as usize <= MAX_HEAD && trim as usize <= MAX_TRIM;
    is_one.then_some((u64::from(head), u64::from(trim)))
}

/// Head, trim record and payload of a whole object.
pub(crate) fn split(object: &Bytes) -> Option<(Bytes, Bytes, Bytes)> {
    let (head, trim) = lengths(object)?;
    let (begin, head, trim) = (PREAMBLE as usize, usize::try_from(head).ok()?, usize::try_from(trim).ok()?);
    let end = begin + head + trim;
    (end <= object.len()).then(|| {
        (
            object.slice(begin..begin + head),
            object.slice(begin + head..end),
            object.slice(end..),
        )
    })
}

/// The last part of a trimmed form's name without the digest.
pub(crate) fn object_id(id: SegmentId, attempt: u32, generation: u32) -> String {
    format!("{}-t{generation}", record::object_id(id, attempt))
}

/// What a name says a trimmed form is: to be believed only once its records say the same.
pub(crate) fn parse_object_id(text: &str) -> Option<(SegmentId, u32, u32)> {
    let (of, generation) = text.rsplit_once("-t")?;
    let (id, attempt) = record::parse_object_id(of)?;
    let generation = generation.parse().ok().filter(|generation| *generation > 0)?;
    // One spelling only.
    (object_id(id, attempt, generation) == text).then_some((id, attempt, generation))
}

/// What a trim record says of a segment whose head was verified; an error says why it is not believed.
pub(crate) fn believe(key: &InstallationKey, role: Role, segment: Segment, journal: &str, trim: &[u8]) -> Result<Segment, String> {
    let malformed = "its trim record is not in the form it should have";
    let verified = seal::verify(key, Domain::TRIM, role, trim).map_err(|error| error.to_string())?;
    let record = TrimRecord::decode(&verified.payload[..]).map_err(|_| malformed)?;
    if record.journal != journal || record.product != segment.product.map_or(0, ProductId::get) {
        return Err("its trim record is about another journal".into());
    }
    if record.segment != segment.hash {
        return Err("its trim record is about another segment".into());
    }
    if !verified.certificate.covers(Timestamp::from_micros(record.trimmed_at)) {
        return Err("the certificate of whoever trimmed it was not in force then".into());
    }
    segment.trimmed_to(&record).ok_or_else(|| malformed.into())
}

/// Of each segment the one form that counts, which shows what none of its forms leaves out; and the objects of the others.
pub(crate) fn latest(believed: Vec<Segment>) -> (Vec<Segment>, Vec<ObjectName>) {
    let mut forms: BTreeMap<[u8; 32], Vec<Segment>> = BTreeMap::new();
    for segment in believed {
        forms.entry(segment.hash).or_default().push(segment);
    }
    let (mut latest, mut superseded) = (Vec::new(), Vec::new());
    for (_, mut forms) in forms {
        // The last of these holds the least.
        forms.sort_by(|a, b| {
            let rank = |segment: &Segment| (std::cmp::Reverse(segment.places.len()), segment.generation);
            rank(a).cmp(&rank(b)).then_with(|| b.name.cmp(&a.name))
        });
        let Some(mut best) = forms.pop() else { continue };
        for other in forms {
            best.see_only(&other.places.iter().copied().collect::<BTreeSet<u32>>());
            superseded.push(other.name);
        }
        latest.push(best);
    }
    (latest, superseded)
}

/// Its version, where it is a trimmed form that a newer version of Coffer wrote.
pub(crate) fn newer_version(object: &[u8]) -> Option<u8> {
    record::newer_than(&MAGIC, object)
}

/// Whether an object is a trimmed form, under its own name, of a segment of one of the role's journals.
pub(crate) fn is_trimmed(key: &InstallationKey, role: Role, name: &ObjectName, object: &Bytes) -> bool {
    let read = || {
        let (journal, _day) = name.prefix().rsplit_once('/')?;
        let (id, attempt, generation) = parse_object_id(name.id())?;
        let (head, trim, _) = split(object)?;
        let segment = Segment::believed(key, role, name, &head, journal).ok()?;
        let trimmed = believe(key, role, segment, journal, &trim).ok()?;
        Some((trimmed.id, trimmed.attempt, trimmed.generation) == (id, attempt, generation))
    };
    read().unwrap_or(false)
}

impl Segment {
    /// A later form of it, as this trim record says, under its own name yet; `None` when there can be none like that.
    pub(crate) fn trimmed_to(mut self, trim: &TrimRecord) -> Option<Self> {
        let held: BTreeMap<u32, u64> = self.stored.iter().copied().zip(self.lengths.iter().copied()).collect();
        let kept = &trim.kept;
        if trim.generation <= self.generation || !kept.is_sorted_by(|a, b| a < b) || kept.len() >= self.headers.len() + self.trimmed.len() {
            return None;
        }
        self.payload_hash = match (kept.is_empty(), trim.payload_hash.is_empty()) {
            (true, true) => [0; 32],
            (false, false) => trim.payload_hash[..].try_into().ok()?,
            _ => return None,
        };
        self.lengths = kept.iter().map(|place| held.get(place).copied()).collect::<Option<_>>()?;
        self.generation = trim.generation;
        self.stored.clone_from(kept);
        self.see_only(&kept.iter().copied().collect());
        Some(self)
    }

    /// Where the entry at `at` of another form of the same segment is in this one.
    pub fn place_of(&self, other: &Self, at: usize) -> Option<usize> {
        let place = other.places.get(at).filter(|_| self.hash == other.hash)?;
        self.places.binary_search(place).ok()
    }

    /// To what the payload of a form is sealed: it opens only as this form of this segment.
    pub(crate) fn context_of(&self, generation: u32) -> Vec<u8> {
        let mut context = self.context.clone();
        if generation > 0 {
            context.extend_from_slice(format!("/trim/{generation}/").as_bytes());
            context.extend_from_slice(&self.hash);
        }
        context
    }

    /// Shows no other entries than those at these places of the whole segment.
    pub(crate) fn see_only(&mut self, places: &BTreeSet<u32>) {
        let (mut headers, mut seen) = (Vec::new(), Vec::new());
        for (header, place) in std::mem::take(&mut self.headers).into_iter().zip(std::mem::take(&mut self.places)) {
            if places.contains(&place) {
                headers.push(header);
                seen.push(place);
            } else {
                self.trimmed.push(header);
            }
        }
        (self.headers, self.places) = (headers, seen);
    }
}
