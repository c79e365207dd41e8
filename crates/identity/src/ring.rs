//! A product's keyring: what makes the rows that are kept of its people readable, and what is changed to forget one of them.
//!
//! A person's row leads from their id to the key for what is sealed for them and to their identities, sealed together under the key of one of
//! 1,024 groups, chosen by the id. The keyring is all of these keys, sealed under a key that the vault keeps for this epoch.
//! Nothing that is stored depends on an identity, neither a hash nor a place nor (within 128 bytes) a length: who somebody is can be told from
//! what opens, and from nothing else.
//!
//! Promise: without the keyring of their time rows neither say who somebody is nor confirm a guess, whatever else is known, the lookup key
//! included. To forget somebody their group gets a fresh key and its others new rows, and the vault drops the key of the epoch before:
//! what remains of the old rows anywhere opens with nothing that is left.

use base::{Entropy, PersonId, ProductId, Secret, SecretBytes};
use prost::Message;
use seal::{DataKey, Purpose, SealError, derive};
use zeroize::Zeroize;

use crate::facts::SealedRing;

/// How many groups of people there are.
pub(crate) const GROUPS: usize = 1_024;
const KEY: usize = 32;
/// Ids have 63 bits; the first ten say the group.
const GROUP_SHIFT: u32 = 53;
/// What is sealed of a person has a multiple of so many bytes.
const PADDED: usize = 128;
/// In front of a keyring's keys.
const VERSION: u8 = 1;

/// What is kept of somebody.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// For what is sealed for them.
    pub(crate) key: DataKey,
    pub(crate) identities: Vec<Known>,
}

/// An identity of somebody.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) identity: Secret,
    /// The column it came in first, where identities are linked; else empty.
    pub(crate) column: String,
}

/// A person as stored, before sealing.
#[derive(Clone, PartialEq, Message)]
struct PersonKept {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    identities: Vec<IdentityKept>,
}

#[derive(Clone, PartialEq, Message)]
struct IdentityKept {
    #[prost(string, tag = "1")]
    identity: String,
    #[prost(string, tag = "2")]
    column: String,
}

/// The keys of one epoch.
pub(crate) struct Ring {
    product: ProductId,
    epoch: u64,
    groups: Vec<Group>,
}

struct Group {
    key: DataKey,
    sealing: DataKey,
}

impl Group {
    fn of(key: DataKey) -> Self {
        Self {
            sealing: derive(key.reveal(), Purpose::PeopleSealed, b"person"),
            key,
        }
    }
}

impl Ring {
    /// A fresh one.
    pub(crate) fn generate(product: ProductId, epoch: u64, entropy: &dyn Entropy) -> Self {
        let fresh = std::iter::repeat_with(|| Group::of(DataKey::generate(entropy)));
        Self {
            product,
            epoch,
            groups: fresh.take(GROUPS).collect(),
        }
    }

    /// The same for the next epoch, with a fresh key for this group.
    pub(crate) fn renewed(&self, epoch: u64, group: usize, entropy: &dyn Entropy) -> Self {
        let next = |(at, old): (usize, &Group)| {
            let key = if at == group { DataKey::generate(entropy) } else { old.key.clone() };
            Group::of(key)
        };
        Self {
            product: self.product,
            epoch,
            groups: self.groups.iter().enumerate().map(next).collect(),
        }
    }

    /// The one that was sealed.
    pub(crate) fn open(product: ProductId, ring: &SealedRing, with: &DataKey) -> Result<Self, SealError> {
        const MALFORMED: SealError = SealError::Malformed { what: "keyring of people" };
        let opened = seal::unwrap(with, &context(product, ring.epoch), &ring.sealed)?;
        let (version, keys) = opened.reveal().split_first().ok_or(MALFORMED)?;
        if *version > VERSION {
            return Err(SealError::Newer {
                what: "keyring of people",
                found: *version,
            });
        }
        if *version != VERSION || keys.len() != GROUPS * KEY {
            return Err(MALFORMED);
        }
        let groups = keys.chunks_exact(KEY).map(|key| DataKey::try_from(key).map(Group::of));
        Ok(Self {
            product,
            epoch: ring.epoch,
            groups: groups.collect::<Result<_, _>>()?,
        })
    }

    /// As it is stored.
    pub(crate) fn sealed(&self, with: &DataKey, entropy: &dyn Entropy) -> SealedRing {
        let mut plain = Vec::with_capacity(1 + GROUPS * KEY);
        plain.push(VERSION);
        self.groups.iter().for_each(|group| plain.extend_from_slice(group.key.reveal()));
        let plain = SecretBytes::new(plain);
        SealedRing {
            epoch: self.epoch,
            sealed: seal::wrap(with, &context(self.product, self.epoch), plain.reveal(), entropy),
        }
    }

    /// The same keys, as whoever tries them on another product's people would hold them.
    pub(crate) fn tried_on(&self, product: ProductId) -> Self {
        let group = |group: &Group| Group {
            key: group.key.clone(),
            sealing: group.sealing.clone(),
        };
        Self {
            product,
            epoch: self.epoch,
            groups: self.groups.iter().map(group).collect(),
        }
    }

