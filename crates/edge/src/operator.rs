//! The local socket: what the owner of the data directory may ask of a role.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base::{Clock, Entropy, Role, Timestamp};
use hyper_util::rt::TokioIo;
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use wire::v1::role_operator_server::{RoleOperator, RoleOperatorServer};
use wire::v1::{DrillZoneRequest, DrillZoneResponse, MetricsRequest, MetricsResponse, StatusRequest, StatusResponse};

use crate::connections::{self, Caps, Protocol};
use crate::guard::{Connected, Guard};
use crate::server::{self, Shared};
use crate::{Auditing, Metrics, Readiness, RoleContext, RoleTls, ServeError, ZoneReport, peers, sandbox};

const CAPS: Caps = Caps {
    connections: 64,
    per_address: 64,
};

/// A channel to a role's local socket, for the operator's own commands.
///
/// To be called inside the async runtime.
pub fn operator_channel(socket: impl Into<PathBuf>) -> Channel {
    let socket = socket.into();
    peers::endpoint("operator.coffer.internal").connect_with_connector_lazy(tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }))
}

pub(crate) fn listen(listener: &std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

pub(crate) async fn serve(listener: UnixListener, cancel: CancellationToken, shared: Arc<Shared>) {
    let closing = cancel.clone();
    connections::accept(listener, CAPS, &cancel, move |stream: UnixStream, _| {
        let (shared, closing) = (Arc::clone(&shared), closing.clone());
        async move {
            // The socket's mode says the same; this holds even where the mode was loosened by mistake.
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == geteuid().as_raw() || peer.uid() == 0 => {}
                Ok(peer) => return tracing::warn!(uid = peer.uid(), "refused an operator who does not own this role"),
                Err(error) => return tracing::warn!(%error, "refused an operator who could not be identified"),
            }
            let answer = move |request| Arc::clone(&shared).answer(Connected::Operator, request);
            connections::drive(stream, Protocol::Http2, answer, async move { closing.cancelled().await }).await;
        }
    })
    .await;
}

/// What a role works with that has no keys yet, and therefore nobody to talk to but the operator.
#[derive(Debug)]
pub struct Keyless {
    /// Which role this is.
    pub role: Role,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Where the operator calls. The listener stays open when this ends.
    pub operator: std::os::unix::net::UnixListener,
    /// Why it is not ready.
    pub readiness: Readiness,
    /// What the kernel enforces.
    pub sandbox: sandbox::Report,
    /// Where it is noted what was asked, to be recorded once there is a journal.
    pub audit: Auditing,
}

/// Serves the operator alone, until `cancel` is cancelled and what was in flight has finished. `RoleOperator` is there already.
pub async fn serve_keyless(role: Keyless, services: Routes, cancel: CancellationToken) -> Result<(), ServeError> {
    let local = listen(&role.operator).map_err(|source| ServeError::Listener {
        listener: "operator",
        source,
    })?;
    let metrics = Metrics::default();
    let service = Service {
        role: role.role,
        started_at: role.clock.now(),
        clock: Arc::clone(&role.clock),
        tls: None,
        metrics: metrics.clone(),
        readiness: role.readiness.clone(),
        zones: ZoneReport::default(),
        drills: crate::Drills::default(),
        sandbox: role.sandbox,
    };
    let shared = Arc::new(Shared {
        role: role.role,
        clock: Arc::clone(&role.clock),
        audit: role.audit,
        guard: Arc::new(Guard::keyless(role.role, role.clock, role.entropy, &metrics)),
        router: services.add_service(RoleOperatorServer::new(service)).prepare().into_axum_router(),
        seconds: server::call_seconds(&metrics),
        metrics,
        readiness: role.readiness,
    });
    serve(local, cancel, shared).await;
    Ok(())
}

pub(crate) fn role_operator(ctx: &RoleContext) -> RoleOperatorServer<Service> {
    RoleOperatorServer::new(Service {
        role: ctx.role,
        started_at: ctx.clock.now(),
        clock: Arc::clone(&ctx.clock),
        tls: Some(Arc::clone(&ctx.tls)),
        metrics: ctx.metrics.clone(),
        readiness: ctx.readiness.clone(),
        zones: ctx.zones.clone(),
        drills: ctx.drills.clone(),
        sandbox: ctx.sandbox.clone(),
    })
}

pub(crate) struct Service {
    role: Role,
    started_at: Timestamp,
    clock: Arc<dyn Clock>,
    tls: Option<Arc<RoleTls>>,
    metrics: Metrics,
    readiness: Readiness,
    zones: ZoneReport,
    drills: crate::Drills,
    sandbox: sandbox::Report,
}

#[async_trait::async_trait]
impl RoleOperator for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse {
            role: self.role.to_string(),
            pid: std::process::id(),
            started_at: self.started_at.as_micros(),
            certificate_expires_at: self.tls.as_ref().map_or(0, |tls| tls.expires_at().as_micros()),
            not_ready: self.readiness.ready().err().unwrap_or_default(),
            enforced: self.sandbox.enforced.clone(),
            not_enforced: self.sandbox.not_enforced.clone(),
            resident_bytes: self.sandbox.resident_bytes(),
            zones: self.zones.in_short(),
        }))
    }

    async fn metrics(&self, _: Request<MetricsRequest>) -> Result<Response<MetricsResponse>, Status> {
        let resident = i64::try_from(self.sandbox.resident_bytes()).unwrap_or(i64::MAX);
        self.metrics.gauge("resident_bytes", "memory in use").set(resident);
        let up = i64::try_from(self.clock.now().since(self.started_at).as_secs()).unwrap_or(i64::MAX);
        self.metrics.gauge("up_seconds", "how long the role has been running").set(up);
        self.zones.measure(&self.metrics);
        Ok(Response::new(MetricsResponse {
            text: self.metrics.encode(),
        }))
    }

    async fn drill_zone(&self, request: Request<DrillZoneRequest>) -> Result<Response<DrillZoneResponse>, Status> {
        self.drills.answer(request.get_ref())
    }
}
