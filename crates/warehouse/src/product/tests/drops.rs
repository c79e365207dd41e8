//! Dropped tables and databases: out of sight at once, back with all they had for seven days, then gone for good.

use base::TableName;

use super::*;
use crate::entries::Header;
use crate::product::ProductError;
use crate::product::drop::DroppedSummary;

const DAY: Duration = Duration::from_secs(86_400);

fn web() -> base::DatabaseName {
    "web".parse().unwrap()
}

fn events() -> TableName {
    "events".parse().unwrap()
}

impl House {
    /// So much time that whatever was dropped goes for good, and it has gone.
    pub(super) async fn pass_for_good(&self, product: &Product) {
        self.clock.advance(DAY * 8);
        for _ in 0..3 {
            product.flush_due().await;
            product.delete_condemned().await;
        }
    }

    /// A start from the journal alone.
    async fn made_again(&self, zones: &Arc<Zones>) -> Arc<Product> {
        std::fs::remove_dir_all(self.directory.path().join("products")).unwrap();
        self.open(zones).await.unwrap()
    }
}

async fn drop_table(product: &Product) {
    product.delete_table(&web(), &events()).await.unwrap();
}

fn dropped(product: &Product) -> Vec<String> {
    let shown = |dropped: DroppedSummary| {
        let table = dropped.table.map_or(String::new(), |table| format!(".{table}"));
        format!("{}{table} {}", dropped.database, dropped.rows)
    };
    product.dropped(&Scope::Product).into_iter().map(shown).collect()
}

fn listed(product: &Product) -> Vec<String> {
    let databases = product.databases(&Scope::Product).into_iter();
    let tables = |name: &base::DatabaseName| {
        let tables = product.tables(name).unwrap().into_iter();
        tables
            .map(|table| format!("{name}.{} {}", table.name, table.rows))
            .collect::<Vec<_>>()
    };
    databases.flat_map(|database| tables(&database.name)).collect()
}

/// A file, memory with a row set aside, and the same from before a start that nobody has opened since.
async fn everywhere(house: &House, zones: &Arc<Zones>) -> Arc<Product> {
    let product = house.open(zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("one"), batch(&["file"])).await.unwrap();
    product.flush_all().await;
    append(&product, Some("two"), batch(&["sealed"])).await.unwrap();
    drop(product);
    let product = house.open(zones).await.unwrap();
    append(&product, Some("three"), batch(&["memory"])).await.unwrap();
    product
}

async fn comes_back(house: &House, product: &Arc<Product>) {
    assert_eq!(
        (listed(product), dropped(product)),
        (vec!["web.events 1".to_owned()], vec!["web.events 3".to_owned()])
    );
    assert_eq!(house.tags(product).await, ["new"]);
    let taken = product.undrop_table(&web(), &events(), None).await.unwrap_err();
    assert!(matches!(taken, ProductError::NameTaken { .. }) && taken.kind() == ErrorKind::Conflict);

    product.undrop_table(&web(), &events(), Some("old".parse().unwrap())).await.unwrap();
    let old = "SELECT tag FROM old ORDER BY tag";
    assert_eq!(texts(&house.rows(product, old).await), ["file", "memory", "sealed"]);
    assert_eq!((house.tags(product).await, dropped(product).len()), (vec!["new".to_owned()], 0));
    for id in ["one", "two", "three"] {
        let sent = product
            .append(
                &web(),
                &"old".parse().unwrap(),
                Some(id),
                batch(&["again"]),
                &[],
                super::super::aside::Beside::default(),
            )
            .await
            .unwrap();
        assert!(sent.duplicate, "{id}");
    }
    assert_eq!(texts(&house.rows(product, old).await), ["file", "memory", "sealed"]);
}

