//! Databases and tables while the catalog fails: what the journal has is made, once, in its order.

use super::*;

const FAIL: &str = "CREATE TRIGGER told_to_fail BEFORE UPDATE ON progress BEGIN SELECT RAISE(ABORT, 'told to fail'); END";
const WORK: &str = "DROP TRIGGER told_to_fail";

async fn catalog(product: &Product, statement: &'static str) {
    sqlx::raw_sql(statement).execute(product.catalog().pool()).await.unwrap();
}

fn databases(product: &Product) -> Vec<String> {
    let all = product.databases(&Scope::Product);
    all.into_iter().map(|database| database.name.to_string()).collect()
}

#[tokio::test]
async fn a_change_that_the_catalog_did_not_take_is_made_before_the_next_one_and_survives_a_restart() {
    let house = House::new(20);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    catalog(&product, FAIL).await;

    let answer = product.create_database("shop".parse().unwrap()).await.unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::Unavailable);
    // Nothing new is begun before it is made.
    let length = product.head().length;
    let answer = product.create_database("other".parse().unwrap()).await.unwrap_err();
    assert_eq!((answer.kind(), product.head().length), (ErrorKind::Unavailable, length));

    catalog(&product, WORK).await;
    product.create_database("other".parse().unwrap()).await.unwrap();
    assert_eq!(databases(&product), ["other", "shop", "web"]);
    drop(product);

    assert_eq!(databases(&house.open(&zones).await.unwrap()), ["other", "shop", "web"]);
}

#[tokio::test]
async fn whoever_was_told_to_try_again_finds_the_change_made() {
    let house = House::new(21);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, batch(&["a"])).await.unwrap();
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());

    catalog(&product, FAIL).await;
    assert!(product.delete_table(&web, &events).await.is_err());
    catalog(&product, WORK).await;
    assert_eq!(product.delete_table(&web, &events).await.unwrap_err().kind(), ErrorKind::NotFound);
    product.flush_due().await;
    assert_eq!(product.shared.memory.used(), 0);

    catalog(&product, FAIL).await;
    assert!(product.create_table(web.clone(), events.clone()).await.is_err());
    catalog(&product, WORK).await;
    let again = product.create_table(web, events).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    append(&product, None, batch(&["b"])).await.unwrap();
    product.flush_all().await;
    drop(product);

    assert_eq!(house.tags(&house.open(&zones).await.unwrap()).await, ["b"]);
}

#[tokio::test]
async fn a_change_is_made_by_the_regular_round_when_nobody_tries_again() {
    let house = House::new(22);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    catalog(&product, FAIL).await;
    assert!(product.delete_database(&"web".parse().unwrap()).await.is_err());
    product.flush_due().await;
    assert_eq!(databases(&product), ["web"]);

    catalog(&product, WORK).await;
    product.flush_due().await;
    assert_eq!(databases(&product), [""; 0]);
}

#[tokio::test]
async fn a_change_that_waits_for_the_catalog_is_made_after_a_restart() {
    let house = House::new(23);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, batch(&["a"])).await.unwrap();
    product.flush_all().await;
    let files = || each[0].objects().iter().filter(|name| name.as_str().starts_with("tables/")).count();
    assert_eq!(files(), 1);
    catalog(&product, FAIL).await;
    assert!(product.delete_database(&"web".parse().unwrap()).await.is_err());
    catalog(&product, WORK).await;
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(databases(&product), [""; 0]);
    assert_eq!((product.dropped(&Scope::Product).len(), files()), (2, 1));
}
