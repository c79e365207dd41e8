//! Statements that are long in one direction. No one of them may end the process.

use super::*;

/// As the warehouse has it for the threads of its queries.
const STACK: usize = 32 << 20;

fn shapes(times: usize) -> Vec<String> {
    let chain = |first: &str, link: &str| format!("{first}{}", link.repeat(times));
    let bracketed = |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(times), close.repeat(times));
    vec![
        chain("SELECT 1", "+1"),
        chain("SELECT time", "*time") + " FROM events",
        chain("SELECT 'a'", "||'a'"),
        chain("SELECT count(*) FROM events WHERE time=1", " OR time=1"),
        chain("SELECT count(*) FROM events WHERE time>1", " AND price>1"),
        chain("SELECT 1", "::int"),
        chain("SELECT [1]", "[1]"),
        chain("SELECT 1", " IS NULL"),
        chain("SELECT 1", " UNION ALL SELECT 1"),
        chain("SELECT count(*) FROM events", ", events"),
        chain("SELECT 1 FROM events", " CROSS JOIN events"),
        format!("SELECT {}true", "NOT ".repeat(times)),
        format!("SELECT {}1", "- ".repeat(times)),
        format!("SELECT {}1", "+ ".repeat(times)),
        format!("SELECT {}1 FROM", "CASE WHEN true THEN ".repeat(times)),
        format!("SELECT {}", bracketed("(", "1", ")")),
        format!("SELECT {}", bracketed("[", "1", "]")),
        format!("SELECT {}", bracketed("abs(", "1", ")")),
        bracketed("SELECT * FROM (", "SELECT 1", ") t"),
        format!("SELECT CAST(NULL AS {})", bracketed("ARRAY<", "INT", ">")),
        format!("SELECT NULL::INT{}", "[]".repeat(times)),
        format!("{}SELECT 1", "EXPLAIN ".repeat(times)),
    ]
}

fn on_a_thread_of_its_own(sql: Vec<String>) -> Vec<Result<usize, QueryError>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .unwrap();
    let asking = async move {
        let world = World::new();
        let view = product(sales(0..1).schema(), vec![sales(0..2)], vec![]);
        let mut answers = Vec::new();
        for sql in sql {
            answers.push(world.ask(&view, &sql).await.map(|batches| batches.len()));
        }
        answers
    };
    runtime.block_on(runtime.spawn(asking)).unwrap()
}

#[test]
fn no_long_statement_ends_the_process() {
    let mut sql = shapes(40_000);
    sql.iter_mut().for_each(|sql| {
        while sql.len() > 1 << 20 {
            sql.pop();
        }
    });
    for (sql, answer) in sql.clone().iter().zip(on_a_thread_of_its_own(sql)) {
        assert!(answer.is_err(), "{}: {answer:?}", &sql[..60]);
    }
}

#[test]
fn what_is_just_within_the_limit_is_answered() {
    on_a_thread_of_its_own(vec![
        format!("SELECT 1{}", "+1".repeat(1400)),
        format!("SELECT count(*) FROM events WHERE time=1{}", " OR time=1".repeat(700)),
    ])
    .into_iter()
    .for_each(|answer| assert_eq!(answer.unwrap(), 1));
}

#[test]
fn long_lists_are_answered() {
    let numbers: Vec<String> = (0..50_000).map(|number| number.to_string()).collect();
    let sql = format!("SELECT count(*) FROM events WHERE time IN ({})", numbers.join(","));
    assert_eq!(on_a_thread_of_its_own(vec![sql]).pop().unwrap().unwrap(), 1);
}

/// Each named query uses the one before it `times` times, in a way of its own.
fn doubling(levels: usize, part: &str) -> String {
    let parts: Vec<String> = (1..levels)
        .map(|level| {
            part.replace("NEXT", &format!("c{level}"))
                .replace("LAST", &format!("C{}", level - 1))
        })
        .collect();
    let more: String = parts.iter().map(|part| format!(", {part}")).collect();
    format!("WITH c0 AS (SELECT 1 AS a){more} SELECT count(*) FROM c{}", levels - 1)
}

#[tokio::test]
async fn named_queries_that_double_are_refused_before_they_are_planned() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..2)], vec![]);
    let union = "NEXT AS (SELECT a FROM LAST UNION ALL SELECT a FROM LAST)";
    for part in [
        union,
        "NEXT AS (SELECT x.a FROM LAST x JOIN LAST y ON x.a = y.a)",
        "NEXT AS (SELECT a + (SELECT max(a) FROM LAST) AS a FROM LAST)",
        "NEXT AS (WITH inside AS (SELECT a FROM LAST) SELECT a FROM inside UNION ALL SELECT a FROM inside)",
    ] {
        let refused = world.ask(&view, &doubling(40, part)).await.unwrap_err();
        assert!(matches!(refused, QueryError::TooManyTables), "{part}: {refused:?}");
    }
    // Names as only the engine reads them: a dot within quotes, and letters that have another lower case than it thinks.
    for spelled in ["q.c#", "É#"] {
        let mut with = format!("WITH \"{}\" AS (SELECT 1 AS a)", spelled.replace('#', "0"));
        for level in 1..40 {
            let (last, next) = (
                spelled.replace('#', &(level - 1).to_string()),
                spelled.replace('#', &level.to_string()),
            );
            with += &format!(", \"{next}\" AS (SELECT x.a FROM {last} x JOIN {last} y ON x.a = y.a)");
        }
        let refused = world.ask(&view, &format!("{with} SELECT 1")).await.unwrap_err();
        assert!(matches!(refused, QueryError::TooManyTables), "{spelled}: {refused:?}");
    }
    let pairs = "NEXT AS (SELECT struct(a, a) AS a FROM LAST)";
    assert!(world.ask(&view, &doubling(40, pairs)).await.is_err());

    assert_eq!(world.rows(&view, &doubling(9, union)).await, ["256"]);
}

#[tokio::test]
async fn tables_side_by_side_have_a_bound_whatever_they_are() {
    let world = World::new();
    let view = product(sales(0..1).schema(), vec![sales(0..2)], vec![]);
    let many = |count: usize, one: &str, between: &str| -> String {
        let all: Vec<String> = (0..count).map(|number| one.replace('#', &number.to_string())).collect();
        format!("SELECT count(*) FROM {}", all.join(between))
    };
    for (one, between) in [
        ("unnest([1]) a#(x)", ", "),
        ("unnest([1]) a#(x)", " CROSS JOIN "),
        ("range(1, 2) a#", ", "),
        ("events a#", ", "),
        ("(SELECT 1 AS x) a#", ", "),
    ] {
        let refused = world.ask(&view, &many(33, one, between)).await.unwrap_err();
        assert!(matches!(refused, QueryError::TooManyJoined), "{one}{between}: {refused:?}");
    }
    assert_eq!(world.rows(&view, &many(8, "unnest([1]) a#(x)", ", ")).await, ["1"]);
    let nested = (1..33).map(|n| format!("CROSS JOIN events a{n} ")).collect::<String>();
    let nested = format!("SELECT count(*) FROM (events a0 {nested})");
    assert!(matches!(world.ask(&view, &nested).await.unwrap_err(), QueryError::TooManyJoined));
    let twenty = (1..20).map(|n| format!(" CROSS JOIN events b{n}")).collect::<String>();
    let brackets = format!("SELECT count(*) FROM ((events b0{twenty}){})", twenty.replace(" b", " c"));
    assert!(matches!(world.ask(&view, &brackets).await.unwrap_err(), QueryError::TooManyJoined));
}
