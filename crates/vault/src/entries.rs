//! The facts in the vault's journal. Stored records: a number once given is never given again.
//!
//! Every fact can be applied twice, and facts of different starts in either order: the view comes out the same.

use base::{CredentialId, ProductId, Timestamp};
use prost::Message;

/// One fact, as it is sealed into a segment.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(oneof = "Fact", tags = "1, 2, 3, 4, 5, 6, 10, 20")]
    pub(crate) fact: Option<Fact>,
}

impl Entry {
    pub(crate) fn of(fact: Fact) -> Self {
        Self { fact: Some(fact) }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Fact {
    /// The internal authority was made.
    #[prost(message, tag = "1")]
    Authority(AuthorityCreated),
    /// A product's keys were made.
    #[prost(message, tag = "2")]
    Product(ProductKeysCreated),
    /// A product key was made.
    #[prost(message, tag = "3")]
    Credential(CredentialCreated),
    /// A product key was revoked.
    #[prost(message, tag = "4")]
    Revoked(CredentialRevoked),
    /// A product's keys were made in customer custody, with the first product key.
    #[prost(message, tag = "5")]
    CustomerProduct(CustomerProductCreated),
    /// Who keeps a product's private key changed.
    #[prost(message, tag = "6")]
    Custody(CustodyChanged),
    /// So long were other roles' journals at least.
    #[prost(message, tag = "10")]
    Heads(HeadsNoted),
    /// A product's keyring of people got a key for another epoch. Its segment is trimmed when the key is dropped.
    #[prost(message, tag = "20")]
    PeopleKey(PeopleKeyMade),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AuthorityCreated {
    /// DER.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) certificate: Vec<u8>,
    /// PKCS #8, wrapped under the root key.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) wrapped_key: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProductKeysCreated {
    #[prost(uint64, tag = "1")]
    pub(crate) product: u64,
    #[prost(string, tag = "2")]
    pub(crate) custody: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) public_key: Vec<u8>,
    /// Wrapped under the root key; empty in `customer` custody.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) wrapped_private: Vec<u8>,
    /// The key by which identities are found again, wrapped under the root key.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) wrapped_lookup: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(crate) at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CredentialCreated {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) credential: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) product: u64,
    #[prost(string, tag = "3")]
    pub(crate) kind: String,
    /// Keyed hash of the product key.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) verifier: Vec<u8>,
    /// The product's private key, wrapped under the product key's secret; empty for keys that cannot read.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) wrapped_private: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(crate) at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CredentialRevoked {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) credential: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(crate) at: i64,
}

/// One fact, because either without the other could never be read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CustomerProductCreated {
    #[prost(message, required, tag = "1")]
    pub(crate) product: ProductKeysCreated,
    #[prost(message, required, tag = "2")]
    pub(crate) credential: CredentialCreated,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CustodyChanged {
    #[prost(uint64, tag = "1")]
    pub(crate) product: u64,
    #[prost(string, tag = "2")]
    pub(crate) custody: String,
    /// Wrapped under the root key.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) wrapped_private: Vec<u8>,
    #[prost(int64, tag = "4")]
    pub(crate) at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HeadsNoted {
    #[prost(message, repeated, tag = "1")]
    pub(crate) heads: Vec<HeadNoted>,
    #[prost(int64, tag = "2")]
    pub(crate) at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PeopleKeyMade {
    #[prost(uint64, tag = "1")]
    pub(crate) product: u64,
    /// From 1.
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    /// Wrapped under the root key.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) wrapped: Vec<u8>,
    #[prost(int64, tag = "4")]
    pub(crate) at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HeadNoted {
    #[prost(string, tag = "1")]
    pub(crate) role: String,
    #[prost(string, tag = "2")]
    pub(crate) journal: String,
    #[prost(uint64, tag = "3")]
    pub(crate) length: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) hash: Vec<u8>,
}

/// What a wrapped secret is bound to, so that one cannot be put in another's place.
pub(crate) mod bound {
    use super::{CredentialId, ProductId};

    pub(crate) const AUTHORITY: &[u8] = b"vault/authority";

    pub(crate) fn private_key(product: ProductId) -> Vec<u8> {
        format!("vault/product/{product}/private").into_bytes()
    }

    pub(crate) fn lookup_key(product: ProductId) -> Vec<u8> {
        format!("vault/product/{product}/lookup").into_bytes()
    }

    pub(crate) fn people_key(product: ProductId, epoch: u64) -> Vec<u8> {
        format!("vault/product/{product}/people/{epoch}").into_bytes()
    }

    pub(crate) fn private_key_for(product: ProductId, credential: CredentialId) -> Vec<u8> {
        format!("vault/product/{product}/private/{credential}").into_bytes()
    }
}

pub(crate) fn now(at: Timestamp) -> i64 {
    at.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Stored bytes are frozen: whoever changes this test breaks every installation.
    #[test]
    fn stored_facts_keep_their_form() {
        let revoked = Fact::Revoked(CredentialRevoked {
            credential: vec![7; 2],
            at: 5,
        });
        let created = Fact::Credential(CredentialCreated {
            credential: vec![1],
            product: 2,
            kind: "read".into(),
            verifier: vec![3],
            wrapped_private: vec![4],
            at: 5,
        });
        let product = Fact::Product(ProductKeysCreated {
            product: 2,
            custody: "managed".into(),
            public_key: vec![1],
            wrapped_private: vec![2],
            wrapped_lookup: vec![3],
            at: 4,
        });
        let authority = Fact::Authority(AuthorityCreated {
            certificate: vec![1],
            wrapped_key: vec![2],
            at: 3,
        });
        let check = |fact, golden: &str| {
            let bytes = Entry::of(fact).to_bytes();
            assert_eq!(hex::encode(&bytes), golden);
            assert_eq!(Entry::decode(&*bytes).unwrap().to_bytes(), bytes);
        };
        check(revoked, "22060a0207071005");
        check(created, "1a130a010110021a04726561642201032a01043005");
        check(
            product,
            "1216080212076d616e616765641a010122010 22a01033004".replace(' ', "").as_str(),
        );
        check(authority, "0a080a01011201021803");
        let custody = Fact::Custody(CustodyChanged {
            product: 2,
            custody: "managed".into(),
            wrapped_private: vec![1],
            at: 4,
        });
        check(custody, "3210080212076d616e616765641a01012004");
        let customer = Fact::CustomerProduct(CustomerProductCreated {
            product: ProductKeysCreated {
                product: 2,
                custody: "customer".into(),
                public_key: vec![1],
                wrapped_private: vec![],
                wrapped_lookup: vec![3],
                at: 4,
            },
            credential: CredentialCreated {
                credential: vec![1],
                product: 2,
                kind: "admin".into(),
                verifier: vec![3],
                wrapped_private: vec![4],
                at: 4,
            },
        });
        check(
            customer,
            "2a2c0a1408021208637573746f6d65721a01012a0103300412140a010110021a0561646d696e2201032a01043004",
        );
        let key = Fact::PeopleKey(PeopleKeyMade {
            product: 2,
            epoch: 3,
            wrapped: vec![7],
            at: 4,
        });
        check(key, "a20109080210031a01072004");
        let heads = Fact::Heads(HeadsNoted {
            heads: vec![HeadNoted {
                role: "warehouse".into(),
                journal: "raw/1".into(),
                length: 3,
                hash: vec![7],
            }],
            at: 4,
        });
        check(
            heads,
            "521b0a170a0977617265686f75736512057261772f311803220107 1004"
                .replace(' ', "")
                .as_str(),
        );
    }
}
