//! The audit journal's services: other roles record, a customer and the operator read.

use std::pin::Pin;
use std::sync::Arc;

use audit::{Digest, Draft, DraftError, Object};
use base::{CredentialId, ErrorKind, ProductId, Timestamp, Verb};
use edge::{Recorder, op, status};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::audited::is_its_own;
use wire::v1::audit_operator_server::AuditOperator;
use wire::v1::audit_server::Audit;
use wire::v1::{AuditDraft, AuditLines, AuditReadRequest, RecordRequest, RecordResponse};

use super::{Chain, Services, Shared, peer};
use crate::audit::{AuditError, AuditLog};

const MOST_DRAFTS: usize = 1000;
const MOST_LINES: u32 = 10_000;
const MOST_BOUNDARIES: usize = 16;

type Lines = Pin<Box<dyn Stream<Item = Result<AuditLines, Status>> + Send>>;

/// Records into the vault's own journal.
pub(crate) struct Own(pub(crate) Arc<Shared>);

#[async_trait::async_trait]
impl Recorder for Own {
    async fn record(&self, mut drafts: Vec<Draft>) -> Result<(), Status> {
        for draft in &mut drafts {
            self.0.complete(draft).await;
        }
        self.0.audit.clerk.record(drafts).await.map_err(|error| refusal(&error))
    }
}

impl Shared {
    // Whoever speaks of a credential speaks of its product, which then sees it.
    async fn complete(&self, draft: &mut Draft) {
        let Some(credential) = draft.on_behalf.filter(|_| draft.product.is_none()) else {
            return;
        };
        match self.keyring.view.credential(credential).await {
            Ok(known) => draft.product = known.map(|row| row.product),
            Err(error) => tracing::warn!(error = %Chain(&error), "whose credential a record names could not be looked up"),
        }
    }
}

#[async_trait::async_trait]
impl Audit for Services {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        let role = peer(&request)?.role;
        let drafts = request.into_inner().drafts;
        if drafts.len() > MOST_DRAFTS {
            return Err(status(ErrorKind::Invalid, "too many records at once"));
        }
        let read = drafts
            .into_iter()
            .map(|draft| read(draft).and_then(|draft| draft.check().map(|()| draft)));
        let drafts: Vec<Draft> = read
            .collect::<Result<_, _>>()
            .map_err(|error| status(error.kind(), error.to_string()))?;
        // A role tells of itself: nobody puts words into another's mouth.
        if drafts.iter().any(|draft| draft.role != role) {
            return Err(status(ErrorKind::Forbidden, "a role records for itself only"));
        }
        if drafts.iter().any(|draft| !is_its_own(role, &draft.method)) {
            return Err(status(ErrorKind::Forbidden, "a role records what it was asked itself"));
        }
        Own(Arc::clone(&self.shared)).record(drafts).await?;
        Ok(Response::new(RecordResponse {}))
    }

    type ReadStream = Lines;

    async fn read(&self, request: Request<AuditReadRequest>) -> Result<Response<Lines>, Status> {
        let op = op(&request)?;
        op.authorize(Verb::Manage)
            .map_err(|denied| status(denied.kind(), denied.to_string()))?;
        let row = self.shared.keyring.view.credential(op.actor).await;
        let row = row.map_err(|error| status(error.kind(), error.kind().words()))?;
        // As for a key: whose product it is and whether it was revoked is for the vault's own list to say.
        let live = row.is_some_and(|row| row.product == op.product && row.revoked_at.is_none() && row.kind.verbs().contains(Verb::Manage));
        if !live {
            return Err(status(ErrorKind::Forbidden, "this credential does not lead to an audit journal"));
        }
        lines(&self.shared.audit, op.product.get(), request.into_inner()).await
    }
}

#[async_trait::async_trait]
impl AuditOperator for Services {
    type ReadStream = Lines;

    async fn read(&self, request: Request<AuditReadRequest>) -> Result<Response<Lines>, Status> {
        let asked = request.into_inner();
        lines(&self.shared.audit, asked.product, asked).await
    }
}

async fn lines(log: &Arc<AuditLog>, product: u64, asked: AuditReadRequest) -> Result<Response<Lines>, Status> {
    if asked.last > MOST_LINES || asked.boundaries.len() > MOST_BOUNDARIES {
        return Err(status(ErrorKind::Invalid, "too much at once"));
    }
    let stream: Lines = if asked.whole {
        let (to, from) = mpsc::channel(4);
        tokio::spawn(Arc::clone(log).export(product, asked.boundaries, to));
        let sent = |lines: Result<Vec<String>, AuditError>| lines.map(|lines| AuditLines { lines }).map_err(|error| refusal(&error));
        Box::pin(ReceiverStream::new(from).map(sent))
    } else {
        let lines = log.some(product, asked.after, asked.last).await.map_err(|error| refusal(&error))?;
        Box::pin(tokio_stream::iter(
            lines
                .chunks(1000)
                .map(|some| Ok(AuditLines { lines: some.to_vec() }))
                .collect::<Vec<_>>(),
        ))
    };
    Ok(Response::new(stream))
}

fn refusal(error: &AuditError) -> Status {
    let kind = error.kind();
    match error {
        AuditError::NoHead => status(kind, error.to_string()),
        other => {
            tracing::error!(error = %Chain(other), "the audit journal did not do what was asked");
            status(kind, kind.words())
        }
    }
}

fn read(draft: AuditDraft) -> Result<Draft, DraftError> {
    let malformed = DraftError::of;
    let digest = |bytes: &[u8]| bytes.try_into().map(Digest::from_bytes).map_err(|_| malformed("digest"));
    let optional = |bytes: &[u8]| if bytes.is_empty() { Ok(None) } else { digest(bytes).map(Some) };
    let hidden = optional(&draft.hidden_object)?;
    Ok(Draft {
        at: Timestamp::from_micros(draft.at),
        role: draft.role.parse().map_err(|_| malformed("role"))?,
        who: draft.who.parse()?,
        on_behalf: match &draft.on_behalf[..] {
            [] => None,
            bytes => Some(CredentialId::try_from(bytes).map_err(|_| malformed("credential"))?),
        },
        method: draft.method,
        object: match hidden {
            Some(digest) => Object::Hidden(digest),
            None => Object::named(&draft.object),
        },
        request: optional(&draft.request)?,
        decision: draft.decision.parse()?,
        rule: draft.rule,
        pass: match &draft.pass[..] {
            [] => None,
            bytes => Some(bytes.try_into().map_err(|_| malformed("pass"))?),
        },
        product: match draft.product {
            0 => None,
            number => Some(ProductId::new(number).map_err(|_| malformed("product"))?),
        },
        count: draft.count.max(1),
    })
}
