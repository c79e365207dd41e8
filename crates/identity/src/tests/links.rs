//! Identities that stand in one row, through the whole role.

use super::*;
use crate::links::Links;
use crate::people::People;
use crate::personal::{Personal, PersonalValue};

const COLUMNS: [&str; 3] = ["user_id", "email", "device"];

/// Rows of identities with their columns, asked for in one call; the ids of all, in order of first sight.
async fn link(world: &World, people: &People, rows: &[&[(&str, usize)]]) -> BTreeMap<String, i64> {
    let mut names: Vec<&str> = Vec::new();
    let mut links = Links {
        columns: COLUMNS.map(str::to_owned).to_vec(),
        ..Links::default()
    };
    for row in rows {
        let mut together = Vec::new();
        for (name, column) in *row {
            let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name);
                links.column.push(*column);
                names.len() - 1
            });
            together.push(place);
        }
        if together.len() > 1 {
            links.together.push(together);
        }
    }
    let ids = world.try_link(people, 1, &names, Some(links)).await.unwrap();
    names.into_iter().map(str::to_owned).zip(ids).collect()
}

#[tokio::test]
async fn who_was_anonymous_keeps_the_id_and_two_on_one_device_stay_two() {
    let world = World::new();
    let people = world.start().await;

    let before = link(&world, &people, &[&[("phone-1", 2)]]).await;
    let ada = link(&world, &people, &[&[("ada@", 1), ("phone-1", 2)]]).await;
    assert_eq!((ada["ada@"], ada["phone-1"]), (before["phone-1"], before["phone-1"]));
    let bob = link(&world, &people, &[&[("bob@", 1), ("phone-1", 2)], &[("u-7", 0), ("bob@", 1)]]).await;
    assert_eq!(bob["phone-1"], ada["ada@"]);
    assert_ne!(bob["bob@"], ada["ada@"]);
    assert_eq!(bob["u-7"], bob["bob@"]);
    // Two who are known stay as they are.
    let both = link(&world, &people, &[&[("ada@", 1), ("u-7", 0)]]).await;
    assert_eq!((both["ada@"], both["u-7"]), (ada["ada@"], bob["u-7"]));

    // After a restart, and from the journal alone, it is the same.
    let names = ["ada@", "bob@", "phone-1", "u-7"];
    let ids = world.find(&people, 1, &names).await;
    people.close().await;
    std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
    let people = world.start().await;
    assert_eq!(world.find(&people, 1, &names).await, ids);
    let eve = link(&world, &people, &[&[("eve@", 1), ("phone-1", 2)]]).await;
    assert_ne!(eve["eve@"], ada["ada@"], "by what somebody is known is in the journal too");
}

#[tokio::test]
async fn without_links_every_identity_is_a_person_of_its_own() {
    let world = World::new();
    let people = world.start().await;
    let ids = world.translate(&people, 1, &["ada@", "phone-1"]).await;
    assert_ne!(ids[0], ids[1]);
    // Said later, it does not change who is known.
    let linked = link(&world, &people, &[&[("ada@", 1), ("phone-1", 2)]]).await;
    assert_eq!((linked["ada@"], linked["phone-1"]), (ids[0], ids[1]));
}

#[tokio::test]
async fn identities_of_one_person_share_the_key_of_personal_values() {
    let world = World::new();
    let people = world.start().await;
    let before = link(&world, &people, &[&[("phone-1", 2)]]).await;
    let after = link(
        &world,
        &people,
        &[
            &[("ada@", 1), ("phone-1", 2)],
            &[("u-1", 0), ("ada@", 1)],
            &[("new@", 1), ("phone-2", 2)],
        ],
    )
    .await;
    assert_eq!((after["ada@"], after["u-1"]), (before["phone-1"], before["phone-1"]));

    let op = world.op(1, &[Verb::Append]);
    let owners = ["phone-1", "ada@", "u-1", "new@", "phone-2"];
    let personal = Personal {
        columns: vec!["name".into()],
        values: (0..owners.len())
            .map(|owner| PersonalValue {
                owner: Some(owner),
                column: 0,
                value: base::Secret::new("Ada".into()),
            })
            .collect(),
    };
    let (_, sealed, _) = people.translate(&op, &[1], secrets(&owners), None, personal).await.unwrap();
    assert!(sealed[0] == sealed[1] && sealed[1] == sealed[2] && sealed[3] == sealed[4] && sealed[0] != sealed[3]);
    let ready = people.ready(&op, &[1]).await.unwrap();
    for value in sealed {
        assert_eq!(super::personal::open_any(&ready, "name", &value).await.unwrap(), "Ada");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_link_at_the_same_time_agree() {
    let world = Arc::new(World::new());
    let people = world.start().await;
    let callers = (0..16).map(|caller: usize| {
        let (world, people) = (Arc::clone(&world), Arc::clone(&people));
        tokio::spawn(async move {
            let names: Vec<[String; 2]> = (0..50)
                .map(|n| {
                    let person = (n + caller * 3) % 60;
                    [format!("{person}@"), format!("phone-{person}")]
                })
                .collect();
            let rows: Vec<[(&str, usize); 2]> = names
                .iter()
                .map(|[email, phone]| [(email.as_str(), 1), (phone.as_str(), 2)])
                .collect();
            link(&world, &people, &rows.iter().map(|row| &row[..]).collect::<Vec<_>>()).await
        })
    });
    let mut by_name: BTreeMap<String, i64> = BTreeMap::new();
    for (name, id) in futures::future::join_all(callers).await.into_iter().flat_map(Result::unwrap) {
        assert_eq!(*by_name.entry(name.clone()).or_insert(id), id, "{name} has two ids");
    }
    assert_eq!((by_name.len(), by_name.values().collect::<HashSet<_>>().len()), (120, 60));
    assert!((0..60).all(|person| by_name[&format!("{person}@")] == by_name[&format!("phone-{person}")]));
}

#[tokio::test]
async fn links_that_cannot_be_are_refused_and_give_no_ids() {
    let world = World::new();
    let people = world.start().await;
    let links = Links {
        columns: vec!["email".into()],
        column: vec![0],
        together: vec![vec![0, 1]],
    };
    let refused = world.try_link(&people, 1, &["ada@"], Some(links)).await.unwrap_err();
    assert_eq!(refused.kind(), base::ErrorKind::Invalid);
    assert!(!refused.to_string().contains("ada"), "{refused}");
    assert_eq!(world.find(&people, 1, &["ada@"]).await, [0]);
}
