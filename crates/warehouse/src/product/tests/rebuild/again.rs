//! What is made once more, what is thrown away, and how wide files are.

use columns::catalog::Catalog;
use zones::ObjectName;

use super::super::leftovers::nothing_is_left_over;
use super::*;

/// A product of eight batches, closed, of which a rebuild has made three files or so and then failed; the objects of those, how many files there were before, and what the tables hold.
async fn interrupted(
    house: &mut House,
    each: &[Arc<MemoryZone>],
    zones: &Arc<Zones>,
) -> (Vec<ObjectName>, usize, Vec<(String, String, u64, Vec<u8>)>) {
    house.settings.flush.table_bytes = 1;
    house.settings.query.target_partitions = std::num::NonZeroUsize::MIN;
    let product = house.open(zones).await.unwrap();
    with_table(&product).await;
    for tag in TAGS {
        append(&product, Some(tag), batch(&[tag])).await.unwrap();
    }
    product.close().await;
    let hashes = tables(&house.rebuild(zones, COMPARE).await.unwrap());
    let before: std::collections::BTreeSet<ObjectName> = each[0].list("tables").await.unwrap().into_iter().collect();

    for zone in each {
        zone.fail_puts_after(3, usize::MAX);
    }
    assert!(house.rebuild(zones, MAKE).await.is_err());
    for zone in each {
        zone.fail_next_puts(0);
    }
    let catalog = Catalog::open(&rebuilding(house)).await.unwrap();
    let mut made: Vec<_> = catalog.load().await.unwrap().files;
    catalog.close().await;
    made.retain(|file| !before.contains(&file.object));
    // Files are on their way side by side: one that no zone refused in time may be there as well.
    assert!((3..8).contains(&made.len()), "{}", made.len());
    (made.into_iter().map(|file| file.object).collect(), before.len(), hashes)
}

const TAGS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn rebuilding(house: &House) -> std::path::PathBuf {
    house.directory.path().join("products/7").join(crate::product::rebuild::REBUILDING)
}

#[tokio::test]
async fn a_file_that_cannot_be_read_back_is_made_anew_and_no_other() {
    for damage in [MemoryZone::corrupt, MemoryZone::lose] {
        let mut house = House::new(77);
        let (each, zones) = house.memory();
        let (made, _, hashes) = interrupted(&mut house, &each, &zones).await;
        assert!(each.iter().all(|zone| damage(zone, &made[1])));

        // As a process of its own would.
        let zones = house.zones(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
        let found = house.rebuild(&zones, MAKE).await.unwrap();
        assert!(
            found
                .iter()
                .any(|finding| finding.says == "1 files could not be read back and are made anew"),
            "{found:?}"
        );
        assert_eq!(tables(&found), hashes);
        let product = house.open(&zones).await.unwrap();
        assert_eq!(house.tags(&product).await, TAGS);
        let kept: Vec<ObjectName> = zones.list("tables").await.unwrap().into_iter().map(|listed| listed.name).collect();
        let is_kept = |made: &ObjectName| kept.contains(made);
        for (at, made) in made.iter().enumerate() {
            assert_eq!(is_kept(made), at != 1, "{at}");
        }
        assert!(append(&product, Some("b"), batch(&["b"])).await.unwrap().duplicate);
        nothing_is_left_over(&product, &zones).await;
    }
}

#[tokio::test]
async fn a_file_that_is_lost_after_the_end_is_made_anew_by_the_same_rebuild() {
    let house = House::new(78);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    let before = filled(&house, &product).await;
    product.close().await;
    let hashes = tables(&house.rebuild(&zones, MAKE).await.unwrap());
    let lost = &zones.list("tables").await.unwrap()[0].name.clone();
    for zone in &each {
        zone.lose(lost);
    }
    let compared = house.rebuild(&zones, COMPARE).await.unwrap();
    let state = |wanted: &str| tables(&compared).iter().filter(|(_, state, ..)| state == wanted).count();
    assert_eq!((state("damaged"), state("ok")), (1, hashes.len() - 1), "{compared:?}");

    // What interrupted it may have been another product.
    let found = house.rebuild(&zones, MAKE).await.unwrap();
    assert!(
        found.iter().any(|finding| finding.says.contains("1 files could not be read back")),
        "{found:?}"
    );
    let rows = |tables: &[(String, String, u64, Vec<u8>)]| {
        tables
            .iter()
            .map(|(name, _, rows, hash)| (name.clone(), *rows, hash.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&tables(&found)), rows(&hashes));
    let product = house.open(&zones).await.unwrap();
    assert_eq!(answers(&house, &product).await, before);
}

#[tokio::test]
async fn what_is_thrown_away_takes_its_files_along_and_no_others() {
    let mut house = House::new(79);
    let (each, zones) = house.memory();
    let (_, old, hashes) = interrupted(&mut house, &each, &zones).await;
    // What a rebuild noted of the raw log is not what is in its files.
    let catalog = Catalog::open(&rebuilding(&house)).await.unwrap();
    sqlx::query("UPDATE rebuilt SET sum = zeroblob(16)")
        .execute(catalog.pool())
        .await
        .unwrap();
    catalog.close().await;
    let found = house.rebuild(&zones, MAKE).await.unwrap();
    assert!(found.iter().any(|finding| finding.says.contains("is thrown away")), "{found:?}");
    assert!(!rebuilding(&house).exists());
    assert_eq!(objects(&each, "tables").await, old);
    assert_eq!(
        tables(&house.rebuild(&zones, COMPARE).await.unwrap()),
        hashes,
        "the old files are there"
    );
    let product = house.open(&zones).await.unwrap();
    nothing_is_left_over(&product, &zones).await;
}

#[tokio::test]
async fn rows_of_a_table_of_very_many_columns_are_not_laid_out_at_its_width() {
    let house = House::new(80);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for group in 0..32 {
        let row = |row: usize| {
            let values = (0..200).map(|column| format!("\"c{group}_{column}\":{row}"));
            format!("{{\"time\":{},{}}}\n", 1_799_000_000 + row, values.collect::<Vec<_>>().join(","))
        };
        let rows: String = (0..50).map(row).collect();
        let told = Told {
            limits: &Limits::default(),
            received_at: Timestamp::from_secs(0),
            identities: &[],
            personal: &[],
        };
        let rows = to_ipc(&decode(Syntax::Json, rows.as_bytes(), &told).unwrap().batch);
        append(&product, None, rows).await.unwrap();
    }
    product.close().await;
    let hashes = tables(&house.rebuild(&zones, COMPARE).await.unwrap());
    assert_eq!(hashes[0].2, 32 * 50);
    house.lose_views(&each).await;
    assert_eq!(tables(&house.rebuild(&zones, MAKE).await.unwrap()), hashes);

    let product = house.open(&zones).await.unwrap();
    let files: Vec<_> = product.read().tables.values().flat_map(|table| table.files.clone()).collect();
    assert!(files.len() > 1, "1,600 rows of 6,400 columns are more cells than a file has");
    let held: query::Held = Arc::new(());
    for file in files {
        let view = product.file_view(&file, &held);
        let open = query::OpenFile::open(&zones, &house.lease(), view).await.unwrap();
        let rows = open.rows().unwrap().next().await.unwrap().unwrap();
        assert!(
            rows.num_columns() as u64 * file.rows <= crate::product::flush::FILE_CELLS as u64,
            "{} columns of {} rows",
            rows.num_columns(),
            file.rows
        );
    }
}
