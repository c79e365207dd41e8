//! What each role signs with, for seeing what two roles can sign together that neither can alone.
//!
//! The other roles' signing keys are certified as at a start of theirs. The vault's is in what the vault has: a copy of it is opened, without the
//! root key, which is read where it is; the copy lies where only the operator looks and is gone when this returns.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use base::{OsEntropy, Role, SystemClock};
use edge::{Peers, RoleTls};
use rustls_pki_types::CertificateDer;
use seal::{HolderId, InstallationKey, Signer};

use super::super::child::handover;
use super::super::zones;
use super::Breaching;
use crate::breach::Attempt;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::role::breach::calls;
use crate::role::policy::called_by;

/// The vault goes on while it is copied; a copy that was made in between something does not open, and another is made.
const TRIES: usize = 5;
/// Deeper is nothing that a vault has.
const DEEPEST: usize = 12;
const WHAT: &str = "could not get what the roles sign with";

/// What a role has to make a pass with.
pub(crate) struct Signing {
    pub(crate) signer: Arc<Signer>,
    pub(crate) holder: HolderId,
    pub(crate) tls: Arc<RoleTls>,
}

impl Breaching {
    /// A certified signer for a role that is certified by the vault, and what its signatures are checked against.
    pub(crate) async fn signing(&self, role: Role) -> Outcome<(Signing, InstallationKey)> {
        let missing = || Failure::new(Exit::Failed, WHAT);
        let mut line = handover(role, &self.shared, None).await?.handover;
        let enrolment = line.enrolment.take().ok_or_else(missing)?;
        let installation = InstallationKey::try_from(&enrolment.installation_key.0[..]).during(WHAT)?;
        let vault = *line.peers.get(&Role::Vault).ok_or_else(missing)?;
        let ca = CertificateDer::from(enrolment.ca_certificate.0);
        let token = enrolment.token.0;
        let (entropy, clock) = (Arc::new(OsEntropy), Arc::new(SystemClock));
        let enrolled = edge::enrol(vault, ca, installation, token.reveal(), role, entropy, clock).await;
        let (tls, signer) = enrolled.map_err(|error| Failure::new(Exit::from(error.kind()), WHAT).why(error))?;
        let signing = Signing {
            signer: Arc::new(signer),
            holder: tls.holder_id(),
            tls: Arc::new(tls),
        };
        Ok((signing, installation))
    }

    /// What the vault gets of the roles that it can reach, by calls under its own certificate.
    pub(crate) async fn calls_of_vault(&self, signing: &Signing) -> Outcome<Vec<Attempt>> {
        let peers = Peers::new(Arc::clone(&signing.tls), self.shared.listeners.peers.clone());
        let mut attempts = Vec::new();
        // Its sandbox keeps it from the others; that is tried from inside.
        for to in called_by(Role::Vault) {
            attempts.extend(calls::at(to, &peers, signing.holder, &signing.signer).await?);
        }
        Ok(attempts)
    }

    /// The vault's, or why it cannot be had: its root key is in shares, or its zones are not here.
    pub(crate) async fn signing_of_vault(&self) -> Outcome<Result<Signing, String>> {
        let mut why = String::new();
        for _ in 0..TRIES {
            match self.copy_of_vault().await? {
                Ok(signing) => return Ok(Ok(signing)),
                Err(reason) => why = reason,
            }
        }
        Ok(Err(why))
    }

    async fn copy_of_vault(&self) -> Outcome<Result<Signing, String>> {
        let (layout, config) = (&self.shared.layout, &self.shared.config);
        let copy = tempfile::Builder::new().prefix(".breach-").tempdir_in(layout.run()).during(WHAT)?;
        let original = layout.role(Role::Vault);
        let root_key = original.join(&config.shape.vault.root_key);
        if !root_key.is_file() {
            return Ok(Err("its root key is not in a file".into()));
        }
        let own = copy.path().join("own");
        if let Err(error) = copied(&original, &own, &root_key, DEEPEST) {
            return Ok(Err(error.to_string()));
        }
        let mut listed = Vec::new();
        for (at, zone) in zones::paths(config, layout, Role::Vault).iter().enumerate() {
            let to = copy.path().join(format!("zone-{at}"));
            if let Err(error) = copied(zone, &to, &root_key, DEEPEST) {
                return Ok(Err(error.to_string()));
            }
            let name = zone.file_name().unwrap_or_default().to_string_lossy();
            // The name that the zone has, which a directory need not have.
            let named = fs::read(zone.join("zone.json")).ok();
            let named = named.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
            let name = named
                .and_then(|zone| Some(zone["name"].as_str()?.to_owned()))
                .unwrap_or_else(|| name.into_owned());
            listed.push(serde_json::json!({"name": name, "path": to}));
        }
        let settings = serde_json::json!({"root_key": root_key, "zones": {"zones": listed}});
        let settings: vault::VaultSettings = serde_json::from_value(settings).during(WHAT)?;
        let parts = vault::VaultParts {
            directory: own,
            token: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
        };
        let prepared = tokio::task::spawn_blocking(move || vault::prepare(settings, parts))
            .await
            .during(WHAT)?;
        let opened = match prepared {
            Ok(vault::Prepared::Open(prepared)) => prepared.open().await,
            Ok(vault::Prepared::Sealed(_)) => return Ok(Err("it is sealed".into())),
            Err(error) => Err(error),
        };
        Ok(opened.map_err(|error| error.to_string()).map(|opened| Signing {
            signer: opened.signer().get(),
            holder: opened.tls().holder_id(),
            tls: opened.tls(),
        }))
    }
}

/// Copies directories and files, follows no link, and leaves one file out.
fn copied(from: &Path, to: &Path, without: &Path, deepest: usize) -> io::Result<()> {
    if deepest == 0 {
        return Err(io::Error::other(format!("{} lies too deep", from.display())));
    }
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        let form = entry.file_type()?;
        if form.is_dir() {
            copied(&path, &copy, without, deepest - 1)?;
        } else if form.is_file() && path != without {
            fs::copy(&path, &copy)?;
        }
    }
    Ok(())
}
