//! An export: lines of JSON. First what it is of, then records and the parts of the tree that are somebody else's, then signed heads.
//!
//! Promise: [`verify`] finds every record that is missing, changed, moved, added or another one than a head was signed over, and says which
//! as far as that can be told.

use std::collections::BTreeMap;

use base::{Role, Timestamp};
use seal::{Attestation, Domain, InstallationKey};
use serde::{Deserialize, Serialize};

use crate::head::{Statement, TreeHead};
use crate::record::Record;
use crate::tree::{Frontier, Hash, leaf_hash};

const VERSION: u32 = 1;
/// Faults that are said; what follows from the first ones is of little use.
const MOST_FAULTS: usize = 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of the form.
    #[serde(rename = "coffer-audit")]
    version: u32,
    /// Which journal.
    pub journal: String,
    /// The installation's key, in hex: compare it with the one that was kept.
    pub key: String,
    /// Only records that concern this product; 0 for all.
    pub product: u64,
    /// How many records there are in all.
    pub size: u64,
}

impl Header {
    /// Of an export of this installation.
    pub fn new(key: &InstallationKey, product: u64, size: u64) -> Self {
        Self {
            version: VERSION,
            journal: TreeHead::journal_of(key),
            key: hex::encode(key.as_bytes()),
            product,
            size,
        }
    }

    /// The line.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers become JSON")
    }
}

/// A part of the tree whose records concern others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GapLine {
    /// How many records come before it.
    pub at: u64,
    /// It has 2^level of them.
    pub level: u32,
    /// Its hash.
    pub hash: String,
}

impl GapLine {
    /// The line.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers become JSON")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedBy {
    certificate: String,
    signature: String,
}

impl SignedBy {
    fn of(attested: &Attestation) -> Self {
        Self {
            certificate: hex::encode(&attested.certificate),
            signature: hex::encode(&attested.signature),
        }
    }

    fn read(&self) -> Option<Attestation> {
        Some(Attestation {
            certificate: hex::decode(&self.certificate).ok()?,
            signature: hex::decode(&self.signature).ok()?,
        })
    }
}

/// A head with both signatures: what customers keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// What is signed.
    pub head: TreeHead,
    /// By the vault.
    pub vault: Attestation,
    /// By accounts.
    pub accounts: Attestation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    head: HeadBody,
    key: String,
    vault: SignedBy,
    accounts: SignedBy,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadBody {
    journal: String,
    size: u64,
    root: String,
    at: i64,
}

fn hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}

impl SignedHead {
    /// The line, with the key that it is checked against.
    pub fn to_line(&self, key: &InstallationKey) -> String {
        let line = HeadLine {
            head: HeadBody {
                journal: self.head.journal.clone(),
                size: self.head.size,
                root: hex::encode(self.head.root),
                at: self.head.at.as_micros(),
            },
            key: hex::encode(key.as_bytes()),
            vault: SignedBy::of(&self.vault),
            accounts: SignedBy::of(&self.accounts),
        };
        serde_json::to_string(&line).expect("texts and numbers become JSON")
    }

    /// Reads a line; signatures are not looked at.
    pub fn parse(line: &str) -> Option<Self> {
        let HeadLine { head, vault, accounts, .. } = serde_json::from_str(line).ok()?;
        Some(Self {
            head: TreeHead {
                journal: head.journal,
                size: head.size,
                root: hash(&head.root)?,
                at: Timestamp::from_micros(head.at),
            },
            vault: vault.read()?,
            accounts: accounts.read()?,
        })
    }

    /// What is wrong with it, if anything is.
    pub fn check(&self, key: &InstallationKey) -> Result<(), String> {
        let of = |error: crate::HeadError| format!("the head over {} records: {error}", self.head.size);
        self.head.believe(key, Role::Vault, &self.vault).map_err(of)?;
        self.head.believe(key, Role::Accounts, &self.accounts).map_err(of)
    }
}

/// How much concerns a product, of the tree with this head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductHead {
    /// Which journal.
    pub journal: String,
    /// Which product.
    pub product: u64,
    /// How many records concern it.
    pub count: u64,
    /// Of so many in all.
    pub size: u64,
    /// When, in microseconds since the epoch.
    pub at: i64,
}

impl Statement for ProductHead {
    const DOMAIN: Domain = Domain::AUDIT_PRODUCT;

    fn text(&self) -> String {
        let Self {
            journal,
            product,
            count,
            size,
            at,
        } = self;
        format!("coffer audit product 1\n{journal}\n{product}\n{count}\n{size}\n{at}\n")
    }

    fn moment(&self) -> Timestamp {
        Timestamp::from_micros(self.at)
    }
}

