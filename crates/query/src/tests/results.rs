use std::sync::Arc;

use datafusion::arrow::array::{Array, BooleanArray, Float64Array, new_null_array};
use datafusion::arrow::datatypes::DataType;
use events::ColumnType;

use super::*;

const TOTALS: &str = "SELECT event, count(*), sum(price), min(time), max(time) FROM events GROUP BY event ORDER BY 1";

#[tokio::test]
async fn rows_in_memory_in_files_and_in_both_give_the_same_answer() {
    let world = World::new();
    let (early, late) = (sales(0..500), sales(500..1000));
    let schema = early.schema();
    let (first, second) = (world.file("f1", &early).await, world.file("f2", &late).await);
    let expected = ["buy\t500\t125000.0\t1\t999", "view\t500\t124750.0\t0\t998"];

    for view in [
        product(Arc::clone(&schema), vec![early.clone(), late.clone()], vec![]),
        product(Arc::clone(&schema), vec![], vec![first.clone(), second.clone()]),
        product(Arc::clone(&schema), vec![late.clone()], vec![first.clone()]),
    ] {
        assert_eq!(world.rows(&view, TOTALS).await, expected);
        assert_eq!(
            world.rows(&view, "SELECT count(*), min(time), max(time) FROM web.events").await,
            ["1000\t0\t999"]
        );
        assert_eq!(
            world.rows(&view, "SELECT time FROM events ORDER BY time DESC LIMIT 2").await,
            ["999", "998"]
        );
        assert_eq!(
            world.rows(&view, "SELECT price FROM events WHERE event = 'buy' AND time = 7").await,
            ["3.5"]
        );
        assert_eq!(world.rows(&view, "SELECT * FROM events WHERE time = 4").await, ["4\tview\t2.0"]);
        assert_eq!(world.ask(&view, "SELECT * FROM events LIMIT 3").await.unwrap()[0].num_rows(), 3);
        assert_eq!(
            world
                .rows(&view, "SELECT count(*) FROM events a JOIN events b ON a.time = b.time")
                .await,
            ["1000"]
        );
    }
    let nothing = product(schema, vec![], vec![]);
    assert_eq!(world.rows(&nothing, "SELECT count(*) FROM events").await, ["0"]);
    assert!(world.rows(&nothing, "SELECT * FROM events").await.is_empty());
}

#[tokio::test]
async fn files_outside_the_time_asked_for_are_not_opened() {
    let world = World::new();
    let (early, late) = (world.file("f1", &sales(0..10)).await, world.file("f2", &sales(100..110)).await);
    for zone in &world.memory {
        assert!(zone.lose(&early.object));
    }
    let view = product(sales(0..1).schema(), vec![], vec![early, late]);

    for only_late in [
        "SELECT sum(price) FROM events WHERE time >= 100",
        "SELECT sum(price) FROM events WHERE time BETWEEN 50 AND 200",
        "SELECT sum(price) FROM events WHERE time > 60 AND event IN ('view', 'buy')",
        "SELECT sum(price) FROM events WHERE time IN (100, 101, 102, 103, 104, 105, 106, 107, 108, 109)",
    ] {
        assert_eq!(world.rows(&view, only_late).await, ["522.5"], "{only_late}");
    }
    assert!(
        world.ask(&view, "SELECT sum(price) FROM events").await.is_err(),
        "the lost file is opened without a filter"
    );
}

/// A column of each type, what it held, and the same values as they read once the column is of type `to`.
fn columns_of(to: ColumnType) -> Vec<(Seen, ArrayRef)> {
    let longs: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None, Some(-9_007_199_254_740_992)]));
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![Some(5.0), Some(1e300), None]));
    let nothing = new_null_array(&DataType::Utf8, 3);
    let mut all = vec![(Seen::NOTHING, nothing), (Seen::LONG, longs)];
    if to != ColumnType::Long {
        all.push((Seen::LONG | Seen::DOUBLE, doubles));
    }
    if to == ColumnType::String {
        let bools: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]));
        let json: ArrayRef = Arc::new(StringArray::from(vec![Some("{\"a\":1}"), None, Some("[]")]));
        all.extend([(Seen::BOOL, bools), (Seen::JSON, json), (Seen::STRING, texts(&["", "NaN", "5"]))]);
        all.push((Seen::DOUBLE, Arc::new(Float64Array::from(vec![f64::NAN, -0.0, f64::INFINITY]))));
        all.push((Seen::LONG | Seen::BIG_LONG, self::longs(&[i64::MIN, i64::MAX, 0])));
    }
    all
}

