//! The service for who holds the root key, on the local socket only, of a vault that is unsealed.

use std::sync::Arc;

use base::ErrorKind;
use edge::status;
use tonic::{Request, Response, Status};
use wire::v1::vault_root_server::VaultRoot;
use wire::v1::{KeepSplitRequest, RootLook, RootLookRequest, SealRequest, SealResponse, SplitRequest, SplitResponse, UnsealRequest};
use zeroize::Zeroizing;

use super::{Chain, Services, to_the_end};
use crate::holder::HolderError;

#[async_trait::async_trait]
impl VaultRoot for Services {
    async fn look(&self, _: Request<RootLookRequest>) -> Result<Response<RootLook>, Status> {
        Ok(Response::new(self.shared.holder.look().await))
    }

    async fn unseal(&self, request: Request<UnsealRequest>) -> Result<Response<RootLook>, Status> {
        // Not judged: nothing would come of it.
        drop(Zeroizing::new(request.into_inner().share));
        Ok(Response::new(self.shared.holder.look().await))
    }

    async fn seal(&self, _: Request<SealRequest>) -> Result<Response<SealResponse>, Status> {
        self.shared.serves()?;
        if !self.shared.holder.is_shared().await {
            return Err(status(
                ErrorKind::Conflict,
                "the root key is in a file or in a token and would be read again at once: `coffer vault init` splits it among people",
            ));
        }
        tracing::warn!("the vault is being sealed");
        // The whole process ends, and with it all that was in its memory; the supervisor starts it again, without a root key.
        self.cancel.cancel();
        Ok(Response::new(SealResponse {}))
    }

    async fn split(&self, request: Request<SplitRequest>) -> Result<Response<SplitResponse>, Status> {
        self.shared.serves()?;
        let asked = request.into_inner();
        let old: Vec<_> = asked.old.into_iter().map(Zeroizing::new).map(Text).collect();
        let number = |value| u8::try_from(value).unwrap_or(u8::MAX);
        let numbers = (number(asked.shares), number(asked.threshold));
        let shared = &self.shared;
        let made = shared
            .holder
            .split(&shared.keyring.root, numbers, &old, shared.clock.now(), &*shared.entropy)
            .await;
        let (set, shares) = made.map_err(|error| refusal(&error))?;
        Ok(Response::new(SplitResponse {
            set: set.to_vec(),
            shares: shares.iter().map(|share| share.reveal().to_owned()).collect(),
        }))
    }

    async fn keep(&self, request: Request<KeepSplitRequest>) -> Result<Response<RootLook>, Status> {
        self.shared.serves()?;
        let shares: Vec<_> = request.into_inner().shares.into_iter().map(Zeroizing::new).map(Text).collect();
        let shared = Arc::clone(&self.shared);
        let kept = to_the_end(async move { shared.holder.keep(&shared.keyring.root, &shares).await }).await?;
        kept.map_err(|error| refusal(&error))?;
        Ok(Response::new(self.shared.holder.look().await))
    }
}

/// A share's text, wiped when dropped.
struct Text(Zeroizing<String>);

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn refusal(error: &HolderError) -> Status {
    tracing::warn!(error = %Chain(error), "the holder of the root key did not change");
    match error {
        // What is wrong with a file is for whoever owns the directory, who alone can ask.
        HolderError::Sealed(_) | HolderError::FileRemains(_) => status(error.kind(), Chain(error).to_string()),
        other => status(other.kind(), other.to_string()),
    }
}