/// The same, signed by the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedProductHead {
    /// What is signed.
    pub of: ProductHead,
    /// By the vault.
    pub vault: Attestation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProductLine {
    of: ProductHead,
    vault: SignedBy,
}

impl SignedProductHead {
    /// The line.
    pub fn to_line(&self) -> String {
        let line = ProductLine {
            of: self.of.clone(),
            vault: SignedBy::of(&self.vault),
        };
        serde_json::to_string(&line).expect("texts and numbers become JSON")
    }

    fn parse(line: &str) -> Option<Self> {
        let ProductLine { of, vault } = serde_json::from_str(line).ok()?;
        Some(Self { of, vault: vault.read()? })
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// At which record, as far as that can be told.
    pub record: Option<u64>,
    /// What.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.record {
            Some(record) => write!(f, "record {record}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many records were read.
    pub records: u64,
    /// Of how many in all.
    pub size: u64,
    /// Whose; 0 for all.
    pub product: u64,
    /// The key that all was checked against; whoever gave none, nor a head that was kept, knows it from the export alone.
    pub key: Option<InstallationKey>,
    /// The newest head, where there is one.
    pub head: Option<SignedHead>,
    /// All that is wrong; empty when everything holds.
    pub faults: Vec<Fault>,
}

/// Checks an export line by line.
#[derive(Debug)]
pub struct Verifier {
    key: Option<InstallationKey>,
    kept: Vec<SignedHead>,
    // Roots at the sizes of kept heads, as they go by.
    then: BTreeMap<u64, Hash>,
    header: Option<Header>,
    tree: Frontier,
    last: Option<Hash>,
    of_product: BTreeMap<u64, u64>,
    records: u64,
    head: Option<SignedHead>,
    product: Option<SignedProductHead>,
    faults: Vec<Fault>,
}

impl Verifier {
    /// Against this key (else against the one that a kept head or the export itself names), and these heads that were kept.
    pub fn new(key: Option<InstallationKey>, kept: Vec<SignedHead>) -> Self {
        Self {
            key,
            kept,
            then: BTreeMap::new(),
            header: None,
            tree: Frontier::default(),
            last: None,
            of_product: BTreeMap::new(),
            records: 0,
            head: None,
            product: None,
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, record: Option<u64>, what: impl Into<String>) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault { record, what: what.into() });
        }
    }

    /// The next line.
    pub fn line(&mut self, line: &str) {
        let size = self.tree.size();
        if self.kept.iter().any(|kept| kept.head.size == size) {
            self.then.insert(size, self.tree.root());
        }
        if self.header.is_none() {
            match serde_json::from_str::<Header>(line) {
                Ok(header) if header.version == VERSION => self.header = Some(header),
                _ => self.fault(None, "the first line is not that of an export that this version knows"),
            }
        } else if line.starts_with("{\"v\":") {
            self.record(line);
        } else if line.starts_with("{\"at\":") {
            self.gap(line);
        } else if let Some(head) = SignedHead::parse(line) {
            self.head = Some(head);
        } else if let Some(product) = SignedProductHead::parse(line) {
            self.product = Some(product);
        } else {
            self.fault(None, format!("the line after {size} records cannot be read"));
        }
    }

    fn record(&mut self, line: &str) {
        let place = self.tree.size() + 1;
        match Record::parse(line) {
            Err(error) => self.fault(Some(place), error.to_string()),
            Ok(record) => {
                if record.n != place {
                    self.fault(Some(place), format!("here stands record {}", record.n));
                }
                let known = if place == 1 { Some([0; 32]) } else { self.last };
                if let Some(known) = known
                    && record.previous() != Some(known)
                {
                    let before = place.saturating_sub(1);
                    self.fault(
                        Some(place),
                        format!("it was not written after record {before} as that one stands here"),
                    );
                }
                self.belongs(&record, place);
            }
        }
        let leaf = leaf_hash(line.as_bytes());
        self.tree.append(leaf);
        self.last = Some(leaf);
        self.records += 1;
    }

    fn belongs(&mut self, record: &Record, place: u64) {
        let only = self.header.as_ref().map_or(0, |header| header.product);
        if only != 0 && record.product != only {
            return self.fault(Some(place), format!("it does not concern product {only}"));
        }
        if record.product == 0 {
            if record.pn != 0 {
                self.fault(Some(place), "it concerns no product and is counted for one");
            }
            return;
        }
        let before = self.of_product.insert(record.product, record.pn).unwrap_or(0);
        if record.pn != before + 1 {
            let what = format!("it is number {} of product {}, after number {before}", record.pn, record.product);
            self.fault(Some(place), what);
        }
    }

