//! The audit journal: what is done without it (nothing), who reads it, and what cannot be done to it.

use audit::{Record, SignedHead};
use base::{ErrorKind, Role};
use edge::kind_of;
use sqlx::Connection;
use tonic::{Request, Status, Streaming};
use wire::v1::{AuditDraft, AuditLines, AuditReadRequest, CreateProductKeysRequest, RecordRequest};

use super::all;
use super::world::{Memory, Roles, Running, World};
use crate::audit::{AuditView, VIEW};
use crate::{RunError, VerifyError, verify_audit};

async fn lines(answer: Result<tonic::Response<Streaming<AuditLines>>, Status>) -> Result<Vec<String>, Status> {
    let mut stream = answer?.into_inner();
    let mut lines = Vec::new();
    while let Some(some) = stream.message().await? {
        lines.extend(some.lines);
    }
    Ok(lines)
}

fn last(last: u32) -> AuditReadRequest {
    AuditReadRequest {
        last,
        ..AuditReadRequest::default()
    }
}

async fn everything(vault: &Running) -> Vec<Record> {
    let all = lines(vault.audit_operator().read(last(1000)).await).await.unwrap();
    all.iter().map(|line| Record::parse(line).unwrap()).collect()
}

type Change<'a> = &'a dyn Fn(&mut AuditDraft);

/// A vault beside an accounts role that signs.
async fn signed(world: &World, memory: &Memory) -> (Running, tokio_util::sync::CancellationToken) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let vault = world.start_beside(Some(listener.local_addr().unwrap())).await;
    let accounts = world.serve_accounts(&vault, listener, memory.clone()).await;
    (vault, accounts)
}

async fn export(vault: &Running, product: u64) -> Vec<String> {
    let asked = AuditReadRequest {
        product,
        whole: true,
        ..AuditReadRequest::default()
    };
    lines(vault.audit_operator().read(asked).await).await.unwrap()
}