#[tokio::test]
async fn older_narrower_columns_read_the_same_from_memory_and_from_files() {
    for (to, held) in [
        (ColumnType::Long, Seen::LONG),
        (ColumnType::Double, Seen::LONG | Seen::DOUBLE),
        (ColumnType::String, Seen::STRING | Seen::LONG),
    ] {
        let world = World::new();
        let table = schema(&[("x", held), ("absent", Seen::STRING)]);
        for (nth, (seen, values)) in columns_of(to).into_iter().enumerate() {
            let old = batch(&[1, 2, 3], &[("x", seen, Arc::clone(&values))]);
            let file = world.file(&format!("f{nth}"), &old).await;
            let in_memory = product(Arc::clone(&table), vec![old], vec![]);
            let in_file = product(Arc::clone(&table), vec![], vec![file]);
            let expected = if values.null_count() == 3 {
                new_null_array(&to.data_type(), 3)
            } else {
                events::widen(&values, to).unwrap()
            };

            for view in [&in_memory, &in_file] {
                let got = world.ask(view, "SELECT time, x, absent FROM events ORDER BY time").await.unwrap();
                assert_eq!(got[0].column(1).as_ref(), expected.as_ref(), "{seen:?} to {to}");
                assert_eq!(got[0].column(2).null_count(), 3);
            }
            // Filters see the widened values as well, whichever way they are decided.
            let wanted = match to {
                ColumnType::String => "'5'",
                _ => "5",
            };
            for filter in [
                format!("x = {wanted}"),
                format!("x <> {wanted}"),
                format!("x > {wanted}"),
                "x IS NULL".into(),
            ] {
                let sql = format!("SELECT time FROM events WHERE {filter} ORDER BY time");
                assert_eq!(
                    world.rows(&in_memory, &sql).await,
                    world.rows(&in_file, &sql).await,
                    "{seen:?} {sql}"
                );
            }
        }
    }
}

#[tokio::test]
async fn columns_are_named_as_in_trino() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..4)], vec![]);
    let check = async |sql: &str, expected: &[&str]| {
        let stream = world.engine.run(&view, world.lease(), "web", sql, CancellationToken::new()).await;
        let stream = stream.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let names: Vec<_> = stream.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, expected, "{sql}");
        for batch in stream.collect().await.unwrap() {
            assert_eq!(batch.schema().fields().len(), expected.len());
            assert_eq!(batch.schema().field(0).name(), expected[0]);
        }
    };
    check("SELECT count(*) FROM events", &["_col0"]).await;
    check(
        "SELECT event, count(*), sum(price) AS total FROM events GROUP BY 1",
        &["event", "_col1", "total"],
    )
    .await;
    check("SELECT EVENT, (Time), e.price FROM Web.Events e", &["event", "time", "price"]).await;
    check("SELECT *, 1 + time FROM events", &["time", "event", "price", "_col3"]).await;
    check("SELECT upper(event), * FROM events", &["_col0", "time", "event", "price"]).await;
    check("SELECT max(time) FROM events UNION ALL SELECT 1", &["_col0"]).await;
    check("VALUES (1, 'a')", &["_col0", "_col1"]).await;
    check("WITH t AS (SELECT 1 AS one) (SELECT one, one + 1 FROM t)", &["one", "_col1"]).await;
    check("SELECT count(*) FROM events ORDER BY count(*)", &["_col0"]).await;
    check("SHOW TABLES", &["Table"]).await;
    check("SHOW SCHEMAS", &["Schema"]).await;
    check("DESCRIBE events", &["Column", "Type", "Extra", "Comment"]).await;
}

#[tokio::test]
async fn show_and_describe_tell_of_this_product_only() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![], vec![]);
    let check = async |sql: &str, expected: &[&str]| assert_eq!(world.rows(&view, sql).await, expected, "{sql}");
    check("SHOW TABLES", &["events"]).await;
    check("show tables from shop;", &["orders"]).await;
    check("SHOW TABLES IN web LIKE 'x%'", &[]).await;
    let injected = world.ask(&view, "SHOW TABLES FROM \"web' OR '1'='1\"").await.unwrap_err();
    assert_eq!(injected.kind(), base::ErrorKind::NotFound);
    check("SHOW SCHEMAS", &["information_schema", "shop", "web"]).await;
    check("SHOW DATABASES LIKE 'w%'", &["web"]).await;
    check("SHOW CATALOGS", &["coffer"]).await;
    let columns = ["time\tbigint\t\t", "event\tvarchar\t\t", "price\tdouble\t\t"];
    check("DESCRIBE events", &columns).await;
    check("DESC WEB.EVENTS", &columns).await;
    check("SHOW COLUMNS FROM web.events", &columns).await;
    check(
        "SELECT table_schema, table_name FROM information_schema.tables ORDER BY 1",
        &["shop\torders", "web\tevents"],
    )
    .await;
    check("SELECT count(*) FROM \"td-presto\".web.events", &["0"]).await;
    check("SELECT count(*) FROM coffer.information_schema.columns", &["5"]).await;
    let plan = world.rows(&view, "EXPLAIN SELECT count(*) FROM events WHERE time > 5").await;
    assert!(!plan.is_empty());
}
