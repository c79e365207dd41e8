//! The table of who may call what. A server looks here before a handler runs; what is not here is refused.

use base::Role::{self, Accounts, Gateway, Identity, Warehouse};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// No certificate was shown.
    Nobody,
    /// The role named in a verified certificate.
    Role(Role),
    /// The owner of the data directory, through the role's local socket.
    Operator,
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Even a caller without a certificate (the handler asks for a token).
    Anyone,
    /// These roles.
    Roles(&'static [Role]),
    /// The local socket only.
    Operator,
}

const EVERYONE_BUT_VAULT: &[Role] = &[Accounts, Identity, Warehouse, Gateway];
const READERS: &[Role] = &[Identity, Warehouse, Gateway];

/// Every method of every role, with its callers.
pub const CALLS: &[(&str, Callers)] = &[
    ("/coffer.v1.Vault/Enrol", Callers::Anyone),
    ("/coffer.v1.Vault/Renew", Callers::Roles(EVERYONE_BUT_VAULT)),
    ("/coffer.v1.Vault/Authenticate", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Vault/LeaseProductKey", Callers::Roles(&[Warehouse])),
    ("/coffer.v1.Vault/LeaseLookupKey", Callers::Roles(&[Identity])),
    ("/coffer.v1.Vault/LeaseStateKey", Callers::Roles(&[Accounts, Identity, Warehouse])),
    ("/coffer.v1.Vault/PublicKey", Callers::Roles(&[Warehouse])),
    // Refused by a vault that serves: see `vault::rebuild`.
    ("/coffer.v1.Vault/LeaseToRebuild", Callers::Roles(&[Warehouse])),
    ("/coffer.v1.PeopleKeys/Next", Callers::Roles(&[Identity])),
    ("/coffer.v1.PeopleKeys/Drop", Callers::Roles(&[Identity])),
    (
        "/coffer.v1.Heads/Remember",
        Callers::Roles(&[Role::Vault, Accounts, Identity, Warehouse]),
    ),
    (
        "/coffer.v1.Heads/Recall",
        Callers::Roles(&[Role::Vault, Accounts, Identity, Warehouse]),
    ),
    ("/coffer.v1.Revocations/Watch", Callers::Roles(READERS)),
    ("/coffer.v1.Audit/Record", Callers::Roles(&[Accounts, Identity, Warehouse, Gateway])),
    ("/coffer.v1.Audit/Read", Callers::Roles(&[Gateway])),
    ("/coffer.v1.AuditOperator/Read", Callers::Operator),
    ("/coffer.v1.AuditWitness/Last", Callers::Roles(&[Role::Vault])),
    ("/coffer.v1.AuditWitness/CounterSign", Callers::Roles(&[Role::Vault])),
    ("/coffer.v1.VaultOperator/MintEnrolment", Callers::Operator),
    ("/coffer.v1.VaultOperator/CreateProductKeys", Callers::Operator),
    ("/coffer.v1.VaultOperator/CreateCredential", Callers::Operator),
    ("/coffer.v1.VaultOperator/ListCredentials", Callers::Operator),
    ("/coffer.v1.VaultOperator/RevokeCredential", Callers::Operator),
    ("/coffer.v1.VaultOperator/SetCustody", Callers::Operator),
    ("/coffer.v1.VaultOperator/IssuePublicCertificate", Callers::Operator),
    ("/coffer.v1.VaultRoot/Look", Callers::Operator),
    ("/coffer.v1.VaultRoot/Unseal", Callers::Operator),
    ("/coffer.v1.VaultRoot/Seal", Callers::Operator),
    ("/coffer.v1.VaultRoot/Split", Callers::Operator),
    ("/coffer.v1.VaultRoot/Keep", Callers::Operator),
    ("/coffer.v1.Accounts/Grant", Callers::Roles(&[Gateway])),
    ("/coffer.v1.AccountsOperator/CreateProduct", Callers::Operator),
    ("/coffer.v1.AccountsOperator/ListProducts", Callers::Operator),
    ("/coffer.v1.AccountsOperator/SetProduct", Callers::Operator),
    ("/coffer.v1.AccountsOperator/GrantCredential", Callers::Operator),
    ("/coffer.v1.Identity/Translate", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Identity/Find", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Identity/AsideKey", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Identity/OpenAside", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Identity/Erase", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Identity/Reveal", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/Append", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/CreateDatabase", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/DeleteDatabase", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/ListDatabases", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/CreateTable", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/DeleteTable", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/ListTables", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/Keep", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/Undrop", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/ListDropped", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/Declare", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/Tail", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/ListAside", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/IssueJob", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/ShowJob", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/ListJobs", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/KillJob", Callers::Roles(&[Gateway])),
    ("/coffer.v1.Warehouse/JobResult", Callers::Roles(&[Gateway])),
    ("/coffer.v1.RoleOperator/DrillZone", Callers::Operator),
    ("/coffer.v1.RoleOperator/Status", Callers::Operator),
    ("/coffer.v1.RoleOperator/Metrics", Callers::Operator),
    ("/coffer.v1.RoleZones/Status", Callers::Operator),
    ("/coffer.v1.RoleZones/Scrub", Callers::Operator),
    ("/coffer.v1.RebuildOperator/Look", Callers::Operator),
];

/// Every method that the protocol has, whether it is listed or not: read off it when the program is built.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// Whether `caller` may call the method at `path` (`/package.Service/Method`).
pub fn may_call(path: &str, caller: Caller) -> bool {
    CALLS
        .iter()
        .find(|(method, _)| *method == path)
        .is_some_and(|(_, callers)| match (callers, caller) {
            (Callers::Anyone, _) => true,
            (Callers::Roles(roles), Caller::Role(role)) => roles.contains(&role),
            (Callers::Operator, Caller::Operator) => true,
            _ => false,
        })
}

/// Whether the call at `path` goes on, until its pass ends, while revocations are not heard: only what sends events in,
/// so that ingest outlives a short outage of the vault. Nothing that reads.
pub fn goes_on_unheard(path: &str) -> bool {
    matches!(
        path,
        "/coffer.v1.Identity/Translate" | "/coffer.v1.Identity/AsideKey" | "/coffer.v1.Warehouse/Append"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_exactly_one_line_and_every_line_a_method() {
        let mut listed: Vec<&str> = CALLS.iter().map(|(method, _)| *method).collect();
        let mut real = METHODS.to_vec();
        listed.sort_unstable();
        real.sort_unstable();
        assert_eq!(listed, real);
    }

    #[test]
    fn three_calls_go_on_while_revocations_are_not_heard() {
        assert_eq!(METHODS.iter().filter(|method| goes_on_unheard(method)).count(), 3);
    }

    #[test]
    fn what_is_not_listed_is_refused_to_everybody() {
        let callers = Role::ALL.into_iter().map(Caller::Role).chain([Caller::Nobody, Caller::Operator]);
        for caller in callers {
            assert!(!may_call("/coffer.v1.Vault/Unheard", caller), "{caller:?}");
            assert!(!may_call("", caller), "{caller:?}");
        }
    }

    #[test]
    fn without_a_certificate_only_enrolment_is_open() {
        let open: Vec<_> = METHODS.iter().filter(|m| may_call(m, Caller::Nobody)).collect();
        assert_eq!(open, [&"/coffer.v1.Vault/Enrol"]);
    }
}
