//! A record as it is written: one line of JSON, with its fields in one order and in one spelling.
//!
//! `prev` stands first, at a fixed place, so that a reader can compare it without reading the rest.

use std::fmt;
use std::str::FromStr;

use base::{CredentialId, ErrorKind, ProductId, Role, Timestamp};
use seal::{DataKey, hmac_sha256};
use serde::{Deserialize, Serialize};

use crate::draft::{Decision, Draft, Object, Who};
use crate::tree::{Hash, leaf_hash};

const VERSION: u32 = 1;

/// Turns what may be guessed into what cannot be: equal requests about one product have equal hashes, and nobody else can tell of what.
#[derive(Clone)]
pub struct HashKey(DataKey);

impl HashKey {
    /// From a key that only the vault has.
    pub fn new(key: DataKey) -> Self {
        Self(key)
    }

    fn hash(&self, product: Option<ProductId>, digest: &crate::Digest) -> String {
        let product = product.map_or(0, ProductId::get).to_be_bytes();
        hex::encode(hmac_sha256(self.0.reveal(), &[&product, &digest.reveal()[..]].concat()))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(***)")
    }
}

/// Why a line is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A newer version wrote it.
    #[error("it was written by a newer version of Coffer (format {0}, this one knows up to {VERSION})")]
    Newer(u32),
    /// It is not in the form that it should have.
    #[error("it is not an audit record")]
    Malformed,
}

impl RecordError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Among all, from 1.
    pub number: u64,
    /// Among those of its product, from 1; 0 for a record that concerns none.
    pub of_product: u64,
    /// The hash of the record before; zeros for the first.
    pub previous: Hash,
}

/// A record, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    v: u32,
    prev: String,
    /// Its place among all, from 1.
    pub n: u64,
    /// When, in UTC.
    pub at: String,
    /// The role that decided.
    pub role: String,
    /// Who called.
    pub who: String,
    /// On whose behalf: `key:` and an id, or nothing.
    #[serde(rename = "for")]
    pub on_behalf: String,
    /// Which method.
    pub method: String,
    /// A name, or `#` and a keyed hash, or nothing.
    pub object: String,
    /// A keyed hash of the request.
    pub request: String,
    /// `allowed`, `refused` or `failed`.
    pub decision: String,
    /// By which rule.
    pub rule: String,
    /// The id of the pass, or nothing.
    pub pass: String,
    /// The product concerned; 0 for none.
    pub product: u64,
    /// Its place among those of the product.
    pub pn: u64,
    /// How many such events it stands for.
    pub count: u64,
}

impl Record {
    /// The record of `draft` in its place.
    pub fn new(draft: &Draft, at: Numbers, key: &HashKey) -> Self {
        let hash = |digest| key.hash(draft.product, digest);
        Self {
            v: VERSION,
            prev: hex::encode(at.previous),
            n: at.number,
            at: moment(draft.at),
            role: draft.role.to_string(),
            who: draft.who.to_string(),
            on_behalf: draft.on_behalf.map_or_else(String::new, |id| format!("key:{id}")),
            method: draft.method.clone(),
            object: match &draft.object {
                Object::None => String::new(),
                Object::Name(name) => name.clone(),
                Object::Hidden(digest) => format!("#{}", hash(digest)),
            },
            request: draft.request.as_ref().map_or_else(String::new, hash),
            decision: draft.decision.as_str().to_owned(),
            rule: draft.rule.clone(),
            pass: draft.pass.map_or_else(String::new, hex::encode),
            product: draft.product.map_or(0, ProductId::get),
            pn: at.of_product,
            count: draft.count,
        }
    }

    /// The line, without an end of line. Its bytes are what is hashed.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers become JSON")
    }

    /// Reads a line back; refuses any other spelling of the same.
    pub fn parse(line: &str) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        match serde_json::from_str::<Version>(line) {
            Ok(Version { v }) if v > VERSION => return Err(RecordError::Newer(v)),
            Ok(Version { v: VERSION }) => {}
            _ => return Err(RecordError::Malformed),
        }
        let record: Self = serde_json::from_str(line).map_err(|_| RecordError::Malformed)?;
        let forms = Role::from_str(&record.role).is_ok()
            && Who::from_str(&record.who).is_ok()
            && Decision::from_str(&record.decision).is_ok()
            && record.credential().is_some() != record.on_behalf.is_empty();
        if forms && record.to_line() == line {
            Ok(record)
        } else {
            Err(RecordError::Malformed)
        }
    }

    /// The hash of the record before.
    pub fn previous(&self) -> Option<Hash> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.prev, &mut hash).ok()?;
        Some(hash)
    }

    /// On whose behalf.
    pub fn credential(&self) -> Option<CredentialId> {
        self.on_behalf.strip_prefix("key:")?.parse().ok()
    }

    /// Its leaf's hash.
    pub fn hash(&self) -> Hash {
        leaf_hash(self.to_line().as_bytes())
    }
}

/// ISO 8601 in UTC, to the microsecond: `2026-11-23T10:00:00.000001Z`.
fn moment(at: Timestamp) -> String {
    let whole = at.to_string();
    format!("{}.{:06}Z", whole.trim_end_matches('Z'), at.as_micros().rem_euclid(1_000_000))
}
