//! What could not be rows: with the rows of its body or not at all, once, and gone with its table.

use base::{Entropy, RequestId};
use wire::v1::{AsideBatch, AsideName, AsideReason, AsideRow};
use zones::{ForgetfulZone, Power};

use super::*;
use crate::product::ProductError;
use crate::product::append::Appended;
use crate::product::aside::Beside;

fn name(request: u8, row: u64) -> AsideName {
    AsideName {
        request: RequestId::from_bytes([request; 16]).to_string(),
        row,
    }
}

/// Things that cannot be rows; tags stand where what was sealed does.
fn aside(tags: &[&str]) -> Beside {
    let row = |(row, tag): (u64, &&str)| AsideRow {
        row,
        sealed: (*tag).to_owned(),
        ..AsideRow::default()
    };
    Beside {
        aside: Some(AsideBatch {
            time: 1_799_000_000,
            request: name(1, 7).request,
            reasons: vec![AsideReason {
                reason: "time".into(),
                message: String::new(),
            }],
            rows: (7..).zip(tags).map(row).collect(),
            ..AsideBatch::default()
        }),
        replays: None,
        arrived: None,
    }
}

async fn append_with(product: &Product, id: Option<&str>, rows: Bytes, beside: Beside) -> Result<Appended, ProductError> {
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    product.append(&web, &events, id, rows, &[], beside).await
}

/// A body of one row and one thing that is none, both of this tag.
async fn both(product: &Product, id: Option<&str>, tag: &str) -> Result<Appended, ProductError> {
    append_with(product, id, batch(&[tag]), aside(&[tag])).await
}

