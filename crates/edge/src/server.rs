//! The listener for other roles: mutual TLS, the guard, gRPC, and three probes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use audit::Decision;
use axum::body::Body;
use axum::response::IntoResponse;
use base::{Clock, ErrorKind, Role};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::ServiceExt;
use wire::audited::{AUDITED, Audited, audited, is_its_own};

use crate::asked;
use crate::connections::{self, Caps, PATIENCE, Protocol};
use crate::guard::{Connected, Guard};
use crate::operator;
use crate::{Auditing, Histograms, Metrics, Readiness, RoleContext, read_certificate, status};

const CAPS: Caps = Caps {
    connections: 1024,
    per_address: 1024,
};

/// Connections without a certificate at one time, and how long each may last: there is one thing to do on them, to enrol.
const STRANGERS: usize = 32;
const STRANGER: Duration = Duration::from_secs(30);

/// Why a role could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener that was handed in cannot be used.
    #[error("the {listener} listener cannot be used")]
    Listener {
        /// Which one.
        listener: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl ServeError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Serves other roles and the operator until the context's token is cancelled and what was in flight has finished.
///
/// `services` are reached over mutual TLS, `operator` through the local socket only; `RoleOperator` and `RoleZones` are there already.
pub async fn serve_role(ctx: &RoleContext, services: Routes, operator: Routes) -> Result<(), ServeError> {
    let internal = connections::listen(&ctx.listener).map_err(|source| ServeError::Listener {
        listener: "internal",
        source,
    })?;
    let local = operator::listen(&ctx.operator).map_err(|source| ServeError::Listener {
        listener: "operator",
        source,
    })?;
    let guard = Arc::new(Guard::new(ctx));
    let seconds = call_seconds(&ctx.metrics);

    let shared = Arc::new(Shared {
        role: ctx.role,
        clock: Arc::clone(&ctx.clock),
        audit: ctx.audit.clone(),
        guard: Arc::clone(&guard),
        router: services.prepare().into_axum_router(),
        metrics: ctx.metrics.clone(),
        readiness: ctx.readiness.clone(),
        seconds: seconds.clone(),
    });
    let acceptor = TlsAcceptor::from(ctx.tls.server_config());
    let (clock, cancel) = (Arc::clone(&ctx.clock), ctx.cancel.clone());
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let roles = connections::accept(internal, CAPS, &ctx.cancel, move |stream: TcpStream, from| {
        serve(
            acceptor.clone(),
            stream,
            from,
            Arc::clone(&shared),
            Arc::clone(&clock),
            Arc::clone(&strangers),
            cancel.clone(),
        )
    });

    let shared = Arc::new(Shared {
        role: ctx.role,
        clock: Arc::clone(&ctx.clock),
        audit: ctx.audit.clone(),
        guard,
        router: operator
            .add_service(operator::role_operator(ctx))
            .add_service(ctx.zones.service(ctx.cancel.clone()))
            .prepare()
            .into_axum_router(),
        metrics: ctx.metrics.clone(),
        readiness: ctx.readiness.clone(),
        seconds,
    });
    let local = operator::serve(local, ctx.cancel.clone(), shared);

    tracing::info!(role = %ctx.role, address = ?ctx.listener.local_addr().ok(), "the {} role takes calls", ctx.role);
    let serving = async {
        tokio::join!(roles, local);
    };
    let served = CancellationToken::new();
    let ended = served.clone();
    let serving = async move {
        serving.await;
        served.cancel();
    };
    let recording = ctx.audit.run(ctx.role, &*ctx.clock, &ended);
    tokio::join!(Box::pin(serving), Box::pin(recording));
    tracing::info!(role = %ctx.role, "the {} role takes no more calls", ctx.role);
    Ok(())
}

pub(crate) fn call_seconds(metrics: &Metrics) -> Histograms {
    metrics.histograms("call_seconds", "how long calls from other roles took to answer")
}

pub(crate) struct Shared {
    pub(crate) role: Role,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) audit: Auditing,
    pub(crate) guard: Arc<Guard>,
    pub(crate) router: axum::Router,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) seconds: Histograms,
}

