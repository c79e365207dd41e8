//! What the journal holds: facts. Stored form, frozen: fields may be added, none may change its meaning.

use prost::Message;

/// One entry of a product's journal: people seen for the first time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PeopleSeen {
    #[prost(message, repeated, tag = "1")]
    pub(crate) people: Vec<PersonSeen>,
}

/// An identity got an id.
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
}
