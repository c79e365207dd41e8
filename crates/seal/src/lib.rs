//! Ciphers: sealing to a public key, framed encryption, wrapping of secrets, signatures, passes.
//!
//! Promise: what was sealed opens only with its key **and** its context, whole and in order; what was signed is
//! believed only from the role that may sign it; a pass is worth nothing without both of its signatures.
//!
//! Start at [`seal_to`] and [`open_with`] for contents, [`sign`] and [`verify`] for statements, [`verify_pass`] for
//! callers. Knows keys and bytes. Does not know storage, the network or who ought to have which right.

mod alike;
mod envelope;
mod error;
mod frames;
mod keys;
mod passes;
mod requests;
pub mod shares;
mod signing;
mod wrap;

pub use alike::{open_alike, seal_alike};
pub use envelope::{SEALED_KEY_LEN, open_key, open_with, seal_key, seal_to};
pub use error::{PassError, SealError};
pub use frames::{FRAME_LEN, FrameSealer, frame_span, open_frames, open_span, seal_frames, sealed_len};
pub use keys::{DataKey, PrivateKey, PublicKey, Purpose, derive, keyed_hash};
pub use passes::{Assertion, Grant, HolderId, MAX_PASS_LIFETIME, Pass, START_LEEWAY, VerifiedPass, verify_pass, verify_pass_sent_on};
pub use requests::{hmac_sha256, sha256};
pub use signing::{
    Attestation, Domain, InstallationKey, InstallationSigner, Signer, SigningCertificate, UncertifiedSigner, Verified, attest, sign,
    verify, verify_attested,
};
pub use wrap::{unwrap, wrap};