impl Shared {
    pub(crate) async fn answer(self: Arc<Self>, connected: Connected, request: Request<Incoming>) -> Response<Body> {
        if matches!(connected, Connected::Role(_))
            && let Some(response) = self.probe(&request)
        {
            return response;
        }
        let (mut parts, body) = request.into_parts();
        let (admitted, now) = (self.guard.admit(&connected, &mut parts), self.clock.now());
        let path = parts.uri.path();
        // What another role serves is none of this one's methods, whoever asks for it here.
        let listed = is_its_own(self.role, path) && AUDITED.iter().any(|(method, _)| *method == path);
        let mut draft = asked::asked(self.role, &connected, &parts, now, listed);
        if let Err((rule, refusal)) = admitted {
            (draft.decision, draft.rule) = (Decision::Refused, rule.to_owned());
            self.audit.refusal(draft);
            return refusal.into_http();
        }
        let when = audited(parts.uri.path());
        let body = match when {
            Audited::Refusals => Body::new(body),
            Audited::First | Audited::Afterwards => match asked::read(&mut draft, Body::new(body)).await {
                Ok(bytes) => Body::from(bytes),
                Err(refusal) => {
                    (draft.decision, draft.rule) = (Decision::Refused, "message".to_owned());
                    self.audit.refusal(draft);
                    return refusal.into_http();
                }
            },
        };
        if when == Audited::First && !self.audit.may_try(&draft) {
            (draft.decision, draft.rule) = (Decision::Refused, "pace".to_owned());
            self.audit.refusal(draft);
            let words = "too many of these that failed were tried with this key within a minute, try again in a minute";
            return status(ErrorKind::TooMuch, words).into_http();
        }
        if when == Audited::First
            && let Err(refusal) = self.audit.first(draft.clone()).await
        {
            (draft.decision, draft.rule) = (Decision::Refused, "audit".to_owned());
            self.audit.refusal(draft);
            return refusal.into_http();
        }
        // Only paths of the table come this far, so the label is one of a fixed list.
        let label = vec![("call", parts.uri.path().to_owned())];
        let started = std::time::Instant::now();
        let response = match self.router.clone().oneshot(Request::from_parts(parts, body)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        self.seconds.get_or_create(&label).observe(started.elapsed().as_secs_f64());
        asked::outcome(&mut draft, &response);
        if when == Audited::First && draft.decision != Decision::Allowed {
            self.audit.failed(&draft);
        }
        match (draft.decision, when) {
            (Decision::Allowed, Audited::Afterwards) => self.audit.done(draft),
            (Decision::Allowed, _) | (Decision::Failed, Audited::Refusals) => {}
            (Decision::Refused | Decision::Failed, _) => self.audit.refusal(draft),
        }
        response
    }

    fn probe(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        if request.method() != Method::GET {
            return None;
        }
        match request.uri().path() {
            "/health" => Some("alive\n".into_response()),
            "/ready" => Some(match self.readiness.ready() {
                Ok(()) => "ready\n".into_response(),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
            }),
            "/metrics" => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Some(([(http::header::CONTENT_TYPE, kind)], self.metrics.encode()).into_response())
            }
            _ => None,
        }
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    from: Option<SocketAddr>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    strangers: Arc<Semaphore>,
    cancel: CancellationToken,
) {
    let accepting = cancel.run_until_cancelled(timeout(PATIENCE, acceptor.accept(stream)));
    let tls = match accepting.await {
        Some(Ok(Ok(tls))) => tls,
        Some(Ok(Err(error))) => {
            crate::guard::refused(&shared.metrics)
                .get_or_create(&vec![("reason", "handshake".to_owned())])
                .inc();
            return tracing::warn!(?from, %error, "refused a connection between roles");
        }
        Some(Err(_)) | None => return,
    };
    let connected = match connected(&tls) {
        Ok(connected) => connected,
        Err(error) => return tracing::warn!(?from, %error, "refused a connection: its certificate is no role's"),
    };
    let _place = match connected {
        Connected::Nobody => match strangers.try_acquire() {
            Ok(place) => Some(place),
            Err(_) => return tracing::warn!(?from, "refused a connection without a certificate: there are {STRANGERS} already"),
        },
        Connected::Role(_) | Connected::Operator => None,
    };
    let protocol = agreed_protocol(&tls);
    let closing = async move {
        match connected {
            Connected::Role(peer) => {
                cancel.run_until_cancelled(until(&*clock, peer.expires_at)).await;
            }
            Connected::Nobody => {
                cancel.run_until_cancelled(tokio::time::sleep(STRANGER)).await;
            }
            Connected::Operator => cancel.cancelled().await,
        }
    };
    connections::drive(
        tls,
        protocol,
        move |request| Arc::clone(&shared).answer(connected, request),
        closing,
    )
    .await;
}

// A connection does not outlive the certificate it was made with; its caller makes another, with the next certificate.
async fn until(clock: &dyn Clock, end: base::Timestamp) {
    while clock.now() < end {
        tokio::time::sleep(end.since(clock.now()).clamp(Duration::from_millis(10), Duration::from_secs(1))).await;
    }
}

fn connected(tls: &TlsStream<TcpStream>) -> Result<Connected, crate::TlsError> {
    match tls.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
        Some(leaf) => read_certificate(leaf).map(Connected::Role),
        None => Ok(Connected::Nobody),
    }
}

pub(crate) fn agreed_protocol(tls: &TlsStream<TcpStream>) -> Protocol {
    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
        Protocol::Http2
    } else {
        Protocol::Http1
    }
}
