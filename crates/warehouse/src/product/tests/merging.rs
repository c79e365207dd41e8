//! Merging: the same rows in fewer files, in order, by day where there are many; few files and little memory whatever comes in.

use std::collections::BTreeMap;

use events::{ColumnType, Declared};
use proptest::prelude::*;
use query::OpenFile;

use super::leftovers::nothing_is_left_over;
use super::*;

const DAY: i64 = 86_400;
/// A day in the middle, so that there are some before it.
const TODAY: i64 = 20_000;

/// Rows as the gateway sends them, from JSON.
fn rows(json: &str) -> Bytes {
    let told = Told {
        limits: &Limits::default(),
        received_at: Timestamp::from_secs(0),
        identities: &[],
        personal: &[],
    };
    to_ipc(&decode(Syntax::Json, json.as_bytes(), &told).unwrap().batch)
}

/// Text of so many bytes that hardly compresses.
fn noise(chance: &SeededEntropy, bytes: usize) -> String {
    (0..bytes.div_ceil(16)).map(|_| format!("{:016x}", chance.next_u64())).collect()
}

fn files(product: &Product) -> Vec<Arc<columns::catalog::FileRecord>> {
    product.read().tables.values().flat_map(|table| table.files.clone()).collect()
}

impl House {
    /// Merges until nothing is due.
    async fn settle(&self, product: &Arc<Product>) {
        let mut rounds = 0;
        while product.count_files().1 > 0 {
            self.merge(product).await;
            rounds += 1;
            assert!(rounds < 500, "merging does not end");
        }
    }

    /// The rows that a file holds of each day. They must be in order of time.
    async fn days_of(&self, product: &Product, file: &columns::catalog::FileRecord) -> BTreeMap<i64, u64> {
        let held: query::Held = Arc::new(());
        let file = OpenFile::open(&product.shared.zones, &self.lease(), product.file_view(file, &held))
            .await
            .unwrap();
        let (mut rows, mut days, mut last) = (file.rows().unwrap(), BTreeMap::new(), i64::MIN);
        while let Some(batch) = rows.next().await.unwrap() {
            let times = batch.column_by_name("time").unwrap();
            for time in times.as_any().downcast_ref::<Int64Array>().unwrap().values() {
                assert!(*time >= last, "a file is not in order of time");
                last = *time;
                *days.entry(time.div_euclid(DAY)).or_default() += 1;
            }
        }
        days
    }
}

#[derive(Debug, Clone)]
enum Deed {
    /// Rows: how many days back at most, and of which kind `x` is.
    Append(u8, u16, u8),
    Flush,
    Merge,
    Restart,
    Declare(bool),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (1_u8..40, prop_oneof![Just(1_u16), Just(1), Just(3), Just(300)], 0_u8..5).prop_map(|(rows, days, kind)| Deed::Append(rows, days, kind)),
        6 => Just(Deed::Flush),
        4 => Just(Deed::Merge),
        1 => Just(Deed::Restart),
        1 => any::<bool>().prop_map(Deed::Declare),
    ];
    proptest::collection::vec(deed, 10..120)
}