#[tokio::test]
async fn a_dropped_table_comes_back_with_its_rows_of_every_place_and_the_ids_of_its_imports() {
    for (seed, then) in ["at once", "flushed", "restarted", "made again", "after a checkpoint"]
        .into_iter()
        .enumerate()
    {
        let house = House::new(70 + seed as u64);
        let (_, zones) = house.memory();
        let mut product = everywhere(&house, &zones).await;
        if then == "after a checkpoint" {
            // Or what is sealed yet would keep it.
            house.tags(&product).await;
        }
        drop_table(&product).await;
        let nowhere = append(&product, None, batch(&["nowhere"])).await.unwrap_err();
        assert_eq!((nowhere.kind(), listed(&product).len()), (ErrorKind::NotFound, 0));
        assert_eq!(dropped(&product), ["web.events 3"], "{then}");
        product.create_table(web(), events()).await.unwrap();
        assert!(!append(&product, Some("one"), batch(&["new"])).await.unwrap().duplicate);
        match then {
            "flushed" => product.flush_due().await,
            "restarted" => {
                drop(product);
                product = house.open(&zones).await.unwrap();
            }
            "after a checkpoint" => {
                super::starts::checkpointed(&product).await;
                let passed = super::super::checkpoint::load(product.catalog()).await.unwrap();
                assert_eq!(passed, product.journal.head());
                drop(product);
                product = house.open(&zones).await.unwrap();
            }
            "made again" => {
                product.close().await;
                product = house.made_again(&zones).await;
            }
            _ => {}
        }
        comes_back(&house, &product).await;
        drop(product);
        let product = house.open(&zones).await.unwrap();
        assert_eq!(listed(&product), ["web.events 1", "web.old 3"], "{then}");
        product.close().await;
        let product = house.made_again(&zones).await;
        assert_eq!(
            texts(&house.rows(&product, "SELECT tag FROM old ORDER BY tag").await),
            ["file", "memory", "sealed"]
        );
    }
}

