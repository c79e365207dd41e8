//! What of each call goes into the audit journal, and what of a call's message a record says.
//!
//! Promise: every method has a decision here, or a test fails; and what a record says of a message are product, credential and names that
//! the message is about. Texts of queries, identities, keys and rows are not among them.
//!
//! Start at [`audited`]. Does not know who records, or when.

use prost::Message;

use crate::v1;

/// When a call is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audited {
    /// Before it is begun; what cannot be recorded is refused. All that changes rights, keys, products and settings, all that deletes, and
    /// leases of keys to read with.
    First,
    /// Once it is answered, with what came of it; it goes on while nothing can be recorded.
    Afterwards,
    /// Only when it is refused: rows that come in, what roles say to each other, lists and states that are looked at again and again.
    Refusals,
}

use Audited::{Afterwards, First, Refusals};

/// Every method of every role, and when it is recorded.
pub const AUDITED: &[(&str, Audited)] = &[
    // Enrolment is how a role that ended comes back: also while too few zones are there to record it.
    ("/coffer.v1.Vault/Enrol", Afterwards),
    ("/coffer.v1.Vault/Renew", Afterwards),
    ("/coffer.v1.Vault/Authenticate", Afterwards),
    ("/coffer.v1.Vault/LeaseProductKey", First),
    // Rows come in with it while nothing can be recorded; it opens no row.
    ("/coffer.v1.Vault/LeaseLookupKey", Afterwards),
    ("/coffer.v1.Vault/LeaseStateKey", Afterwards),
    ("/coffer.v1.Vault/PublicKey", Refusals),
    // Whoever rebuilds has the root key in hand. It waits for nobody, so that what can be rebuilt is.
    ("/coffer.v1.Vault/LeaseToRebuild", Afterwards),
    ("/coffer.v1.PeopleKeys/Next", First),
    ("/coffer.v1.PeopleKeys/Drop", First),
    ("/coffer.v1.Heads/Remember", Refusals),
    ("/coffer.v1.Heads/Recall", Refusals),
    ("/coffer.v1.Revocations/Watch", Refusals),
    ("/coffer.v1.Audit/Record", Refusals),
    ("/coffer.v1.Audit/Read", Afterwards),
    ("/coffer.v1.AuditOperator/Read", Afterwards),
    ("/coffer.v1.AuditWitness/Last", Refusals),
    ("/coffer.v1.AuditWitness/CounterSign", Refusals),
    ("/coffer.v1.VaultOperator/MintEnrolment", Afterwards),
    ("/coffer.v1.VaultOperator/CreateProductKeys", First),
    ("/coffer.v1.VaultOperator/CreateCredential", First),
    ("/coffer.v1.VaultOperator/ListCredentials", Afterwards),
    ("/coffer.v1.VaultOperator/RevokeCredential", First),
    ("/coffer.v1.VaultOperator/SetCustody", First),
    // A gateway that starts needs one.
    ("/coffer.v1.VaultOperator/IssuePublicCertificate", Afterwards),
    ("/coffer.v1.VaultRoot/Look", Refusals),
    // A sealed vault cannot open its journal: what was tried waits until it can.
    ("/coffer.v1.VaultRoot/Unseal", Afterwards),
    // To seal must be possible whatever else is not.
    ("/coffer.v1.VaultRoot/Seal", Afterwards),
    ("/coffer.v1.VaultRoot/Split", First),
    ("/coffer.v1.VaultRoot/Keep", First),
    ("/coffer.v1.Accounts/Grant", Refusals),
    ("/coffer.v1.AccountsOperator/CreateProduct", First),
    ("/coffer.v1.AccountsOperator/ListProducts", Refusals),
    ("/coffer.v1.AccountsOperator/SetProduct", First),
    ("/coffer.v1.AccountsOperator/GrantCredential", First),
    ("/coffer.v1.Identity/Translate", Refusals),
    ("/coffer.v1.Identity/Find", Afterwards),
    ("/coffer.v1.Identity/AsideKey", Refusals),
    ("/coffer.v1.Identity/OpenAside", First),
    ("/coffer.v1.Identity/Erase", First),
    ("/coffer.v1.Identity/Reveal", First),
    ("/coffer.v1.Warehouse/Append", Refusals),
    ("/coffer.v1.Warehouse/CreateDatabase", First),
    ("/coffer.v1.Warehouse/DeleteDatabase", First),
    ("/coffer.v1.Warehouse/ListDatabases", Refusals),
    ("/coffer.v1.Warehouse/CreateTable", First),
    ("/coffer.v1.Warehouse/DeleteTable", First),
    ("/coffer.v1.Warehouse/ListTables", Refusals),
    ("/coffer.v1.Warehouse/Keep", First),
    ("/coffer.v1.Warehouse/Undrop", First),
    ("/coffer.v1.Warehouse/ListDropped", Refusals),
    ("/coffer.v1.Warehouse/Declare", First),
    ("/coffer.v1.Warehouse/Tail", Afterwards),
    ("/coffer.v1.Warehouse/ListAside", Afterwards),
    ("/coffer.v1.Warehouse/IssueJob", Afterwards),
    ("/coffer.v1.Warehouse/ShowJob", Refusals),
    ("/coffer.v1.Warehouse/ListJobs", Refusals),
    ("/coffer.v1.Warehouse/KillJob", Afterwards),
    ("/coffer.v1.Warehouse/JobResult", Afterwards),
    // A drill may be what keeps records from being written: ending it must not need one.
    ("/coffer.v1.RoleOperator/DrillZone", Afterwards),
    ("/coffer.v1.RoleOperator/Status", Refusals),
    ("/coffer.v1.RoleOperator/Metrics", Refusals),
    ("/coffer.v1.RoleZones/Status", Refusals),
    ("/coffer.v1.RoleZones/Scrub", Afterwards),
    ("/coffer.v1.RebuildOperator/Look", Refusals),
];