/// Does the same to two products, of which one merges, and compares them.
async fn compare(seed: u64, deeds: Vec<Deed>) {
    let (mut merging, plain) = (House::new(seed), House::new(seed + 1));
    merging.settings.flush.merge_files = 3;
    merging.settings.flush.file_bytes = 32 << 10;
    // Rows that are read again become files of a size as well.
    merging.settings.flush.table_bytes = 32 << 10;
    let ((_, zones), (_, plain_zones)) = (merging.memory(), plain.memory());
    let mut one = merging.open(&zones).await.unwrap();
    let other = plain.open(&plain_zones).await.unwrap();
    with_table(&one).await;
    with_table(&other).await;
    let chance = SeededEntropy::new(seed);
    let (mut id, mut appended) = (0, 0);
    for deed in deeds {
        match deed {
            Deed::Append(count, days, kind) => {
                let mut body = String::new();
                for _ in 0..count {
                    id += 1;
                    let time = TODAY * DAY - (chance.next_u64() % (u64::from(days) * DAY as u64)) as i64;
                    let x = match kind {
                        0 => format!(r#","x":{}"#, id % 7),
                        1 => format!(r#","x":{}.5"#, id % 7),
                        2 => format!(r#","x":"text {}""#, id % 7),
                        3 => r#","x":[true,null]"#.to_owned(),
                        _ => format!(r#","other{}":{id}"#, id % 3),
                    };
                    body.push_str(&format!(r#"{{"time":{time},"id":{id},"pad":"{}"{x}}}"#, noise(&chance, 160)));
                }
                append(&one, None, rows(&body)).await.unwrap();
                append(&other, None, rows(&body)).await.unwrap();
                appended += 1;
                // What is flushed at once is one file.
                if appended % 6 == 0 {
                    one.flush_all().await;
                }
            }
            Deed::Flush => {
                one.flush_all().await;
                other.flush_all().await;
            }
            Deed::Merge => merging.merge(&one).await,
            Deed::Restart => {
                drop(one);
                one = merging.open(&zones).await.unwrap();
            }
            Deed::Declare(as_long) => {
                let types = as_long.then(|| ("x".to_owned(), ColumnType::Long));
                let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
                for (house, product) in [(&merging, &one), (&plain, &other)] {
                    // What was in memory before a restart is to be read back first.
                    product.view(&Scope::Product, &house.private_key).await.unwrap();
                    product
                        .declare(&web, &events, Declared::new(types.clone()).unwrap(), None)
                        .await
                        .unwrap();
                    product.retype_quick().await;
                    product.retype_due(&house.lease(), &CancellationToken::new()).await;
                }
            }
        }
    }
    // A table nobody has sent anything to has no such columns.
    let first = r#"{"time":0,"id":0,"pad":"","x":1}"#;
    append(&one, None, rows(first)).await.unwrap();
    append(&other, None, rows(first)).await.unwrap();
    one.flush_all().await;
    merging.settle(&one).await;

    let all = "SELECT concat_ws('|', cast(time AS varchar), cast(id AS varchar), pad, cast(x AS varchar), '_') FROM events ORDER BY id";
    assert_eq!(texts(&merging.rows(&one, all).await), texts(&plain.rows(&other, all).await));
    nothing_is_left_over(&one, &zones).await;
    let full = merging.settings.flush.file_bytes;
    for file in files(&one) {
        let days = merging.days_of(&one, &file).await;
        let counted: u64 = days.values().sum();
        assert_eq!(counted, file.rows);
        assert_eq!(days.keys().next().copied(), Some(file.time_min.div_euclid(DAY)));
        assert_eq!(days.keys().last().copied(), Some(file.time_max.div_euclid(DAY)));
        assert!(file.bytes <= 2 * full, "{} bytes", file.bytes);
        if days.len() > 1 {
            let most = days.values().max().unwrap() * file.bytes / file.rows;
            assert!(most < full + full / 4, "{most} bytes of a day in a file of several");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_is_merged_when_the_same_rows_are_there_in_order_and_large_days_for_themselves(seed in 1_000_u64..1_000_000, deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(seed, deeds));
    }
}

#[tokio::test]
async fn however_many_small_imports_come_in_a_table_has_few_files_and_rows_are_written_anew_a_few_times() {
    for days in [1, 200] {
        let house = House::new(120);
        let (_, zones) = house.memory();
        let product = house.open(&zones).await.unwrap();
        with_table(&product).await;
        let (mut most, mut put) = (0, 0);
        for number in 0..300_i64 {
            let body: String = (0..4)
                .map(|row| {
                    format!(
                        r#"{{"time":{},"tag":"{number:03} {row}"}}"#,
                        (TODAY - (number * 4 + row) % days) * DAY
                    )
                })
                .collect();
            append(&product, None, rows(&body)).await.unwrap();
            product.flush_all().await;
            house.merge(&product).await;
            most = most.max(files(&product).len());
            put = put.max(files(&product).iter().map(|file| file.rows).max().unwrap());
        }
        assert!(most <= 32, "{most} files of imports over {days} days");
        assert!(put > 100);
        assert_eq!(house.tags(&product).await.len(), 1_200);
        house.settle(&product).await;
        nothing_is_left_over(&product, &zones).await;
    }
}

#[tokio::test]
async fn late_events_over_a_few_large_days_end_in_files_of_one_day() {
    let mut house = House::new(121);
    house.settings.flush.merge_files = 4;
    house.settings.flush.file_bytes = 32 << 10;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for _ in 0..120 {
        let row = |nth: i64| {
            let time = (TODAY - nth % 3) * DAY + (house.chance.next_u64() % DAY as u64) as i64;
            format!(r#"{{"time":{time},"pad":"{}"}}"#, noise(&house.chance, 400))
        };
        let body: String = (0..15).map(row).collect();
        append(&product, None, rows(&body)).await.unwrap();
        product.flush_all().await;
        house.settle(&product).await;
    }
    let all = files(&product);
    let full = || all.iter().filter(|file| file.bytes >= house.settings.flush.file_bytes);
    let crossing = full().filter(|file| file.time_min.div_euclid(DAY) != file.time_max.div_euclid(DAY));
    assert!(crossing.count() < 4);
    assert!(full().count() >= 6, "{} files, {} of them full", all.len(), full().count());
    assert_eq!(all.iter().map(|file| file.rows).sum::<u64>(), 1_800);
    nothing_is_left_over(&product, &zones).await;
}

#[tokio::test]
async fn a_merge_takes_little_memory_however_large_the_rows_are_that_it_reads() {
    let mut house = House::new(122);
    house.settings.flush.merge_files = 4;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    // In a file each of them takes some kilobytes.
    let large = "x".repeat(500_000);
    for number in 0..4 {
        let body: String = (0..45)
            .map(|row| format!(r#"{{"time":{},"tag":"{number} {row}","large":"{large}"}}"#, row * 4 + number))
            .collect();
        append(&product, None, rows(&body)).await.unwrap();
        product.flush_all().await;
    }
    assert_eq!(product.shared.memory.used(), 0);
    house.merge(&product).await;
    assert_eq!(files(&product).len(), 1);
    let peak = product.merge_peak.load(std::sync::atomic::Ordering::SeqCst);
    // All of them together are 90 million bytes.
    assert!(peak < 24 << 20, "{peak} bytes");
    assert!(product.shared.rewriting.peak() <= house.settings.flush.rewrite_memory);
    assert_eq!(product.shared.rewriting.used(), 0);
    assert_eq!(house.tags(&product).await.len(), 180);
}

#[tokio::test]
async fn files_of_few_columns_each_are_merged_a_few_cells_at_a_time_however_many_columns_their_table_has() {
    let house = House::new(128);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for number in 0..200 {
        let row = |row: usize| {
            let cells: String = (0..50).map(|column| format!(r#","c{number}_{column}":{}"#, row * column)).collect();
            format!(r#"{{"time":{}{cells}}}"#, row * 200 + number)
        };
        append(&product, None, rows(&(0..8).map(row).collect::<String>())).await.unwrap();
        product.flush_all().await;
    }
    let table = &product.tables(&"web".parse().unwrap()).unwrap()[0];
    assert_eq!(table.columns.len(), 10_000);
    house.settle(&product).await;
    let (cells, peak) = (&product.merge_cells, &product.merge_peak);
    let (cells, peak) = (
        cells.load(std::sync::atomic::Ordering::SeqCst),
        peak.load(std::sync::atomic::Ordering::SeqCst),
    );
    // Laid out as wide as the table, each batch of eight rows would have 80,000, and what is read of all files 16 million.
    assert!(cells <= 256 << 10, "{cells} cells at once");
    assert!(peak <= house.settings.flush.rewrite_memory / 2, "{peak} bytes");
    assert!(product.shared.rewriting.peak() <= house.settings.flush.rewrite_memory);
    assert!(files(&product).len() < 16, "{} files", files(&product).len());
    let sums = "SELECT concat_ws(' ', cast(count(*) AS varchar), cast(sum(c0_1) AS varchar), cast(sum(c199_49) AS varchar), cast(count(c77_7) AS varchar)) FROM events";
    assert_eq!(texts(&house.rows(&product, sums).await), ["1600 28 1372 8"]);
    nothing_is_left_over(&product, &zones).await;
}

#[tokio::test]
async fn files_that_cannot_be_read_within_the_memory_for_it_are_left_alone() {
    let mut house = House::new(123);
    house.settings.flush.merge_files = 2;
    house.settings.flush.rewrite_memory = 1 << 20;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for number in 0..2 {
        append(
            &product,
            None,
            rows(&format!(r#"{{"time":1,"tag":"{number}{}"}}"#, noise(&house.chance, 200 << 10))),
        )
        .await
        .unwrap();
        product.flush_all().await;
    }
    house.merge(&product).await;
    assert_eq!((files(&product).len(), product.shared.rewriting.used()), (2, 0));
    nothing_is_left_over(&product, &zones).await;
}

#[tokio::test]
async fn a_lease_that_ends_ends_the_merge_and_the_next_one_does_it() {
    let mut house = House::new(124);
    house.settings.flush.merge_files = 2;
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for tag in ["a", "b", "c"] {
        append(&product, None, batch(&[tag])).await.unwrap();
        product.flush_all().await;
    }
    let ended = CancellationToken::new();
    ended.cancel();
    product.merge_due(&house.lease(), &ended).await;
    assert_eq!(files(&product).len(), 3);

    // It ends while the new file is on its way into the zones.
    let ended = CancellationToken::new();
    for zone in &each {
        zone.hold_puts();
    }
    let lease = house.lease();
    let ending = async {
        while product.catalog().objects().await.unwrap().len() < 4 {
            tokio::task::yield_now().await;
        }
        ended.cancel();
        for zone in &each {
            zone.let_puts_arrive();
        }
    };
    futures::join!(product.merge_due(&lease, &ended), ending);
    assert_eq!(house.tags(&product).await, ["a", "b", "c"]);
    nothing_is_left_over(&product, &zones).await;
    let spools = house.directory.path().join("products").join("7").join("merging");
    assert_eq!(std::fs::read_dir(spools).unwrap().count(), 0);
    house.settle(&product).await;
    assert_eq!(files(&product).len(), 1);
    nothing_is_left_over(&product, &zones).await;
}

#[tokio::test]
async fn a_damaged_copy_is_repaired_and_merged_at_the_next_try() {
    let mut house = House::new(125);
    house.settings.flush.merge_files = 2;
    let (each, zones) = house.memory();
    zones.vouch_with(Arc::new(|_, _| true));
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for tag in ["a", "b"] {
        append(&product, None, batch(&vec![tag; 400])).await.unwrap();
        product.flush_all().await;
    }
    for zone in &each[..2] {
        zone.corrupt(&files(&product)[0].object);
    }
    let mut tries = 0;
    while files(&product).len() > 1 {
        house.merge(&product).await;
        house.clock.advance(Duration::from_secs(301));
        tries += 1;
        assert!(tries < 10);
    }
    assert_eq!(house.tags(&product).await.len(), 800);
    nothing_is_left_over(&product, &zones).await;
}

#[tokio::test]
async fn rows_are_flushed_read_and_read_again_under_other_types_while_files_are_merged() {
    let mut house = House::new(126);
    house.settings.flush.merge_files = 2;
    house.settings.flush.file_bytes = 8 << 10;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let (lease, never) = (house.lease(), CancellationToken::new());
    let stop = CancellationToken::new();
    let coming = async {
        for number in 0..40 {
            append(
                &product,
                Some(&number.to_string()),
                rows(&format!(r#"{{"time":{number},"tag":"{number:02}","x":"{number}"}}"#)),
            )
            .await
            .unwrap();
            product.flush_all().await;
            let count = texts(&house.rows(&product, "SELECT cast(count(*) AS varchar) FROM events").await);
            assert_eq!(count, [(number + 1).to_string()]);
            if number % 10 == 5 {
                let types = (number % 20 == 5).then(|| ("x".to_owned(), ColumnType::Long));
                let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
                product.declare(&web, &events, Declared::new(types).unwrap(), None).await.unwrap();
            }
        }
        stop.cancel();
    };
    let merging = async {
        while !stop.is_cancelled() {
            product.merge_due(&lease, &never).await;
            product.delete_condemned().await;
            tokio::task::yield_now().await;
        }
    };
    let retyping = async {
        while !stop.is_cancelled() {
            product.retype_quick().await;
            product.retype_due(&lease, &never).await;
            tokio::task::yield_now().await;
        }
    };
    futures::join!(coming, merging, retyping);
    product.retype_due(&lease, &never).await;
    house.settle(&product).await;
    let expected: Vec<String> = (0..40).map(|number| format!("{number:02} {number}")).collect();
    let all = "SELECT tag || ' ' || cast(x AS varchar) FROM events ORDER BY tag";
    assert_eq!(texts(&house.rows(&product, all).await), expected);
    assert!(!product.tables(&"web".parse().unwrap()).unwrap()[0].is_changing);
    nothing_is_left_over(&product, &zones).await;
}