async fn set_aside(house: &House, product: &Arc<Product>) -> Vec<String> {
    texts(&house.rows(product, r#"SELECT sealed FROM "events$rejected" ORDER BY 1"#).await)
}

fn tables(product: &Product) -> Vec<String> {
    let all = product.tables(&"web".parse().unwrap()).unwrap();
    all.into_iter().map(|table| format!("{} {}", table.name, table.rows)).collect()
}

#[tokio::test]
async fn what_cannot_be_a_row_is_stored_with_the_rows_of_its_body_once() {
    let house = House::new(30);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    assert!(!both(&product, Some("x"), "a").await.unwrap().duplicate);
    assert!(both(&product, Some("x"), "a").await.unwrap().duplicate);
    assert_eq!(set_aside(&house, &product).await, ["a"]);
    product.flush_all().await;
    assert!(both(&product, Some("x"), "a").await.unwrap().duplicate);
    let at_once = futures::future::join_all((0..8).map(|_| both(&product, Some("y"), "b"))).await;
    assert_eq!(at_once.into_iter().filter(|answer| !answer.as_ref().unwrap().duplicate).count(), 1);
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert!(both(&product, Some("y"), "b").await.unwrap().duplicate);
    assert_eq!(set_aside(&house, &product).await, ["a", "b"]);
    assert_eq!(house.tags(&product).await, ["a", "b"]);
    // No list and no count of tables tells of it.
    assert_eq!(tables(&product), ["events 2"]);
    assert_eq!(product.databases(&Scope::Product)[0].rows, 2);
    product.close().await;
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();

    let product = house.open(&zones).await.unwrap();
    assert_eq!(set_aside(&house, &product).await, ["a", "b"], "from the journal alone");
}

#[tokio::test]
async fn a_body_without_any_row_is_stored_as_well() {
    let house = House::new(31);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for duplicate in [false, true] {
        let appended = append_with(&product, Some("x"), batch(&[]), aside(&["a", "b"])).await.unwrap();
        assert_eq!((appended.rows, appended.duplicate), (0, duplicate));
    }
    assert_eq!(set_aside(&house, &product).await, ["a", "b"]);
    let unquoted = house.rows(&product, "SELECT sealed FROM events$rejected ORDER BY 1").await;
    assert_eq!(texts(&unquoted), ["a", "b"]);
    let without = |change: fn(&mut AsideBatch)| {
        let mut beside = aside(&["c"]);
        beside.aside.iter_mut().for_each(change);
        beside
    };
    let both = Beside {
        replays: Some(name(1, 7)),
        ..aside(&["c"])
    };
    for wrong in [without(|aside| aside.request.clear()), without(|aside| aside.reasons.clear()), both] {
        let refused = append_with(&product, None, batch(&["c"]), wrong).await.unwrap_err();
        assert_eq!(
            (refused.kind(), tables(&product)),
            (ErrorKind::Invalid, vec!["events 0".to_owned()])
        );
    }
}

#[tokio::test]
async fn of_what_is_sent_under_one_id_the_first_content_counts_whether_it_could_be_rows_or_not() {
    let house = House::new(35);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    // None of it, all of it and some of it could be rows when it came first.
    append_with(&product, Some("none"), batch(&[]), aside(&["a", "b"])).await.unwrap();
    append_with(&product, Some("all"), batch(&["c"]), Beside::default()).await.unwrap();
    append_with(&product, Some("some"), batch(&["d"]), aside(&["e"])).await.unwrap();
    let again = async |product: &Product, life: &str| {
        for id in ["none", "all", "some"] {
            let (rows, nothing) = (batch(&["again"]), || batch(&[]));
            for (rows, beside) in [
                (rows.clone(), Beside::default()),
                (rows, aside(&["again"])),
                (nothing(), aside(&["again"])),
                (nothing(), Beside::default()),
            ] {
                assert!(
                    append_with(product, Some(id), rows, beside).await.unwrap().duplicate,
                    "{id}, {life}"
                );
            }
        }
    };
    again(&product, "in memory").await;
    product.flush_all().await;
    again(&product, "in files").await;
    // Whatever comes first of those that come at once.
    let mixed = futures::future::join_all((0..8).map(|number| match number % 2 {
        0 => append_with(&product, Some("both"), batch(&[]), aside(&["f"])),
        _ => append_with(&product, Some("both"), batch(&["f"]), Beside::default()),
    }));
    let stored = mixed.await.into_iter().filter(|answer| !answer.as_ref().unwrap().duplicate).count();
    assert_eq!(stored, 1);
    drop(product);

    let product = house.open(&zones).await.unwrap();
    again(&product, "after a restart").await;
    let mut all = house.tags(&product).await;
    all.extend(set_aside(&house, &product).await);
    all.sort();
    assert_eq!(all, ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test]
async fn what_was_set_aside_goes_with_its_table_and_none_inherits_it() {
    let house = House::new(32);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    both(&product, Some("x"), "old").await.unwrap();
    product.flush_all().await;
    let (web, events): (base::DatabaseName, base::TableName) = ("web".parse().unwrap(), "events".parse().unwrap());
    product.delete_table(&web, &events).await.unwrap();
    assert!(product.read().names.is_empty());
    product.flush_due().await;
    assert_eq!(product.shared.memory.used(), 0);
    product.create_table(web.clone(), events.clone()).await.unwrap();
    assert!(product.table_id(&web, &events.aside()).is_err());
    assert!(!both(&product, Some("x"), "new").await.unwrap().duplicate);
    assert_eq!(set_aside(&house, &product).await, ["new"]);
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(set_aside(&house, &product).await, ["new"]);
    product.delete_database(&web).await.unwrap();
    assert!(product.read().names.is_empty());
}

#[tokio::test]
async fn a_replay_is_stored_once_and_noted_whatever_a_sender_calls_its_imports() {
    let house = House::new(33);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    both(&product, None, "a").await.unwrap();
    let table = product.table_id(&"web".parse().unwrap(), &"events".parse().unwrap()).unwrap();
    // Whoever knows the names guesses at how a replay is told from others.
    let request = name(1, 7).request;
    for id in [
        format!("replay/7/{table}/{request}/7"),
        format!("{request}/7"),
        format!("replay/{request}/7"),
    ] {
        append(&product, Some(&id), batch(&["guess"])).await.unwrap();
    }
    let replay = || {
        let beside = Beside {
            aside: None,
            replays: Some(name(1, 7)),
            arrived: None,
        };
        append_with(&product, Some("any"), batch(&["replayed"]), beside)
    };
    let at_once = futures::future::join_all((0..8).map(|_| replay())).await;
    assert_eq!(at_once.into_iter().filter(|answer| !answer.as_ref().unwrap().duplicate).count(), 1);
    product.flush_all().await;
    assert!(replay().await.unwrap().duplicate);
    assert_eq!(house.tags(&product).await, ["a", "guess", "guess", "guess", "replayed"]);
    let noted = house
        .rows(
            &product,
            "SELECT request || '/' || row_no FROM events$rejected WHERE reason = 'replayed'",
        )
        .await;
    assert_eq!(texts(&noted), [format!("{request}/7")]);
}

#[tokio::test]
async fn memory_is_taken_for_what_is_set_aside_and_given_back() {
    let mut house = House::new(34);
    house.settings.flush.memory_limit = 100_000;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    // What is said once for all of them is in each row.
    let id = "x".repeat(1_000);
    let large = [
        (None, aside(&["x".repeat(100_000).as_str()])),
        (Some(id.as_str()), aside(&["x"; 60])),
    ];
    for (id, large) in large {
        let refused = append_with(&product, id, batch(&["a"]), large).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
        assert_eq!(product.shared.memory.used(), 0);
    }
    let refused = loop {
        match both(&product, None, "kept").await {
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::TooMuch);
    assert!(product.shared.memory.peak() <= 100_000);
    product.flush_due().await;
    both(&product, None, "kept").await.unwrap();
    assert_eq!(set_aside(&house, &product).await, house.tags(&product).await);
}

#[tokio::test]
async fn after_any_power_cut_rows_and_what_could_not_be_one_are_both_there_or_neither_is() {
    let mut acknowledged = 0;
    for seed in 100..125 {
        acknowledged += three_lives(seed).await;
    }
    assert!(acknowledged > 100, "only {acknowledged} bodies were acknowledged");
}

async fn three_lives(seed: u64) -> usize {
    let (house, power) = (House::new(seed), Power::on());
    let mut each: Vec<ForgetfulZone> = ["a", "b", "c"].map(|name| ForgetfulZone::new(name, &power)).into();
    let (mut stored, mut perhaps): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for life in 0..3 {
        let shared: Vec<Arc<ForgetfulZone>> = each.into_iter().map(Arc::new).collect();
        let zones = house.zones(shared.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
        let product = house.open(&zones).await.unwrap();
        if life == 0 {
            with_table(&product).await;
            both(&product, Some("first"), "first").await.unwrap();
            stored.push("first".to_owned());
        }
        assert_eq!(
            house.tags(&product).await,
            set_aside(&house, &product).await,
            "seed {seed}, life {life}, before"
        );
        for tag in std::mem::take(&mut perhaps) {
            both(&product, Some(&tag), &tag).await.unwrap();
            stored.push(tag);
        }
        stored.sort();
        assert_eq!(house.tags(&product).await, stored, "seed {seed}, life {life}");
        assert_eq!(set_aside(&house, &product).await, stored, "seed {seed}, life {life}");

        power.cut_after(1 + house.chance.next_u64() % 1_500);
        for number in 0..8 {
            let tag = format!("seed {seed} life {life} body {number:02}");
            match both(&product, Some(&tag), &tag).await {
                Ok(_) => stored.push(tag),
                Err(_) => perhaps.push(tag),
            }
            if house.chance.next_u64().is_multiple_of(4) {
                product.flush_all().await;
            }
        }
        drop(product);
        power.restore();
        each = shared.iter().map(|zone| zone.crash_by_chance(&*house.chance)).collect();
    }
    stored.len()
}

#[tokio::test]
async fn what_was_set_aside_goes_and_comes_back_with_its_table_under_its_new_name_and_in_one_segment() {
    let house = House::new(37);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    both(&product, Some("x"), "old").await.unwrap();
    let (web, events): (base::DatabaseName, base::TableName) = ("web".parse().unwrap(), "events".parse().unwrap());
    let length = product.head().length;
    product.delete_table(&web, &events).await.unwrap();
    assert_eq!(product.head().length, length + 1);
    product.create_table(web.clone(), events.clone()).await.unwrap();
    both(&product, Some("x"), "new").await.unwrap();
    assert_eq!(product.dropped(&Scope::Product).len(), 1, "a table and what is beside it are one");
    product.undrop_table(&web, &events, Some("back".parse().unwrap())).await.unwrap();
    assert_eq!(product.head().length, length + 5);
    assert_eq!(set_aside(&house, &product).await, ["new"]);
    let back = r#"SELECT sealed FROM "back$rejected""#;
    assert_eq!(texts(&house.rows(&product, back).await), ["old"]);
    product.close().await;
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();

    let product = house.open(&zones).await.unwrap();
    assert_eq!(texts(&house.rows(&product, back).await), ["old"]);
    let back = product
        .append(&web, &"back".parse().unwrap(), Some("x"), batch(&["old"]), &[], aside(&["old"]))
        .await;
    assert!(back.unwrap().duplicate);
}
