//! The check of an installation's own audit journal, running or not: everything holds, and nothing was done to keys without a record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use audit::{Decision, Fault, Header, Record, Report, SignedHead, Verifier};
use base::{ErrorKind, Role};
use seal::InstallationKey;

use super::view::{AuditView, AuditViewError};
use super::{JOURNAL, VIEW};
use crate::custody::CUSTOMER;
use crate::view::{View, ViewError};

const AT_ONCE: u32 = 5000;

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no view of an audit journal, or none of the keys that it tells of.
    #[error("{0} is not there, or is no file")]
    None(std::path::PathBuf),
    /// The view of the audit journal failed.
    #[error(transparent)]
    Audit(#[from] AuditViewError),
    /// The vault's view failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// No head is signed by both roles yet.
    #[error("no state of the {JOURNAL} journal is signed by both roles yet")]
    NoHead,
}

impl VerifyError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::None(_) => ErrorKind::NotFound,
            Self::Audit(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::NoHead => ErrorKind::Unavailable,
        }
    }
}

/// Reads all records in the vault's directory, up to the newest head that both roles signed, and checks them against it and against heads
/// that were kept. Then looks whether each product key that was made or revoked since the first record has a record of that.
///
/// `key` is the installation's, from where the vault's role writes nothing.
pub async fn verify(directory: &Path, key: &InstallationKey, kept: Vec<SignedHead>) -> Result<Report, VerifyError> {
    let at = directory.join(VIEW);
    let keys = directory.join(crate::open::VIEW);
    for file in [&at, &keys] {
        if !std::fs::symlink_metadata(file).is_ok_and(|found| found.is_file()) {
            return Err(VerifyError::None(file.clone()));
        }
    }
    let view = AuditView::open_to_read(&at).await?;
    let head = view.newest().await?.ok_or(VerifyError::NoHead)?;
    let size = head.head.size;
    let mut verifier = Verifier::new(Some(*key), kept);
    verifier.line(&Header::new(key, 0, size).to_line());
    let mut evidence = Evidence::default();
    let mut after = 0;
    loop {
        let rows = view.records(0, after, u64::MAX, AT_ONCE).await?;
        let Some((last, _)) = rows.last() else { break };
        after = *last;
        for (n, line) in &rows {
            if *n <= size {
                verifier.line(line);
            }
            // Not only up to the head: what was done a moment ago has its record, which is not signed over yet.
            evidence.hear(line);
        }
    }
    verifier.line(&head.to_line(key));
    let mut report = verifier.finish();
    view.close().await;
    let keys = View::look(&keys).await?;
    report.faults.extend(evidence.judge(&keys).await?);
    keys.close().await;
    Ok(report)
}

/// What records say was done to product keys.
#[derive(Debug, Default)]
struct Evidence {
    since: Option<String>,
    made: BTreeMap<u64, u64>,
    with_products: BTreeMap<u64, u64>,
    revoked: BTreeSet<String>,
}

impl Evidence {
    fn hear(&mut self, line: &str) {
        let Ok(record) = Record::parse(line) else { return };
        self.since.get_or_insert_with(|| record.at.clone());
        // Keys are the vault's: what another role says of them says nothing.
        if record.decision != Decision::Allowed.as_str() || record.role != Role::Vault.as_str() {
            return;
        }
        match record.method.as_str() {
            // A product in its customer's custody is made together with its first key.
            "/coffer.v1.VaultOperator/CreateProductKeys" => *self.with_products.entry(record.product).or_default() += 1,
            "/coffer.v1.VaultOperator/CreateCredential" => *self.made.entry(record.product).or_default() += 1,
            "/coffer.v1.VaultOperator/RevokeCredential" => {
                self.revoked.insert(record.on_behalf);
            }
            _ => {}
        }
    }

    async fn judge(&self, keys: &View) -> Result<Vec<Fault>, ViewError> {
        let mut faults = Vec::new();
        // What was done before there was an audit journal has no record.
        let Some(since) = &self.since else { return Ok(faults) };
        let after = |at: base::Timestamp| at.to_string().trim_end_matches('Z') >= since.as_str().split('.').next().unwrap_or_default();
        for product in keys.products().await? {
            let credentials = keys.credentials(product).await?;
            let made = credentials.iter().filter(|row| after(row.created_at)).count() as u64;
            let mut recorded = self.made.get(&product.get()).copied().unwrap_or(0);
            if keys.custody_at_first(product).await?.as_deref() == Some(CUSTOMER) {
                recorded += self.with_products.get(&product.get()).copied().unwrap_or(0).min(1);
            }
            if made > recorded {
                let what = format!("{made} keys of product {product} were made, {recorded} records say so");
                faults.push(Fault { record: None, what });
            }
            for row in credentials {
                let id = format!("key:{}", row.credential);
                if row.revoked_at.is_some_and(after) && !self.revoked.contains(&id) {
                    let what = format!("the key {} of product {product} was revoked, and no record says so", row.credential);
                    faults.push(Fault { record: None, what });
                }
            }
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use audit::{Draft, HashKey, Numbers, Object, Who};
    use base::{CredentialId, ProductId, SeededEntropy, Timestamp};
    use seal::DataKey;

    use super::*;

    #[test]
    fn only_what_the_vault_says_of_keys_counts() {
        let hashes = HashKey::new(DataKey::generate(&SeededEntropy::new(1)));
        let heard = |role| {
            let mut evidence = Evidence::default();
            for method in ["CreateProductKeys", "CreateCredential", "RevokeCredential"] {
                let draft = Draft {
                    at: Timestamp::from_secs(1_800_000_000),
                    role,
                    who: Who::Operator,
                    on_behalf: Some(CredentialId::from_bytes([1; 16])),
                    method: format!("/coffer.v1.VaultOperator/{method}"),
                    object: Object::None,
                    request: None,
                    decision: Decision::Allowed,
                    rule: "calls".into(),
                    pass: None,
                    product: ProductId::new(7).ok(),
                    count: 1,
                };
                let at = Numbers {
                    number: 1,
                    of_product: 1,
                    previous: Default::default(),
                };
                evidence.hear(&Record::new(&draft, at, &hashes).to_line());
            }
            (evidence.with_products.len(), evidence.made.len(), evidence.revoked.len())
        };
        assert_eq!(heard(Role::Vault), (1, 1, 1));
        for role in [Role::Accounts, Role::Identity, Role::Warehouse, Role::Gateway] {
            assert_eq!(heard(role), (0, 0, 0), "{role}");
        }
    }
}