fn holds(export: &[String], kept: Vec<SignedHead>) -> bool {
    audit::verify(export.iter().map(String::as_str), None, kept).faults.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_has_its_record_and_records_are_made_again_from_the_journal() {
    let world = World::new();
    let vault = world.start().await;
    vault.create_product(7).await;
    let (id, _) = vault.create_key(7, "read").await.unwrap();
    vault.revoke(id).await;

    let before = everything(&vault).await;

    let made: Vec<_> = before.iter().map(|record| record.method.rsplit('/').next().unwrap()).collect();
    assert_eq!(made, ["CreateProductKeys", "CreateCredential", "RevokeCredential"]);
    assert!(before.iter().all(|record| record.product == 7 && record.who == "operator"));
    assert_eq!(before[2].credential(), Some(id), "whose key was revoked");
    vault.stop().await;
    for file in [VIEW, "audit.sqlite-wal", "audit.sqlite-shm"] {
        let _ = std::fs::remove_file(world.file(file));
    }
    let vault = world.start().await;
    assert_eq!(everything(&vault).await[..3], before);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_its_file_is_not_the_one_that_was_opened_nothing_is_made_and_keys_are_judged_on() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(1).await;
    let (_, key) = vault.create_key(1, "read").await.unwrap();
    let pass = roles.pass(&vault, &key, Role::Warehouse, all()).await;
    std::fs::rename(world.file(VIEW), world.file("kept")).unwrap();
    std::fs::write(world.file(VIEW), b"another").unwrap();

    let refused = vault.create_key(1, "read").await.unwrap_err();
    let leased = roles.lease_private(&vault, &roles.warehouse, &pass).await.unwrap_err();

    for refusal in [refused, leased] {
        assert_eq!(kind_of(&refusal), ErrorKind::Unavailable);
        assert!(refusal.message().contains("without a record"), "{refusal}");
    }
    roles.authenticate(&vault, &key, &[Role::Warehouse]).await.unwrap();
    roles
        .lease_lookup(&vault, &roles.pass(&vault, &key, Role::Identity, all()).await)
        .await
        .unwrap();
    std::fs::rename(world.file("kept"), world.file(VIEW)).unwrap();
    vault.create_key(1, "read").await.unwrap();
    roles.lease_private(&vault, &roles.warehouse, &pass).await.unwrap();
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_key_reads_what_concerns_its_product_and_no_other_key_reads_any() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    for product in [1, 2] {
        vault.create_product(product).await;
    }
    let (id, admin) = vault.create_key(1, "admin").await.unwrap();
    let (_, read) = vault.create_key(1, "read").await.unwrap();
    vault.create_key(2, "admin").await.unwrap();
    let ask = async |key: &str, product| {
        let pass = roles.pass(&vault, key, Role::Gateway, all()).await;
        let asked = AuditReadRequest { product, ..last(1000) };
        let call: Request<_> = edge::with_pass(asked, &pass, base::RequestId::from_bytes([1; 16]));
        lines(vault.audit(&roles.gateway).read(call).await).await
    };

    for product in [0, 1, 2] {
        let seen = ask(&admin, product).await.unwrap();
        assert!(seen.len() >= 3);
        assert!(
            seen.iter().all(|line| Record::parse(line).unwrap().product == 1),
            "asked for {product}"
        );
    }
    assert_eq!(kind_of(&ask(&read, 1).await.unwrap_err()), ErrorKind::Forbidden);
    let pass = roles.pass(&vault, &admin, Role::Gateway, all()).await;
    vault.revoke(id).await;
    let call = edge::with_pass(last(10), &pass, base::RequestId::from_bytes([1; 16]));
    let refused = lines(vault.audit(&roles.gateway).read(call).await).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Forbidden, "a revoked key reads");
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_records_for_itself_and_nothing_that_a_record_may_not_say() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    let draft = |change: Change<'_>| {
        let mut draft = AuditDraft {
            at: 1,
            role: "warehouse".into(),
            who: "role:gateway".into(),
            method: "/coffer.v1.Warehouse/DeleteTable".into(),
            object: "web/events".into(),
            request: vec![1; 32],
            decision: "allowed".into(),
            rule: "calls".into(),
            count: 1,
            ..AuditDraft::default()
        };
        change(&mut draft);
        RecordRequest { drafts: vec![draft] }
    };
    let mut warehouse = vault.audit(&roles.warehouse);

    warehouse.record(draft(&|_| {})).await.unwrap();
    warehouse
        .record(draft(&|draft| draft.object = "alice@example.com".into()))
        .await
        .unwrap();

    let recorded = everything(&vault).await;
    let objects: Vec<_> = recorded
        .iter()
        .filter(|r| r.role == "warehouse")
        .map(|r| r.object.as_str())
        .collect();
    assert_eq!((objects.len(), objects[0], objects[1].len()), (2, "web/events", 65));
    let wrong: [(Change<'_>, ErrorKind); 7] = [
        // What the vault was asked, and by whom, is the vault's to tell.
        (
            &|draft| {
                draft.who = "operator".into();
                draft.method = "/coffer.v1.VaultOperator/RevokeCredential".into();
            },
            ErrorKind::Forbidden,
        ),
        (
            &|draft| draft.method = "/coffer.v1.AccountsOperator/SetProduct".into(),
            ErrorKind::Forbidden,
        ),
        (&|draft| draft.role = "accounts".into(), ErrorKind::Forbidden),
        (&|draft| draft.rule = "Alice".into(), ErrorKind::Invalid),
        (&|draft| draft.method = "a\nb".into(), ErrorKind::Invalid),
        (&|draft| draft.request = vec![1; 31], ErrorKind::Invalid),
        (&|draft| draft.who = "alice".into(), ErrorKind::Invalid),
    ];
    for (at, (change, kind)) in wrong.into_iter().enumerate() {
        assert_eq!(kind_of(&warehouse.record(draft(change)).await.unwrap_err()), kind, "{at}");
    }
    let many = RecordRequest {
        drafts: vec![draft(&|_| {}).drafts.remove(0); 1001],
    };
    assert_eq!(kind_of(&warehouse.record(many).await.unwrap_err()), ErrorKind::Invalid);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_hold_over_restarts_and_an_older_one_is_a_beginning_of_a_newer_one() {
    let (world, memory) = (World::new(), Memory::default());
    let (vault, accounts) = signed(&world, &memory).await;
    for product in [1, 2] {
        vault.create_product(product).await;
        vault.create_key(product, "admin").await.unwrap();
    }
    let first = export(&vault, 0).await;
    assert!(holds(&first, Vec::new()));
    assert!(holds(&export(&vault, 1).await, Vec::new()), "of one product");
    let kept = SignedHead::parse(first.last().unwrap()).unwrap();
    vault.stop().await;
    accounts.cancel();

    let (vault, accounts) = signed(&world, &memory).await;
    vault.create_key(2, "read").await.unwrap();
    let second = export(&vault, 0).await;

    assert!(second.len() > first.len());
    assert!(holds(&second, vec![kept.clone()]));
    let report = verify_audit(world.directory.path(), &vault.installation, vec![kept]).await.unwrap();
    assert_eq!(report.faults, []);
    vault.stop().await;
    accounts.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installations_own_check_goes_by_its_key_and_needs_all_that_is_compared() {
    let (world, memory) = (World::new(), Memory::default());
    let (vault, accounts) = signed(&world, &memory).await;
    let asked = CreateProductKeysRequest {
        product: 3,
        custody: "customer".into(),
    };
    vault.operator().create_product_keys(asked).await.unwrap();
    vault.create_product(1).await;
    vault.create_key(1, "admin").await.unwrap();
    export(&vault, 0).await;
    let at = world.directory.path();
    let report = verify_audit(at, &vault.installation, Vec::new()).await.unwrap();
    assert_eq!(
        report.faults,
        [],
        "the first key of a product in its customer's custody comes with the product"
    );

    let other = World::new().start().await;
    let report = verify_audit(at, &other.installation, Vec::new()).await.unwrap();
    assert!(
        !report.faults.is_empty(),
        "what lies in the vault's directory says by itself whose it is"
    );
    other.stop().await;
    let key = vault.installation;
    vault.stop().await;
    accounts.cancel();
    std::fs::remove_file(world.file("vault.sqlite")).unwrap();
    assert!(matches!(verify_audit(at, &key, Vec::new()).await, Err(VerifyError::None(_))));
    assert!(!world.file("vault.sqlite").exists(), "a check makes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_whose_records_were_changed_stops_and_the_check_names_the_record() {
    let (world, memory) = (World::new(), Memory::default());
    let (vault, accounts) = signed(&world, &memory).await;
    vault.create_product(1).await;
    vault.create_key(1, "admin").await.unwrap();
    let kept = export(&vault, 0).await;
    let key = vault.installation;
    vault.stop().await;
    accounts.cancel();
    let url = format!("sqlite://{}", world.file(VIEW).display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for change in [
        "UPDATE records SET line = replace(line, 'allowed', 'refused') WHERE n = 1",
        "UPDATE parts SET hash = zeroblob(32) WHERE level = 0 AND place = 0",
    ] {
        sqlx::query(change).execute(&mut database).await.unwrap();
    }
    database.close().await.unwrap();

    let report = verify_audit(world.directory.path(), &key, Vec::new()).await.unwrap();
    let said: Vec<_> = report.faults.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|fault| fault.starts_with("record 2: ")), "{said:?}");
    assert!(kept.len() > 2, "there is a record after the changed one");

    // A proof that what was signed goes on is one that such a view cannot give.
    let before = memory.1.lock().unwrap().clone().unwrap();
    memory.1.lock().unwrap().as_mut().unwrap().root = vec![7; 32];
    let (vault, accounts) = signed(&world, &memory).await;
    assert!(matches!(vault.ended().await, Err(RunError::AuditWentBack)));
    accounts.cancel();
    assert!(before.size > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_a_newer_version_is_refused_and_an_older_journal_too() {
    let world = World::new();
    world.start().await.stop().await;
    let view = AuditView::open(&world.file(VIEW)).await.unwrap();
    view.close().await;
    let url = format!("sqlite://{}", world.file(VIEW).display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("PRAGMA user_version = 2").execute(&mut database).await.unwrap();
    let refused = world.open().await.unwrap_err();
    assert!(refused.to_string().contains("newer version"), "{refused}");
    sqlx::query("PRAGMA user_version = 1").execute(&mut database).await.unwrap();
    // It has seen more than the zones hold.
    sqlx::query("INSERT OR REPLACE INTO journal (one, length, hash) VALUES (1, 9, zeroblob(32))")
        .execute(&mut database)
        .await
        .unwrap();
    database.close().await.unwrap();
    let refused = world.open().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
}
