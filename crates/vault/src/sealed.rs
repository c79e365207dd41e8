//! A vault whose root key is with people: it starts with nothing that it could read, and waits for their shares.
//!
//! Promise: until there are enough shares it touches no zone, serves no role, and takes from the operator two calls only: how it is, and
//! a share.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use base::{Clock, ErrorKind};
use edge::{Keyless, Readiness, SEALED, serve_keyless, status};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::v1::vault_root_server::{VaultRoot, VaultRootServer};
use wire::v1::{KeepSplitRequest, RootLook, RootLookRequest, SealRequest, SealResponse, SplitRequest, SplitResponse, UnsealRequest};
use zeroize::Zeroizing;

use crate::holder::{SHARES, look_of, without_file};
use crate::open::{OpenError, PreparedVault, VaultParts, with_root};
use crate::rebuild::Rebuilding;
use crate::root::RootKey;
use crate::sealed_root::SealedRoot;
use crate::unsealing::Shown;
use crate::{RunError, VaultSettings};

/// The vault before its root key is there.
pub struct SealedVault {
    pub(crate) settings: VaultSettings,
    pub(crate) parts: VaultParts,
    pub(crate) root_path: PathBuf,
    pub(crate) sealed: SealedRoot,
    pub(crate) rebuilding: Option<Rebuilding>,
}

impl fmt::Debug for SealedVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedVault")
    }
}

impl SealedVault {
    /// Takes shares until there are enough; `None` when `cancel` was cancelled before.
    pub async fn unsealed(self, keyless: Keyless, cancel: &CancellationToken) -> Result<Option<PreparedVault>, OpenError> {
        let serving = cancel.child_token();
        let waiting = Arc::new(Waiting {
            sealed: self.sealed.clone(),
            clock: Arc::clone(&keyless.clock),
            readiness: keyless.readiness.clone(),
            state: Mutex::default(),
            unsealed: Notify::new(),
        });
        waiting.tell(0);
        let services = Routes::new(VaultRootServer::from_arc(Arc::clone(&waiting)));
        let stop = async {
            waiting.unsealed.notified().await;
            serving.cancel();
        };
        let serve = serve_keyless(keyless, services, serving.clone());
        let (served, ()) = tokio::join!(
            async {
                let served = serve.await;
                // Also where a listener failed.
                waiting.unsealed.notify_one();
                served
            },
            stop
        );
        served.map_err(RunError::from).map_err(OpenError::Waiting)?;
        let root = waiting.state.lock().unwrap_or_else(PoisonError::into_inner).root.take();
        let Some(root) = root else { return Ok(None) };
        tracing::warn!("the vault is unsealed");
        let opening = move || {
            without_file(&root, &self.parts.directory, &self.root_path)?;
            with_root(
                self.settings,
                self.parts,
                root,
                self.root_path,
                Some(self.sealed),
                false,
                self.rebuilding,
            )
        };
        let opened = tokio::task::spawn_blocking(opening).await;
        Ok(Some(opened.expect("opening zones does not panic")?))
    }
}

#[derive(Default)]
struct State {
    shown: Shown,
    root: Option<RootKey>,
}

struct Waiting {
    sealed: SealedRoot,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    state: Mutex<State>,
    unsealed: Notify,
}

impl Waiting {
    fn tell(&self, shown: u8) {
        let needed = self.sealed.threshold();
        self.readiness.set_not_ready(format!(
            "{SEALED}{shown} of the {needed} shares were shown that open the root key; `coffer vault unseal` takes one at a time"
        ));
    }

    fn look(&self, shown: u8, sealed: bool) -> RootLook {
        RootLook {
            sealed,
            shown: shown.into(),
            ..look_of(Some(&self.sealed))
        }
    }

    fn show(&self, share: &str) -> Result<RootLook, Status> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.root.is_some() {
            return Ok(self.look(0, false));
        }
        let key = state.shown.show(&self.sealed, share, self.clock.now()).map_err(|error| {
            tracing::warn!(%error, "refused a share of the root key");
            self.tell(state.shown.count());
            status(error.kind(), error.to_string())
        })?;
        let Some(key) = key else {
            let shown = state.shown.count();
            tracing::info!(shown, needed = self.sealed.threshold(), "took a share of the root key");
            self.tell(shown);
            return Ok(self.look(shown, true));
        };
        let root = self.sealed.open(&key).map_err(|error| {
            tracing::error!(%error, "the sealed root does not open");
            status(
                error.kind(),
                "the shares are right, and what they open is damaged: put a copy of root.sealed back",
            )
        })?;
        state.root = Some(root);
        self.readiness.set_not_ready("starting");
        self.unsealed.notify_one();
        Ok(self.look(0, false))
    }
}

fn is_sealed<T>() -> Result<Response<T>, Status> {
    Err(status(
        ErrorKind::Unavailable,
        format!("the vault is sealed: its root key is with people, {SHARES} of it open it"),
    ))
}

#[async_trait::async_trait]
impl VaultRoot for Waiting {
    async fn look(&self, _: Request<RootLookRequest>) -> Result<Response<RootLook>, Status> {
        let (shown, sealed) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.shown.count(), state.root.is_none())
        };
        Ok(Response::new(self.look(shown, sealed)))
    }

    async fn unseal(&self, request: Request<UnsealRequest>) -> Result<Response<RootLook>, Status> {
        let share = Zeroizing::new(request.into_inner().share);
        self.show(&share).map(Response::new)
    }

    async fn seal(&self, _: Request<SealRequest>) -> Result<Response<SealResponse>, Status> {
        // Shares that were shown are forgotten with it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.root.is_none() {
            *state = State::default();
            self.tell(0);
        }
        Ok(Response::new(SealResponse {}))
    }

    async fn split(&self, _: Request<SplitRequest>) -> Result<Response<SplitResponse>, Status> {
        is_sealed()
    }

    async fn keep(&self, _: Request<KeepSplitRequest>) -> Result<Response<RootLook>, Status> {
        is_sealed()
    }
}
