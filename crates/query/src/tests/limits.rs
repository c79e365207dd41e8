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
    let many = |what: &str| vec![what; 200].join(", ");
    for bomb in [
        "length(repeat('x', 1000000000))",
        "max(length(repeat(event, time * 1000)))",
        "length(lpad('x', 2000000000, 'y'))",
        "max(length(rpad(event, 1000000000)))",
        "array_length(array_repeat(1, 1000000000))",
        "array_length(array_repeat(repeat('x', 1000000), 1000))",
        "array_length(array_resize([1], 1000000000, 0))",
        "array_length(range(1000000000))",
        "array_length(generate_series(1, 9223372036854775807))",
        "array_length(generate_series(-9223372036854775807, 9223372036854775807, 1))",
        "array_length(generate_series(timestamp '2000-01-01', timestamp '2020-01-01', interval '1' second))",
        "length(replace(repeat('a', 1000000), 'a', repeat('b', 1000)))",
        "max(length(replace(repeat(event, 10000), 'v', repeat('b', 1000))))",
        "length(regexp_replace(repeat('a', 1000000), 'a', repeat('b', 1000), 'g'))",
        "max(length(regexp_replace(repeat(event, 10000), '(.*)', '\\1\\1\\1\\1\\1\\1\\1')))",
        "array_length(regexp_match(repeat('a', 10000000), '(((((((((a*)))))))))'))",
        &format!("max(length(concat({})))", many("repeat(event, 1000)")),
        &format!("max(length(concat_ws(',', {})))", many("repeat(event, 1000)")),
        &format!("max(length(concat_ws(repeat(event, 1000), {})))", many("event")),
        &format!("max(length({}))", vec!["repeat(event, 1000)"; 200].join(" || ")),
        &format!("max(array_length([{}]))", many("repeat(event, 1000)")),
        &format!("max(array_length(make_array({})))", many("repeat(event, 1000)")),
        &format!("max(struct({}))", many("repeat(event, 1000)")),
        "max(length(overlay(repeat(event, 12000) placing repeat(event, 12000) from 1 for 0)))",
        "max(length(encode(encode(encode(arrow_cast(repeat(event, 5000), 'Binary'), 'hex'), 'hex'), 'hex')))",
        "max(length(to_char(to_timestamp(time), repeat('%c', 100000))))",
        "max(array_length(array_replace_all(range(1, 1000 + time), 1, 2) || array_repeat(time, 1000 * time)))",
        "max(array_length(array_replace_all(array_repeat('a', 1000), 'a', repeat(event, 100))))",
        "max(array_length(arrays_zip(range(1, 1000 + time), [1], [2], [3], [4], [5], [6], [7], [8], [9])))",
        "max(length(array_to_string(range(1, 1000), repeat(event, 100))))",
        "max(array_length(string_to_array(repeat(event, 100000), 'v')))",
        "max(array_length(array_concat(range(1, time * 10), range(1, time * 10))))",
        "max(array_length(array_append(range(1, time * 20), 1)))",
    ] {
        let sql = format!("SELECT {bomb} FROM events");
        let refused = match world.ask(&view, &sql).await {
            Err(refused) => refused,
            Ok(_) => panic!("{sql} was answered"),
        };
        assert!(
            refused.to_string().contains("would make more than 64 MiB at once"),
            "{bomb}: {refused:?}"
        );
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn functions_do_not_work_long_on_little() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..1000)], vec![]);
    for (slow, said) in [
        ("levenshtein(repeat('a', 1000000), repeat('b', 1000000))", "pairs at once"),
        ("max(levenshtein(repeat(event, 200), repeat(event, 201)))", "pairs at once"),
        ("array_has_all(range(1000000), range(1000000))", "pairs at once"),
        ("count(array_has_any(range(time), range(5 * time)))", "pairs at once"),
        ("count(regexp_like(event, '\\w{60}' || time))", "patterns at once"),
        ("sum(regexp_count(event, '\\w{60}' || time))", "patterns at once"),
        ("sum(regexp_instr(event, '\\w{60}' || time))", "patterns at once"),
        ("max(regexp_replace(event, '\\w{60}' || time, ''))", "patterns at once"),
        ("count(regexp_match(event, '\\w{60}' || time))", "patterns at once"),
        ("count(event ~ ('\\w{60}' || time))", "worked out"),
        ("count(event !~* event)", "worked out"),
        ("count(event SIMILAR TO event)", "worked out"),
    ] {
        let sql = format!("SELECT {slow} FROM events");
        let refused = match world.ask(&view, &sql).await {
            Err(refused) => refused,
            Ok(_) => panic!("{sql} was answered"),
        };
        assert!(refused.to_string().contains(said), "{slow}: {refused:?}");
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{slow}: {refused:?}");
    }
    let some = "levenshtein('kitten', 'sitting'), array_has_all([1, 2], [1]), regexp_like('abc', 'b'), 'abc' ~ '^a', \
                max(regexp_replace(event, '^' || substr(event, 1, 1), ''))";
    assert_eq!(world.rows(&view, &format!("SELECT {some} FROM events")).await.len(), 1);
}

