//! What stands before every handler: the table of calls, the certificate's end, the pass and whether it was revoked.

use std::sync::Arc;

use base::{Clock, Entropy, ErrorKind, Op, RequestId, Role, Verb, Verbs};
use http::HeaderMap;
use http::request::Parts;
use tonic::Status;
use tonic::metadata::MetadataMap;
use wire::calls::{Caller, goes_on_unheard};
use wire::{PASS_HEADER, REQUEST_ID_HEADER};

use crate::call::RawPass;
use crate::passes::PassCache;
use crate::revocations::Watch;
use crate::table::Table;
use crate::{Counters, Metrics, Peer, RoleContext, status};

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Connected {
    Nobody,
    Role(Peer),
    Operator,
}

impl Connected {
    fn caller(&self) -> Caller {
        match self {
            Self::Nobody => Caller::Nobody,
            Self::Role(peer) => Caller::Role(peer.role),
            Self::Operator => Caller::Operator,
        }
    }
}

/// Which pass a request came with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassId(pub(crate) [u8; 16]);

pub(crate) struct Guard {
    role: Role,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// None where there is no key yet that passes could be checked against.
    passes: Option<PassCache>,
    revocations: Option<Arc<Watch>>,
    refused: Counters,
    table: Table,
}

impl Guard {
    pub(crate) fn new(ctx: &RoleContext) -> Self {
        Self {
            role: ctx.role,
            clock: Arc::clone(&ctx.clock),
            entropy: Arc::clone(&ctx.entropy),
            passes: Some(PassCache::new(ctx.role, ctx.installation)),
            revocations: ctx.revocations.clone(),
            refused: refused(&ctx.metrics),
            table: ctx.table,
        }
    }

    /// Of a role that has no keys yet, and takes no passes.
    pub(crate) fn keyless(role: Role, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, metrics: &Metrics) -> Self {
        Self {
            role,
            clock,
            entropy,
            passes: None,
            revocations: None,
            refused: refused(metrics),
            table: Table::default(),
        }
    }

    /// Lets the request through, with `Op`, pass and `Peer` in its extensions, or says by which rule and why not.
    pub(crate) fn admit(&self, connected: &Connected, parts: &mut Parts) -> Result<(), (&'static str, Status)> {
        let decided = self.decide(connected, parts);
        if let Err((reason, refusal)) = &decided {
            self.refused.get_or_create(&vec![("reason", (*reason).to_owned())]).inc();
            tracing::warn!(caller = ?connected.caller(), call = %parts.uri.path().escape_debug(), reason,
                "refused a call to the {} role: {}", self.role, refusal.message());
        }
        decided
    }

    fn decide(&self, connected: &Connected, parts: &mut Parts) -> Result<(), (&'static str, Status)> {
        let now = self.clock.now();
        if let Connected::Role(peer) = connected {
            if peer.expires_at <= now {
                return Err((
                    "certificate",
                    status(ErrorKind::Unauthenticated, "the caller's certificate has ended"),
                ));
            }
            parts.extensions.insert(*peer);
        }
        let path = parts.uri.path();
        if !self.table.admits(path, connected.caller()) {
            return Err(("call", status(ErrorKind::Forbidden, "this caller may not make this call")));
        }
        let Some(pass) = shown_pass(&parts.headers)? else { return Ok(()) };
        let Connected::Role(peer) = connected else {
            return Err((
                "pass",
                status(ErrorKind::Unauthenticated, "a pass needs a holder with a certificate"),
            ));
        };
        let passes = self
            .passes
            .as_ref()
            .ok_or_else(|| ("pass", status(ErrorKind::Unavailable, "passes are not taken yet")))?;
        let verified = passes
            .verify(&pass, peer, now)
            .map_err(|error| ("pass", status(ErrorKind::Unauthenticated, error.to_string())))?;
        parts.extensions.insert(PassId(verified.id));
        let mut verbs = verified.verbs;
        match &self.revocations {
            Some(watch) => {
                if watch.is_revoked(&verified.credential) {
                    return Err(("revoked", status(ErrorKind::Unauthenticated, "the credential was revoked")));
                }
                if !watch.may_read() {
                    if !goes_on_unheard(path) {
                        return Err((
                            "unheard",
                            status(ErrorKind::Unavailable, "revocations have not been heard for too long"),
                        ));
                    }
                    verbs = if verbs.contains(Verb::Append) {
                        Verbs::of(&[Verb::Append])
                    } else {
                        Verbs::default()
                    };
                }
            }
            // The vault keeps the list of revoked credentials itself and looks into it when it is asked for a key.
            None if self.role == Role::Vault => {}
            None => return Err(("unheard", status(ErrorKind::Unavailable, "revocations are not followed here"))),
        }
        let request = request_id(&parts.headers).unwrap_or_else(|| RequestId::generate(now, &*self.entropy));
        parts.extensions.insert(Op::from_verified(
            verified.credential,
            verified.product,
            verbs,
            verified.scope,
            request,
            verified.expires_at,
        ));
        parts.extensions.insert(RawPass(pass));
        Ok(())
    }
}

pub(crate) fn refused(metrics: &Metrics) -> Counters {
    metrics.counters("calls_refused", "calls from other roles that were refused before a handler ran")
}

// One pass, or none. What cannot be read is refused rather than taken for none.
fn shown_pass(headers: &HeaderMap) -> Result<Option<Vec<u8>>, (&'static str, Status)> {
    let mut shown = headers.get_all(PASS_HEADER).iter();
    let Some(first) = shown.next() else { return Ok(None) };
    let unreadable = || ("pass", status(ErrorKind::Unauthenticated, "the pass cannot be read"));
    if shown.next().is_some() {
        return Err(unreadable());
    }
    let mut one = HeaderMap::new();
    one.insert(PASS_HEADER, first.clone());
    let metadata = MetadataMap::from_headers(one);
    let bytes = metadata
        .get_bin(PASS_HEADER)
        .and_then(|value| value.to_bytes().ok())
        .ok_or_else(unreadable)?;
    Ok(Some(bytes.to_vec()))
}

fn request_id(headers: &HeaderMap) -> Option<RequestId> {
    headers.get(REQUEST_ID_HEADER)?.to_str().ok()?.parse().ok()
}
