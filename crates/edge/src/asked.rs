//! One call as the audit journal tells it: who asked what, on whose behalf, and what came of it.

use std::time::Duration;

use audit::{Decision, Digest, Draft, Object, Who};
use axum::body::Body;
use base::{CredentialId, ErrorKind, Op, ProductId, Role, Timestamp};
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;
use tonic::Status;
use wire::audited::{About, about, is_hashed};

use crate::guard::{Connected, PassId};
use crate::{kind_of, status};

/// The largest message of a call that is recorded. The longest query is far below.
const MOST: usize = 16 << 20;
/// The same for who showed no certificate: a request to enrol.
const MOST_OF_NOBODY: usize = 64 << 10;
/// How long a message may take to come.
const WHOLE: Duration = Duration::from_secs(60);
const WHOLE_OF_NOBODY: Duration = Duration::from_secs(10);

/// Whom a call concerned, where only its handler knows: put into the extensions of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concerns {
    /// The product.
    pub product: ProductId,
    /// The credential on whose behalf.
    pub credential: CredentialId,
}

/// A call that was let in or refused, before anything is known of its message.
pub(crate) fn asked(role: Role, connected: &Connected, parts: &Parts, now: Timestamp, listed: bool) -> Draft {
    let op = parts.extensions.get::<Op>();
    let path = parts.uri.path();
    Draft {
        at: now,
        role,
        who: match connected {
            Connected::Nobody => Who::Nobody,
            Connected::Role(peer) => Who::Role(peer.role),
            Connected::Operator => Who::Operator,
        },
        on_behalf: op.map(|op| op.actor),
        // Whoever calls what does not exist does not get to write into the journal.
        method: if listed { path.to_owned() } else { "/unlisted".into() },
        object: if listed {
            Object::None
        } else {
            Object::Hidden(Digest::of(path.as_bytes()))
        },
        request: None,
        decision: Decision::Allowed,
        rule: "calls".into(),
        pass: parts.extensions.get::<PassId>().map(|id| id.0),
        product: op.map(|op| op.product),
        count: 1,
    }
}

/// Reads the message of a call that is recorded, and puts into the draft what it is about.
pub(crate) async fn read(draft: &mut Draft, body: Body) -> Result<Bytes, Status> {
    let (most, within) = match draft.who {
        Who::Nobody => (MOST_OF_NOBODY, WHOLE_OF_NOBODY),
        _ => (MOST, WHOLE),
    };
    let whole = timeout(within, Limited::new(body, most).collect()).await;
    let whole = whole.map_err(|_| status(ErrorKind::Invalid, "the message did not come to its end in time"))?;
    let bytes = whole
        .map_err(|_| status(ErrorKind::TooLarge, "the message is too large, or broke off"))?
        .to_bytes();
    let About {
        product,
        credential,
        object,
    } = about(&draft.method, &bytes);
    draft.request = is_hashed(&draft.method).then(|| Digest::of(&bytes));
    draft.object = Object::named(&object);
    draft.product = draft.product.or_else(|| ProductId::new(product).ok());
    draft.on_behalf = draft.on_behalf.or_else(|| CredentialId::try_from(&credential[..]).ok());
    Ok(bytes)
}

/// What came of a call, when it is not what the draft says already.
pub(crate) fn outcome(draft: &mut Draft, response: &Response<Body>) {
    if let Some(Concerns { product, credential }) = response.extensions().get() {
        draft.product = Some(*product);
        draft.on_behalf = Some(*credential);
    }
    // An answer that failed before it began is all headers.
    let Some(status) = Status::from_header_map(response.headers()) else {
        return;
    };
    if status.code() == tonic::Code::Ok {
        return;
    }
    let kind = kind_of(&status);
    draft.decision = match kind {
        ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::NotFound => Decision::Refused,
        _ => Decision::Failed,
    };
    draft.rule = crate::kinds::name(kind).to_owned();
}