#[tokio::test]
async fn functions_that_stay_small_are_not_refused() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..8000)], vec![]);
    for (asked, answer) in [
        ("repeat('ab', 3), lpad('x', 3, 'y'), range(0, 6, 2)", "ababab\tyyx\t[0, 2, 4]"),
        (
            "array_length(generate_series(date '2020-01-01', date '2020-12-31', interval '1' day))",
            "366",
        ),
        ("'a' || 1 || 'b', 'a' || NULL, [1] || 2, [1] || [2, 3]", "a1b\t\t[1, 2]\t[1, 2, 3]"),
        ("concat('a', 1, NULL, 'b'), concat_ws('-', 'a', NULL, 'b')", "a1b\ta-b"),
        ("replace('banana', 'an', 'AN'), replace('x', '', 'y')", "bANANa\tx"),
        ("regexp_replace('banana', '(a)', '<\\1>', 'g')", "b<a>n<a>n<a>"),
        (
            "array_to_string([1, NULL, 3], ',', '-'), string_to_array('a,b', ',')",
            "1,-,3\t[a, b]",
        ),
        ("overlay('Txxxxas' placing 'hom' from 2 for 4), encode('a', 'hex')", "Thomas\t61"),
        (
            "to_char(to_timestamp(0), '%Y-%m-%d'), arrays_zip([1, 2], [3])",
            "1970-01-01\t[{1: 1, 2: 3}, {1: 2, 2: }]",
        ),
        ("{'a': 1, 'b': 'c'}, array_replace_all([1, 1], 1, 5)", "{a: 1, b: c}\t[5, 5]"),
    ] {
        assert_eq!(world.rows(&view, &format!("SELECT {asked}")).await, [answer], "{asked}");
    }
    // The most that these could make is far more than what they do make.
    for (asked, answer) in [
        ("sum(length(replace(repeat(event, 500), 'q', repeat('b', 100))))", "14000000"),
        (
            "sum(length(regexp_replace(repeat(event, 500), 'q', repeat('b', 100), 'g')))",
            "14000000",
        ),
        ("sum(array_length(string_to_array(repeat(event, 500), 'q')))", "8000"),
        ("sum(length(event || '-' || event))", "64000"),
        ("max(event || price || event)", "view999.0view"),
    ] {
        let sql = format!("SELECT {asked} FROM events");
        assert_eq!(world.rows(&view, &sql).await, [answer], "{asked}");
    }
}

#[tokio::test]
async fn what_functions_make_together_keeps_to_the_memory_of_a_query() {
    let settings = QuerySettings {
        memory_limit_bytes: 32 << 20,
        ..QuerySettings::default()
    };
    let world = World::with(settings);
    let view = product(sales(0..1).schema(), vec![sales(0..40_000)], vec![]);
    // One such column fits, again and again, as its batches are gone when the next one comes.
    assert_eq!(
        world.rows(&view, "SELECT sum(length(repeat(event, 100))) FROM events").await,
        ["14000000"]
    );

    let wide: Vec<_> = (0..100).map(|nth| format!("repeat(event, {}) AS c{nth}", 100 + nth)).collect();
    let constants: Vec<_> = (0..100).map(|nth| format!("length(repeat('x', {}))", 500_000 + nth)).collect();
    for greedy in [
        format!("SELECT {} FROM events", wide.join(", ")),
        format!("SELECT {}", constants.join(" + ")),
    ] {
        let refused = world.ask(&view, &greedy).await.unwrap_err();
        assert!(matches!(refused, QueryError::TooLarge { .. }), "{greedy}: {refused:?}");
    }
}

