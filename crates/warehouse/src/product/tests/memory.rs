//! Memory: what rows take is charged before they take it, on the way in and when they are read back.

use super::*;

/// A batch of about a mebibyte that travels in a few kilobytes, with `tag` in each of its rows.
fn large(tag: &str) -> Bytes {
    let tag = format!("{tag}{}", "x".repeat(200));
    batch(&vec![&*tag; 5000])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_batches_at_once_stay_within_the_limit_and_all_get_in_in_the_end() {
    let mut house = House::new(30);
    let limit = 4 << 20;
    house.settings.flush.memory_limit = limit;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let mut waiting: Vec<String> = (10..42).map(|number| number.to_string()).collect();
    let mut rounds = 0;
    while !waiting.is_empty() {
        let answers = futures::future::join_all(waiting.iter().map(|id| append(&product, Some(id), large(id)))).await;
        assert!(product.shared.memory.used() <= limit, "{} bytes", product.shared.memory.used());
        let mut refused = Vec::new();
        for (id, answer) in waiting.into_iter().zip(answers) {
            if let Err(error) = answer {
                assert_eq!(error.kind(), ErrorKind::TooMuch, "{error}");
                refused.push(id);
            }
        }
        waiting = refused;
        rounds += 1;
        product.flush_due().await;
        assert_eq!(product.shared.memory.used(), 0);
    }
    assert!(rounds > 4, "only {rounds} rounds: nothing was refused");
    assert!(product.shared.memory.peak() <= limit, "{} bytes", product.shared.memory.peak());
    let counted = "SELECT count(*) FROM (SELECT tag FROM events GROUP BY tag HAVING count(*) = 5000)";
    assert_eq!(texts(&house.rows(&product, counted).await), ["32"]);
}

#[tokio::test]
async fn a_batch_that_memory_can_never_hold_is_too_large_and_not_merely_too_much_now() {
    let mut house = House::new(31);
    house.settings.flush.memory_limit = 500_000;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;

    let refused = append(&product, None, large("x")).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    assert_eq!(product.shared.memory.used(), 0);
}

#[tokio::test]
async fn whatever_becomes_of_a_batch_its_charge_is_given_back() {
    let house = House::new(32);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("x"), batch(&["a"])).await.unwrap();
    let held = product.shared.memory.used();
    assert!(held > 0);

    append(&product, Some("x"), batch(&["a"])).await.unwrap();
    append(&product, None, Bytes::from_static(b"not arrow")).await.unwrap_err();
    each[0].go_down();
    each[1].go_down();
    append(&product, None, batch(&["b"])).await.unwrap_err();
    each[0].come_back();
    each[1].come_back();
    assert_eq!(product.shared.memory.used(), held);

    product
        .delete_table(&"web".parse().unwrap(), &"events".parse().unwrap())
        .await
        .unwrap();
    // They become a file, so that they can come back.
    product.flush_due().await;
    assert_eq!(product.shared.memory.used(), 0);
}

#[tokio::test]
async fn sealed_rows_of_ten_times_the_limit_are_read_back_within_it_and_are_there_once() {
    let mut house = House::new(33);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for number in 10..50 {
        append(&product, Some(&number.to_string()), large(&number.to_string()))
            .await
            .unwrap();
    }
    let (all, one) = (product.shared.memory.used(), product.shared.memory.used() / 40);
    drop(product);
    let limit = all / 10;
    house.settings.flush.memory_limit = limit;
    let counted = "SELECT count(*) FROM (SELECT tag FROM events GROUP BY tag HAVING count(*) = 5000)";

    let product = house.open(&zones).await.unwrap();
    assert_eq!(texts(&house.rows(&product, counted).await), ["40"]);

    let peak = product.shared.memory.peak();
    assert!(peak <= limit + one, "{peak} bytes, the limit is {limit} and a segment takes {one}");
    assert!(append(&product, Some("20"), large("20")).await.unwrap().duplicate);
    drop(product);
    let product = house.open(&zones).await.unwrap();
    assert_eq!(texts(&house.rows(&product, counted).await), ["40"]);
}

#[tokio::test]
async fn rows_that_cannot_be_written_to_files_are_not_read_back_beyond_the_limit() {
    let mut house = House::new(34);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for number in 10..50 {
        append(&product, None, large(&number.to_string())).await.unwrap();
    }
    let all = product.shared.memory.used();
    drop(product);
    house.settings.flush.memory_limit = all / 10;
    let product = house.open(&zones).await.unwrap();
    each[0].go_down();
    each[1].go_down();

    let refused = product.view(&Scope::Product, &house.private_key).await.map(drop).unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::TooMuch, "{refused}");
    assert!(product.shared.memory.peak() <= all / 10 + all / 40);
    each[0].come_back();
    each[1].come_back();
    assert_eq!(texts(&house.rows(&product, "SELECT count(*) FROM events").await), ["200000"]);
}
