//! Of a file that holds rows from before what is shown, the others are.

use super::*;

#[tokio::test]
async fn rows_of_a_file_from_before_what_is_shown_are_in_no_answer() {
    let world = World::new();
    let whole = world.file("whole", &sales(100..104)).await;
    let mut cut = world.file("cut", &sales(0..100)).await;
    cut.not_before = Some(90);
    let memory = sales(200..202);
    let product = product(memory.schema(), vec![memory], vec![whole, cut]);

    let check = async |sql: &str, expected: &[&str]| assert_eq!(world.rows(&product, sql).await, expected, "{sql}");
    check("SELECT count(*), min(time), max(time) FROM events", &["16\t90\t201"]).await;
    check("SELECT count(*) FROM events WHERE time < 90", &["0"]).await;
    check("SELECT count(*) FROM events WHERE time < 92", &["2"]).await;
    check(
        "SELECT price FROM events WHERE event = 'buy' AND time < 95 ORDER BY price",
        &["45.5", "46.5"],
    )
    .await;
    check("SELECT time, event FROM events ORDER BY time LIMIT 2", &["90\tview", "91\tbuy"]).await;
    assert_eq!(world.rows(&product, "SELECT event FROM events LIMIT 15").await.len(), 15);
    assert_eq!(world.rows(&product, "SELECT * FROM events").await.len(), 16);
    check(
        "SELECT a.time FROM events a JOIN events b ON a.time = b.time + 10 WHERE b.time < 92 ORDER BY 1",
        &["100", "101"],
    )
    .await;
}
