//! Swaps that the catalog made and of which nobody heard.

use columns::catalog::{BatchHash, FileRecord, Swap};

use super::leftovers::nothing_is_left_over;
use super::*;

/// A file with all rows that are in memory, and the catalog's word that it is the table's, of which the state does not know.
async fn flushed_unheard(product: &Product) -> FileRecord {
    let (id, rows, schema, covered) = {
        let state = product.read();
        let table = state.tables.values().next().unwrap();
        let rows = table.memory.iter().map(|part| part.shaped.rows.clone()).collect();
        let covered: Vec<BatchHash> = table.memory.iter().map(|part| part.batch).collect();
        (table.id, rows, table.schema.arrow_schema(), covered)
    };
    let file = product.write_file(id, rows, schema).await.unwrap();
    swap(product, std::slice::from_ref(&file), &[], &covered).await;
    file
}

async fn swap(product: &Product, add: &[FileRecord], remove: &[zones::ObjectName], covered: &[BatchHash]) {
    let (table, columns) = {
        let state = product.read();
        let table = state.tables.values().next().unwrap();
        (table.id, table.stored_columns())
    };
    let swap = Swap {
        table,
        add,
        remove,
        covered,
        records: &[],
        left_out: &[],
        columns: &columns,
        at: product.shared.clock.now(),
    };
    product.catalog.swap(&swap).await.unwrap();
}

#[tokio::test]
async fn rows_that_were_written_to_a_file_and_said_not_to_be_are_written_once() {
    let house = House::new(120);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("one"), batch(&["a", "b"])).await.unwrap();
    append(&product, Some("two"), batch(&["c"])).await.unwrap();
    flushed_unheard(&product).await;
    append(&product, Some("three"), batch(&["d"])).await.unwrap();

    let all = ["a", "b", "c", "d"];
    for _ in 0..2 {
        product.flush_all().await;
        assert_eq!(house.tags(&product).await, all);
    }
    assert!(append(&product, Some("two"), batch(&["c"])).await.unwrap().duplicate);
    assert!(append(&product, Some("three"), batch(&["d"])).await.unwrap().duplicate);
    assert!(
        product
            .read()
            .tables
            .values()
            .all(|table| table.memory.is_empty() && table.files.len() == 2)
    );
    product.close().await;
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, all);
    product.delete_condemned().await;
    nothing_is_left_over(&product, &zones).await;
}

#[tokio::test]
async fn files_that_were_merged_and_said_not_to_be_are_not_merged_again() {
    let mut house = House::new(121);
    house.settings.flush.merge_files = 2;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for tags in [&["a", "b"][..], &["c"]] {
        append(&product, None, batch(tags)).await.unwrap();
        product.flush_all().await;
    }
    let (id, old, schema) = {
        let state = product.read();
        let table = state.tables.values().next().unwrap();
        let old: Vec<_> = table.files.iter().map(|file| file.object.clone()).collect();
        (table.id, old, table.schema.arrow_schema())
    };
    let rows = house.rows(&product, "SELECT time, tag FROM events").await;
    let merged = product.write_file(id, rows, schema).await.unwrap();
    swap(&product, &[merged], &old, &[]).await;

    house.merge(&product).await;
    assert_eq!(house.tags(&product).await, ["a", "b", "c"]);
    assert!(product.read().tables.values().all(|table| table.files.len() == 1));
    product.delete_condemned().await;
    assert_eq!(house.tags(&product).await, ["a", "b", "c"]);
    product.close().await;
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "b", "c"]);
    product.delete_condemned().await;
    nothing_is_left_over(&product, &zones).await;
}