    fn gap(&mut self, line: &str) {
        let place = self.tree.size();
        let read = || {
            let gap: GapLine = serde_json::from_str(line).ok()?;
            let hash = hash(&gap.hash)?;
            (gap.at == place).then_some((gap.level, hash))
        };
        let whole = self.header.as_ref().is_some_and(|header| header.product == 0);
        let done = !whole && read().is_some_and(|(level, hash)| self.tree.append_part(level, hash).is_some());
        if !done {
            self.fault(Some(place + 1), "here stands a part of the tree that does not belong here");
        }
        self.last = None;
    }

    /// What came of it.
    pub fn finish(mut self) -> Report {
        let size = self.tree.size();
        if self.kept.iter().any(|kept| kept.head.size == size) {
            self.then.insert(size, self.tree.root());
        }
        let product = self.header.as_ref().map_or(0, |header| header.product);
        let key = self.believed_key();
        if let Some(key) = key {
            self.check_head(&key, size);
            self.check_product(&key, product);
            self.check_kept(&key, size);
        }
        Report {
            records: self.records,
            size,
            product,
            key,
            head: self.head,
            faults: self.faults,
        }
    }

    fn believed_key(&mut self) -> Option<InstallationKey> {
        let header = self.header.clone();
        let named = header
            .as_ref()
            .and_then(|header| InstallationKey::try_from(&hex::decode(&header.key).ok()?[..]).ok());
        let Some(named) = named else {
            self.fault(None, "it does not say which installation it is of");
            return None;
        };
        if self.key.is_some_and(|key| key != named) {
            self.fault(None, "it is of another installation than the key that was given");
            return None;
        }
        if header.is_some_and(|header| header.journal != TreeHead::journal_of(&named)) {
            self.fault(None, "it names another journal than that of its installation");
        }
        Some(named)
    }

    fn check_head(&mut self, key: &InstallationKey, size: u64) {
        let said = self.header.as_ref().map_or(0, |header| header.size);
        let Some(head) = self.head.clone() else {
            return self.fault(None, "there is no signed head in it: nothing says that it is whole");
        };
        if let Err(what) = head.check(key) {
            self.fault(None, what);
        }
        if head.head.journal != TreeHead::journal_of(key) {
            self.fault(None, "its head is that of another journal");
        }
        if head.head.size != size || said != size {
            let what = format!(
                "there are {size} records here, {} were signed for: what is between is missing or added",
                head.head.size
            );
            self.fault(Some(size.min(head.head.size) + 1), what);
        } else if head.head.root != self.tree.root() {
            self.fault(None, format!("these {size} records are not those that the head was signed over"));
        }
    }

    fn check_product(&mut self, key: &InstallationKey, product: u64) {
        if product == 0 {
            return;
        }
        let Some(signed) = self.product.clone() else {
            return self.fault(None, format!("the vault does not say how many records concern product {product}"));
        };
        if let Err(error) = signed.of.believe(key, Role::Vault, &signed.vault) {
            self.fault(None, format!("the number of records of product {product}: {error}"));
        }
        let of = &signed.of;
        let about = of.journal == TreeHead::journal_of(key) && of.product == product && of.size == self.tree.size();
        if !about || of.count != self.records {
            let what = format!(
                "there are {} records of product {product} among {} here, {} among {} were signed for",
                self.records,
                self.tree.size(),
                of.count,
                of.size
            );
            self.fault(None, what);
        }
    }

    fn check_kept(&mut self, key: &InstallationKey, size: u64) {
        for kept in std::mem::take(&mut self.kept) {
            let then = kept.head.size;
            if let Err(what) = kept.check(key) {
                self.fault(None, format!("the head that was kept is not of this installation: {what}"));
            } else if then > size {
                let what = format!("rolled back: {then} records were signed for, {size} are here");
                self.fault(Some(size + 1), what);
            } else {
                match self.then.get(&then) {
                    Some(root) if *root == kept.head.root => {}
                    Some(_) => self.fault(
                        None,
                        format!("forked: the first {then} records are not those of the head that was kept"),
                    ),
                    None => self.fault(
                        None,
                        format!("the first {then} records cannot be told apart here: make the export with the head that was kept (--head)"),
                    ),
                }
            }
        }
    }
}

/// Checks a whole export.
pub fn verify<'a>(lines: impl IntoIterator<Item = &'a str>, key: Option<InstallationKey>, kept: Vec<SignedHead>) -> Report {
    let mut verifier = Verifier::new(key, kept);
    for line in lines {
        verifier.line(line);
    }
    verifier.finish()
}
