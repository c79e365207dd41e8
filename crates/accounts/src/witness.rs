//! The witness of the vault's audit journal: what it signed is remembered, and nothing is signed that does not go on from it.
//!
//! Promise: of two histories of the audit journal at most one has this role's signatures. What was signed is durable before the signature is
//! given away. It lies in the view alone, as remembered heads do; a view that is made anew begins with what is shown to it next.

use std::sync::Arc;
use std::time::Duration;

use audit::{Hash, Statement, TreeHead, consistent};
use base::{Clock, ErrorKind, Role, Timestamp};
use edge::{CurrentSigner, status};
use seal::{Attestation, InstallationKey};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};
use wire::v1::audit_witness_server::AuditWitness;
use wire::v1::{CounterSignRequest, CounterSignResponse, LastHeadRequest, LastHeadResponse};

use crate::state::State;

/// A proof has two hashes for each bit of the number of records, at most.
const LONGEST_PROOF: usize = 128;
/// The vault signs a head and shows it at once. Its clock may be off by no more than this from ours, else two would sign for a time that one made up.
const LEEWAY: Duration = Duration::from_secs(120);

/// Signs heads of the audit journal.
pub(crate) struct Witness {
    pub(crate) state: Arc<State>,
    pub(crate) installation: InstallationKey,
    pub(crate) signer: CurrentSigner,
    pub(crate) clock: Arc<dyn Clock>,
    /// One after the other: each is compared with the one before.
    pub(crate) one: Mutex<()>,
}

#[tonic::async_trait]
impl AuditWitness for Witness {
    async fn last(&self, _: Request<LastHeadRequest>) -> Result<Response<LastHeadResponse>, Status> {
        let last = self
            .state
            .audit_head()
            .await
            .map_err(|error| status(error.kind(), error.to_string()))?;
        Ok(Response::new(match last {
            Some((size, root)) => LastHeadResponse { size, root: root.to_vec() },
            None => LastHeadResponse::default(),
        }))
    }

    async fn counter_sign(&self, request: Request<CounterSignRequest>) -> Result<Response<CounterSignResponse>, Status> {
        let CounterSignRequest {
            journal,
            size,
            root,
            at,
            certificate,
            signature,
            proof,
        } = request.into_inner();
        let malformed = || status(ErrorKind::Invalid, "this is not a head of the audit journal");
        if proof.len() > LONGEST_PROOF {
            return Err(malformed());
        }
        let hash = |bytes: Vec<u8>| Hash::try_from(bytes).map_err(|_| malformed());
        let proof = proof.into_iter().map(hash).collect::<Result<Vec<_>, _>>()?;
        let head = TreeHead {
            journal,
            size,
            root: hash(root)?,
            at: Timestamp::from_micros(at),
        };
        let vaults = Attestation { certificate, signature };
        if head.size == 0 || head.journal != TreeHead::journal_of(&self.installation) {
            return Err(malformed());
        }
        if let Err(error) = head.believe(&self.installation, Role::Vault, &vaults) {
            return Err(status(ErrorKind::Invalid, error.to_string()));
        }
        let now = self.clock.now();
        if head.at.since(now).max(now.since(head.at)) > LEEWAY {
            tracing::error!(told = %head.at, "the vault showed a head of the audit journal that is of another time");
            return Err(status(
                ErrorKind::Invalid,
                "this head of the audit journal is of another time than now",
            ));
        }
        let _one = self.one.lock().await;
        let failed = |error: crate::view::ViewError| status(error.kind(), error.to_string());
        if let Some((known, before)) = self.state.audit_head().await.map_err(failed)?
            && !consistent(known, &before, head.size, &head.root, &proof)
        {
            tracing::error!(
                known,
                told = head.size,
                "the vault showed another audit journal than the one that was signed"
            );
            let what = format!(
                "{known} records were signed for, and the {} that are shown now do not begin with them",
                head.size
            );
            return Err(status(ErrorKind::Conflict, what));
        }
        self.state.keep_audit_head(head.size, &head.root).await.map_err(failed)?;
        let signed = head.sign(&self.signer.get());
        Ok(Response::new(CounterSignResponse {
            certificate: signed.certificate,
            signature: signed.signature,
        }))
    }
}
