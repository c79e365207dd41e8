//! Who is calling: from the key in the header to passes for the other roles.
//!
//! Promise: a key is judged by the vault alone and kept by nobody here: what is remembered is a keyed hash of it, for at most five
//! minutes with the passes that it led to, for a day to know that whoever shows it is not guessing. A revoked credential is forgotten as soon as the revocation is heard.
//!
//! Start at [`Callers::caller`]. Does not know routes or what a pass will be used for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, CredentialId, Entropy, ErrorKind, ProductId, RequestId, Role, Secret, Timestamp, Verb, Verbs};
use edge::revocations::Watch;
use http::{HeaderMap, header};
use seal::{DataKey, HolderId, InstallationKey, Pass, START_LEEWAY, VerifiedPass, keyed_hash, verify_pass};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use wire::v1::{AuthenticateRequest, GrantRequest, ProductSettings};

use crate::errors::ApiError;
use crate::failures::Failures;
use crate::upstream::Upstream;

/// The roles that a caller's passes are for. The last is for what is asked of the vault, which takes a pass that was made for whoever sends it on.
const AUDIENCES: [Role; 3] = [Role::Identity, Role::Warehouse, Role::Gateway];
/// Passes are used up to so long before their end, so that they do not end on the way.
const MARGIN: Duration = Duration::from_secs(30);
/// How long judging a key may take, and waiting for one's turn to have it judged.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long a key that was good is not taken for a guess.
const GOOD: Duration = Duration::from_secs(24 * 60 * 60);

type KeyHash = [u8; 32];

/// A credential that was judged, and what it may do.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The credential.
    pub(crate) credential: CredentialId,
    /// Its product.
    pub(crate) product: ProductId,
    /// What it may do; every role checks this again.
    pub(crate) verbs: Verbs,
    /// What accounts says about the product.
    pub(crate) settings: ProductSettings,
    /// In order of [`AUDIENCES`].
    passes: [Vec<u8>; 3],
    from: Timestamp,
    ends: Timestamp,
}

impl Caller {
    /// Whether its passes are worth showing. Before they were made they are not: the clock was turned back since.
    fn is_good(&self, now: Timestamp) -> bool {
        now < self.ends && self.from <= now.plus(START_LEEWAY)
    }

    /// The pass to show to `role`.
    pub(crate) fn pass(&self, role: Role) -> &[u8] {
        match role {
            Role::Identity => &self.passes[0],
            Role::Vault => &self.passes[2],
            _ => &self.passes[1],
        }
    }
}

/// What is needed to judge callers.
pub(crate) struct CallersParts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) installation: InstallationKey,
    pub(crate) holder: HolderId,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) revocations: Arc<Watch>,
    pub(crate) failed_keys_per_minute: u32,
    pub(crate) remembered: usize,
}

/// All callers of the last minutes.
pub(crate) struct Callers {
    parts: CallersParts,
    secret: DataKey,
    known: Mutex<HashMap<KeyHash, Arc<Caller>>>,
    // Keys that the vault found good, and until when nobody need suspect them: others behind the same address may be guessing.
    good: Mutex<HashMap<KeyHash, Timestamp>>,
    // One question to the vault at a time for one key, however many requests come with it at once.
    asking: [tokio::sync::Mutex<()>; 64],
    failures: Failures,
    /// How often word came that settings have changed.
    changes: AtomicU64,
}

impl Callers {
    /// Nobody is known yet.
    pub(crate) fn new(parts: CallersParts) -> Self {
        Self {
            secret: DataKey::generate(&*parts.entropy),
            known: Mutex::default(),
            good: Mutex::default(),
            asking: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            failures: Failures::allowing(parts.failed_keys_per_minute),
            changes: AtomicU64::new(0),
            parts,
        }
    }

