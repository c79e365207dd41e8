//! Accounts as the witness: it remembers the head that it signed last, and signs no other that does not go on from it.
//!
//! At the start the vault compares what accounts remembers with what its zones hold; until then nothing is recorded. From then on it has
//! each new state signed, soon.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit::{Hash, Node, SignedHead, Statement, TreeHead, consistency};
use base::{ErrorKind, Role};
use edge::{Peers, kind_of};
use seal::Attestation;
use tokio::time::{sleep, timeout};
use tonic::Request;
use wire::v1::audit_witness_client::AuditWitnessClient;
use wire::v1::{CounterSignRequest, LastHeadRequest};

use super::{AuditError, AuditLog, Standing};
use crate::services::Chain;

/// Between two heads, unless somebody waits for one.
const EVERY: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(5);

/// Why the audit journal must not be gone on with.
#[derive(Debug, thiserror::Error)]
#[error("the accounts role signed another state of the audit journal than the vault has: {0}")]
pub(crate) struct Another(String);

type Witness = AuditWitnessClient<tonic::transport::Channel>;

/// Returns only when accounts remembers another history.
pub(crate) async fn guard(log: &AuditLog, peers: &Peers, compared: &AtomicBool) -> Another {
    if peers.address(Role::Accounts).is_none() {
        log.compared.send_replace(true);
        return std::future::pending().await;
    }
    // That the vault's own journal is no older state comes first.
    while !compared.load(Ordering::SeqCst) {
        sleep(SOON).await;
    }
    let mut accounts = AuditWitnessClient::new(peers.channel(Role::Accounts));
    let mut last = loop {
        match accounts.last(soon(LastHeadRequest {})).await.map(tonic::Response::into_inner) {
            Ok(said) => match (said.size, Hash::try_from(&said.root[..])) {
                (0, _) => break None,
                (size, Ok(root)) => break Some(Standing { size, root }),
                (size, Err(_)) => return Another(format!("a head over {size} records that cannot be read")),
            },
            Err(error) => tracing::debug!(error = error.message(), "accounts does not say yet which audit head it signed last"),
        }
        sleep(AGAIN).await;
    };
    if let Some(remembered) = last {
        match root_at(log, remembered.size).await {
            Ok(Some(root)) if root == remembered.root => {}
            Ok(Some(_)) => return Another(format!("the first {} records are others", remembered.size)),
            Ok(None) => return Another(format!("{} records were signed for, there are fewer", remembered.size)),
            Err(error) => return Another(format!("what is here cannot be read: {}", Chain(&error))),
        }
    }
    log.compared.send_replace(true);
    loop {
        if let Err(another) = sign(log, &mut accounts, &mut last).await {
            return another;
        }
        let mut standing = log.standing.clone();
        let changed = standing.wait_for(|now| last.is_none_or(|last| last.size != now.size));
        if changed.await.is_err() {
            return std::future::pending().await;
        }
        let _ = timeout(EVERY, log.wanted.notified()).await;
    }
}

// The root of the first `size` records, if there are as many.
async fn root_at(log: &AuditLog, size: u64) -> Result<Option<Hash>, AuditError> {
    if size > log.standing.borrow().size {
        return Ok(None);
    }
    let mut hashes = Vec::new();
    for node in audit::parts(0, size) {
        hashes.push(log.view.part(node).await?);
    }
    Ok(audit::Frontier::of(size, hashes).map(|tree| tree.root()))
}

// An error is one that ends the vault; everything else is tried again.
async fn sign(log: &AuditLog, accounts: &mut Witness, last: &mut Option<Standing>) -> Result<(), Another> {
    loop {
        let Standing { size, root } = *log.standing.borrow();
        if size == 0 {
            return Ok(());
        }
        let head = TreeHead {
            journal: TreeHead::journal_of(&log.key),
            size,
            root,
            at: log.clock.now(),
        };
        match counter_signed(log, accounts, head, *last).await {
            Ok(signed) => {
                *last = Some(Standing { size, root });
                match log.view.keep(&signed, &log.key).await {
                    Ok(()) => {
                        log.signed.send_replace(size);
                        return Ok(());
                    }
                    Err(error) => tracing::error!(error = %Chain(&error), "a signed head of the audit journal could not be kept"),
                }
            }
            Err(Failed::Conflict(why)) => return Err(Another(why)),
            Err(Failed::Else(why)) => tracing::warn!("the audit journal's head is not signed by accounts, trying again: {why}"),
        }
        sleep(EVERY).await;
    }
}

enum Failed {
    Conflict(String),
    Else(String),
}

async fn counter_signed(log: &AuditLog, accounts: &mut Witness, head: TreeHead, last: Option<Standing>) -> Result<SignedHead, Failed> {
    let vault = head.sign(&log.signer.get());
    let proof = match last {
        Some(last) => proof(log, last.size, head.size)
            .await
            .map_err(|error| Failed::Else(Chain(&error).to_string()))?,
        None => Vec::new(),
    };
    let asked = CounterSignRequest {
        journal: head.journal.clone(),
        size: head.size,
        root: head.root.to_vec(),
        at: head.at.as_micros(),
        certificate: vault.certificate.clone(),
        signature: vault.signature.clone(),
        proof: proof.iter().map(|hash| hash.to_vec()).collect(),
    };
    let signed = accounts
        .counter_sign(soon(asked))
        .await
        .map_err(|refusal| match kind_of(&refusal) {
            ErrorKind::Conflict => Failed::Conflict(refusal.message().to_owned()),
            _ => Failed::Else(refusal.message().to_owned()),
        })?;
    let signed = signed.into_inner();
    let accounts = Attestation {
        certificate: signed.certificate,
        signature: signed.signature,
    };
    head.believe(&log.key, Role::Accounts, &accounts)
        .map_err(|error| Failed::Else(Chain(&error).to_string()))?;
    Ok(SignedHead { head, vault, accounts })
}

/// That the first `old` records are the beginning of the first `new`.
async fn proof(log: &AuditLog, old: u64, new: u64) -> Result<Vec<Hash>, AuditError> {
    let mut needed = Vec::new();
    let Ok(_) = consistency::<Infallible>(old, new, &mut |node| {
        needed.push(node);
        Ok([0; 32])
    });
    let mut known: HashMap<Node, Hash> = HashMap::new();
    for node in needed {
        known.insert(node, log.view.part(node).await?);
    }
    consistency(old, new, &mut |node| {
        known
            .get(&node)
            .copied()
            .ok_or(AuditError::View(super::AuditViewError::Value("part of the tree")))
    })
}

fn soon<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER);
    request
}