/// When the call at `path` is recorded. What is not listed needs a record first: nobody decided otherwise.
pub fn audited(path: &str) -> Audited {
    let listed = AUDITED.iter().find(|(method, _)| *method == path);
    listed.map_or(First, |(_, audited)| *audited)
}

/// Whether what was asked by `method` can have been asked of `role`: whoever tells of another's methods tells what is not its to tell.
/// What no role serves (`/left-out`, `/unlisted`, what the gateway does by itself) anybody may tell of itself.
pub fn is_its_own(role: base::Role, method: &str) -> bool {
    use base::Role;
    let Some((service, _)) = method.strip_prefix("/coffer.v1.").and_then(|rest| rest.split_once('/')) else {
        return true;
    };
    match service {
        "RoleOperator" | "RoleZones" | "RebuildOperator" => true,
        "Vault" | "VaultOperator" | "VaultRoot" | "PeopleKeys" | "Audit" | "AuditOperator" => role == Role::Vault,
        "Accounts" | "AccountsOperator" | "AuditWitness" => role == Role::Accounts,
        "Heads" | "Revocations" => matches!(role, Role::Vault | Role::Accounts),
        "Identity" => role == Role::Identity,
        "Warehouse" => role == Role::Warehouse,
        // Of a service that is not listed here, nobody's word is taken.
        _ => false,
    }
}

/// Whether a record holds a keyed hash of the call's message. Not where identities are in it: the hash would say for ever, to whoever has its
/// key, that one was asked for, and with what came of it whose id was whose, after the person was erased.
pub fn is_hashed(path: &str) -> bool {
    !matches!(
        path,
        "/coffer.v1.Identity/Translate" | "/coffer.v1.Identity/Find" | "/coffer.v1.Identity/Erase"
    )
}