    /// Who sent these headers, from `address`.
    pub(crate) async fn caller(&self, headers: &HeaderMap, address: IpAddr, request: RequestId) -> Result<Arc<Caller>, ApiError> {
        let Some(key) = shown_key(headers)? else {
            return Err(ApiError::new(
                ErrorKind::Unauthenticated,
                "no key was shown; send the header Authorization: TD1 <key>",
            ));
        };
        let hash = keyed_hash(&self.secret, key.reveal().as_bytes());
        if let Some(caller) = self.known(&hash) {
            return Ok(caller);
        }
        let now = self.parts.clock.now();
        if !self.was_good(&hash, now) {
            self.failures.check(address, now).map_err(|seconds| {
                ApiError::new(ErrorKind::TooMuch, "too many keys that are not valid came from this address").retry_after(seconds)
            })?;
        }
        let turn = timeout(PATIENCE, self.asking[usize::from(hash[0]) % self.asking.len()].lock()).await;
        let Ok(_one_at_a_time) = turn else {
            return Err(ApiError::of(ErrorKind::Unavailable));
        };
        if let Some(caller) = self.known(&hash) {
            return Ok(caller);
        }
        if !is_key_shaped(key.reveal()) {
            self.failures.count(address, now);
            return Err(not_valid());
        }
        let changes = self.changes.load(Ordering::SeqCst);
        let judged = timeout(PATIENCE, self.ask(key, request)).await;
        match judged.unwrap_or_else(|_| Err(ApiError::of(ErrorKind::Unavailable))) {
            Ok(caller) => {
                let caller = Arc::new(caller);
                self.remember(hash, &caller, changes);
                Ok(caller)
            }
            Err(refusal) => {
                if refusal.status() == http::StatusCode::UNAUTHORIZED {
                    self.good().remove(&hash);
                    self.failures.count(address, now);
                    return Err(not_valid());
                }
                Err(refusal)
            }
        }
    }

    /// Whether what this caller has open may go on.
    pub(crate) fn is_live(&self, caller: &Caller, verb: Verb) -> bool {
        !self.parts.revocations.is_revoked(&caller.credential) && (verb == Verb::Append || self.parts.revocations.may_read())
    }

    /// Forgets everyone with this credential.
    pub(crate) fn forget(&self, credential: &CredentialId) {
        self.lock().retain(|_, caller| caller.credential != *credential);
    }

