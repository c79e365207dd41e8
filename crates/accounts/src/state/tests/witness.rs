//! What accounts signs of the vault's audit journal.

use audit::{Frontier, Hash, Node, Statement, TreeHead, consistency, leaf_hash};
use edge::{CurrentSigner, kind_of};
use seal::Attestation;
use tonic::Request;
use wire::v1::audit_witness_server::AuditWitness;
use wire::v1::{CounterSignRequest, LastHeadRequest};

use super::*;
use crate::witness::Witness;

fn leaves(from: &str, count: u8) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(format!("{from} {n}").as_bytes())).collect()
}

fn tree(leaves: &[Hash]) -> Frontier {
    let mut tree = Frontier::default();
    for leaf in leaves {
        tree.append(*leaf);
    }
    tree
}

fn head(world: &World, leaves: &[Hash]) -> TreeHead {
    let tree = tree(leaves);
    TreeHead {
        journal: TreeHead::journal_of(&world.installation.key()),
        size: tree.size(),
        root: tree.root(),
        at: world.clock.now(),
    }
}

fn asked(head: &TreeHead, vault: &Signer, proof: &[Hash]) -> Request<CounterSignRequest> {
    let Attestation { certificate, signature } = head.sign(vault);
    Request::new(CounterSignRequest {
        journal: head.journal.clone(),
        size: head.size,
        root: head.root.to_vec(),
        at: head.at.as_micros(),
        certificate,
        signature,
        proof: proof.iter().map(|step| step.to_vec()).collect(),
    })
}

fn proof(leaves: &[Hash], old: u64) -> Vec<Hash> {
    let part = |node: Node| {
        let begin = usize::try_from(node.index << node.level).unwrap();
        Ok::<_, std::convert::Infallible>(tree(&leaves[begin..begin + (1 << node.level)]).root())
    };
    consistency(old, leaves.len() as u64, &mut |node| part(node)).unwrap()
}

async fn witness(world: &World) -> Witness {
    let signer = world.signer(Role::Accounts);
    Witness {
        state: world.open().await,
        installation: world.installation.key(),
        signer: CurrentSigner::new((*signer).clone()),
        clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
        one: tokio::sync::Mutex::default(),
    }
}

#[tokio::test]
async fn a_head_that_goes_on_from_the_last_one_is_signed_and_remembered_over_a_restart() {
    let world = World::new();
    let (vault, all) = (world.signer(Role::Vault), leaves("a", 7));
    let role = witness(&world).await;
    for (old, new) in [(0, 3), (3, 3), (3, 7)] {
        let head = head(&world, &all[..new]);

        let signed = role
            .counter_sign(asked(&head, &vault, &proof(&all[..new], old)))
            .await
            .unwrap()
            .into_inner();

        let by = Attestation {
            certificate: signed.certificate,
            signature: signed.signature,
        };
        assert_eq!(head.believe(&world.installation.key(), Role::Accounts, &by), Ok(()));
        assert!(head.believe(&world.installation.key(), Role::Vault, &by).is_err());
    }
    role.state.close().await;

    let role = witness(&world).await;
    let last = role.last(Request::new(LastHeadRequest {})).await.unwrap().into_inner();
    assert_eq!((last.size, last.root), (7, tree(&all).root().to_vec()));
}

#[tokio::test]
async fn another_history_is_never_signed() {
    let world = World::new();
    let (vault, ours, other) = (world.signer(Role::Vault), leaves("a", 9), leaves("b", 9));
    let role = witness(&world).await;
    role.counter_sign(asked(&head(&world, &ours[..6]), &vault, &[])).await.unwrap();

    let shorter = head(&world, &ours[..5]);
    let forked = head(&world, &other);
    let same_size = head(&world, &other[..6]);
    let longer = head(&world, &ours);
    for (what, head, proof) in [
        ("rolled back", &shorter, Vec::new()),
        ("forked", &forked, proof(&other, 6)),
        ("another one of the same size", &same_size, Vec::new()),
        ("without a proof", &longer, Vec::new()),
        ("with another's proof", &longer, proof(&other, 6)),
    ] {
        let refused = role.counter_sign(asked(head, &vault, &proof)).await.unwrap_err();
        assert_eq!(kind_of(&refused), ErrorKind::Conflict, "{what}");
    }
    role.counter_sign(asked(&longer, &vault, &proof(&ours, 6))).await.unwrap();
}

#[tokio::test]
async fn only_what_the_vault_signed_is_a_head() {
    let world = World::new();
    let role = witness(&world).await;
    let (vault, stranger) = (world.signer(Role::Vault), World::new().signer(Role::Vault));
    let good = head(&world, &leaves("a", 2));
    let elsewhere = TreeHead {
        journal: "elsewhere/audit".into(),
        ..good.clone()
    };
    let empty = head(&world, &[]);
    let later = TreeHead {
        at: world.clock.now().plus(Duration::from_secs(90_000)),
        ..good.clone()
    };
    let soon = TreeHead {
        at: world.clock.now().plus(Duration::from_secs(121)),
        ..good.clone()
    };
    let long_ago = TreeHead {
        at: Timestamp::from_micros(world.clock.now().as_micros() - 121_000_000),
        ..good.clone()
    };
    for (what, head, signer) in [
        ("of a time to come", &soon, &vault),
        ("of a time that is over", &long_ago, &vault),
        ("another role", &good, &world.signer(Role::Warehouse)),
        ("another installation", &good, &stranger),
        ("another journal", &elsewhere, &vault),
        ("nothing", &empty, &vault),
        ("after the certificate's end", &later, &vault),
    ] {
        let refused = role.counter_sign(asked(head, signer, &[])).await.unwrap_err();
        assert_eq!(kind_of(&refused), ErrorKind::Invalid, "{what}");
    }
    let mut changed = asked(&good, &vault, &[]);
    changed.get_mut().size += 1;
    assert_eq!(kind_of(&role.counter_sign(changed).await.unwrap_err()), ErrorKind::Invalid);
    let mut long = asked(&good, &vault, &[]);
    long.get_mut().proof = vec![vec![0; 32]; 200];
    assert_eq!(kind_of(&role.counter_sign(long).await.unwrap_err()), ErrorKind::Invalid);
    assert_eq!(
        role.last(Request::new(LastHeadRequest {})).await.unwrap().into_inner().size,
        0,
        "nothing was signed"
    );
}
