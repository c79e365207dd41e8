//! A request on its way to a handler: who asks, what for, and how the other roles are asked in its name.
//!
//! Start at [`Call`]. Does not know what any route does.

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use audit::{Decision, Draft, Object, Who};
use axum::body::Body;
use base::{Clock, DatabaseName, Entropy, ErrorKind, RequestId, Role, TableName, Timestamp, Verb};
use http::HeaderMap;
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use wire::v1::audit_client::AuditClient;
use wire::v1::identity_client::IdentityClient;
use wire::v1::warehouse_client::WarehouseClient;

use crate::auth::{Caller, Callers};
use crate::bodies::{self, Bounds, Budget};
use crate::errors::ApiError;
use crate::pages::Pages;
use crate::params::Params;
use crate::settings::GatewaySettings;
use crate::upstream::Upstream;

/// What all requests share.
pub(crate) struct App {
    pub(crate) settings: GatewaySettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) callers: Callers,
    pub(crate) upstream: Arc<Upstream>,
    /// Import bodies as sent.
    pub(crate) bodies: Budget,
    /// What import bodies become.
    pub(crate) inflated: Budget,
    /// Who may use a core for an import.
    pub(crate) decoding: Arc<Semaphore>,
    /// Who may look at what was set aside.
    pub(crate) pages: Pages,
    pub(crate) answers: edge::Histograms,
    pub(crate) rows: edge::Counter,
    pub(crate) stages: edge::Stages,
    pub(crate) set_aside: edge::Counter,
    pub(crate) audit: edge::Auditing,
}

/// What a handler gets before anybody has been asked who they are.
pub(crate) struct Visit {
    pub(crate) app: Arc<App>,
    pub(crate) request: RequestId,
    pub(crate) address: IpAddr,
    pub(crate) path: Vec<(String, String)>,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    /// Behind a lock only because a body cannot be shared between threads, and a request is.
    pub(crate) body: Mutex<Body>,
}

impl Visit {
    // What no other role hears of.
    fn refused(&self, caller: &Caller) -> Draft {
        Draft {
            at: self.app.clock.now(),
            role: Role::Gateway,
            who: Who::Nobody,
            on_behalf: Some(caller.credential),
            method: "/gateway".into(),
            object: Object::None,
            request: None,
            decision: Decision::Refused,
            rule: "verb".into(),
            pass: None,
            product: Some(caller.product),
            count: 1,
        }
    }

    /// The same request, once it is known that its caller may do `verb`.
    pub(crate) async fn admitted(mut self, verb: Verb) -> Result<Call, ApiError> {
        let caller = self.app.callers.caller(&self.headers, self.address, self.request).await?;
        self.headers.remove(http::header::AUTHORIZATION);
        if !caller.verbs.contains(verb) {
            self.app.audit.refusal(self.refused(&caller));
            return Err(ApiError::new(
                ErrorKind::Forbidden,
                format!("not authorized: this key has no right to {verb}"),
            ));
        }
        if !self.app.callers.is_live(&caller, verb) {
            return Err(ApiError::of(ErrorKind::Unavailable));
        }
        Ok(Call { visit: self, caller, verb })
    }
}

/// A request whose caller is known and may do what its route needs.
pub(crate) struct Call {
    visit: Visit,
    pub(crate) caller: Arc<Caller>,
    verb: Verb,
}

impl Call {
    pub(crate) fn app(&self) -> &Arc<App> {
        &self.visit.app
    }

    pub(crate) fn settings(&self) -> &GatewaySettings {
        &self.visit.app.settings
    }

    pub(crate) fn request(&self) -> RequestId {
        self.visit.request
    }

    /// Where the request came from. Personal: it is for whoever sent it to ask for, and for no log.
    pub(crate) fn address(&self) -> IpAddr {
        self.visit.address
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.visit.headers
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.visit.app.clock.now()
    }

    /// What stands in the path for `{name}`, decoded.
    pub(crate) fn segment(&self, name: &str) -> &str {
        self.visit
            .path
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }

    /// The database in the path. A name that none can have is the name of none.
    pub(crate) fn database(&self) -> Result<DatabaseName, ApiError> {
        self.segment("database")
            .parse()
            .map_err(|_| ApiError::not_found("there is no such database"))
    }

    /// The table in the path, likewise.
    pub(crate) fn table(&self) -> Result<TableName, ApiError> {
        self.segment("table")
            .parse()
            .map_err(|_| ApiError::not_found("there is no such table"))
    }

    /// Parameters of a GET.
    pub(crate) fn query_params(&self) -> Result<Params, ApiError> {
        Params::from_query(self.visit.query.as_deref())
    }

    /// Parameters of a POST.
    pub(crate) async fn body_params(&mut self) -> Result<Params, ApiError> {
        let body = self.take_body();
        let settings = self.settings();
        let bounds = Bounds {
            max: settings.max_parameters,
            advice: "no request with parameters needs as much",
            idle: settings.body_idle,
            total: settings.body_idle * 3,
        };
        let (bytes, _) = bodies::read(&self.visit.headers, body, &bounds, None).await?;
        Params::from_body(&self.visit.headers, bytes).await
    }

    /// The body itself.
    pub(crate) fn take_body(&mut self) -> Body {
        std::mem::take(self.visit.body.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the warehouse in the caller's name.
    pub(crate) async fn warehouse<T, R, Fut>(
        &self,
        message: T,
        ask: impl FnOnce(WarehouseClient<Channel>, Request<T>) -> Fut,
    ) -> Result<R, ApiError>
    where
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let request = edge::with_pass(message, self.caller.pass(Role::Warehouse), self.request());
        self.answered(Role::Warehouse, ask(self.app().upstream.warehouse(), request)).await
    }

    /// Asks the identity role in the caller's name.
    pub(crate) async fn identity<T, R, Fut>(
        &self,
        message: T,
        ask: impl FnOnce(IdentityClient<Channel>, Request<T>) -> Fut,
    ) -> Result<R, ApiError>
    where
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let request = edge::with_pass(message, self.caller.pass(Role::Identity), self.request());
        self.answered(Role::Identity, ask(self.app().upstream.identity(), request)).await
    }

    /// Asks the audit journal.
    pub(crate) async fn audit<T, R, F>(&self, message: T, ask: impl FnOnce(AuditClient<Channel>, Request<T>) -> F) -> Result<R, ApiError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let request = edge::with_pass(message, self.caller.pass(Role::Vault), self.request());
        self.answered(Role::Vault, ask(self.app().upstream.audit(), request)).await
    }

    /// Whether an answer that is being sent may go on: its caller's credential is still good.
    pub(crate) fn watch(&self) -> impl Fn() -> bool + Send + 'static {
        let (app, caller, verb) = (Arc::clone(self.app()), Arc::clone(&self.caller), self.verb);
        move || app.callers.is_live(&caller, verb)
    }

    async fn answered<R>(&self, role: Role, call: impl Future<Output = Result<Response<R>, Status>>) -> Result<R, ApiError> {
        self.app()
            .upstream
            .answer(role, self.request(), call)
            .await
            .map_err(|(error, kind)| {
                // The pass is not good any more (revoked, for example): the key has to be judged again.
                if kind == ErrorKind::Unauthenticated {
                    self.app().callers.forget(&self.caller.credential);
                }
                error
            })
    }
}
