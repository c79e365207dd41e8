//! The vault: the root key, products' key pairs, the credentials that lead to them, the internal authority.
//!
//! Promise: a product's private key leaves the vault only for a live, readable product key that the vault itself knows,
//! shown through a pass that two roles signed; nothing is kept in clear, and what was answered is durable.
//!
//! Start at [`prepare`], then [`PreparedVault::open`] and [`OpenedVault::serve`]; a vault whose root key is with people waits in
//! [`SealedVault::unsealed`] before. The decisions are in `keyring`, who holds the root key is in `holder`, `token` is for hardware.
//! Knows keys, credentials and certificates. Does not know events, identities, or who may do what with a product.

mod audit;
mod authority;
mod credentials;
mod custody;
mod entries;
mod holder;
mod keyring;
mod open;
mod own_head;
mod people_keys;
mod proof;
mod proving;
mod rebuild;
mod root;
mod run;
mod sealed;
mod sealed_root;
mod services;
mod settings;
mod token;
mod tokens;
mod unsealing;
mod view;

#[cfg(test)]
mod tests;

pub use self::audit::{AuditViewError, Keeping, VerifyError, verify as verify_audit};
pub use authority::AuthorityError;
pub use custody::Lookups;
pub use keyring::KeyringError;
pub use open::{OpenError, OpenedVault, Prepared, PreparedVault, VaultParts, prepare, prepare_to_rebuild};
pub use people_keys::DropError;
pub use proof::{ProofError, Remains, remains};
pub use proving::{Prover, ProvingError};
pub use root::RootKeyError;
pub use run::RunError;
pub use sealed::SealedVault;
pub use sealed_root::SealedRootError;
pub use settings::{SettingsError, VaultSettings};
pub use token::{Act as TokenAct, Token, TokenError, TokenSettings, use_once as use_token_once};
pub use view::ViewError;
