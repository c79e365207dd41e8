//! What the vault hands to another role's process that proves something of its own files: keys, sealed to that process.
//!
//! It goes through the pipes of whoever started both, who cannot read it. Not a call: no role that serves can ask for it.

use base::SecretBytes;
use zeroize::Zeroizing;

/// To what the keys are sealed, by role.
pub fn context(role: base::Role) -> Vec<u8> {
    format!("coffer/proving/1/{role}").into_bytes()
}

#[derive(Clone, PartialEq, prost::Message)]
struct Keys {
    #[prost(bytes = "vec", tag = "1")]
    state: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    products: Vec<Product>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Product {
    #[prost(uint64, tag = "1")]
    product: u64,
    #[prost(bytes = "vec", tag = "2")]
    public: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    private: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    lookup: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    people: Vec<People>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct People {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

/// A product's keys, as far as the role that they are for may ever have them. Empty: not given.
#[derive(Debug, Clone)]
pub struct OfProduct {
    /// Its number.
    pub product: u64,
    /// To what is sealed.
    pub public: Vec<u8>,
    /// What opens it; none where its customer keeps it and did not show it.
    pub private: Option<SecretBytes>,
    /// Under which identities are looked up.
    pub lookup: Option<SecretBytes>,
    /// Of its keyring, by their epochs.
    pub people: Vec<(u64, SecretBytes)>,
}

/// All that is handed over.
#[derive(Debug, Clone)]
pub struct Handed {
    /// The role's own key, by which its journals are sealed; none where it needs none.
    pub state: Option<SecretBytes>,
    /// Those of each product.
    pub products: Vec<OfProduct>,
}

fn given(bytes: Vec<u8>) -> Option<SecretBytes> {
    (!bytes.is_empty()).then(|| SecretBytes::new(bytes))
}

fn bytes(secret: Option<&SecretBytes>) -> Vec<u8> {
    secret.map(|secret| secret.reveal().to_vec()).unwrap_or_default()
}

impl Handed {
    /// As bytes, to be sealed.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        use prost::Message as _;
        let product = |of: &OfProduct| Product {
            product: of.product,
            public: of.public.clone(),
            private: bytes(of.private.as_ref()),
            lookup: bytes(of.lookup.as_ref()),
            people: of
                .people
                .iter()
                .map(|(epoch, key)| People {
                    epoch: *epoch,
                    key: key.reveal().to_vec(),
                })
                .collect(),
        };
        let mut keys = Keys {
            state: bytes(self.state.as_ref()),
            products: self.products.iter().map(product).collect(),
        };
        let mut encoded = Zeroizing::new(Vec::with_capacity(keys.encoded_len()));
        // Memory has room, and there is enough of it.
        let _ = keys.encode(&mut *encoded);
        keys.wipe();
        encoded
    }

    /// From opened bytes.
    pub fn decode(encoded: &[u8]) -> Option<Self> {
        let keys = <Keys as prost::Message>::decode(encoded).ok()?;
        let product = |of: Product| OfProduct {
            product: of.product,
            public: of.public,
            private: given(of.private),
            lookup: given(of.lookup),
            people: of.people.into_iter().map(|kept| (kept.epoch, SecretBytes::new(kept.key))).collect(),
        };
        Some(Self {
            state: given(keys.state),
            products: keys.products.into_iter().map(product).collect(),
        })
    }
}

impl Keys {
    fn wipe(&mut self) {
        use zeroize::Zeroize as _;
        self.state.zeroize();
        for product in &mut self.products {
            product.private.zeroize();
            product.lookup.zeroize();
            product.people.iter_mut().for_each(|kept| kept.key.zeroize());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were_handed_over() {
        let secret = |byte: u8| SecretBytes::new(vec![byte; 32]);
        let handed = Handed {
            state: Some(secret(1)),
            products: vec![OfProduct {
                product: 7,
                public: vec![2; 32],
                private: None,
                lookup: Some(secret(3)),
                people: vec![(4, secret(5))],
            }],
        };
        let again = Handed::decode(&handed.encode()).unwrap();
        assert_eq!(again.encode(), handed.encode());
        let of = &again.products[0];
        assert!(of.private.is_none() && of.lookup.as_ref().unwrap().reveal() == [3; 32] && of.people[0].1.reveal() == [5; 32]);
        assert!(!format!("{again:?}").contains("[3, 3"), "{again:?}");
    }
}
