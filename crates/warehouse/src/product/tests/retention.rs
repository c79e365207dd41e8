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

/// One row of this `time`.
fn row(time: Timestamp, tag: &str) -> Bytes {
    let mut body = vec![0x82];
    text(&mut body, "time");
    body.push(0xce);
    body.extend(u32::try_from(time.as_secs()).unwrap().to_be_bytes());
    text(&mut body, "tag");
    text(&mut body, tag);
    sent(&body)
}

/// Rows of these ages in days and with these tags, in one file.
async fn file(product: &Arc<Product>, rows: &[(u64, &str)]) {
    let now = product.shared.clock.now();
    for (age, tag) in rows {
        let time = Timestamp::from_secs(now.as_secs() - i64::try_from(age * DAY).unwrap());
        append(product, None, row(time, tag)).await.unwrap();
    }
    product.flush_all().await;
}

/// How many files there are, and how many rows they have.
fn held(product: &Product) -> (usize, u64) {
    let state = product.read();
    let files = state.tables.values().flat_map(|table| &table.files);
    files.fold((0, 0), |(count, rows), file| (count + 1, rows + file.rows))
}

#[tokio::test]
async fn rows_that_are_too_old_are_left_out_when_their_file_is_merged_and_no_others() {
    let mut house = House::new(103);
    house.settings.flush.merge_files = 2;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    keep(&product, Some(40 * DAY), None).await.unwrap();
    file(&product, &[(39, "a"), (1, "b")]).await;
    file(&product, &[(39, "c"), (2, "d")]).await;
    house.clock.advance(Duration::from_secs(DAY + 3600));
    assert_eq!(house.tags(&product).await, ["b", "d"]);
    house.merge(&product).await;
    assert_eq!(held(&product), (1, 4), "clocks are wrong by an hour at times");

    // A clock that jumps ahead makes nothing older.
    file(&product, &[(39, "e"), (1, "f")]).await;
    let real = house.clock.now();
    house.clock.set(Timestamp::from_secs(2_147_483_648));
    house.merge(&product).await;
    house.clock.set(real);
    assert_eq!(held(&product), (1, 6));
    assert_eq!(house.tags(&product).await, ["b", "d", "e", "f"]);

    house.clock.advance(Duration::from_secs(2 * 3600));
    file(&product, &[(1, "g")]).await;
    house.merge(&product).await;
    assert_eq!(held(&product), (1, 5));
    assert_eq!(house.tags(&product).await, ["b", "d", "e", "f", "g"]);
    // What was left out does not come back with a longer time, nor with a start.
    keep(&product, Some(0), None).await.unwrap();
    assert_eq!(house.tags(&product).await, ["b", "d", "e", "f", "g"]);
    product.close().await;
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["b", "d", "e", "f", "g"]);
    // Types that need the raw log can be declared all the same, and what it has is kept by now.
    let id = declare(&product, ColumnType::Json).await.unwrap();
    let lease = Lease::new(house.private_key.clone());
    product.retype(id, &lease, &CancellationToken::new()).await.unwrap();
    assert_eq!(held(&product), (1, 7));
}

#[tokio::test]
async fn a_file_that_nothing_is_merged_with_is_written_anew_once_its_rows_are_too_old_for_a_quarter_of_the_time() {
    let house = House::new(104);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    keep(&product, Some(40 * DAY), None).await.unwrap();
    file(&product, &[(40, "a"), (1, "b")]).await;
    house.clock.advance(Duration::from_secs(10 * DAY + 3600));
    house.merge(&product).await;
    assert_eq!(held(&product), (1, 2));

    house.clock.advance(Duration::from_secs(3600 + 1));
    house.merge(&product).await;
    rounds(&product).await;
    assert_eq!((held(&product), house.tags(&product).await), ((1, 1), vec!["b".to_owned()]));
    let files = |zone: &Arc<MemoryZone>| zone.objects().iter().filter(|name| name.is_below("tables")).count();
    assert!(each.iter().all(|zone| files(zone) == 1), "the file before is in no zone");
    let object = || product.read().tables.values().flat_map(|table| table.files.clone()).next().unwrap();
    let written = object();
    house.merge(&product).await;
    assert_eq!(object().object, written.object, "once");
}

#[tokio::test]
async fn nothing_is_left_out_of_a_table_that_may_come_back_or_whose_rows_are_to_be_kept_longer_meanwhile() {
    let house = House::new(105);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    keep(&product, Some(40 * DAY), None).await.unwrap();
    file(&product, &[(60, "a"), (1, "b")]).await;
    let (web, events): (base::DatabaseName, base::TableName) = ("web".parse().unwrap(), "events".parse().unwrap());
    product.delete_table(&web, &events).await.unwrap();
    house.merge(&product).await;
    assert_eq!(held(&product), (1, 2));
    product.undrop_table(&web, &events, None).await.unwrap();

    // A merge is at its end and has left rows out, and now they are kept.
    keep(&product, Some(90 * DAY), None).await.unwrap();
    let from = house.clock.now().as_secs() - i64::try_from(41 * DAY).unwrap();
    let (id, files) = {
        let state = product.read();
        let table = state.tables.values().next().unwrap();
        (table.id, table.files.clone())
    };
    assert!(!product.swap_merged(id, &files, &[], Some(from)).await.unwrap());
    assert_eq!(house.tags(&product).await, ["a", "b"]);
    keep(&product, Some(40 * DAY), None).await.unwrap();
    assert!(product.swap_merged(id, &files, &[], Some(from)).await.unwrap());
    assert_eq!(held(&product), (0, 0));
}
