//! The gateway: what the world talks to. The td API v3 in, calls to other roles out.
//!
//! Promise: nothing is kept here. What passes by (keys, identities, queries, rows) is in memory while its request is, in no log
//! and in no error; an event leaves for the warehouse only with ids in place of identities; 200 for an import means that the
//! warehouse has said "durable".
//!
//! Start at [`run`]; every route is in `routes`. Knows HTTP, the td API and the other roles' calls. Does not know ciphers,
//! storage, SQL beyond `person_id`, or who may do what: it shows passes, and the roles decide.

mod aside;
mod auditing;
mod auth;
mod bodies;
mod calls;
mod cors;
mod databases;
mod dates;
mod dropped;
mod erasure;
mod errors;
mod failures;
mod forms;
#[doc(hidden)]
pub mod fuzzing;
mod imports;
mod intake;
mod jobs;
mod linger;
mod pages;
mod params;
mod paths;
mod people;
mod person_id;
mod ranges;
mod records;
mod rejected;
mod results;
mod revealing;
mod routes;
mod schemas;
mod settings;
mod tables;
#[cfg(test)]
mod testing;
mod upstream;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use base::{ErrorKind, Role};
use edge::public::PublicCertificate;
use edge::revocations::Watch;
use edge::{Readiness, RoleContext, ServeError, TlsError};
use tokio::sync::Semaphore;
use tonic::service::Routes;

use crate::auth::{Callers, CallersParts};
use crate::bodies::Budget;
use crate::calls::App;
use crate::upstream::Upstream;

pub use routes::{Needs, Operation, operations};
pub use settings::GatewaySettings;

/// Where the world calls, and what it is shown.
#[derive(Debug)]
pub struct PublicListener {
    /// Bound already.
    pub listener: TcpListener,
    /// The operator's certificate, or one from the installation's own authority. Whoever keeps a clone may replace it.
    pub tls: PublicCertificate,
}

/// Why the gateway could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A role that holds passes has to hear of revocations.
    #[error("the gateway was started without a watch on revocations")]
    NoRevocations,
    /// The public or the plain listener cannot be used.
    #[error("the {listener} listener cannot be used")]
    Listener {
        /// Which one.
        listener: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The public certificate cannot be used.
    #[error("the public certificate cannot be used for TLS")]
    Certificate(#[from] TlsError),
    /// The internal listeners cannot be used.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl RunError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Runs the gateway until the context's token is cancelled and the requests in flight have finished.
///
/// `plain`, when there is one, only points to the public listener.
pub async fn run(settings: GatewaySettings, ctx: RoleContext, public: PublicListener, plain: Option<TcpListener>) -> Result<(), RunError> {
    let revocations = ctx.revocations.clone().ok_or(RunError::NoRevocations)?;
    let listener_error = |listener| move |source| RunError::Listener { listener, source };
    let public_port = match settings.public_port {
        Some(port) => port,
        None => public.listener.local_addr().map_err(listener_error("public"))?.port(),
    };
    let tls = public.tls.server_config()?;
    let app = Arc::new(app(settings, &ctx, Arc::clone(&revocations)));
    let router = routes::router(Arc::clone(&app));

    let world = async {
        edge::public::serve(public.listener, tls, router, ctx.cancel.clone())
            .await
            .map_err(listener_error("public"))
    };
    let plain = async {
        match plain {
            Some(listener) => edge::public::serve_plain_redirect(listener, public_port, ctx.cancel.clone())
                .await
                .map_err(listener_error("plain")),
            None => Ok(()),
        }
    };
    let roles = async {
        edge::serve_role(&ctx, Routes::default(), Routes::default())
            .await
            .map_err(RunError::from)
    };
    let serving = async { tokio::try_join!(world, plain, roles).map(|_| ()) };
    tokio::select! {
        outcome = serving => outcome,
        // These never end by themselves; what is served decides when the role is over.
        () = app.callers.follow_revocations() => Ok(()),
        () = app.callers.follow_changes() => Ok(()),
        () = tell_readiness(&ctx.readiness, &revocations) => Ok(()),
    }
}

/// Ready means that a caller can be let in: both tellers of revocations are heard.
async fn tell_readiness(readiness: &Readiness, revocations: &Watch) {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tick.tick().await;
        if revocations.may_read() {
            readiness.set_ready();
        } else {
            readiness.set_not_ready("revocations are not heard from the vault and accounts");
        }
    }
}

fn app(settings: GatewaySettings, ctx: &RoleContext, revocations: Arc<Watch>) -> App {
    let upstream = Arc::new(Upstream::new(|role: Role| ctx.peers.channel(role), settings.upstream));
    let callers = Callers::new(CallersParts {
        clock: Arc::clone(&ctx.clock),
        entropy: Arc::clone(&ctx.entropy),
        installation: ctx.installation,
        holder: ctx.tls.holder_id(),
        upstream: Arc::clone(&upstream),
        revocations,
        failed_keys_per_minute: settings.failed_keys_per_minute,
        remembered: settings.remembered_callers,
    });
    App {
        clock: Arc::clone(&ctx.clock),
        entropy: Arc::clone(&ctx.entropy),
        callers,
        upstream,
        bodies: Budget::of(settings.max_import_bytes.max(settings.limits.max_body)),
        inflated: intake::budget(&settings),
        decoding: Arc::new(Semaphore::new(settings.max_decoding.max(1))),
        pages: pages::Pages::new(),
        answers: ctx.metrics.histograms("http_seconds", "how long answers to the world took"),
        rows: ctx.metrics.counter("imported_rows", "rows that were taken and are durable"),
        stages: edge::Stages::of(&ctx.metrics),
        audit: ctx.audit.clone(),
        set_aside: ctx.metrics.counter(
            "rejected_rows",
            "what could not be rows and was set aside, also when it was sent again",
        ),
        settings,
    }
}