    /// Forgets callers as their revocation is heard; for ever.
    pub(crate) async fn follow_revocations(&self) {
        let mut revoked = self.parts.revocations.subscribe();
        loop {
            match revoked.recv().await {
                Ok(credential) => self.forget(&credential),
                // Some were missed: whoever comes next is judged again.
                Err(RecvError::Lagged(_)) => self.lock().clear(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Forgets callers of products whose settings have changed, as that is heard; for ever.
    pub(crate) async fn follow_changes(&self) {
        let mut changed = self.parts.revocations.changes();
        loop {
            let told = changed.recv().await;
            // Under the lock, so that nobody who was asked about before is remembered after.
            let mut known = self.lock();
            self.changes.fetch_add(1, Ordering::SeqCst);
            match told {
                Ok(product) => known.retain(|_, caller| caller.product != product),
                Err(RecvError::Lagged(_)) => known.clear(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn known(&self, hash: &KeyHash) -> Option<Arc<Caller>> {
        let now = self.parts.clock.now();
        let mut known = self.lock();
        let caller = known.get(hash)?;
        if caller.is_good(now) && !self.parts.revocations.is_revoked(&caller.credential) {
            return Some(Arc::clone(caller));
        }
        known.remove(hash);
        None
    }

    /// Remembers a caller, unless settings have changed since there were `changes` changes: these may still be the old ones.
    fn remember(&self, hash: KeyHash, caller: &Arc<Caller>, changes: u64) {
        let now = self.parts.clock.now();
        let mut good = self.good();
        if good.len() >= self.parts.remembered {
            good.retain(|_, until| now < *until);
        }
        if good.len() < self.parts.remembered {
            good.insert(hash, now.plus(GOOD));
        }
        drop(good);
        // Heard while the vault was answering: `known` would refuse it anyway, but it need not be kept.
        if !caller.is_good(now) || self.parts.revocations.is_revoked(&caller.credential) {
            return;
        }
        let mut known = self.lock();
        if self.changes.load(Ordering::SeqCst) != changes {
            return;
        }
        if known.len() >= self.parts.remembered {
            known.retain(|_, caller| caller.is_good(now));
        }
        if known.len() >= self.parts.remembered {
            known.clear();
        }
        known.insert(hash, Arc::clone(caller));
    }

    fn was_good(&self, hash: &KeyHash, now: Timestamp) -> bool {
        self.good().get(hash).is_some_and(|until| now < *until)
    }

    fn good(&self) -> std::sync::MutexGuard<'_, HashMap<KeyHash, Timestamp>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, key: Secret, request: RequestId) -> Result<Caller, ApiError> {
        let asked = AuthenticateRequest {
            key: key.reveal().to_owned(),
            audiences: AUDIENCES.iter().map(|role| role.as_str().to_owned()).collect(),
        };
        let assertions = self.parts.upstream.authenticate(asked, request).await?.assertions;
        let granted = self
            .parts
            .upstream
            .grant(
                GrantRequest {
                    assertions: assertions.clone(),
                },
                request,
            )
            .await?;
        let (now, broken) = (self.parts.clock.now(), || ApiError::of(ErrorKind::Internal));
        let (Ok(assertions), Ok(grants)) = (<[_; 3]>::try_from(assertions), <[_; 3]>::try_from(granted.grants)) else {
            return Err(broken());
        };
        let mut halves = assertions
            .into_iter()
            .zip(grants)
            .map(|(assertion, grant)| Pass { assertion, grant }.encode());
        let (Some(identity), Some(warehouse), Some(vault)) = (halves.next(), halves.next(), halves.next()) else {
            return Err(broken());
        };
        let passes = [identity, warehouse, vault];
        let mut seen = Vec::with_capacity(passes.len());
        for (role, pass) in AUDIENCES.into_iter().zip(&passes) {
            let verified = verify_pass(&self.parts.installation, pass, role, &self.parts.holder, now).map_err(|error| {
                tracing::error!(%error, "the vault and accounts gave a pass that does not hold");
                broken()
            })?;
            seen.push(verified);
        }
        let [first, others @ ..] = seen.as_slice() else {
            return Err(broken());
        };
        let about = |pass: &VerifiedPass| (pass.credential, pass.product, pass.verbs);
        if others.iter().any(|other| about(other) != about(first)) {
            return Err(broken());
        }
        let pass_ends = others.iter().fold(first.expires_at, |ends, other| ends.min(other.expires_at));
        Ok(Caller {
            credential: first.credential,
            product: first.product,
            verbs: first.verbs,
            from: now,
            settings: granted.settings.filter(|settings| !settings.name.is_empty()).ok_or_else(broken)?,
            ends: Timestamp::from_micros(pass_ends.as_micros() - MARGIN.as_micros() as i64).min(now.plus(MAX_KEPT)),
            passes,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<KeyHash, Arc<Caller>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_valid() -> ApiError {
    ApiError::new(ErrorKind::Unauthenticated, "this key is not valid; it may have been revoked")
}

/// The key in `Authorization: TD1 <key>`. Two such headers are refused: it would not be clear who is asking.
fn shown_key(headers: &HeaderMap) -> Result<Option<Secret>, ApiError> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let Some(first) = shown.next() else { return Ok(None) };
    let wrong = || ApiError::new(ErrorKind::Unauthenticated, "the header Authorization has to be: TD1 <key>");
    if shown.next().is_some() {
        return Err(wrong());
    }
    let (scheme, key) = first.to_str().ok().and_then(|text| text.trim().split_once(' ')).ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case("TD1") {
        return Err(wrong());
    }
    Ok(Some(Secret::new(key.trim().to_owned())))
}

/// `<product number>/<hex>`. What has another form is not worth a question to the vault.
fn is_key_shaped(key: &str) -> bool {
    key.split_once('/').is_some_and(|(product, secret)| {
        product.parse::<ProductId>().is_ok() && (16..=256).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests;
