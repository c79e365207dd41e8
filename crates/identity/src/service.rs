//! What the gateway may ask.

use std::sync::{Arc, OnceLock};

use base::{ErrorKind, PersonId, Secret};
use edge::{Counter, Metrics, op, raw_pass, status};
use tonic::{Request, Response, Status};
use wire::v1::identity_server::Identity;
use wire::v1::{
    AsideKeyRequest, AsideKeyResponse, EraseRequest, EraseResponse, FindRequest, FindResponse, KnownIdentity, OpenAsideRequest,
    OpenAsideResponse, OpenedValue, RevealRequest, RevealResponse, TranslateRequest, TranslateResponse,
};

use crate::erasure::Whom;
use crate::links::Links;
use crate::people::{AskError, People};
use crate::personal::{Personal, PersonalValue};
use crate::reveal::Asked;

/// Answers as soon as the people are there, and until then says that they are not.
pub(crate) struct Service {
    people: Arc<OnceLock<Arc<People>>>,
    asked: Counter,
    known: Counter,
    given: Counter,
    sealed: Counter,
    erased: Counter,
    revealed: Counter,
    opened: Counter,
    refused: Counter,
}

impl Service {
    pub(crate) fn new(people: Arc<OnceLock<Arc<People>>>, metrics: &Metrics) -> Self {
        Self {
            people,
            asked: metrics.counter("identities_translated", "identities that were to be translated"),
            known: metrics.counter("identities_known", "identities that had an id already"),
            given: metrics.counter("identities_written", "identities that went to the writer because none was known"),
            sealed: metrics.counter("personal_values_sealed", "personal values that were sealed"),
            erased: metrics.counter("people_erased", "people who were erased"),
            revealed: metrics.counter("people_revealed", "calls that were told who a person is"),
            opened: metrics.counter("personal_values_opened", "personal values that were opened for whoever may reveal"),
            refused: metrics.counter("identity_calls_refused", "calls that got no answer"),
        }
    }

    fn people(&self) -> Result<&Arc<People>, Status> {
        self.people
            .get()
            .ok_or_else(|| status(ErrorKind::Unavailable, "the identity role is starting"))
    }

    fn refuse(&self, request: base::RequestId, error: &AskError) -> Status {
        self.refused.inc();
        tracing::warn!(request.id = %request, kind = ?error.kind(), "not done: {error}");
        status(error.kind(), error.to_string())
    }
}

#[tonic::async_trait]
impl Identity for Service {
    async fn translate(&self, request: Request<TranslateRequest>) -> Result<Response<TranslateResponse>, Status> {
        let (op, pass) = (op(&request)?, raw_pass(&request)?);
        let TranslateRequest {
            identities,
            personal_columns,
            personal,
            links,
        } = request.into_inner();
        let identities = identities.into_iter().map(Secret::new).collect();
        let translated = self
            .people()?
            .translate(&op, &pass, identities, links.map(together), values(personal_columns, personal))
            .await;
        let (ids, sealed, tally) = translated.map_err(|error| self.refuse(op.request, &error))?;
        self.sealed.inc_by(sealed.len() as u64);
        self.asked.inc_by(tally.asked as u64);
        self.known.inc_by(tally.known as u64);
        self.given.inc_by((tally.asked - tally.known) as u64);
        Ok(Response::new(TranslateResponse {
            ids: ids.into_iter().map(PersonId::get).collect(),
            sealed,
        }))
    }

    async fn find(&self, request: Request<FindRequest>) -> Result<Response<FindResponse>, Status> {
        let (op, pass) = (op(&request)?, raw_pass(&request)?);
        let identities = request.into_inner().identities.into_iter().map(Secret::new).collect();
        let found = self.people()?.find(&op, &pass, identities).await;
        let ids = found.map_err(|error| self.refuse(op.request, &error))?;
        Ok(Response::new(FindResponse {
            ids: ids.into_iter().map(|id| id.map_or(0, PersonId::get)).collect(),
        }))
    }

    async fn aside_key(&self, request: Request<AsideKeyRequest>) -> Result<Response<AsideKeyResponse>, Status> {
        let (op, pass) = (op(&request)?, raw_pass(&request)?);
        let made = self.people()?.aside_key(&op, &pass).await;
        let (data_key, wrapped) = made.map_err(|error| self.refuse(op.request, &error))?;
        Ok(Response::new(AsideKeyResponse {
            data_key: data_key.reveal().to_vec(),
            wrapped,
        }))
    }

