//! One object of a journal by itself, without zones: whether it is what its name says, and whether it stays refused however it is changed.
//!
//! What judges it is what judges it when a journal is recovered. Start at [`judge`] (one object) and [`try_everything`] (what somebody does to it
//! who owns a zone, or knows the product's public key).

use std::ops::Range;

use base::{Entropy, ProductId, Role, Timestamp, WriterId};
use bytes::Bytes;
use seal::{InstallationKey, PrivateKey, PublicKey, SEALED_KEY_LEN, Signer};
use zones::ObjectName;

use crate::record::{self, Place, Position};
use crate::recover::{Front, believe, said};
use crate::{Entry, OpenError, Segment, trim};

/// How many places of an object a bit is turned in, beside its ends.
const FLIPS: usize = 8;

/// Which journal an object is to be of.
#[derive(Debug, Clone, Copy)]
pub struct Journals<'a> {
    /// Who writes it.
    pub role: Role,
    /// The first part of its name; the product's number is the other.
    pub begin: &'a str,
    /// Whose it is.
    pub product: ProductId,
}

impl Journals<'_> {
    fn name(&self) -> String {
        format!("{}/{}", self.begin, self.product)
    }

    fn of(self, product: ProductId) -> Self {
        Self { product, ..self }
    }
}

/// The segment that an object is, as whoever recovers the journal believes it; an error says why it is none.
pub fn judge(key: &InstallationKey, of: Journals<'_>, name: &ObjectName, object: &Bytes) -> Result<Segment, String> {
    if !name.is_name_of(object) {
        return Err("its bytes are not those of its name".into());
    }
    let journal = of.name();
    let day = name.prefix().strip_prefix(&journal).and_then(|rest| rest.strip_prefix('/'));
    let said = said(name).filter(|_| day.is_some_and(|day| !day.contains('/')));
    let said = said.ok_or("its name is not that of a segment")?;
    let front = Front::of(object, said.generation > 0).ok_or("it is not in the form of a segment")?;
    let segment = believe(key, of.role, &journal, Some(of.product), name, &front)?;
    if said.is(&segment) {
        Ok(segment)
    } else {
        Err(format!("it is segment {}", segment.id))
    }
}

impl Segment {
    /// Opens all entries out of its object's bytes.
    pub fn open_bytes(&self, object: &Bytes, with: &PrivateKey) -> Result<Vec<Entry>, OpenError> {
        if self.stored.is_empty() && !self.is_opening() {
            return Ok(Vec::new());
        }
        self.open_object(object, with).map(|(_, entries)| entries)
    }

    /// Whether the payload is the one that the signature is about.
    fn is_whole(&self, object: &Bytes) -> bool {
        self.parted(object).is_some_and(|(_, payload)| {
            let nothing = self.payload_hash == [0; 32] && payload.is_empty();
            nothing || *blake3::hash(&payload).as_bytes() == self.payload_hash
        })
    }

    /// What its key is sealed in; `None` where nothing is sealed in it any more.
    fn sealed_key(&self, object: &Bytes) -> Option<Bytes> {
        let (_, payload) = self.parted(object)?;
        (payload.len() >= SEALED_KEY_LEN).then(|| payload.slice(..SEALED_KEY_LEN))
    }
}

/// What an object is tried with.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Who certifies those who may sign. More than one is a broken twin, for showing that what is forged is found out.
    pub trusted: &'a [InstallationKey],
    /// Which journal it is of.
    pub of: Journals<'a>,
    /// What opens it; `None` where it is not at hand.
    pub right: Option<&'a PrivateKey>,
    /// What has to open nothing of it, each with a word for it.
    pub wrong: &'a [(String, PrivateKey)],
    /// To what it is sealed: anybody may know that.
    pub seal_to: &'a PublicKey,
    /// Somebody who signs and is none of the installation's roles.
    pub forger: &'a Signer,
    /// For what is forged.
    pub entropy: &'a dyn Entropy,
}