#[tokio::test]
async fn types_do_not_reserve_places_without_end() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..10)], vec![]);
    for wide in [
        "CAST(NULL AS BIGINT[2000000000])",
        "array_length(CAST(NULL AS BIGINT[1000][1000][1000]))",
        "NULL::BIGINT[2000000000]",
        "arrow_cast(NULL, 'FixedSizeBinary(2000000000)')",
        "array_length(arrow_cast([1], 'FixedSizeList(2000000000, Int64)'))",
    ] {
        for sql in [format!("SELECT {wide}"), format!("SELECT {wide} FROM events")] {
            let refused = world.ask(&view, &sql).await.unwrap_err();
            assert!(
                matches!(refused, QueryError::Invalid(_) | QueryError::NotAQuery { .. }),
                "{sql}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn long_constants_are_not_copied_into_every_row_of_a_large_batch() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..3000)], vec![]);
    let long = "x".repeat(900_000);
    let sum = (900_000 * 3000_u64).to_string();
    let sql = format!("SELECT sum(length(a || event)) - sum(length(event)) FROM (SELECT '{long}' AS a, event FROM events)");
    assert_eq!(world.rows(&view, &sql).await, [sum]);
    let sql = "SELECT repeat('x', 1000000) FROM events";
    let mut rows = world
        .engine
        .run(&view, world.lease(), "web", sql, CancellationToken::new())
        .await
        .unwrap();
    let first = futures::StreamExt::next(&mut rows).await.unwrap().unwrap();
    assert!(first.get_array_memory_size() < 256 << 20, "{}", first.get_array_memory_size());
}

#[tokio::test]
async fn aggregates_that_collect_text_keep_to_their_memory() {
    let settings = QuerySettings {
        memory_limit_bytes: 16 << 20,
        ..QuerySettings::default()
    };
    let world = World::with(settings);
    let view = product(sales(0..1).schema(), vec![sales(0..200_000)], vec![]);
    for greedy in [
        "SELECT length(string_agg(repeat(event, 50), ',')) FROM events",
        "SELECT event, length(string_agg(repeat(event, 50), ',')) FROM events GROUP BY event",
        "SELECT length(string_agg(event, 'a separator of some length that is repeated for each of many rows, which makes a lot of it, in the end, all in all, more than there may be here')) FROM events",
        "SELECT array_length(array_agg(repeat(event, 50))) FROM events",
        "SELECT event, array_length(array_agg(repeat(event, 50) ORDER BY price)) FROM events GROUP BY event",
        "SELECT array_length(array_agg(DISTINCT repeat(event, 20) || price)) FROM events",
    ] {
        let refused = world.ask(&view, greedy).await.unwrap_err();
        assert!(matches!(refused, QueryError::TooLarge { .. }), "{greedy}: {refused:?}");
    }
    for each in ["array_agg(event)", "string_agg(event, ',')"] {
        let sql = format!("SELECT {each} OVER (ORDER BY time) FROM events");
        let refused = world.ask(&view, &sql).await.unwrap_err();
        assert!(matches!(refused, QueryError::NotAQuery { .. }), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn rows_in_memory_are_laid_out_as_they_are_read_however_many_columns_they_lack() {
    let settings = QuerySettings {
        memory_limit_bytes: 16 << 20,
        ..QuerySettings::default()
    };
    let world = World::with(settings);
    let named: Vec<String> = (0..1_000).map(|nth| format!("c{nth}")).collect();
    let all: Vec<_> = named.iter().map(|name| (name.as_str(), Seen::LONG)).collect();
    let values: Vec<i64> = (0..200).collect();
    let batches = named.chunks(20).map(|own| {
        let columns: Vec<_> = own.iter().map(|name| (name.as_str(), Seen::LONG, longs(&values))).collect();
        batch(&values, &columns)
    });
    let view = product(schema(&all), batches.collect(), vec![]);

    let asked = world
        .engine
        .run(&view, world.lease(), "web", "SELECT * FROM events", CancellationToken::new());
    let mut rows = asked.await.unwrap();
    let (mut count, mut nulls) = (0, 0);
    while let Some(part) = rows.next().await {
        let part = part.unwrap();
        assert!(part.num_rows() * part.num_columns() <= 256 << 10);
        count += part.num_rows();
        nulls += part.columns().iter().map(|column| column.null_count()).sum::<usize>();
    }

    // Ten million cells, of which two in a hundred hold something.
    assert_eq!((count, nulls), (10_000, 10_000 * 980));
    assert_eq!(
        world.rows(&view, "SELECT count(*), sum(c0), sum(c999) FROM events").await,
        ["10000\t19900\t19900"]
    );
    assert_eq!(
        world.rows(&view, "SELECT count(*) FROM (SELECT * FROM events LIMIT 7)").await,
        ["7"]
    );
}

#[tokio::test]
async fn footers_are_kept_while_there_is_room_for_them_over_all_leases() {
    let world = World::new();
    let mut files = Vec::new();
    for name in ["one", "two", "three"] {
        files.push(world.file(name, &sales(0..1_000)).await);
    }
    let view = product(sales(0..1).schema(), vec![], files);
    let sum = "SELECT count(price) FROM events WHERE price >= 0";
    let key = || PrivateKey::try_from(world.key.to_secret_bytes().reveal()).unwrap();
    let ask = async |lease: &Arc<Lease>| {
        let asked = world.engine.run(&view, Arc::clone(lease), "web", sum, CancellationToken::new());
        lines(&asked.await.unwrap().collect().await.unwrap())
    };
    let roomy = FooterRoom::new(64 << 20);
    let first = Arc::new(Lease::sharing(key(), &roomy));
    assert_eq!(ask(&first).await, ["3000"]);
    let three = roomy.used();
    assert!(first.footers().len() == 3 && three > 0);

    let narrow = FooterRoom::new(three / 2);
    let (one, two) = (Arc::new(Lease::sharing(key(), &narrow)), Arc::new(Lease::sharing(key(), &narrow)));
    for lease in [&one, &two, &one, &two] {
        assert_eq!(ask(lease).await, ["3000"]);
        assert!(narrow.used() <= three / 2);
        assert!(one.footers().len() + two.footers().len() < 3);
    }
    drop((first, one, two));
    assert_eq!((roomy.used(), narrow.used()), (0, 0));
}
