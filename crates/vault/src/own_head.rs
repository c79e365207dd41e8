//! The vault's own head: how far its journal has come, as the accounts role remembers it for the vault.
//!
//! At the start the vault compares what accounts remembers with what its zones hold; from then on it tells accounts of
//! each new segment. Accounts starts after the vault, so the vault serves meanwhile, and stops if it turns out stale.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{ErrorKind, Role};
use edge::{Peers, kind_of};
use journal::{Head, Recovered};
use tokio::time::sleep;
use wire::v1::heads_client::HeadsClient;
use wire::v1::{self, RecallRequest, RememberRequest};

use crate::open::JOURNAL;
use crate::run::RunError;
use crate::services::Shared;

const EVERY: Duration = Duration::from_secs(2);
/// Until accounts has answered once: nothing is recorded before, and so nothing is done that needs a record.
const SOON: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(5);

/// Returns only when the journal turns out to have gone back. `compared` is told once it is known that it had not at the start.
pub(crate) async fn guard(shared: &Shared, recovered: &Recovered, peers: &Peers, compared: &AtomicBool) -> RunError {
    let mut accounts = HeadsClient::new(peers.channel(Role::Accounts));
    let remembered = loop {
        match accounts.recall(soon(RecallRequest {})).await {
            Ok(answer) => break answer.into_inner().heads,
            Err(error) => tracing::debug!(error = error.message(), "accounts does not say yet what it remembers"),
        }
        sleep(SOON).await;
    };
    for head in remembered.into_iter().filter(|head| head.journal == JOURNAL) {
        let known = <[u8; 32]>::try_from(head.hash).map(|hash| Head { length: head.length, hash });
        match known.map(|head| recovered.check_head(&head)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the vault's journal is not what it was");
                return RunError::WentBack;
            }
            Err(_) => return RunError::WentBack,
        }
    }
    compared.store(true, Ordering::SeqCst);
    if let Some(rebuilding) = &shared.rebuilding {
        rebuilding.compared(false);
    }
    let mut told = None;
    loop {
        if let Some(head) = shared.keyring.decided().await.filter(|head| told.as_ref() != Some(head)) {
            let heads = vec![v1::Head {
                journal: JOURNAL.to_owned(),
                length: head.length,
                hash: head.hash.to_vec(),
            }];
            match accounts.remember(soon(RememberRequest { heads })).await {
                Ok(_) => told = Some(head),
                Err(error) if matches!(kind_of(&error), ErrorKind::Conflict | ErrorKind::Corrupt) => {
                    tracing::error!(error = error.message(), "accounts remembers another state of the vault's journal");
                    return RunError::WentBack;
                }
                Err(error) => tracing::warn!(error = error.message(), "accounts did not remember the vault's head, trying again"),
            }
        }
        sleep(EVERY).await;
    }
}

fn soon<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER);
    request
}