/// Whether `text` can be the reason for being told who somebody is: the name of a case, such as `ticket-4711`. It stands in a record as it is, so no
/// e-mail address can be one.
pub fn is_reason(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.:".contains(&b);
    (3..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// What a message is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// A product, where the message and not the pass names it; 0 for none.
    pub product: u64,
    /// A credential.
    pub credential: Vec<u8>,
    /// What in the product or the installation: names, `/` between them.
    pub object: String,
}

/// What the message of a call at `path` is about, from its bytes as they were sent. Nothing where it cannot be read: its handler will
/// refuse it.
pub fn about(path: &str, body: &[u8]) -> About {
    // What frames a message of gRPC: whether it is compressed, and its length.
    let message = match body {
        [0, _, _, _, _, message @ ..] => message,
        _ => return About::default(),
    };
    read(path, message).unwrap_or_default()
}

fn read(path: &str, message: &[u8]) -> Result<About, prost::DecodeError> {
    let object = |object: String| About {
        object,
        ..About::default()
    };
    let product = |product: u64| About {
        product,
        ..About::default()
    };
    Ok(match path {
        "/coffer.v1.VaultOperator/MintEnrolment" => object(v1::MintEnrolmentRequest::decode(message)?.role),
        "/coffer.v1.VaultOperator/CreateProductKeys" => product(v1::CreateProductKeysRequest::decode(message)?.product),
        "/coffer.v1.VaultOperator/CreateCredential" => {
            let asked = v1::CreateCredentialRequest::decode(message)?;
            About {
                object: asked.kind,
                ..product(asked.product)
            }
        }
        "/coffer.v1.VaultOperator/SetCustody" => {
            let asked = v1::SetCustodyRequest::decode(message)?;
            About {
                object: asked.custody,
                ..product(asked.product)
            }
        }
        "/coffer.v1.VaultOperator/ListCredentials" => product(v1::ListCredentialsRequest::decode(message)?.product),
        "/coffer.v1.VaultOperator/RevokeCredential" => About {
            credential: v1::RevokeCredentialRequest::decode(message)?.credential,
            ..About::default()
        },
        "/coffer.v1.PeopleKeys/Drop" => product(v1::DropPeopleKeysRequest::decode(message)?.product),
        // By its id somebody who was erased is nobody any more; by what else they were asked for is not for a record.
        "/coffer.v1.Identity/Erase" => match v1::EraseRequest::decode(message)?.id {
            0 => object("person".to_owned()),
            id => object(format!("person/{id}")),
        },
        "/coffer.v1.Vault/LeaseToRebuild" => product(v1::RebuildLeaseRequest::decode(message)?.product),
        "/coffer.v1.AuditOperator/Read" | "/coffer.v1.Audit/Read" => {
            let asked = v1::AuditReadRequest::decode(message)?;
            // To take all of it away is another act than to look at some.
            let whole = if asked.whole { "export" } else { "" };
            let of = if path.ends_with("Operator/Read") { asked.product } else { 0 };
            About {
                object: whole.to_owned(),
                ..product(of)
            }
        }
        "/coffer.v1.AccountsOperator/CreateProduct" => object(v1::CreateProductRequest::decode(message)?.name),
        "/coffer.v1.AccountsOperator/SetProduct" => product(v1::SetProductRequest::decode(message)?.product),
        "/coffer.v1.AccountsOperator/GrantCredential" => {
            let asked = v1::GrantCredentialRequest::decode(message)?;
            About {
                credential: asked.credential,
                ..product(asked.product)
            }
        }
        "/coffer.v1.Identity/Reveal" => {
            let asked = v1::RevealRequest::decode(message)?;
            let person = format!("person/{}", asked.id);
            // What is no reason may be an identity, and is refused.
            object(if is_reason(&asked.reason) {
                format!("{person}/{}", asked.reason)
            } else {
                person
            })
        }
        "/coffer.v1.Warehouse/CreateDatabase" | "/coffer.v1.Warehouse/DeleteDatabase" => {
            object(v1::DatabaseRequest::decode(message)?.database)
        }
        "/coffer.v1.Warehouse/CreateTable" | "/coffer.v1.Warehouse/DeleteTable" => {
            let asked = v1::TableRequest::decode(message)?;
            object(named(asked.database, asked.table))
        }
        "/coffer.v1.Warehouse/Keep" => {
            let asked = v1::KeepRequest::decode(message)?;
            object(named(asked.database, asked.table))
        }
        "/coffer.v1.Warehouse/Undrop" => {
            let asked = v1::UndropRequest::decode(message)?;
            object(named(asked.database, asked.table))
        }
        "/coffer.v1.Warehouse/Declare" => {
            let asked = v1::DeclareRequest::decode(message)?;
            object(named(asked.database, asked.table))
        }
        "/coffer.v1.Warehouse/Tail" => {
            let asked = v1::TailRequest::decode(message)?;
            object(named(asked.database, asked.table))
        }
        "/coffer.v1.Warehouse/ListAside" => {
            let asked = v1::ListAsideRequest::decode(message)?;
            object(named(asked.database, asked.table))
        }
        "/coffer.v1.Warehouse/IssueJob" => object(v1::IssueJobRequest::decode(message)?.database),
        "/coffer.v1.Warehouse/KillJob" => object(format!("job/{}", v1::JobRequest::decode(message)?.job)),
        "/coffer.v1.Warehouse/JobResult" => object(format!("job/{}", v1::JobResultRequest::decode(message)?.job)),
        "/coffer.v1.RoleOperator/DrillZone" => object(format!("zone/{}", v1::DrillZoneRequest::decode(message)?.zone)),
        _ => About::default(),
    })
}

fn named(database: String, table: String) -> String {
    if table.is_empty() {
        database
    } else {
        format!("{database}/{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

    fn framed(message: &impl Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &bytes].concat()
    }

    #[test]
    fn every_method_has_exactly_one_decision_and_every_decision_a_method() {
        let mut listed: Vec<&str> = AUDITED.iter().map(|(method, _)| *method).collect();
        let mut real = METHODS.to_vec();
        listed.sort_unstable();
        real.sort_unstable();
        assert_eq!(listed, real);
    }

    #[test]
    fn every_method_is_told_of_by_a_role_that_serves_it_and_by_no_other() {
        use base::Role;
        for method in METHODS {
            let tellers = Role::ALL.into_iter().filter(|role| is_its_own(*role, method)).count();
            assert!((1..=5).contains(&tellers), "{method}: nobody may tell of it");
            let everywhere = ["RoleOperator", "RoleZones", "RebuildOperator"]
                .iter()
                .any(|name| method.contains(name));
            assert_eq!(tellers == 5, everywhere, "{method}");
        }
        assert!(is_its_own(Role::Vault, "/coffer.v1.VaultOperator/CreateCredential"));
        assert!(!is_its_own(Role::Gateway, "/coffer.v1.VaultOperator/CreateCredential"));
        assert!(!is_its_own(Role::Warehouse, "/coffer.v1.Unheard/Of") && is_its_own(Role::Gateway, "/left-out"));
    }

    #[test]
    fn what_is_not_listed_is_not_done_without_a_record() {
        assert_eq!(audited("/coffer.v1.Vault/Unheard"), First);
    }

    #[test]
    fn of_a_query_a_record_says_the_database_and_not_its_text() {
        let asked = v1::IssueJobRequest {
            database: "web".into(),
            query: "select secret".into(),
            ..Default::default()
        };
        let about = about("/coffer.v1.Warehouse/IssueJob", &framed(&asked));
        assert_eq!(about.object, "web");
        assert!(!format!("{about:?}").contains("secret"));
    }

    #[test]
    fn of_an_erasure_a_record_says_nothing_by_which_a_guess_could_be_confirmed() {
        let path = "/coffer.v1.Identity/Erase";
        let asked = v1::EraseRequest {
            identity: "ada@example.com".into(),
            id: 0,
        };
        assert_eq!(about(path, &framed(&asked)).object, "person");
        let identity = String::new();
        assert_eq!(about(path, &framed(&v1::EraseRequest { identity, id: 7 })).object, "person/7");
        assert!(!is_hashed(path) && !is_hashed("/coffer.v1.Identity/Find") && is_hashed("/coffer.v1.Warehouse/IssueJob"));
        assert!(METHODS.contains(&path), "it is called so");
    }

    #[test]
    fn of_a_look_at_somebody_a_record_says_who_and_why_and_nothing_of_what_was_opened() {
        let asked = |reason: &str| v1::RevealRequest {
            id: 7,
            reason: reason.into(),
            values: vec![v1::SealedValue {
                column: "phone".into(),
                sealed: vec![1],
            }],
        };
        let object = |reason: &str| about("/coffer.v1.Identity/Reveal", &framed(&asked(reason))).object;
        assert_eq!(object("ticket-4711"), "person/7/ticket-4711");
        for wrong in ["", "ab", "ada@example.com", "a reason", "Ticket", "a/b", &"a".repeat(65)] {
            assert_eq!(object(wrong), "person/7", "{wrong}");
        }
        assert_eq!(audited("/coffer.v1.Identity/Reveal"), First);
    }

    #[test]
    fn what_cannot_be_read_is_about_nothing() {
        for body in [&b""[..], &[0, 0, 0, 0], &[1, 0, 0, 0, 0, 8, 1], &[0, 0, 0, 0, 9, 255, 255]] {
            assert_eq!(about("/coffer.v1.Warehouse/KillJob", body).product, 0);
        }
        assert_eq!(about("/coffer.v1.Warehouse/DeleteTable", &[0, 0, 0, 0, 1, 255]), About::default());
    }

    #[test]
    fn whose_product_an_operator_speaks_of_is_recorded() {
        let asked = v1::CreateCredentialRequest {
            product: 7,
            kind: "read".into(),
            shown: String::new(),
        };
        let about = about("/coffer.v1.VaultOperator/CreateCredential", &framed(&asked));
        assert_eq!((about.product, about.object.as_str()), (7, "read"));
    }
}
