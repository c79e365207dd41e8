//! A segment as recovered: believed, in its place, and still sealed.

use base::{ProductId, Timestamp, WriterId};
use bytes::Bytes;
use seal::PrivateKey;
use zones::{ObjectName, Zones};

use crate::record::{self, HeadRecord};
use crate::{Entry, OpenError, SegmentId};

/// A segment whose head was verified. Its payload is opened on demand.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Where it is in the journal.
    pub id: SegmentId,
    /// The object that holds it.
    pub name: ObjectName,
    /// What its entries say in clear, in their order.
    pub headers: Vec<Bytes>,
    /// Of its signed head, and so of everything in it.
    pub hash: [u8; 32],
    /// Of the segment before it.
    pub previous: [u8; 32],
    /// When its writer says it was written.
    pub created_at: Timestamp,
    /// Whose events it holds.
    pub product: Option<ProductId>,
    pub(crate) attempt: u32,
    pub(crate) epoch: u64,
    lengths: Vec<u64>,
    payload_hash: [u8; 32],
    context: Vec<u8>,
}

impl Segment {
    /// From a verified record. `None` when the record is not in the form it should have.
    pub(crate) fn from_record(name: ObjectName, record: HeadRecord, hash: [u8; 32]) -> Option<Self> {
        Some(Self {
            id: SegmentId {
                writer: WriterId::try_from(&record.writer[..]).ok()?,
                sequence: record.sequence,
            },
            name,
            hash,
            previous: record.previous[..].try_into().ok()?,
            created_at: Timestamp::from_micros(record.created_at),
            product: match record.product {
                0 => None,
                number => Some(ProductId::new(number).ok()?),
            },
            attempt: record.attempt,
            epoch: record.epoch,
            payload_hash: record.payload_hash[..].try_into().ok()?,
            context: record::context(&record),
            lengths: record.entries.iter().map(|entry| entry.length).collect(),
            headers: record.entries.into_iter().map(|entry| entry.header).collect(),
        })
    }

    /// Whether there is nothing in it: it was written to begin with.
    pub(crate) fn is_opening(&self) -> bool {
        self.headers.is_empty()
    }

    /// Opens all entries, in their order.
    pub async fn open(&self, zones: &Zones, with: &PrivateKey) -> Result<Vec<Entry>, OpenError> {
        let object = zones.get(&self.name, record::MAX_OBJECT).await?;
        let (segment, with) = (self.clone(), with.clone());
        let opened = tokio::task::spawn_blocking(move || segment.open_object(&object, &with)).await;
        opened.unwrap_or_else(|_| Err(self.changed()))
    }

    fn open_object(&self, object: &Bytes, with: &PrivateKey) -> Result<Vec<Entry>, OpenError> {
        let (head, payload) = record::split(object).ok_or_else(|| self.changed())?;
        let same = |bytes: &[u8], hash: &[u8; 32]| blake3::hash(bytes).as_bytes() == hash;
        if !same(&head, &self.hash) || !same(&payload, &self.payload_hash) {
            return Err(self.changed());
        }
        let opened = seal::open_with(with, &self.context, &payload);
        let mut rest = Bytes::from(opened.map_err(|source| OpenError::Seal {
            name: self.name.clone(),
            source,
        })?);
        let mut entries = Vec::with_capacity(self.headers.len());
        for (header, length) in self.headers.iter().zip(&self.lengths) {
            let length = usize::try_from(*length).ok().filter(|length| *length <= rest.len());
            let payload = rest.split_to(length.ok_or_else(|| self.changed())?);
            entries.push(Entry {
                header: header.clone(),
                payload,
            });
        }
        if rest.is_empty() { Ok(entries) } else { Err(self.changed()) }
    }

    fn changed(&self) -> OpenError {
        OpenError::Changed { name: self.name.clone() }
    }
}
