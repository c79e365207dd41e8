//! Declared types: what does not fit stands in the overflow column, and a change reads all rows again, whatever happens in between.

use std::collections::BTreeSet;

use events::{ColumnType, Declared};
use zones::{ForgetfulZone, Power};

use super::*;

/// What a query shows of each row, in the order of `tag`: the column `x`, and what overflowed.
const SHOWN: &str = "SELECT coalesce(cast(x AS varchar), '-') || ' ' || coalesce(_overflow, '-') FROM events ORDER BY tag";

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

fn declared(columns: &[(&str, ColumnType)]) -> Declared {
    Declared::new(columns.iter().map(|(name, of)| ((*name).to_owned(), *of))).unwrap()
}

async fn declare(product: &Product, columns: &[(&str, ColumnType)]) -> base::TableId {
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    let id = product.declare(&web, &events, declared(columns), None).await.unwrap();
    product.retype_quick().await;
    id
}

fn columns_of(product: &Product) -> Vec<(String, ColumnType)> {
    product.tables(&"web".parse().unwrap()).unwrap()[0].columns.clone()
}

fn is_changing(product: &Product) -> bool {
    product.tables(&"web".parse().unwrap()).unwrap()[0].is_changing
}

impl House {
    async fn read_again(&self, product: &Product) {
        product.retype_due(&self.lease(), &CancellationToken::new()).await;
        assert!(!is_changing(product));
    }

    async fn shown(&self, product: &Arc<Product>) -> Vec<String> {
        texts(&self.rows(product, SHOWN).await)
    }
}

