//! Rows that are older than their table keeps them: in no answer at once, then in no file, then in no raw log.

use events::{ColumnType, Declared};

use super::*;

const DAY: u64 = 86_400;

async fn keep(product: &Product, keep: Option<u64>, keep_raw: Option<u64>) -> Result<(), super::super::ProductError> {
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    product.set_retention(&web, &events, keep, keep_raw).await
}

/// As often as rounds are needed for all that is due.
async fn rounds(product: &Product) {
    for _ in 0..4 {
        product.flush_due().await;
        product.delete_condemned().await;
    }
}

fn raw(each: &MemoryZone) -> (usize, usize) {
    let objects = each.objects();
    let raw = || objects.iter().filter(|name| name.is_below("raw"));
    (raw().count(), raw().filter(|name| name.id().contains("-t")).count())
}

async fn declare(product: &Product, of: ColumnType) -> Result<base::TableId, super::super::ProductError> {
    let declared = Declared::new([("tag".to_owned(), of)]).unwrap();
    product
        .declare(&"web".parse().unwrap(), &"events".parse().unwrap(), declared, None)
        .await
}

#[tokio::test]
async fn a_row_is_shown_to_the_second_for_as_long_as_it_is_kept_and_its_file_goes_later() {
    let house = House::new(100);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    // Of 1,799,000,000 and the seconds after it; now is 1,800,000,000.
    append(&product, Some("file"), batch(&["a", "b", "c"])).await.unwrap();
    product.flush_all().await;
    append(&product, Some("memory"), batch(&["x", "y", "z"])).await.unwrap();
    keep(&product, Some(12 * DAY), None).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "b", "c", "x", "y", "z"]);
    house.clock.advance(Duration::from_secs(12 * DAY - 1_000_000));
    assert_eq!(house.tags(&product).await, ["a", "b", "c", "x", "y", "z"]);
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(house.tags(&product).await, ["b", "c", "y", "z"]);
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["b", "c", "y", "z"]);
    assert_eq!(product.tables(&"web".parse().unwrap()).unwrap()[0].retention.keep, 12 * DAY);
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(house.tags(&product).await.len(), 0);
    let files = || each[0].objects().iter().filter(|name| name.is_below("tables")).count();
    rounds(&product).await;
    assert_eq!(files(), 1, "clocks are wrong by an hour at times");
    // A clock that jumps to 2038 makes nothing older.
    let real = house.clock.now();
    house.clock.set(Timestamp::from_secs(2_147_483_648));
    rounds(&product).await;
    assert!(files() > 0);
    house.clock.set(real);
    // What is not gone yet is there again when it is kept for longer.
    keep(&product, Some(0), None).await.unwrap();
    assert_eq!(house.tags(&product).await.len(), 6);
    keep(&product, Some(12 * DAY), None).await.unwrap();

    house.clock.advance(Duration::from_secs(2 * 3600 + 60));
    append(
        &product,
        Some("now"),
        sent(&[
            0x82, 0xd9, 4, b't', b'i', b'm', b'e', 0xce, 0x6b, 0x5f, 0, 0, 0xd9, 3, b't', b'a', b'g', 0xd9, 1, b'n',
        ]),
    )
    .await
    .unwrap();
    product.flush_all().await;
    rounds(&product).await;
    assert_eq!((files(), house.tags(&product).await), (1, vec!["n".to_owned()]));
    assert!(append(&product, Some("file"), batch(&["a"])).await.unwrap().duplicate);
    // Types are changed from the raw log, which has them yet, and no row comes back by it.
    let id = declare(&product, ColumnType::Json).await.unwrap();
    let lease = Lease::new(house.private_key.clone());
    product.retype(id, &lease, &CancellationToken::new()).await.unwrap();
    let counted = |rows: Vec<RecordBatch>| rows.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(counted(house.rows(&product, "SELECT 1 FROM events").await), 1);
    product.close().await;
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();
    let product = house.open(&zones).await.unwrap();
    assert_eq!(counted(house.rows(&product, "SELECT 1 FROM events").await), 1);
}

#[tokio::test]
async fn the_raw_log_goes_once_it_is_old_and_in_files_and_what_then_cannot_be_is_refused() {
    let mut house = House::new(101);
    house.settings.flush.after = Duration::from_secs(1_000_000_000);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("file"), batch(&["a"])).await.unwrap();
    product.flush_all().await;
    append(&product, Some("memory"), batch(&["b"])).await.unwrap();
    keep(&product, None, Some(DAY)).await.unwrap();
    let (objects, _) = raw(&each[0]);
    let none = CancellationToken::new();
    product.trim_due(None, &none).await;
    assert_eq!(raw(&each[0]), (objects, 0));
    house.clock.advance(Duration::from_secs(DAY + 3 * 3600));
    product.trim_due(None, &none).await;
    assert_eq!(raw(&each[0]), (objects, 1), "the one in memory stays");
    assert_eq!(house.tags(&product).await, ["a", "b"]);
    assert!(append(&product, Some("file"), batch(&["a"])).await.unwrap().duplicate);
    let refused = declare(&product, ColumnType::Json).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    declare(&product, ColumnType::String).await.unwrap();
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "b"]);
    assert_eq!(declare(&product, ColumnType::Json).await.unwrap_err().kind(), ErrorKind::Invalid);
    product.flush_all().await;
    house.clock.advance(Duration::from_secs(2 * 3600));
    product.trim_due(None, &none).await;
    assert_eq!(raw(&each[0]), (objects + 1, 2));
    assert_eq!(house.tags(&product).await, ["a", "b"]);
    product.close().await;
    drop(product);
    // A start that reads nothing of this knows it all the same.
    let product = house.open(&zones).await.unwrap();
    assert_eq!(declare(&product, ColumnType::Json).await.unwrap_err().kind(), ErrorKind::Invalid);
    product.close().await;
    // What no raw log holds is not made again from it; its imports are not taken a second time for all that.
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();
    let product = house.open(&zones).await.unwrap();
    append(&product, None, batch(&["c"])).await.unwrap();
    assert_eq!(house.tags(&product).await, ["c"]);
    assert!(append(&product, Some("file"), batch(&["a"])).await.unwrap().duplicate);
}

#[tokio::test]
async fn how_long_is_a_day_at_least_and_goes_with_its_table() {
    let house = House::new(102);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for wrong in [1, DAY - 1, 200 * 366 * DAY] {
        assert_eq!(keep(&product, Some(wrong), None).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    keep(&product, Some(30 * DAY), Some(2 * DAY)).await.unwrap();
    let (web, events): (base::DatabaseName, base::TableName) = ("web".parse().unwrap(), "events".parse().unwrap());
    product.delete_table(&web, &events).await.unwrap();
    product.create_table(web.clone(), events.clone()).await.unwrap();
    let kept = |product: &Product| {
        product
            .tables(&web)
            .unwrap()
            .iter()
            .map(|table| table.retention.keep / DAY)
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&product), [0]);
    product.undrop_table(&web, &events, Some("old".parse().unwrap())).await.unwrap();
    assert_eq!(kept(&product), [0, 30]);
    product.close().await;
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();
    let product = house.open(&zones).await.unwrap();
    assert_eq!(kept(&product), [0, 30]);
}
