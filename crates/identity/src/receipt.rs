//! Receipts of erasures: what this role signs when somebody was forgotten, and what its directory says about one later.
//!
//! Stored form, frozen: receipts are kept by those who asked for an erasure. Start at [`Receipt::verify`] and [`check`].

use std::path::Path;

use base::{ErrorKind, PersonId, ProductId, Role, Timestamp};
use prost::Message;
use seal::{Domain, InstallationKey, SealError, Signer};

use crate::ledger::JOURNALS;
use crate::view::{View, ViewError};

/// That a person was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Of which product.
    pub product: ProductId,
    /// The id that they had.
    pub id: PersonId,
    /// When they were gone.
    pub erased_at: Timestamp,
    /// The epoch of the keyring without them: all earlier keys of the product's people were dropped.
    pub epoch: u64,
    /// Keyed hashes of their identities, under a key of the product. Empty when they were erased before and the receipt was asked for again.
    pub identities: Vec<[u8; 32]>,
    /// How many other people were written anew under a fresh key.
    pub rewritten: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ReceiptKept {
    #[prost(uint64, tag = "1")]
    product: u64,
    #[prost(sfixed64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    erased_at: i64,
    #[prost(uint64, tag = "4")]
    epoch: u64,
    #[prost(bytes = "vec", repeated, tag = "5")]
    identities: Vec<Vec<u8>>,
    #[prost(uint64, tag = "6")]
    rewritten: u64,
    /// When it was signed.
    #[prost(int64, tag = "7")]
    signed_at: i64,
}

impl Receipt {
    /// Signed by this role, at `now`.
    pub(crate) fn signed(&self, signer: &Signer, now: Timestamp) -> Vec<u8> {
        let kept = ReceiptKept {
            product: self.product.get(),
            id: self.id.get(),
            erased_at: self.erased_at.as_micros(),
            epoch: self.epoch,
            identities: self.identities.iter().map(|hash| hash.to_vec()).collect(),
            rewritten: self.rewritten,
            signed_at: now.as_micros(),
        };
        seal::sign(signer, Domain::RECEIPT, &kept.encode_to_vec())
    }

    /// What a receipt says, if the identity role of this installation signed it while its certificate was in force.
    pub fn verify(key: &InstallationKey, signed: &[u8]) -> Result<Self, SealError> {
        const MALFORMED: SealError = SealError::Malformed { what: "receipt" };
        let verified = seal::verify(key, Domain::RECEIPT, Role::Identity, signed)?;
        let kept = ReceiptKept::decode(&verified.payload[..]).map_err(|_| MALFORMED)?;
        if !verified.certificate.covers(Timestamp::from_micros(kept.signed_at)) {
            return Err(SealError::BadSignature { what: "receipt" });
        }
        let hash = |hash: Vec<u8>| hash.try_into().map_err(|_| MALFORMED);
        Ok(Self {
            product: ProductId::new(kept.product).map_err(|_| MALFORMED)?,
            id: PersonId::new(kept.id).map_err(|_| MALFORMED)?,
            erased_at: Timestamp::from_micros(kept.erased_at),
            epoch: kept.epoch,
            identities: kept.identities.into_iter().map(hash).collect::<Result<_, _>>()?,
            rewritten: kept.rewritten,
        })
    }
}

/// Why the role's directory could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("the database of product {product}'s people cannot be read: {why}")]
pub struct CheckError {
    product: ProductId,
    kind: ErrorKind,
    why: String,
}

impl CheckError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// What the role's own directory says about a receipt. Nothing is changed; the role may run meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// There is no row of the person.
    pub gone: bool,
    /// The erasure is noted, at this time and with this epoch.
    pub noted: bool,
    /// The keyring is of the receipt's epoch or a later one.
    pub renewed: bool,
}

/// Looks at `directory`, the role's own.
pub async fn check(directory: &Path, receipt: &Receipt) -> Result<Checked, CheckError> {
    let product = receipt.product;
    let file = directory.join(JOURNALS).join(format!("{product}.sqlite"));
    let looked = async {
        let view = View::look(&file).await?;
        let stone = view.stone(receipt.id).await?;
        let checked = Checked {
            gone: view.persons(&[receipt.id]).await?.is_empty() && !view.has_first().await?,
            noted: stone.is_some_and(|stone| (stone.at, stone.epoch) == (receipt.erased_at, receipt.epoch)),
            renewed: view.ring().await?.is_some_and(|ring| ring.epoch >= receipt.epoch),
        };
        view.close().await;
        Ok(checked)
    };
    looked.await.map_err(|error: ViewError| CheckError {
        product,
        kind: error.kind(),
        why: crate::ledger::chain(&error),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::SeededEntropy;
    use seal::InstallationSigner;

    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            product: ProductId::new(1).unwrap(),
            id: PersonId::new(2).unwrap(),
            erased_at: Timestamp::from_micros(3),
            epoch: 4,
            identities: vec![[5; 32]],
            rewritten: 6,
        }
    }

    #[test]
    fn a_receipt_is_believed_from_the_identity_role_of_its_installation_in_its_time() {
        let entropy = SeededEntropy::new(1);
        let installation = InstallationSigner::generate(&entropy);
        let now = Timestamp::from_secs(1_000);
        let signer = |role| {
            let uncertified = Signer::generate(&entropy);
            let certificate = installation.certify(role, uncertified.public_key(), now, now.plus(Duration::from_secs(60)));
            uncertified.certified(certificate).unwrap()
        };
        let signed = receipt().signed(&signer(Role::Identity), now);

        assert_eq!(Receipt::verify(&installation.key(), &signed).unwrap(), receipt());
        let other = InstallationSigner::generate(&entropy).key();
        assert!(Receipt::verify(&other, &signed).is_err());
        assert!(Receipt::verify(&installation.key(), &receipt().signed(&signer(Role::Warehouse), now)).is_err());
        let late = receipt().signed(&signer(Role::Identity), now.plus(Duration::from_secs(61)));
        assert!(Receipt::verify(&installation.key(), &late).is_err());
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(Receipt::verify(&installation.key(), &changed).is_err(), "byte {at}");
        }
    }
}
