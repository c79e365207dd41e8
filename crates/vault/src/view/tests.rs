use super::*;
use crate::entries::{CredentialCreated, CredentialRevoked};

async fn view(directory: &tempfile::TempDir) -> View {
    View::open(&directory.path().join("vault.sqlite")).await.unwrap()
}

#[tokio::test]
async fn facts_can_be_applied_twice_and_in_either_order() {
    let id = CredentialId::from_bytes([7; 16]);
    let created = Entry::of(Fact::Credential(CredentialCreated {
        credential: id.to_bytes().to_vec(),
        product: 1,
        kind: "read".into(),
        verifier: vec![3; 32],
        wrapped_private: vec![],
        at: 5,
    }));
    let revoked = Entry::of(Fact::Revoked(CredentialRevoked {
        credential: id.to_bytes().to_vec(),
        at: 6,
    }));
    for order in [[&created, &revoked, &created, &revoked], [&revoked, &created, &revoked, &created]] {
        let directory = tempfile::tempdir().unwrap();
        let view = view(&directory).await;
        for (sequence, entry) in order.into_iter().enumerate() {
            view.apply(([1; 16], sequence as u64), std::slice::from_ref(entry)).await.unwrap();
        }
        let row = view.credential_by_verifier(&[3; 32]).await.unwrap().unwrap();
        assert_eq!((row.credential, row.revoked_at), (id, Some(Timestamp::from_micros(6))));
    }
}

#[tokio::test]
async fn a_fact_that_is_not_known_is_not_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let view = view(&directory).await;
    assert!(view.apply(([1; 16], 0), &[Entry { fact: None }]).await.is_err());
    assert!(view.applied().await.unwrap().is_empty());
}

#[tokio::test]
async fn heads_do_not_go_back() {
    let directory = tempfile::tempdir().unwrap();
    let view = view(&directory).await;
    let head = |length, byte| HeadRow {
        journal: "raw/1".into(),
        length,
        hash: vec![byte; 32],
    };
    view.remember(Role::Warehouse, &[head(3, 1)]).await.unwrap();
    view.remember(Role::Warehouse, &[head(3, 1)]).await.unwrap();
    view.remember(Role::Identity, &[head(1, 9)]).await.unwrap();

    for back in [head(2, 1), head(3, 2)] {
        let refused = view.remember(Role::Warehouse, &[back]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
    }
    view.remember(Role::Warehouse, &[head(4, 5)]).await.unwrap();
    assert_eq!(view.recall(Role::Warehouse).await.unwrap(), [head(4, 5)]);
    assert_eq!(view.recall(Role::Accounts).await.unwrap(), []);
}