    /// All keys of it.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &DataKey> {
        self.groups.iter().map(|group| &group.key)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A person, as they are stored.
    pub(crate) fn seal_person(&self, id: PersonId, person: &Person, entropy: &dyn Entropy) -> Vec<u8> {
        let known = |known: &Known| IdentityKept {
            identity: known.identity.reveal().to_owned(),
            column: known.column.clone(),
        };
        let mut kept = PersonKept {
            key: person.key.reveal().to_vec(),
            identities: person.identities.iter().map(known).collect(),
        };
        // Four bytes say how long it is, zeros fill it up.
        let length = kept.encoded_len();
        let mut plain = Vec::with_capacity((4 + length).next_multiple_of(PADDED));
        plain.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        kept.encode(&mut plain).expect("memory has room");
        plain.resize(plain.len().next_multiple_of(PADDED), 0);
        let plain = SecretBytes::new(plain);
        kept.key.zeroize();
        kept.identities.iter_mut().for_each(|kept| kept.identity.zeroize());
        seal::wrap(&self.groups[group(id)].sealing, &self.context_of(id), plain.reveal(), entropy)
    }

    /// The person that was sealed.
    pub(crate) fn open_person(&self, id: PersonId, sealed: &[u8]) -> Result<Person, SealError> {
        const MALFORMED: SealError = SealError::Malformed { what: "person" };
        let opened = seal::unwrap(&self.groups[group(id)].sealing, &self.context_of(id), sealed)?;
        let (length, rest) = opened.reveal().split_first_chunk::<4>().ok_or(MALFORMED)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| MALFORMED)?;
        let mut kept = PersonKept::decode(rest.get(..length).ok_or(MALFORMED)?).map_err(|_| MALFORMED)?;
        let key = DataKey::try_from(&kept.key[..])?;
        kept.key.zeroize();
        let known = |kept: IdentityKept| Known {
            identity: Secret::new(kept.identity),
            column: kept.column,
        };
        Ok(Person {
            key,
            identities: kept.identities.into_iter().map(known).collect(),
        })
    }

    fn context_of(&self, id: PersonId) -> Vec<u8> {
        format!("person/{}/{id}", self.product).into_bytes()
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({}, epoch {}, ***)", self.product, self.epoch)
    }
}

/// In which group somebody is.
pub(crate) fn group(id: PersonId) -> usize {
    usize::try_from(id.get() >> GROUP_SHIFT).unwrap_or(0) % GROUPS
}

/// The ids of a group: the first, and the last.
pub(crate) fn ids_of(group: usize) -> (i64, i64) {
    let first = i64::try_from(group % GROUPS).unwrap_or(0) << GROUP_SHIFT;
    (first, first | ((1 << GROUP_SHIFT) - 1))
}

fn context(product: ProductId, epoch: u64) -> Vec<u8> {
    format!("keyring/{product}/{epoch}").into_bytes()
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    fn product(number: u64) -> ProductId {
        ProductId::new(number).unwrap()
    }

    fn person(identities: &[&str], entropy: &SeededEntropy) -> Person {
        let known = |identity: &&str| Known {
            identity: Secret::new((*identity).to_owned()),
            column: "email".into(),
        };
        Person {
            key: DataKey::generate(entropy),
            identities: identities.iter().map(known).collect(),
        }
    }

    #[test]
    fn a_keyring_opens_with_the_key_of_its_epoch_and_product_only() {
        let entropy = SeededEntropy::new(1);
        let (key, other) = (DataKey::generate(&entropy), DataKey::generate(&entropy));
        let ring = Ring::generate(product(1), 3, &entropy);
        let mut sealed = ring.sealed(&key, &entropy);

        let again = Ring::open(product(1), &sealed, &key).unwrap();
        assert!((0..GROUPS).all(|at| again.groups[at].key.reveal() == ring.groups[at].key.reveal()));
        assert!(Ring::open(product(1), &sealed, &other).is_err() && Ring::open(product(2), &sealed, &key).is_err());
        sealed.epoch = 4;
        assert!(Ring::open(product(1), &sealed, &key).is_err());
        assert_eq!(format!("{ring:?}"), "Ring(1, epoch 3, ***)");
    }

    #[test]
    fn with_a_renewed_keyring_what_was_in_the_group_opens_no_more_and_everything_else_does() {
        let entropy = SeededEntropy::new(2);
        let ring = Ring::generate(product(1), 1, &entropy);
        let [gone, far] = [5, 1 << 60].map(|id| PersonId::new(id).unwrap());
        let ada = person(&["ada", "phone-1"], &entropy);
        let rows = [gone, far].map(|id| ring.seal_person(id, &ada, &entropy));
        let renewed = ring.renewed(2, group(gone), &entropy);

        assert!(ring.open_person(gone, &rows[0]).is_ok() && renewed.open_person(gone, &rows[0]).is_err());
        let opened = renewed.open_person(far, &rows[1]).unwrap();
        assert_eq!(opened.key.reveal(), ada.key.reveal());
        let known: Vec<_> = opened
            .identities
            .iter()
            .map(|known| (known.identity.reveal(), &*known.column))
            .collect();
        assert_eq!(known, [("ada", "email"), ("phone-1", "email")]);
        assert!(ring.open_person(far, &rows[0]).is_err(), "another's row");
    }

    #[test]
    fn rows_of_short_and_of_longer_identities_are_as_long() {
        let entropy = SeededEntropy::new(3);
        let ring = Ring::generate(product(1), 1, &entropy);
        let id = PersonId::new(5).unwrap();
        let length = |identities: &[&str]| ring.seal_person(id, &person(identities, &entropy), &entropy).len();
        assert_eq!(length(&["a"]), length(&["somebody.with.a.long.name@department.example.com"]));
        assert!(length(&[&"x".repeat(1_024)]) > 1_024);
    }

    #[test]
    fn every_id_is_in_the_group_whose_ids_say_so() {
        for id in [1, (1 << 53) - 1, 1 << 53, i64::MAX] {
            let (first, last) = ids_of(group(PersonId::new(id).unwrap()));
            assert!((first..=last).contains(&id), "{id}");
        }
        assert_eq!(ids_of(GROUPS - 1).1, i64::MAX);
    }
}
