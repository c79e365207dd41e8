//! A segment as recovered: believed, in its place, and still sealed.

use base::{ProductId, Role, Timestamp, WriterId};
use bytes::Bytes;
use prost::Message;
use seal::{Domain, InstallationKey, PrivateKey, SealError};
use zones::{ObjectName, Zones};

use crate::journal::MUCH;
use crate::record::{self, HeadRecord};
use crate::{Entry, OpenError, SegmentId, trim};

/// A segment whose head was verified. Its payload is opened on demand.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Where it is in the journal.
    pub id: SegmentId,
    /// The object that holds it.
    pub name: ObjectName,
    /// What its entries say in clear, in their order.
    pub headers: Vec<Bytes>,
    /// The same of those entries that were taken out of it, in no order: what they said sealed is gone.
    pub trimmed: Vec<Bytes>,
    /// Of its signed head, and so of everything that was ever in it.
    pub hash: [u8; 32],
    /// Of the segment before it.
    pub previous: [u8; 32],
    /// When its writer says it was written.
    pub created_at: Timestamp,
    /// Whose events it holds.
    pub product: Option<ProductId>,
    pub(crate) attempt: u32,
    pub(crate) epoch: u64,
    /// 0 as it was written, more for a trimmed form.
    pub(crate) generation: u32,
    /// Which of all its entries, counted from 0, the headers are of.
    pub(crate) places: Vec<u32>,
    /// Which are in the payload: all of those, and perhaps some that another form leaves out. And how long each of them is.
    pub(crate) stored: Vec<u32>,
    pub(crate) lengths: Vec<u64>,
    /// Of the payload; zeros where there is none.
    pub(crate) payload_hash: [u8; 32],
    /// To what its first payload was sealed.
    pub(crate) context: Vec<u8>,
}

impl Segment {
    /// From the head of an object, if the role signed it for this journal; an error says why it is not believed.
    pub(crate) fn believed(key: &InstallationKey, role: Role, name: &ObjectName, head: &[u8], journal: &str) -> Result<Self, String> {
        let verified = seal::verify(key, Domain::SEGMENT, role, head).map_err(|e: SealError| e.to_string())?;
        let record = HeadRecord::decode(&verified.payload[..]).map_err(|_| "its head is not in the form it should have")?;
        if record.journal != journal {
            return Err(format!("it belongs to journal {}", record.journal));
        }
        let hash = *blake3::hash(head).as_bytes();
        let segment = Self::from_record(name.clone(), record, hash).ok_or("its head is not in the form it should have")?;
        // One object has one name: else whoever owns a zone could bring back under another what was withdrawn or deleted under its own.
        let day = segment.created_at.day();
        if name.prefix().strip_prefix(journal).and_then(|rest| rest.strip_prefix('/')) != Some(&*day) {
            return Err(format!("it is of another day ({day})"));
        }
        if !verified.certificate.covers(segment.created_at) {
            return Err("its signer's certificate was not in force when it was written".into());
        }
        Ok(segment)
    }

    /// From a verified record. `None` when the record is not in the form it should have.
    fn from_record(name: ObjectName, record: HeadRecord, hash: [u8; 32]) -> Option<Self> {
        let places: Vec<u32> = (0..u32::try_from(record.entries.len()).ok()?).collect();
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
            generation: 0,
            payload_hash: record.payload_hash[..].try_into().ok()?,
            context: record::context(&record),
            lengths: record.entries.iter().map(|entry| entry.length).collect(),
            headers: record.entries.into_iter().map(|entry| entry.header).collect(),
            trimmed: Vec::new(),
            stored: places.clone(),
            places,
        })
    }

    /// Whether there was never anything in it: it was written to begin with.
    pub(crate) fn is_opening(&self) -> bool {
        self.headers.is_empty() && self.trimmed.is_empty()
    }

    /// Opens all entries, in their order.
    pub async fn open(&self, zones: &Zones, with: &PrivateKey) -> Result<Vec<Entry>, OpenError> {
        if self.stored.is_empty() && !self.is_opening() {
            return Ok(Vec::new());
        }
        self.open_with_head(zones, with).await.map(|(_, entries)| entries)
    }

    /// The same, and the head that it was signed with.
    pub(crate) async fn open_with_head(&self, zones: &Zones, with: &PrivateKey) -> Result<(Bytes, Vec<Entry>), OpenError> {
        let object = zones.get(&self.name, trim::MAX_OBJECT).await?;
        // A small one is opened sooner than a thread is found for it.
        if object.len() < MUCH {
            return self.open_object(&object, with);
        }
        let (segment, with) = (self.clone(), with.clone());
        let opened = tokio::task::spawn_blocking(move || segment.open_object(&object, &with)).await;
        opened.unwrap_or_else(|_| Err(self.changed()))
    }

    /// The head that it was signed with. Of the rest of the object nothing is read, unless a zone's copy of the head is wrong.
    pub(crate) async fn read_head(&self, zones: &Zones) -> Result<Bytes, OpenError> {
        if let Some(head) = self.read_head_alone(zones).await.filter(|head| is_of(&self.hash, head)) {
            return Ok(head);
        }
        let object = zones.get(&self.name, trim::MAX_OBJECT).await?;
        self.parted(&object).map(|(head, _)| head).ok_or_else(|| self.changed())
    }

    async fn read_head_alone(&self, zones: &Zones) -> Option<Bytes> {
        let begin = if self.generation > 0 { trim::PREAMBLE } else { record::PREAMBLE };
        let preamble = zones.get_range(&self.name, 0..begin).await.ok()?;
        let length = match self.generation {
            0 => record::head_length(&preamble)?,
            _ => trim::lengths(&preamble)?.0,
        };
        zones.get_range(&self.name, begin..begin + length).await.ok()
    }

    /// Head and payload of its object, if the head is what was believed.
    pub(crate) fn parted(&self, object: &Bytes) -> Option<(Bytes, Bytes)> {
        let (head, payload) = match self.generation {
            0 => record::split(object)?,
            _ => trim::split(object).map(|(head, _, payload)| (head, payload))?,
        };
        is_of(&self.hash, &head).then_some((head, payload))
    }

    pub(crate) fn open_object(&self, object: &Bytes, with: &PrivateKey) -> Result<(Bytes, Vec<Entry>), OpenError> {
        let (head, payload) = self.parted(object).ok_or_else(|| self.changed())?;
        if !is_of(&self.payload_hash, &payload) {
            return Err(self.changed());
        }
        let opened = seal::open_with(with, &self.context_of(self.generation), &payload);
        let mut rest = Bytes::from(opened.map_err(|source| OpenError::Seal {
            name: self.name.clone(),
            source,
        })?);
        let mut entries = Vec::with_capacity(self.headers.len());
        let mut seen = self.places.iter().zip(&self.headers).peekable();
        for (place, length) in self.stored.iter().zip(&self.lengths) {
            let length = usize::try_from(*length).ok().filter(|length| *length <= rest.len());
            let payload = rest.split_to(length.ok_or_else(|| self.changed())?);
            if let Some((_, header)) = seen.next_if(|(seen, _)| *seen == place) {
                entries.push(Entry {
                    header: header.clone(),
                    payload,
                });
            }
        }
        if rest.is_empty() && seen.peek().is_none() {
            Ok((head, entries))
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> OpenError {
        OpenError::Changed { name: self.name.clone() }
    }
}

fn is_of(hash: &[u8; 32], bytes: &[u8]) -> bool {
    blake3::hash(bytes).as_bytes() == hash
}