#[tokio::test]
async fn of_tables_dropped_one_after_another_under_a_name_the_last_comes_back_first() {
    let house = House::new(75);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    product.create_database(web()).await.unwrap();
    for tag in ["first", "second"] {
        product.create_table(web(), events()).await.unwrap();
        append(&product, None, batch(&[tag])).await.unwrap();
        drop_table(&product).await;
    }
    product.undrop_table(&web(), &events(), None).await.unwrap();
    assert_eq!(house.tags(&product).await, ["second"]);
    product
        .undrop_table(&web(), &events(), Some("older".parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(texts(&house.rows(&product, "SELECT tag FROM older").await), ["first"]);
    let none = product.undrop_table(&web(), &events(), None).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_database_comes_back_with_the_tables_that_were_dropped_with_it() {
    let house = House::new(76);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    product.create_table(web(), "before".parse().unwrap()).await.unwrap();
    product.delete_table(&web(), &"before".parse().unwrap()).await.unwrap();
    append(&product, Some("x"), batch(&["a"])).await.unwrap();
    product.delete_database(&web()).await.unwrap();
    assert_eq!(dropped(&product), ["web 1", "web.events 1", "web.before 0"]);
    let homeless = product.undrop_table(&web(), &events(), None).await.unwrap_err();
    assert_eq!(homeless.kind(), ErrorKind::NotFound);

    // Another one of the name, dropped and made again.
    product.create_database(web()).await.unwrap();
    product.delete_database(&web()).await.unwrap();
    product.create_database(web()).await.unwrap();
    let taken = product.undrop_database(&web(), None).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    product.undrop_database(&web(), Some("empty".parse().unwrap())).await.unwrap();
    product.undrop_database(&web(), Some("shop".parse().unwrap())).await.unwrap();
    assert_eq!(listed(&product), ["shop.events 1"]);
    assert_eq!(dropped(&product), ["web.before 0"]);
    product.close().await;

    let product = house.made_again(&zones).await;
    assert_eq!(
        (listed(&product), dropped(&product)),
        (vec!["shop.events 1".to_owned()], vec!["web.before 0".to_owned()])
    );
    product.undrop_table(&web(), &"before".parse().unwrap(), None).await.unwrap();
    assert_eq!(listed(&product), ["shop.events 1", "web.before 0"]);
}

#[tokio::test]
async fn what_was_dropped_seven_days_ago_goes_for_good_from_every_zone_and_not_before() {
    let house = House::new(77);
    let (each, zones) = house.memory();
    let product = everywhere(&house, &zones).await;
    let view = product.view(&Scope::Product, &house.private_key).await.unwrap();
    assert_eq!(view.databases.len(), 1);
    drop(view);
    product.flush_all().await;
    let files = || {
        each.iter()
            .map(|zone| zone.objects().iter().filter(|name| name.is_below("tables")).count())
            .sum::<usize>()
    };
    assert_eq!(files(), 6);
    product.delete_database(&web()).await.unwrap();

    house.clock.advance(DAY * 7 - Duration::from_secs(60));
    // Summer time, and a wrong year: that is no time that passed.
    house.clock.set(house.clock.now().plus(Duration::from_secs(3600)));
    product.flush_due().await;
    assert_eq!(
        (dropped(&product), files()),
        (vec!["web 3".to_owned(), "web.events 3".to_owned()], 6)
    );
    let real = house.clock.now();
    house.clock.set(Timestamp::from_secs(2_147_483_648));
    product.flush_due().await;
    assert_eq!((dropped(&product).len(), files()), (2, 6));
    house.clock.set(real);
    each[2].go_down();
    house.clock.advance(Duration::from_secs(3 * 3600));
    product.flush_due().await;
    product.delete_condemned().await;
    assert_eq!(dropped(&product).len(), 0);
    let gone = product.undrop_database(&web(), None).await.unwrap_err();
    assert_eq!((gone.kind(), files()), (ErrorKind::NotFound, 2));
    // The zone that was away learns of it.
    each[2].come_back();
    let cancel = CancellationToken::new();
    zones.spawn_catch_up(cancel.clone());
    while files() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cancel.cancel();
    product.close().await;

    let product = house.made_again(&zones).await;
    assert_eq!((listed(&product).len(), dropped(&product).len()), (0, 0));
    assert!(product.read().sealed.is_empty() && product.read().tables.is_empty());
}

#[tokio::test]
async fn nothing_goes_for_good_soon_after_a_start_when_the_clock_may_be_wrong() {
    let mut house = House::new(78);
    house.settings.drops.settle = Duration::from_secs(6 * 3600);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    drop_table(&product).await;
    drop(product);
    house.clock.set(Timestamp::from_secs(2_147_483_648));
    let product = house.open(&zones).await.unwrap();
    house.clock.advance(Duration::from_secs(5 * 3600));
    product.flush_due().await;
    assert_eq!(dropped(&product).len(), 1);
    house.clock.advance(Duration::from_secs(3601));
    product.flush_due().await;
    assert_eq!(dropped(&product).len(), 0);
}

#[tokio::test]
async fn files_of_what_went_for_good_are_deleted_later_when_the_zones_were_away_or_the_process_ended() {
    let house = House::new(79);
    let (each, zones) = house.memory();
    let product = everywhere(&house, &zones).await;
    product.flush_all().await;
    let files = || each[0].objects().iter().filter(|name| name.is_below("tables")).count();
    drop_table(&product).await;
    house.clock.advance(DAY * 8);
    // The change is made, and then the process ends before it deletes anything.
    product.purge().await.unwrap();
    assert_eq!((dropped(&product).len(), files()), (0, 2));
    drop(product);

    let product = house.open(&zones).await.unwrap();
    each[1].go_down();
    each[2].go_down();
    product.delete_condemned().await;
    assert!(files() > 0);
    each[1].come_back();
    each[2].come_back();
    // The first round may find the zones down yet.
    for _ in 0..3 {
        house.clock.advance(Duration::from_secs(300));
        product.delete_condemned().await;
    }
    assert_eq!((files(), product.catalog().condemned(9).await.unwrap().len()), (0, 0));
}

#[tokio::test]
async fn what_an_older_version_deleted_is_gone() {
    let house = House::new(80);
    let (_, zones) = house.memory();
    let product = everywhere(&house, &zones).await;
    let id = product.table_id(&web(), &events()).unwrap();
    let mut waiting = product.control.lock().await;
    product.change(&mut waiting, Header::DeleteTable { id, at: None }).await.unwrap();
    product
        .change(&mut waiting, Header::DeleteDatabase { name: web(), at: None })
        .await
        .unwrap();
    drop(waiting);
    assert_eq!((dropped(&product).len(), product.read().tables.len()), (0, 0));
    product.close().await;
    let product = house.made_again(&zones).await;
    assert_eq!((dropped(&product).len(), product.read().tables.len()), (0, 0));
}

#[tokio::test]
async fn rows_of_a_dropped_table_that_are_in_no_file_are_not_passed_by_a_checkpoint() {
    let house = House::new(81);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("one"), batch(&["memory"])).await.unwrap();
    drop_table(&product).await;
    each[1].go_down();
    each[2].go_down();
    // Its rows cannot become a file now.
    product.flush_due().await;
    each[1].come_back();
    each[2].come_back();
    for _ in 0..4 {
        product.advance_checkpoint().await;
    }
    let passed = super::super::checkpoint::load(product.catalog()).await.unwrap();
    assert!(passed.length < 3, "{passed:?}");
    drop(product);

    let product = house.open(&zones).await.unwrap();
    product.undrop_table(&web(), &events(), None).await.unwrap();
    assert_eq!(house.tags(&product).await, ["memory"]);
    product.close().await;
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["memory"]);
}
