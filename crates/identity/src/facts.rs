//! What the journal holds: facts. Stored form, frozen: fields may be added, none may change its meaning.
//!
//! An entry with an empty header is of the first form, [`PeopleSeen`]: it opens with the product's lookup key for good, so what it says
//! of somebody is moved into the second form when it is first met, and then trimmed away. An entry of the second form, [`Change`], has
//! [`SECOND`] for its header, and what it says of people opens only with the keyring of its time (see `ring`).

use bytes::Bytes;
use prost::Message;

/// The header of entries of the second form.
pub(crate) const SECOND: &[u8] = &[2];

/// One entry of a product's journal in the first form: people seen for the first time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PeopleSeen {
    #[prost(message, repeated, tag = "1")]
    pub(crate) people: Vec<PersonSeen>,
}

/// An identity got an id, in the first form.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PersonSeen {
    /// The identity's keyed hash under the product's lookup key, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) hash: Vec<u8>,
    /// The id, positive.
    #[prost(sfixed64, tag = "2")]
    pub(crate) id: i64,
    /// The person's key for what is sealed for them, 32 bytes, and the identity, sealed together under a key derived from the
    /// product's lookup key.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) sealed: Vec<u8>,
    /// The column in which the identity came first, in small letters, where identities are linked; else empty. Several facts may give
    /// one id: they are identities of one person, and share the key.
    #[prost(string, tag = "4")]
    pub(crate) column: String,
}

/// One entry in the second form.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Change {
    #[prost(oneof = "Fact", tags = "1, 2, 3, 4, 5")]
    pub(crate) fact: Option<Fact>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Fact {
    /// The product's first keyring.
    #[prost(message, tag = "1")]
    Ring(SealedRing),
    /// Identities got ids.
    #[prost(message, tag = "2")]
    Given(Given),
    /// Somebody was erased.
    #[prost(message, tag = "3")]
    Erased(Erased),
    /// What is of the first form begins to be moved: whatever an earlier attempt moved counts no more.
    #[prost(message, tag = "4")]
    Moving(SealedRing),
    /// All of it was moved: nothing of the first form counts any more.
    #[prost(message, tag = "5")]
    Moved(Moved),
}

/// A keyring, sealed under the vault's key of its epoch.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SealedRing {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) sealed: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Given {
    /// Everything that is kept of these people from now on.
    #[prost(message, repeated, tag = "1")]
    pub(crate) people: Vec<SealedPerson>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SealedPerson {
    #[prost(sfixed64, tag = "1")]
    pub(crate) id: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) sealed: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Erased {
    #[prost(sfixed64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) at: i64,
    /// The keyring from now on.
    #[prost(message, optional, tag = "3")]
    pub(crate) ring: Option<SealedRing>,
    /// The others of the person's group, under its new key.
    #[prost(message, repeated, tag = "4")]
    pub(crate) people: Vec<SealedPerson>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Moved {}

/// What an entry says.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Of the first form.
    Seen(Vec<PersonSeen>),
    /// Of the second.
    Change(Fact),
}

impl Entry {
    /// From a stored one. `None` when it is in neither form: a newer version may have written it.
    pub(crate) fn decode(entry: &journal::Entry) -> Option<Self> {
        match &entry.header[..] {
            [] => PeopleSeen::decode(entry.payload.clone()).ok().map(|seen| Self::Seen(seen.people)),
            SECOND => Change::decode(entry.payload.clone()).ok()?.fact.map(Self::Change),
            _ => None,
        }
    }

    /// As it is stored.
    pub(crate) fn stored(fact: Fact) -> journal::Entry {
        journal::Entry {
            header: Bytes::from_static(SECOND),
            payload: Bytes::from(Change { fact: Some(fact) }.encode_to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_bytes_do_not_change() {
        let fact = PeopleSeen {
            people: vec![PersonSeen {
                hash: vec![1, 2],
                id: 7,
                sealed: vec![9],
                column: String::new(),
            }],
        };
        assert_eq!(hex::encode(fact.encode_to_vec()), "0a100a0201021107000000000000001a0109");
        let mut linked = fact;
        linked.people[0].column = "id".into();
        assert_eq!(hex::encode(linked.encode_to_vec()), "0a140a0201021107000000000000001a010922026964");
    }

    #[test]
    fn the_stored_bytes_of_the_second_form_do_not_change() {
        let check = |fact: Fact, bytes: &str| {
            let stored = Entry::stored(fact.clone());
            assert_eq!((hex::encode(&stored.payload).as_str(), &stored.header[..]), (bytes, SECOND));
            assert!(matches!(Entry::decode(&stored), Some(Entry::Change(read)) if read == fact));
        };
        let ring = SealedRing { epoch: 1, sealed: vec![2] };
        let people = vec![SealedPerson { id: 3, sealed: vec![4] }];
        check(Fact::Ring(ring.clone()), "0a050801120102");
        check(Fact::Moving(ring.clone()), "22050801120102");
        check(Fact::Moved(Moved {}), "2a00");
        let given = Given { people: people.clone() };
        check(Fact::Given(given), "120e0a0c090300000000000000120104");
        let erased = Erased {
            id: 6,
            at: 7,
            ring: Some(ring),
            people,
        };
        check(
            Fact::Erased(erased),
            "1a2009060000000000000010071a050801120102220c090300000000000000120104",
        );
        let newer = journal::Entry {
            header: Bytes::from_static(&[3]),
            payload: Bytes::new(),
        };
        assert!(Entry::decode(&newer).is_none());
    }
}
