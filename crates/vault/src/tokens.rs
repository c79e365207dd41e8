//! Enrolment tokens: each gives one role its first certificate, once.
//!
//! Promise: a token works once, for the role it was made for, for a short while, and not after a restart.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::{Entropy, Role, SecretBytes, Timestamp};
use subtle::ConstantTimeEq;

/// More than this many are never waiting; the oldest gives way.
const MOST: usize = 64;

/// Only hashes are kept: what is in this memory enrols nobody.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<Vec<Waiting>>);

#[derive(Debug)]
struct Waiting {
    hash: [u8; 32],
    role: Role,
    expires_at: Timestamp,
}

impl Tokens {
    /// A new token for `role`.
    pub(crate) fn mint(&self, role: Role, now: Timestamp, lifetime: Duration, entropy: &dyn Entropy) -> SecretBytes {
        let mut token = vec![0; 32];
        entropy.fill(&mut token);
        let token = SecretBytes::new(token);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|token| now < token.expires_at);
        if waiting.len() >= MOST {
            waiting.remove(0);
        }
        waiting.push(Waiting {
            hash: hash(token.reveal()),
            role,
            expires_at: now.plus(lifetime),
        });
        token
    }

    /// Uses a token up; says whose it was, if it was any good.
    pub(crate) fn redeem(&self, token: &[u8], now: Timestamp) -> Option<Role> {
        let shown = hash(token);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Every one is compared, each in the same time, whether an earlier one fits or not.
        let mut found = None;
        for (index, token) in waiting.iter().enumerate() {
            if bool::from(token.hash.ct_eq(&shown)) {
                found = Some(index);
            }
        }
        let used = waiting.remove(found?);
        (now < used.expires_at).then_some(used.role)
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    blake3::derive_key("coffer/v1/enrolment-token", token)
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const LIFE: Duration = Duration::from_secs(120);

    #[test]
    fn a_token_works_once_and_for_its_role() {
        let (tokens, entropy) = (Tokens::default(), SeededEntropy::new(1));
        let gateway = tokens.mint(Role::Gateway, NOW, LIFE, &entropy);
        let identity = tokens.mint(Role::Identity, NOW, LIFE, &entropy);

        assert_eq!(tokens.redeem(identity.reveal(), NOW), Some(Role::Identity));
        assert_eq!(tokens.redeem(identity.reveal(), NOW), None);
        assert_eq!(tokens.redeem(gateway.reveal(), NOW), Some(Role::Gateway));
        assert_eq!(tokens.redeem(&[0; 32], NOW), None);
        assert_eq!(tokens.redeem(b"", NOW), None);
    }

    #[test]
    fn a_token_does_not_wait_for_ever() {
        let (tokens, entropy) = (Tokens::default(), SeededEntropy::new(1));
        let token = tokens.mint(Role::Gateway, NOW, LIFE, &entropy);
        assert_eq!(tokens.redeem(token.reveal(), NOW.plus(LIFE)), None);
        assert_eq!(tokens.redeem(token.reveal(), NOW), None, "tried too late is used up as well");
    }
}
