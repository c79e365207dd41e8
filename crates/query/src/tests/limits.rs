use std::time::{Duration, Instant};

use base::ErrorKind;
use futures::StreamExt;

use super::*;

/// More rows than any machine looks at in a test's time. (A mere count of them is known without looking.)
const ENDLESS: [&str; 5] = [
    "SELECT count(*) FROM events a, events b, events c, events d WHERE a.time + b.time + c.time + d.time > -1",
    "SELECT sum(a.time) FROM events a, events b, events c, events d",
    "SELECT count(*) FROM generate_series(1, 9000000000000000000)",
    "SELECT sum(b.price) FROM (SELECT time FROM events LIMIT 50) c JOIN events a ON c.time < a.time JOIN events b ON a.price < b.price",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n > 0) SELECT max(n) FROM t",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_query_stops_within_a_second_of_the_word() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..20_000)], vec![]);
    for sql in ENDLESS {
        let cancel = CancellationToken::new();
        let (engine, lease, view, token) = (world.engine.clone(), world.lease(), view.clone(), cancel.clone());
        let running = tokio::spawn(async move { engine.run(&view, lease, "web", sql, token).await?.collect().await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!running.is_finished(), "{sql} is not endless");

        let word = Instant::now();
        cancel.cancel();
        let stopped = running.await.unwrap().unwrap_err();

        assert!(word.elapsed() < Duration::from_secs(1), "{sql} took {:?}", word.elapsed());
        assert!(matches!(stopped, QueryError::Cancelled), "{sql}: {stopped:?}");
    }
}

#[test]
fn a_stopped_query_leaves_nothing_running() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let word = runtime.block_on(async {
        let world = World::new();
        let view = product(sales(0..1).schema(), vec![sales(0..20_000)], vec![]);
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let lease = world.lease();
        let run = world.engine.run(&view, lease, "web", ENDLESS[0], token);
        // Dropped in the middle, without a word.
        assert!(tokio::time::timeout(Duration::from_millis(300), run).await.is_err());
        Instant::now()
    });
    // Shutting down waits for every thread to come to an end of its work.
    drop(runtime);
    assert!(word.elapsed() < Duration::from_secs(1), "{:?}", word.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_is_stopped() {
    let settings = QuerySettings {
        timeout: Duration::from_millis(300),
        ..QuerySettings::default()
    };
    let world = World::with(settings);
    let view = product(sales(0..1).schema(), vec![sales(0..20_000)], vec![]);
    let started = Instant::now();

    let stopped = world.ask(&view, ENDLESS[0]).await.unwrap_err();

    assert!(matches!(stopped, QueryError::TimedOut { .. }), "{stopped:?}");
    assert_eq!(
        stopped.to_string(),
        "the query was stopped after 0.3 s: read less time or fewer columns"
    );
    assert!(started.elapsed() < Duration::from_millis(1300), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_query_keeps_to_its_memory() {
    let settings = QuerySettings {
        memory_limit_bytes: 4 << 20,
        ..QuerySettings::default()
    };
    let world = World::with(settings);
    let view = product(sales(0..1).schema(), vec![sales(0..200_000)], vec![]);
    assert_eq!(world.rows(&view, "SELECT count(*) FROM events WHERE price >= 0").await, ["200000"]);

    for greedy in [
        "SELECT price, count(*) FROM events GROUP BY price",
        "SELECT * FROM events ORDER BY event, price DESC",
        "SELECT array_agg(repeat(event, 10) || cast(price AS varchar)) FROM events",
    ] {
        let refused = world.ask(&view, greedy).await.unwrap_err();
        assert!(matches!(refused, QueryError::TooLarge { .. }), "{greedy}: {refused:?}");
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
        assert!(
            refused
                .to_string()
                .starts_with("the query needs more than 4 MiB of memory: read less time")
        );
    }
}

#[tokio::test]
async fn a_result_that_is_held_whole_keeps_to_its_size_and_one_that_streams_needs_not() {
    let settings = QuerySettings {
        max_result_bytes: 100_000,
        ..QuerySettings::default()
    };
    let world = World::with(settings);
    let view = product(sales(0..1).schema(), vec![sales(0..50_000)], vec![]);

    let refused = world.ask(&view, "SELECT time + 1 FROM events").await.unwrap_err();

    assert!(matches!(refused, QueryError::ResultTooLarge { limit: 100_000 }), "{refused:?}");
    let running = world
        .engine
        .run(&view, world.lease(), "web", "SELECT time + 1 FROM events", CancellationToken::new());
    let mut stream = running.await.unwrap();
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!(rows, 50_000);
}

#[tokio::test]
async fn functions_do_not_make_much_out_of_little() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..1000)], vec![]);
    for bomb in [
        "SELECT length(repeat('x', 1000000000))",
        "SELECT max(length(repeat(event, time * 1000))) FROM events",
        "SELECT length(lpad('x', 2000000000, 'y'))",
        "SELECT length(rpad(event, 1000000000)) FROM events",
        "SELECT array_length(array_repeat(1, 1000000000))",
        "SELECT array_length(range(1000000000))",
        "SELECT array_length(generate_series(1, 9223372036854775807))",
        "SELECT array_length(generate_series(-9223372036854775807, 9223372036854775807, 1))",
        "SELECT array_length(generate_series(timestamp '2000-01-01', timestamp '2020-01-01', interval '1' second))",
    ] {
        let refused = world.ask(&view, bomb).await.unwrap_err();
        assert!(
            refused.to_string().contains("would make more than 64 MiB at once"),
            "{bomb}: {refused:?}"
        );
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    assert_eq!(
        world.rows(&view, "SELECT repeat('ab', 3), lpad('x', 3, 'y'), range(0, 6, 2)").await,
        ["ababab\tyyx\t[0, 2, 4]"]
    );
    let days = "SELECT array_length(generate_series(date '2020-01-01', date '2020-12-31', interval '1' day))";
    assert_eq!(world.rows(&view, days).await, ["366"]);
}