impl Trial<'_> {
    fn judge(&self, of: Journals<'_>, name: &ObjectName, object: &Bytes) -> Result<Segment, String> {
        let mut why = "nobody is trusted".to_owned();
        for key in self.trusted {
            match judge(key, of, name, object) {
                Ok(segment) => return Ok(segment),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Whether it is taken for a segment, and opens where its key is at hand.
    fn is_taken(&self, of: Journals<'_>, name: &ObjectName, object: &Bytes) -> bool {
        let Ok(segment) = self.judge(of, name, object) else { return false };
        segment.is_whole(object) && self.right.is_none_or(|right| segment.open_bytes(object, right).is_ok())
    }
}

/// Opens an object with what has to open it, and tries everything on it that has to be refused; `tried` is told of each attempt, and whether it was
/// refused. An error says why the object is not what it has to be.
///
/// Where its key is not at hand, only what its signature says is looked at: `false` is answered then.
pub fn try_everything(trial: &Trial<'_>, name: &ObjectName, object: &Bytes, tried: &mut dyn FnMut(&str, bool)) -> Result<bool, String> {
    let of = trial.of;
    let segment = trial.judge(of, name, object)?;
    let sealed = segment.sealed_key(object);
    if let Some(right) = trial.right {
        segment
            .open_bytes(object, right)
            .map_err(|error| format!("it does not open with the right key: {error}"))?;
    }
    if let Some(sealed) = &sealed {
        let context = segment.context_of(segment.generation);
        for (whose, key) in trial.wrong {
            tried(whose, seal::open_key(key, sealed, &context).is_err());
        }
        let nobodys = PrivateKey::generate(trial.entropy);
        tried("no key", segment.open_bytes(object, &nobodys).is_err());
    }
    elsewhere(trial, name, object, tried);
    changed(trial, name, object, tried);
    let forged = forge(trial, &segment);
    if let Some((name, object)) = forged {
        tried("forged", !trial.is_taken(of, &name, &object));
    }
    if sealed.is_some()
        && let Some((name, object)) = replaced(trial, &segment, name, object)
    {
        tried("payload forged under its head", !trial.is_taken(of, &name, &object));
    }
    Ok(trial.right.is_some())
}

/// The same bytes in other places.
fn elsewhere(trial: &Trial<'_>, name: &ObjectName, object: &Bytes, tried: &mut dyn FnMut(&str, bool)) {
    let of = trial.of;
    let day = name.prefix().rsplit_once('/').map_or("", |(_, day)| day);
    let next = ProductId::new(of.product.get() + 1).unwrap_or(of.product);
    let mut place = |what: &str, of: Journals<'_>, day: &str, id: &str| {
        if let Ok(name) = ObjectName::new(&format!("{}/{day}", of.name()), id, object) {
            tried(what, !trial.is_taken(of, &name, object));
        }
    };
    place("moved to another product", of.of(next), day, name.id());
    place(
        "moved to another day",
        of,
        if day == "20000101" { "20000102" } else { "20000101" },
        name.id(),
    );
    let Some(said) = said(name) else { return };
    let (mut sequence, mut writer) = (said.id, said.id);
    sequence.sequence += 1;
    writer.writer = WriterId::generate(Timestamp::from_micros(0), trial.entropy);
    let named = |id, attempt| match said.generation {
        0 => record::object_id(id, attempt),
        generation => trim::object_id(id, attempt, generation),
    };
    place("renamed to another number", of, day, &named(sequence, said.attempt));
    place("renamed to another attempt", of, day, &named(said.id, said.attempt + 1));
    place("renamed to another writer", of, day, &named(writer, said.attempt));
}

/// Other bytes in the same place: under the name that they were stored under, and under the one that they would have to have.
fn changed(trial: &Trial<'_>, name: &ObjectName, object: &Bytes, tried: &mut dyn FnMut(&str, bool)) {
    let mut put = |what: &str, bytes: Bytes| {
        let own = ObjectName::new(name.prefix(), name.id(), &bytes);
        let under_own = own.is_ok_and(|own| trial.is_taken(trial.of, &own, &bytes));
        tried(what, !under_own && !trial.is_taken(trial.of, name, &bytes));
    };
    for length in cuts(object.len()) {
        put("truncated", object.slice(..length));
    }
    for place in places(object.len(), trial.entropy) {
        let mut bytes = object.to_vec();
        bytes[place] ^= 1 << (place % 8);
        put("bit-flipped", bytes.into());
    }
    put("lengthened", [object, &b"\0"[..]].concat().into());
}

/// Where something of so many bytes is cut off.
pub fn cuts(length: usize) -> impl Iterator<Item = usize> {
    [length.saturating_sub(1), length / 2, 8.min(length / 3)]
        .into_iter()
        .filter(move |cut| *cut < length)
}

/// Where in something of so many bytes a bit is turned: at its ends, and in each part of it somewhere.
pub fn places(length: usize, entropy: &dyn Entropy) -> Vec<usize> {
    let part = |at: usize| -> Range<usize> { at * length / FLIPS..(at + 1) * length / FLIPS };
    let within = |range: Range<usize>| {
        let mut chance = [0; 8];
        entropy.fill(&mut chance);
        let chance = usize::try_from(u64::from_le_bytes(chance) >> 1).unwrap_or(0);
        range.start + chance % range.len().max(1)
    };
    let mut places: Vec<usize> = (0..FLIPS).map(part).filter(|part| !part.is_empty()).map(within).collect();
    places.extend([0, length.saturating_sub(1)]);
    places.sort_unstable();
    places.dedup();
    places.retain(|place| *place < length);
    places
}

/// A segment as it should be, that would stand in the same place: by somebody who is none of the roles.
fn forge(trial: &Trial<'_>, segment: &Segment) -> Option<(ObjectName, Bytes)> {
    let journal = trial.of.name();
    let place = Place {
        journal: journal.clone(),
        product: Some(trial.of.product),
        writer: segment.id.writer,
        epoch: segment.epoch,
        seal_to: *trial.seal_to,
    };
    let at = Position {
        sequence: segment.id.sequence,
        attempt: segment.attempt,
        previous: segment.previous,
        now: segment.created_at,
    };
    let entries = [Entry::sealed(&b"forged"[..])];
    let built = record::build(&place, at, &entries, trial.forger, trial.entropy).ok()?;
    let prefix = format!("{journal}/{}", segment.created_at.day());
    let name = ObjectName::new(&prefix, &record::object_id(segment.id, segment.attempt), &built.object).ok()?;
    Some((name, built.object))
}

/// The true signed head before a payload that was sealed as it should be, by somebody else.
fn replaced(trial: &Trial<'_>, segment: &Segment, name: &ObjectName, object: &Bytes) -> Option<(ObjectName, Bytes)> {
    let (_, payload) = segment.parted(object)?;
    let lengths = segment.lengths.iter().sum::<u64>();
    let plain = vec![0; usize::try_from(lengths).ok()?];
    let forged = seal::seal_to(trial.seal_to, &segment.context_of(segment.generation), &plain, trial.entropy);
    let head = object.len().checked_sub(payload.len())?;
    let bytes = Bytes::from([&object[..head], &forged].concat());
    let name = ObjectName::new(name.prefix(), name.id(), &bytes).ok()?;
    Some((name, bytes))
}