    async fn open_aside(&self, request: Request<OpenAsideRequest>) -> Result<Response<OpenAsideResponse>, Status> {
        let (op, pass) = (op(&request)?, raw_pass(&request)?);
        let wrapped = request.into_inner().wrapped;
        let opened = self.people()?.open_aside(&op, &pass, &wrapped).await;
        let opened = opened.map_err(|error| self.refuse(op.request, &error))?;
        let bytes = |key: Option<base::SecretBytes>| key.map_or_else(Vec::new, |key| key.reveal().to_vec());
        Ok(Response::new(OpenAsideResponse {
            data_keys: opened.into_iter().map(bytes).collect(),
        }))
    }

    async fn erase(&self, request: Request<EraseRequest>) -> Result<Response<EraseResponse>, Status> {
        let (op, pass) = (op(&request)?, raw_pass(&request)?.to_vec());
        let EraseRequest { identity, id } = request.into_inner();
        let whom = Whom::told(identity, id).map_err(|error| self.refuse(op.request, &error))?;
        let (people, id) = (Arc::clone(self.people()?), op.request);
        // Goes on to its end even if whoever asked hangs up: a person half erased would be asked for again and not be found.
        let erasing = tokio::spawn(async move { people.erase(&op, &pass, whom).await });
        let erased = erasing
            .await
            .map_err(|_| status(ErrorKind::Internal, ErrorKind::Internal.words()))?;
        let erased = erased.map_err(|error| self.refuse(id, &error))?;
        self.erased.inc();
        Ok(Response::new(EraseResponse {
            id: erased.receipt.id.get(),
            erased_at: erased.receipt.erased_at.as_micros(),
            identities: erased.receipt.identities.len() as u64,
            receipt: erased.signed,
        }))
    }

    async fn reveal(&self, request: Request<RevealRequest>) -> Result<Response<RevealResponse>, Status> {
        let (op, pass) = (op(&request)?, raw_pass(&request)?);
        let RevealRequest { id, reason, values } = request.into_inner();
        let id = PersonId::new(id).map_err(|_: base::IdError| self.refuse(op.request, &AskError::Nobody))?;
        let values = values.into_iter().map(|value| (value.column, value.sealed)).collect();
        let revealed = self.people()?.reveal(&op, &pass, Asked { id, reason, values }).await;
        let revealed = revealed.map_err(|error| self.refuse(op.request, &error))?;
        self.revealed.inc();
        self.opened.inc_by(revealed.values.iter().flatten().count() as u64);
        let identity = |known: crate::ring::Known| KnownIdentity {
            identity: known.identity.reveal().to_owned(),
            column: known.column,
        };
        let value = |value: Option<Secret>| OpenedValue {
            opened: value.is_some(),
            value: value.map_or_else(String::new, |value| value.reveal().to_owned()),
        };
        Ok(Response::new(RevealResponse {
            identities: revealed.identities.into_iter().map(identity).collect(),
            values: revealed.values.into_iter().map(value).collect(),
        }))
    }
}

fn together(links: wire::v1::Links) -> Links {
    let places = |places: Vec<u32>| places.into_iter().map(|place| place as usize).collect::<Vec<_>>();
    Links {
        columns: links.columns,
        column: places(links.column),
        together: links.together.into_iter().map(|row| places(row.identities)).collect(),
    }
}

fn values(columns: Vec<String>, values: Vec<wire::v1::PersonalValue>) -> Personal {
    let value = |value: wire::v1::PersonalValue| PersonalValue {
        owner: (value.owner as usize).checked_sub(1),
        column: value.column as usize,
        value: Secret::new(value.value),
    };
    Personal {
        columns,
        values: values.into_iter().map(value).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erasure_names_one_person_by_one_thing() {
        for (identity, id) in [("", 0), ("ada", 7), ("", -1)] {
            assert!(Whom::told(identity.to_owned(), id).is_err(), "{identity:?} {id}");
        }
        assert!(Whom::told("ada".to_owned(), 0).is_ok() && Whom::told(String::new(), 7).is_ok());
    }
}
