//! The stored form of a segment.
//!
//! Object name: `<journal>/<day>/<writer>-<sequence, 16 hex>-<attempt>.<digest>`.
//! Object: 8 bytes of magic with the version, the length of the head (4 bytes, little end first), the head, the sealed payload.
//! The head is a [`HeadRecord`] as signed by [`seal::sign`]; it stands first, so that it is read without the rest. The payload
//! is all entries' payloads one after the other as [`seal::seal_to`] makes it; its hash is in the head.
//!
//! Invariant: everything a reader relies on is in the signed head, where it was written and the segment before included. The
//! name only helps to find it.

use base::{Entropy, ProductId, Timestamp, WriterId};
use bytes::Bytes;
use prost::Message;
use seal::{Domain, PublicKey, Signer};

use crate::{Entry, SegmentId};

const MAGIC: [u8; 8] = *b"cfsegm\0\x01";
/// Magic and length of the head.
pub(crate) const PREAMBLE: u64 = 12;
/// What a head may have at most; room for the headers of one commit.
pub(crate) const MAX_HEAD: usize = 32 << 20;
/// What all payloads of a segment may have at most before they are sealed.
pub(crate) const MAX_PAYLOAD: usize = 256 << 20;
/// What a segment can have at most. What is longer is none; sealing adds far less than the last summand.
pub(crate) const MAX_OBJECT: u64 = PREAMBLE + MAX_HEAD as u64 + MAX_PAYLOAD as u64 + 4096;
/// What the header of one entry may have at most.
pub(crate) const MAX_HEADER: usize = 4 << 20;

/// The signed part.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HeadRecord {
    /// 0 for a journal of no product.
    #[prost(uint64, tag = "1")]
    pub(crate) product: u64,
    #[prost(string, tag = "2")]
    pub(crate) journal: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) writer: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    #[prost(uint32, tag = "5")]
    pub(crate) attempt: u32,
    /// Counts the writers of the journal.
    #[prost(uint64, tag = "6")]
    pub(crate) epoch: u64,
    /// Hash of the segment before, 32 zeros at the beginning.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) previous: Vec<u8>,
    #[prost(int64, tag = "8")]
    pub(crate) created_at: i64,
    #[prost(message, repeated, tag = "9")]
    pub(crate) entries: Vec<EntryRecord>,
    #[prost(bytes = "vec", tag = "10")]
    pub(crate) payload_hash: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EntryRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) header: Bytes,
    /// How many bytes of the payload are this entry's.
    #[prost(uint64, tag = "2")]
    pub(crate) length: u64,
}

/// What does not change from segment to segment of one writer.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) journal: String,
    pub(crate) product: Option<ProductId>,
    pub(crate) writer: WriterId,
    pub(crate) epoch: u64,
    pub(crate) seal_to: PublicKey,
}

/// What does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) attempt: u32,
    pub(crate) previous: [u8; 32],
    pub(crate) now: Timestamp,
}

/// A segment ready to be written.
pub(crate) struct Built {
    pub(crate) object: Bytes,
    pub(crate) hash: [u8; 32],
}

/// Seals and signs.
pub(crate) fn build(place: &Place, at: Position, entries: &[Entry], signer: &Signer, entropy: &dyn Entropy) -> Result<Built, String> {
    let plain: Vec<u8> = entries.iter().map(|entry| &entry.payload[..]).collect::<Vec<_>>().concat();
    let mut record = HeadRecord {
        product: place.product.map_or(0, ProductId::get),
        journal: place.journal.clone(),
        writer: place.writer.to_bytes().to_vec(),
        sequence: at.sequence,
        attempt: at.attempt,
        epoch: place.epoch,
        previous: at.previous.to_vec(),
        created_at: at.now.as_micros(),
        entries: entries
            .iter()
            .map(|entry| EntryRecord {
                header: entry.header.clone(),
                length: entry.payload.len() as u64,
            })
            .collect(),
        payload_hash: Vec::new(),
    };
    let payload = seal::seal_to(&place.seal_to, &context(&record), &plain, entropy);
    record.payload_hash = blake3::hash(&payload).as_bytes().to_vec();
    let head = seal::sign(signer, Domain::SEGMENT, &record.encode_to_vec());
    let length = u32::try_from(head.len())
        .ok()
        .filter(|_| head.len() <= MAX_HEAD)
        .ok_or("the headers are too long")?;
    let hash = *blake3::hash(&head).as_bytes();
    let object = [&MAGIC[..], &length.to_le_bytes(), &head, &payload].concat();
    Ok(Built {
        object: object.into(),
        hash,
    })
}

/// To what the payload is sealed: it opens only as this segment of this journal of this product.
pub(crate) fn context(record: &HeadRecord) -> Vec<u8> {
    let HeadRecord {
        product,
        journal,
        sequence,
        attempt,
        ..
    } = record;
    let mut context = format!("coffer/v1/segment/{product}/{journal}/{sequence}/{attempt}/").into_bytes();
    context.extend_from_slice(&record.writer);
    context
}

/// The length of the head, from the first bytes of an object.
pub(crate) fn head_length(preamble: &[u8]) -> Option<u64> {
    let length: [u8; 4] = preamble.get(8..12)?.try_into().ok()?;
    let length = u32::from_le_bytes(length);
    (preamble[..8] == MAGIC && length as usize <= MAX_HEAD).then_some(u64::from(length))
}

/// The version of a segment that a later program wrote.
pub(crate) fn newer_version(object: &[u8]) -> Option<u8> {
    newer_than(&MAGIC, object)
}

/// The same of what begins with this magic.
pub(crate) fn newer_than(magic: &[u8; 8], object: &[u8]) -> Option<u8> {
    let (version, name) = object.get(..8)?.split_last()?;
    (*name == magic[..7] && *version > magic[7]).then_some(*version)
}

/// Head and payload of a whole object.
pub(crate) fn split(object: &Bytes) -> Option<(Bytes, Bytes)> {
    let end = usize::try_from(PREAMBLE + head_length(object)?).ok()?;
    (end <= object.len()).then(|| (object.slice(PREAMBLE as usize..end), object.slice(end..)))
}

/// The last part of a segment's name without the digest.
pub(crate) fn object_id(id: SegmentId, attempt: u32) -> String {
    format!("{id}-{attempt}")
}

/// What a name says a segment is: to be believed only once the head says the same.
pub(crate) fn parse_object_id(text: &str) -> Option<(SegmentId, u32)> {
    let mut parts = text.split('-');
    let (writer, sequence, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    let id = SegmentId {
        writer: writer.parse().ok()?,
        sequence: u64::from_str_radix(sequence, 16).ok()?,
    };
    let attempt = attempt.parse().ok()?;
    // One spelling only.
    (object_id(id, attempt) == text).then_some((id, attempt))
}
