//! One object by itself: what opens it, and what is refused however it is put or changed; and that somebody who is believed without being certified
//! is found out.

use super::*;
use crate::proof::{Journals, Trial, judge, try_everything};

/// What was tried on every object of a world, and of it what was not refused.
struct Came {
    tried: Vec<String>,
    let_through: Vec<String>,
    opened: usize,
}

fn of() -> Journals<'static> {
    Journals {
        role: Role::Warehouse,
        begin: "raw",
        product: product().unwrap(),
    }
}

async fn every_object(world: &World, believes_forger: bool, shown: bool) -> Result<Came, String> {
    let house = &world.house;
    let forging = InstallationSigner::generate(&*house.chance);
    let forger = house.signer(&forging, Role::Warehouse)();
    let wrong = [("the key of product 8".to_owned(), PrivateKey::generate(&*house.chance))];
    let mut trusted = vec![house.installation.key()];
    trusted.extend(believes_forger.then(|| forging.key()));
    let trial = Trial {
        trusted: &trusted,
        of: of(),
        right: shown.then_some(&house.private),
        wrong: &wrong,
        seal_to: &house.private.public(),
        forger: &forger,
        entropy: &*house.chance,
    };
    let mut came = Came {
        tried: Vec::new(),
        let_through: Vec::new(),
        opened: 0,
    };
    for name in world.objects().into_iter().filter(|name| name.is_below(JOURNAL)) {
        let object = world.zones.get(&name, 1 << 20).await.unwrap();
        let opened = try_everything(&trial, &name, &object, &mut |what, refused| {
            came.tried.push(what.to_owned());
            if !refused {
                came.let_through.push(what.to_owned());
            }
        })?;
        came.opened += usize::from(opened);
    }
    Ok(came)
}

#[tokio::test]
async fn an_object_opens_in_its_place_and_is_refused_otherwise() {
    let world = World::with(&["one", "two", ""]).await;
    // Forms that some, or all, was taken out of are judged by the same.
    let segments = world.house.recover(&world.zones).await.unwrap().segments;
    for (segment, keep) in [(&segments[0], &[][..]), (&segments[1], &[0][..])] {
        let parts = world.house.parts(&world.zones);
        trim(&parts, segment, keep, &world.house.private.public(), Some(&world.house.private))
            .await
            .unwrap();
    }
    for shown in [true, false] {
        let came = every_object(&world, false, shown).await.unwrap();
        assert!(came.let_through.is_empty(), "{:?}", came.let_through);
        assert_eq!(came.opened >= 4, shown);
        for what in [
            "the key of product 8",
            "no key",
            "moved to another product",
            "moved to another day",
            "renamed to another number",
            "renamed to another writer",
            "truncated",
            "bit-flipped",
            "forged",
            "payload forged under its head",
        ] {
            assert!(came.tried.iter().any(|tried| tried == what), "{what} was not tried");
        }
    }
}

#[tokio::test]
async fn a_twin_that_believes_whoever_signs_is_found_out() {
    let world = World::with(&["one"]).await;
    let came = every_object(&world, true, true).await.unwrap();
    assert_eq!(came.let_through, ["forged"]);
}

#[tokio::test]
async fn what_is_no_object_of_the_journal_is_said_to_be_none() {
    let world = World::with(&["one"]).await;
    let (house, names) = (&world.house, world.objects());
    let name = names.iter().find(|name| name.is_below(JOURNAL)).unwrap();
    let object = world.zones.get(name, 1 << 20).await.unwrap();
    let key = house.installation.key();
    assert!(judge(&key, of(), name, &object).is_ok());
    let other = Journals {
        product: ProductId::new(8).unwrap(),
        ..of()
    };
    assert!(judge(&key, other, name, &object).is_err());
    assert!(
        judge(
            &key,
            Journals {
                role: Role::Identity,
                ..of()
            },
            name,
            &object
        )
        .is_err()
    );
    assert!(
        judge(&key, of(), name, &object.slice(1..))
            .unwrap_err()
            .contains("not those of its name")
    );
}
