//! Two roles taken over at once: what they have together that neither has alone.
//!
//! Tried: passes of which each role signs a half, for every audience and holder. Told from what each got: the keys that one holds and the files that
//! the other reads.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{Clock, CredentialId, OsEntropy, ProductId, Role, Scope, SystemClock, Verb, Verbs};
use seal::{Assertion, Grant, InstallationKey, Pass, verify_pass};

use crate::breach::matrix::Matrix;
use crate::breach::{Attempt, Came};
use crate::failure::{During, Outcome};
use crate::supervise::{Breaching, Signing};

/// Who holds keys for what somebody else has, and what the two are then: the second role's row, the first role's and the word for it.
const KEYS: [(Role, Role, &str); 3] = [
    (Role::Vault, Role::Warehouse, "read the events of managed products"),
    (Role::Vault, Role::Identity, "read the people of managed products"),
    (Role::Identity, Role::Warehouse, "tell whose the events of leased products are"),
];

/// Tries every pair; those with the vault only if what it signs with could be had.
pub(super) async fn attack(breaching: &Breaching, vault: Option<Signing>, got: &Matrix) -> Outcome<Vec<(Role, Attempt)>> {
    let mut signing = BTreeMap::new();
    let mut key = None;
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Vault) {
        let (of, installation) = breaching.signing(role).await?;
        signing.insert(role, of);
        key = Some(installation);
    }
    if let Some(vault) = vault {
        signing.insert(Role::Vault, vault);
    }
    let mut attempts = Vec::new();
    for (one, other) in pairs() {
        let (Some(key), Some(first), Some(second)) = (&key, signing.get(&one), signing.get(&other)) else {
            continue;
        };
        for (says, grants) in [((one, first), (other, second)), ((other, second), (one, first))] {
            for audience in Role::ALL {
                for holder in [first, second] {
                    let made = accepted(key, (says.1, grants.1), audience, holder)?;
                    let target = format!("{} says who, {} grants, for {audience}", says.0, grants.0);
                    attempts.push((other, note(one, "make passes", target, made)));
                }
            }
        }
        for (holds, reads, word) in KEYS.iter().filter(|(holds, reads, _)| (*holds, *reads) == (one, other)) {
            let both = [*holds, *reads].iter().all(|role| got.has(*role, "own directory", "read"));
            let came = if both { Came::Got } else { Came::Refused };
            let says = "what each got by itself".to_owned();
            attempts.push((other, note(one, word, format!("keys of {holds}, files of {reads}"), (came, says))));
        }
    }
    Ok(attempts)
}

/// Each two once.
fn pairs() -> Vec<(Role, Role)> {
    let after = |at: usize| Role::ALL.into_iter().skip(at + 1);
    let of = |(at, one): (usize, Role)| after(at).map(move |other| (one, other));
    Role::ALL.into_iter().enumerate().flat_map(of).collect()
}

fn note(one: Role, act: &str, target: String, (came, says): (Came, String)) -> Attempt {
    Attempt {
        asset: format!("with {one}"),
        act: act.to_owned(),
        target,
        came,
        says,
    }
}

/// Whether a role would believe a pass of which one says who somebody is and the other what they may.
fn accepted(key: &InstallationKey, (says, grants): (&Signing, &Signing), audience: Role, holder: &Signing) -> Outcome<(Came, String)> {
    let now = SystemClock.now();
    let assertion = Assertion {
        credential: CredentialId::generate(now, &OsEntropy),
        product: ProductId::new(1).during("there is no product 1")?,
        audience,
        holder: holder.holder,
        issued_at: now,
        expires_at: now.plus(Duration::from_secs(60)),
        id: [7; 16],
    };
    let signed = assertion.sign(&says.signer);
    let grant = Grant::answering(&assertion, &signed, Verbs::of(&Verb::ALL), Scope::Product).sign(&grants.signer);
    let pass = Pass { assertion: signed, grant }.encode();
    Ok(match verify_pass(key, &pass, audience, &holder.holder, now) {
        Ok(_) => (Came::Got, "believed".into()),
        Err(error) => (Came::Refused, error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_tried_once() {
        assert_eq!(pairs().len(), Role::ALL.len() * (Role::ALL.len() - 1) / 2);
        assert!(pairs().iter().all(|(one, other)| one < other));
        assert!(KEYS.iter().all(|(holds, reads, _)| pairs().contains(&(*holds, *reads))));
    }
}
