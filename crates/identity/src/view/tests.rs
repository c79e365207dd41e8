use base::SeededEntropy;

use super::*;
use crate::facts::{Given, Moved, PersonSeen};

fn head(length: u64) -> Head {
    Head { length, hash: [5; 32] }
}

#[tokio::test]
async fn many_people_go_in_and_are_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let view = View::open(&directory.path().join("7.sqlite")).await.unwrap();
    let entropy = SeededEntropy::new(1);
    let count = AT_ONCE as u32 + 100;
    let people: Vec<_> = (0..count)
        .map(|index| SealedPerson {
            id: PersonId::random(&entropy).get(),
            sealed: vec![index as u8; index as usize % 50],
        })
        .collect();
    let given = Entry::Change(Fact::Given(Given { people: people.clone() }));

    view.apply(&head(3), std::slice::from_ref(&given)).await.unwrap();
    view.apply(&head(3), &[given]).await.unwrap();

    assert_eq!(
        (view.applied().await.unwrap(), view.count().await.unwrap()),
        (head(3), u64::from(count)),
        "each once"
    );
    let ids: Vec<_> = people.iter().map(|person| PersonId::new(person.id).unwrap()).collect();
    let kept = view.persons(&ids).await.unwrap();
    assert!(people.iter().zip(&ids).all(|(person, id)| kept[id] == person.sealed));
    assert_eq!(view.taken(&[ids[9], PersonId::new(1).unwrap()]).await.unwrap(), ids[9..10]);
    let (mut all, mut after) = (Vec::new(), 0);
    while let Some(last) = {
        all.extend(view.persons_after(after, 5_000).await.unwrap());
        all.last().filter(|(id, _)| id.get() > after)
    } {
        after = last.0.get();
    }
    assert_eq!(all.len(), ids.len());
    let group = crate::ring::group(ids[0]);
    let grouped = view.group(group).await.unwrap();
    assert_eq!(grouped.len(), ids.iter().filter(|id| crate::ring::group(**id) == group).count());
}

#[tokio::test]
async fn who_is_erased_is_gone_and_their_id_stays_taken() {
    let directory = tempfile::tempdir().unwrap();
    let view = View::open(&directory.path().join("7.sqlite")).await.unwrap();
    let person = |id, sealed: u8| SealedPerson { id, sealed: vec![sealed] };
    let ring = |epoch| SealedRing {
        epoch,
        sealed: vec![epoch as u8],
    };
    let given = Given {
        people: vec![person(1, 1), person(2, 2)],
    };
    let erased = Erased {
        id: 1,
        at: 77,
        ring: Some(ring(2)),
        people: vec![person(2, 9)],
    };
    let entries = [Fact::Ring(ring(1)), Fact::Given(given), Fact::Erased(erased)].map(Entry::Change);
    view.apply(&head(1), &entries).await.unwrap();

    let ids = [1, 2].map(|id| PersonId::new(id).unwrap());
    let kept = view.persons(&ids).await.unwrap();
    assert_eq!((kept.len(), &kept[&ids[1]]), (1, &vec![9]));
    assert_eq!(view.taken(&ids).await.unwrap(), ids);
    assert_eq!(
        view.stone(ids[0]).await.unwrap().map(|stone| (stone.at.as_micros(), stone.epoch)),
        Some((77, 2))
    );
    assert_eq!(
        (view.stone(ids[1]).await.unwrap(), view.ring().await.unwrap()),
        (None, Some(ring(2)))
    );
}

#[tokio::test]
async fn what_is_of_the_first_form_is_there_until_it_was_moved() {
    let directory = tempfile::tempdir().unwrap();
    let view = View::open(&directory.path().join("7.sqlite")).await.unwrap();
    let seen = |hash: u8, id| PersonSeen {
        hash: vec![hash; 32],
        id,
        sealed: vec![hash],
        column: "e\"mail".into(),
    };
    let people = vec![seen(1, 5), seen(2, 3), seen(3, 5), seen(4, 9)];
    view.apply(&head(1), &[Entry::Seen(people.clone()), Entry::Seen(people)])
        .await
        .unwrap();

    assert!(view.has_first().await.unwrap() && !view.is_untrimmed().await.unwrap());
    let rows = view.first_after(0, 2).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.id.get()).collect::<Vec<_>>(),
        [3, 5, 5],
        "two people with all they have"
    );
    assert_eq!((rows[0].hash, &*rows[0].column), ([2; 32], "e\"mail"));
    assert_eq!(view.first_after(5, 2).await.unwrap().len(), 1);
    assert_eq!(view.count().await.unwrap(), 3);
    view.apply(&head(2), &[Entry::Change(Fact::Moved(Moved {}))]).await.unwrap();
    assert!(!view.has_first().await.unwrap() && view.is_untrimmed().await.unwrap());
    view.trimmed().await.unwrap();
    assert!(!view.is_untrimmed().await.unwrap());
}

#[tokio::test]
async fn a_view_of_the_first_version_is_filled_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("7.sqlite");
    let view = View::open(&file).await.unwrap();
    let first = "DROP TABLE people; CREATE TABLE people (hash BLOB NOT NULL PRIMARY KEY, id INTEGER NOT NULL UNIQUE, sealed BLOB NOT NULL)
        STRICT, WITHOUT ROWID; INSERT INTO people VALUES (x'00', 1, x'00'); INSERT INTO applied VALUES (1, 3, zeroblob(32));
        DROP TABLE persons; DROP TABLE erased; DROP TABLE ring; DROP TABLE untrimmed; PRAGMA user_version = 1";
    sqlx::raw_sql(first).execute(&view.0).await.unwrap();
    view.close().await;

    let view = View::open(&file).await.unwrap();
    assert_eq!((view.applied().await.unwrap(), view.count().await.unwrap()), (Head::default(), 0));
}