const AS_LONG: [&str; 4] = ["42 -", r#"- {"x":"042"}"#, r#"- {"x":1.5}"#, "7 -"];

async fn with_rows(product: &Product) {
    with_table(product).await;
    append(product, None, rows(r#"{"tag":"a","x":42} {"tag":"b","x":"042"}"#))
        .await
        .unwrap();
    append(product, None, rows(r#"{"tag":"c","x":1.5} {"tag":"d","x":"7"}"#))
        .await
        .unwrap();
}

#[tokio::test]
async fn who_changes_what_somebody_else_has_changed_meanwhile_is_told_and_changes_nothing() {
    let house = House::new(60);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    let (x, both) = ([("x", ColumnType::Long)], [("x", ColumnType::Long), ("y", ColumnType::String)]);
    let change = |to: Declared, from: Declared| product.declare(&web, &events, to, Some(from));

    change(declared(&x), Declared::default()).await.unwrap();
    let refused = change(declared(&[("z", ColumnType::Long)]), Declared::default()).await.unwrap_err();
    assert!(matches!(refused, crate::product::ProductError::DeclaredMeanwhile), "{refused:?}");
    change(declared(&x), Declared::default()).await.expect("it is so already");
    change(declared(&both), declared(&x)).await.unwrap();
    assert_eq!(*product.tables(&web).unwrap()[0].declared, declared(&both));
}

#[tokio::test]
async fn a_declared_column_is_there_while_it_is_empty_and_goes_with_its_declaration() {
    let house = House::new(60);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let typed = [("x", ColumnType::Long), ("ok", ColumnType::Boolean)];
    declare(&product, &typed).await;
    append(&product, None, batch(&["a"])).await.unwrap();
    let listed = || {
        columns_of(&product)
            .iter()
            .map(|(name, of)| format!("{name} {of}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["x long", "ok boolean", "tag string"]);
    assert_eq!(
        texts(&house.rows(&product, "SELECT tag FROM events WHERE x IS NULL AND ok IS NULL").await),
        ["a"]
    );
    declare(&product, &[("ok", ColumnType::Boolean)]).await;
    assert_eq!(listed(), ["ok boolean", "tag string"]);
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(columns_of(&product).len(), 2);
    assert_eq!(house.tags(&product).await, ["a"]);
}

#[tokio::test]
async fn what_does_not_fit_is_in_the_overflow_column_in_memory_in_files_and_after_a_restart() {
    let house = House::new(61);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    declare(&product, &[("x", ColumnType::Long)]).await;
    append(&product, None, rows(r#"{"tag":"a","x":42} {"tag":"b","x":"042"}"#))
        .await
        .unwrap();
    product.flush_all().await;
    append(&product, None, rows(r#"{"tag":"c","x":1.5} {"tag":"d","x":"7"}"#))
        .await
        .unwrap();
    assert_eq!(house.shown(&product).await, AS_LONG);
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.shown(&product).await, AS_LONG);
    product.flush_all().await;
    assert_eq!(house.shown(&product).await, AS_LONG);
}

#[tokio::test]
async fn rows_are_read_again_when_types_change_and_when_they_change_back() {
    let mut house = House::new(62);
    house.settings.flush.table_bytes = 1;
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_rows(&product).await;
    product.flush_all().await;
    append(&product, Some("late"), rows(r#"{"tag":"e","x":{"deep":[1,"2"]}}"#))
        .await
        .unwrap();
    let discovered = ["042", "1.5", "42", "7", r#"{"deep":[1,"2"]}"#];
    let sorted = "SELECT x FROM events ORDER BY x";

    declare(&product, &[("x", ColumnType::Long)]).await;
    // Rows in files need somebody's lease. Until then all rows are as before, those in memory too.
    assert!(is_changing(&product));
    assert_eq!(texts(&house.rows(&product, sorted).await), discovered);
    product.flush_all().await;
    append(&product, None, rows(r#"{"tag":"f","x":true}"#)).await.unwrap();
    house.read_again(&product).await;
    let longs = [&AS_LONG[..], &[r#"- {"x":{"deep":[1,"2"]}}"#, r#"- {"x":true}"#]].concat();
    assert_eq!(house.shown(&product).await, longs);
    assert!(append(&product, Some("late"), rows("{}")).await.unwrap().duplicate);

    declare(&product, &[("x", ColumnType::Json)]).await;
    house.read_again(&product).await;
    let json = [
        r#"- {"x":42}"#,
        r#"- {"x":"042"}"#,
        r#"- {"x":1.5}"#,
        r#"- {"x":"7"}"#,
        r#"{"deep":[1,"2"]} -"#,
        r#"- {"x":true}"#,
    ];
    assert_eq!(house.shown(&product).await, json);

    declare(&product, &[("x", ColumnType::Long)]).await;
    house.read_again(&product).await;
    assert_eq!(house.shown(&product).await, longs);
    declare(&product, &[]).await;
    house.read_again(&product).await;
    assert_eq!(
        texts(&house.rows(&product, sorted).await),
        ["042", "1.5", "42", "7", "true", r#"{"deep":[1,"2"]}"#]
    );
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert!(!is_changing(&product));
    assert_eq!(
        house
            .rows(&product, "SELECT 1 FROM events WHERE _overflow IS NOT NULL")
            .await
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        0
    );
    drop(each);
}

#[tokio::test]
async fn a_declaration_that_changes_no_value_reads_nothing_again() {
    let house = House::new(63);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_rows(&product).await;
    product.flush_all().await;
    declare(&product, &[("x", ColumnType::String), ("new", ColumnType::Double)]).await;
    assert!(!is_changing(&product));
    append(&product, None, rows(r#"{"tag":"e","new":"much"}"#)).await.unwrap();
    assert_eq!(
        house.shown(&product).await,
        ["42 -", "042 -", "1.5 -", "7 -", r#"- {"new":"much"}"#]
    );
}

#[tokio::test]
async fn rows_that_come_and_become_files_while_others_are_read_again_are_there_once_under_the_new_types() {
    let mut house = House::new(64);
    house.settings.flush.merge_files = 3;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_rows(&product).await;
    product.flush_all().await;
    declare(&product, &[("x", ColumnType::Long)]).await;
    let lease = house.lease();
    let never = CancellationToken::new();
    let coming = async {
        for number in 0..30 {
            append(&product, None, rows(&format!(r#"{{"tag":"e{number:02}","x":"n{number:02}"}}"#)))
                .await
                .unwrap();
            product.flush_all().await;
            if number % 5 == 0 {
                product.merge_due(&lease, &never).await;
            }
            // One of the two, never some rows of each.
            let shown: BTreeSet<bool> = texts(&house.rows(&product, "SELECT arrow_typeof(x) FROM events").await)
                .iter()
                .map(|of| of.contains("Int64"))
                .collect();
            assert_eq!(shown.len(), 1);
        }
    };
    let reading = product.retype_due(&lease, &never);
    futures::join!(coming, reading);
    house.read_again(&product).await;

    let late: Vec<String> = (0..30).map(|number| format!(r#"- {{"x":"n{number:02}"}}"#)).collect();
    let late: Vec<&str> = late.iter().map(String::as_str).collect();
    assert_eq!(house.shown(&product).await, [&AS_LONG[..], &late].concat());
}

#[tokio::test]
async fn a_table_that_is_deleted_or_whose_reader_is_revoked_while_it_is_read_again_leaves_nothing_behind() {
    let mut house = House::new(65);
    house.settings.flush.table_bytes = 1;
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_rows(&product).await;
    product.flush_all().await;
    let id = declare(&product, &[("x", ColumnType::Long)]).await;

    let revoked = CancellationToken::new();
    revoked.cancel();
    product.retype(id, &house.lease(), &revoked).await.unwrap();
    assert!(is_changing(&product));
    assert_eq!(
        texts(&house.rows(&product, "SELECT x FROM events ORDER BY tag").await),
        ["42", "042", "1.5", "7"]
    );

    // Deleted once the first new file is in the zones.
    let files = || each[0].objects().iter().filter(|name| name.as_str().starts_with("tables/")).count();
    let deleting = async {
        while files() < 2 {
            tokio::task::yield_now().await;
        }
        let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
        product.delete_table(&web, &events).await.unwrap();
    };
    let (lease, never) = (house.lease(), CancellationToken::new());
    let (done, ()) = futures::join!(product.retype(id, &lease, &never), deleting);
    assert!(done.is_ok() || done.is_err_and(|error| error.kind() == ErrorKind::NotFound));
    house.pass_for_good(&product).await;
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn a_declaration_that_the_catalog_did_not_take_is_made_later_and_a_lost_catalog_is_made_again_with_it() {
    let house = House::new(66);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_rows(&product).await;
    product.flush_all().await;
    let fail = "CREATE TRIGGER told_to_fail BEFORE UPDATE ON progress BEGIN SELECT RAISE(ABORT, 'told to fail'); END";
    sqlx::raw_sql(fail).execute(product.catalog().pool()).await.unwrap();
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    let answer = product
        .declare(&web, &events, declared(&[("x", ColumnType::Long)]), None)
        .await
        .unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::Unavailable);
    sqlx::raw_sql("DROP TRIGGER told_to_fail")
        .execute(product.catalog().pool())
        .await
        .unwrap();
    product.flush_due().await;
    assert!(is_changing(&product));
    product.close().await;
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();

    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.shown(&product).await, AS_LONG);
    product.flush_all().await;
    drop(product);
    let product = house.open(&zones).await.unwrap();
    assert!(!is_changing(&product));
    assert_eq!(house.shown(&product).await, AS_LONG);
}

#[tokio::test]
async fn after_any_power_cut_rows_are_all_there_under_one_declaration_and_are_read_again_to_the_end() {
    let (mut cut, mut whole) = (0, 0);
    for seed in 0..30 {
        if cut_in_between(seed).await {
            cut += 1;
        } else {
            whole += 1;
        }
    }
    // Without these the test would prove nothing.
    assert!(cut > 5 && whole > 2, "{cut} were cut, {whole} were not");
}

/// Whether the power went before the rows were read again.
async fn cut_in_between(seed: u64) -> bool {
    let (mut house, power) = (House::new(seed), Power::on());
    house.settings.flush.table_bytes = 1;
    let shared: Vec<Arc<ForgetfulZone>> = ["a", "b", "c"].map(|name| Arc::new(ForgetfulZone::new(name, &power))).into();
    let zones = house.zones(shared.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
    let product = house.open(&zones).await.unwrap();
    with_rows(&product).await;
    product.flush_all().await;
    append(&product, Some("late"), rows(r#"{"tag":"e","x":[5]}"#)).await.unwrap();
    declare(&product, &[("x", ColumnType::Long)]).await;

    power.cut_after(1 + house.chance.next_u64() % 350);
    let (lease, never) = (house.lease(), CancellationToken::new());
    let done = product.retype_due(&lease, &never);
    let more = append(&product, Some("more"), rows(r#"{"tag":"f","x":"much"}"#));
    let ((), more) = futures::join!(done, more);
    let was_cut = is_changing(&product);
    drop(product);
    power.restore();
    let each: Vec<Arc<ForgetfulZone>> = shared.iter().map(|zone| Arc::new(zone.crash_by_chance(&*house.chance))).collect();
    let zones = house.zones(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());

    let product = house.open(&zones).await.unwrap();
    if more.is_err() {
        append(&product, Some("more"), rows(r#"{"tag":"f","x":"much"}"#)).await.unwrap();
    }
    let discovered = ["42", "042", "1.5", "7", "[5]", "much"];
    let longs = [&AS_LONG[..], &[r#"- {"x":[5]}"#, r#"- {"x":"much"}"#]].concat();
    if is_changing(&product) {
        assert_eq!(
            texts(&house.rows(&product, "SELECT x FROM events ORDER BY tag").await),
            discovered,
            "seed {seed}"
        );
    } else {
        assert_eq!(house.shown(&product).await, longs, "seed {seed}");
    }
    house.read_again(&product).await;
    assert_eq!(house.shown(&product).await, longs, "seed {seed}");
    was_cut
}

#[tokio::test]
async fn however_many_rows_are_read_again_little_memory_is_taken() {
    let mut house = House::new(68);
    house.settings.flush.table_bytes = 100_000;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for number in 0..40 {
        let part: String = (0..200)
            .map(|row| format!(r#"{{"tag":"{number} {row} {}","x":{row}}}"#, "x".repeat(100)))
            .collect();
        append(&product, None, rows(&part)).await.unwrap();
        product.flush_all().await;
    }
    declare(&product, &[("x", ColumnType::Boolean)]).await;
    house.read_again(&product).await;

    let all = "SELECT 1 FROM events WHERE x IS NULL AND _overflow LIKE '{\"x\":%}'";
    assert_eq!(
        house.rows(&product, all).await.iter().map(RecordBatch::num_rows).sum::<usize>(),
        8_000
    );
    // All of them together take more than a megabyte.
    let peak = product.shared.memory.peak();
    assert!((100_000..250_000).contains(&peak), "{peak} bytes");
}

/// A batch with as many columns as a table may have, named from 0.
fn widest() -> String {
    let row = |number: usize| {
        let cells: Vec<String> = (0..1_000).map(|column| format!(r#""c{}":1"#, number * 1_000 + column)).collect();
        format!("{{{}}}\n", cells.join(","))
    };
    (0..10).map(row).collect()
}

#[tokio::test]
async fn a_table_with_all_columns_that_it_may_have_keeps_further_ones_in_the_overflow_column() {
    let house = House::new(67);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, rows(&widest())).await.unwrap();
    append(&product, None, rows(r#"{"c1":2,"tag":"a","deep":{"b":[true,1.5]}}"#))
        .await
        .unwrap();
    // An identity is always a column.
    let body = decode(
        Syntax::Json,
        br#"{"c1":2,"tag":"b","who":"ada"}"#,
        &Told {
            limits: &Limits::default(),
            received_at: Timestamp::from_secs(0),
            identities: &[],
            personal: &[],
        },
    );
    let body = body.unwrap().batch;
    let identities = events::identities::distinct(&body, &["who".to_owned()]).unwrap();
    let body = to_ipc(&events::identities::replace(&body, &identities, &[77]).unwrap());
    append(&product, None, body).await.unwrap();

    let sql = "SELECT coalesce(cast(who AS varchar), '-') || ' ' || _overflow FROM events WHERE c1 = 2 ORDER BY _overflow DESC";
    let expected = [r#"77 {"tag":"b"}"#, r#"- {"tag":"a","deep":{"b":[true,1.5]}}"#];
    let count = || columns_of(&product).len();
    assert_eq!(
        (texts(&house.rows(&product, sql).await), count()),
        (expected.map(str::to_owned).into(), 10_002)
    );
    product.flush_all().await;
    append(&product, None, rows(r#"{"tag":"c"}"#)).await.unwrap();
    assert_eq!(
        (texts(&house.rows(&product, sql).await), count()),
        (expected.map(str::to_owned).into(), 10_002)
    );
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    let more = product.declare(&web, &events, declared(&[("tag", ColumnType::Long)]), None).await;
    assert_eq!(more.unwrap_err().kind(), ErrorKind::Invalid);
    // One that adds no column is taken, though there is one more already than others may make.
    product
        .declare(&web, &events, declared(&[("c1", ColumnType::Long)]), None)
        .await
        .unwrap();
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(texts(&house.rows(&product, sql).await), expected);
    assert_eq!(
        texts(
            &house
                .rows(&product, "SELECT _overflow FROM events WHERE c1 IS NULL AND _overflow IS NOT NULL")
                .await
        ),
        [r#"{"tag":"c"}"#]
    );
    assert_eq!(columns_of(&product).len(), 10_002);
}

#[tokio::test]
async fn spellings_of_an_identity_column_widen_a_table_up_to_a_bound() {
    let house = House::new(68);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, rows(&widest())).await.unwrap();
    let cells: Vec<String> = (0..150).map(|blanks| format!(r#""{}who":"ada""#, " ".repeat(blanks))).collect();
    let told = Told {
        limits: &Limits::default(),
        received_at: Timestamp::from_secs(0),
        identities: &[],
        personal: &[],
    };
    let body = decode(Syntax::Json, format!("{{{}}}", cells.join(",")).as_bytes(), &told)
        .unwrap()
        .batch;
    let identities = events::identities::distinct(&body, &["who".to_owned()]).unwrap();
    let body = events::identities::replace(&body, &identities, &[77]).unwrap();
    for _ in 0..2 {
        append(&product, None, to_ipc(&body)).await.unwrap();
    }
    // With the overflow column, in which the others are, as ids.
    assert_eq!(columns_of(&product).len(), 10_000 + 100 + 1);
    let others = house.rows(&product, "SELECT _overflow FROM events WHERE who = 77 LIMIT 1").await;
    assert!(texts(&others)[0].contains(":77"), "{others:?}");
}

#[tokio::test]
async fn what_may_overflow_is_charged_before_it_does() {
    let mut house = House::new(69);
    house.settings.flush.memory_limit = 1_500_000;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    declare(&product, &[("c", ColumnType::Long)]).await;
    // Each byte becomes six.
    let text = |bytes: usize| rows(&format!(r#"{{"c":"{}"}}"#, "\\u0001".repeat(bytes)));
    let refused = append(&product, None, text(150_000)).await.unwrap_err();
    assert!(matches!(refused, super::super::ProductError::BatchTooLarge { .. }), "{refused:?}");
    append(&product, None, text(20_000)).await.unwrap();
    assert_eq!(
        texts(&house.rows(&product, "SELECT cast(length(_overflow) AS varchar) FROM events").await),
        ["120008"]
    );
}
