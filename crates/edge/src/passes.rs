//! Passes that were verified already, found again by their hash.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base::{Role, Timestamp};
use seal::{HolderId, InstallationKey, Pass, PassError, VerifiedPass, verify_pass, verify_pass_sent_on};

use crate::Peer;

/// More passes than this are never live at one role: one per caller, product key and five minutes.
const MOST: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shown {
    pass: [u8; 32],
    // Invariant: who showed it is part of the key, so that a pass seen from its holder is not thereby good from another.
    role: Role,
    holder: HolderId,
}

pub(crate) struct PassCache {
    own: Role,
    key: InstallationKey,
    verified: Mutex<HashMap<Shown, VerifiedPass>>,
}

impl PassCache {
    pub(crate) fn new(own: Role, key: InstallationKey) -> Self {
        Self {
            own,
            key,
            verified: Mutex::default(),
        }
    }

    /// What `pass` says when `peer` shows it at `now`. The end is checked at every use.
    pub(crate) fn verify(&self, pass: &[u8], peer: &Peer, now: Timestamp) -> Result<VerifiedPass, PassError> {
        let shown = Shown {
            pass: Pass::decode(pass)?.hash(),
            role: peer.role,
            holder: peer.holder,
        };
        let known = self.lock().get(&shown).cloned();
        let verified = match known {
            Some(verified) if now < verified.expires_at => return Ok(verified),
            Some(_) => return Err(PassError::Expired),
            // Whoever may see a product's key proves it with the pass that was shown to it.
            None if self.own == Role::Vault => verify_pass_sent_on(&self.key, pass, peer.role, now)?,
            None => verify_pass(&self.key, pass, self.own, &peer.holder, now)?,
        };
        let mut cache = self.lock();
        if cache.len() >= MOST {
            cache.retain(|_, pass| now < pass.expires_at);
        }
        if cache.len() >= MOST {
            cache.clear();
        }
        cache.insert(shown, verified.clone());
        Ok(verified)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Shown, VerifiedPass>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
