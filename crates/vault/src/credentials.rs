//! Product keys: their text, and what is kept instead of them.

use std::fmt::Write;

use base::{CredentialId, Entropy, ProductId, Secret};
use seal::{DataKey, Purpose, derive, keyed_hash};
use zeroize::Zeroizing;

/// A product key while it is being made or judged: `<product number>/<64 hex digits>`.
pub(crate) struct ProductKey {
    product: ProductId,
    secret: Zeroizing<[u8; 32]>,
}

impl ProductKey {
    /// A new one.
    pub(crate) fn generate(product: ProductId, entropy: &dyn Entropy) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut());
        Self { product, secret }
    }

    /// Reads the one spelling that a key has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (product, digits) = text.split_once('/')?;
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if !digits.bytes().all(lower) {
            return None;
        }
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, secret.as_mut()).ok()?;
        Some(Self {
            product: product.parse().ok()?,
            secret,
        })
    }

    /// A key that nobody has: stands in for one that cannot be read, so that judging it takes the same work.
    pub(crate) fn nobodys() -> Self {
        Self {
            product: ProductId::new(1).expect("1 is a product number"),
            secret: Zeroizing::new([0; 32]),
        }
    }

    /// The text, to be shown once.
    pub(crate) fn to_text(&self) -> Secret {
        let mut text = String::with_capacity(20 + 1 + 64);
        // Writing to a String does not fail.
        let _ = write!(text, "{}/", self.product);
        for byte in self.secret.iter() {
            let _ = write!(text, "{byte:02x}");
        }
        Secret::new(text)
    }

    /// The product that it claims to belong to.
    pub(crate) fn product(&self) -> ProductId {
        self.product
    }

    /// What is kept in order to know it again: without the pepper it cannot be checked against a guess.
    pub(crate) fn verifier(&self, pepper: &DataKey) -> [u8; 32] {
        let mut known = Zeroizing::new([0; 40]);
        known[..8].copy_from_slice(&self.product.get().to_be_bytes());
        known[8..].copy_from_slice(&*self.secret);
        keyed_hash(pepper, &known[..])
    }

    /// What the product's private key is wrapped under for whoever shows this key.
    pub(crate) fn wrapping(&self, credential: CredentialId) -> DataKey {
        derive(&*self.secret, Purpose::CredentialWrapping, &credential.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        let entropy = SeededEntropy::new(1);
        let key = ProductKey::generate(ProductId::new(7).unwrap(), &entropy);
        let text = key.to_text();
        let pepper = DataKey::generate(&entropy);
        assert_eq!(ProductKey::parse(text.reveal()).unwrap().verifier(&pepper), key.verifier(&pepper));

        let digits = text.reveal().strip_prefix("7/").unwrap();
        assert_eq!(digits.len(), 64);
        let wrong = [
            String::new(),
            digits.to_owned(),
            format!("07/{digits}"),
            format!("+7/{digits}"),
            format!("0/{digits}"),
            format!("7/{}", digits.to_uppercase()),
            format!("7/{digits}0"),
            format!("7/{}", &digits[2..]),
            format!("7/{digits} "),
            format!(" 7/{digits}"),
            format!("7//{digits}"),
            format!("7/{digits}/"),
        ];
        for text in wrong {
            assert!(ProductKey::parse(&text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_verifier_depends_on_product_secret_and_pepper() {
        let entropy = SeededEntropy::new(1);
        let (one, two) = (DataKey::generate(&entropy), DataKey::generate(&entropy));
        let key = ProductKey::generate(ProductId::new(7).unwrap(), &entropy);
        let moved = ProductKey {
            product: ProductId::new(8).unwrap(),
            secret: key.secret.clone(),
        };
        assert_ne!(key.verifier(&one), key.verifier(&two));
        assert_ne!(key.verifier(&one), moved.verifier(&one));
    }
}
