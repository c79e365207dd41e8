use base::ErrorKind;

use super::*;

const SUM: &str = "SELECT sum(price), min(event), count(event) FROM events";

/// A product whose rows are in one file.
async fn stored(world: &World) -> (ProductView, FileView) {
    let rows = sales(0..1000);
    let file = world.file("f", &rows).await;
    let mut view = product(rows.schema(), vec![], vec![file.clone()]);
    view.databases.truncate(1);
    (view, file)
}

#[tokio::test]
async fn a_file_opens_only_with_its_key_and_in_its_place() {
    let world = World::new();
    let (mut view, file) = stored(&world).await;
    let answers = world.rows(&view, SUM).await;
    assert_eq!(answers, ["249750.0\tbuy\t1000"]);

    let other = World::new();
    let run = world.engine.run(&view, other.lease(), "web", SUM, CancellationToken::new()).await;
    assert_eq!(run.unwrap_err().kind(), ErrorKind::Corrupt, "another product's key");

    for change in [
        |file: &mut FileView| file.aad_prefix.push(b'x'),
        |file: &mut FileView| file.key_context.push(b'x'),
        |file: &mut FileView| file.sealed_key[40] ^= 1,
    ] {
        let mut changed = file.clone();
        change(&mut changed);
        view.databases[0].tables[0].files = vec![changed];
        assert_eq!(world.ask(&view, SUM).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn a_flipped_bit_is_never_an_answer() {
    let world = World::new();
    let (view, file) = stored(&world).await;
    let answer = world.rows(&view, SUM).await;
    let good = world.zones.get(&file.object, file.bytes).await.unwrap();
    let mut refused = 0;
    // The first four bytes only say that it is a Parquet file.
    for at in (4..good.len()).step_by(37) {
        for zone in &world.memory {
            let mut bytes = good.to_vec();
            bytes[at] ^= 0x10;
            zone.plant(&file.object, bytes.into());
        }
        match world.ask(&view, SUM).await {
            // Parts that this query does not read.
            Ok(rows) => assert_eq!(lines(&rows), answer, "a bit flipped at {at}"),
            Err(error) => {
                refused += 1;
                assert!(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Internal | ErrorKind::Unavailable),
                    "{at}: {error:?}"
                );
            }
        }
    }
    assert!(refused > 10, "only {refused} flips were noticed");
}

#[tokio::test]
async fn a_damaged_copy_is_repaired_and_read_again() {
    let world = World::new();
    let (view, file) = stored(&world).await;
    let answer = world.rows(&view, SUM).await;
    let length = usize::try_from(file.bytes).unwrap();
    for at in [60, length / 3, length - 30] {
        world.damage(&file.object, &[0, 1], |bytes| bytes[at] ^= 1).await;
        assert_eq!(world.rows(&view, SUM).await, answer, "a bit flipped at {at} in two of three zones");
    }
}

#[tokio::test]
async fn zones_that_are_away_are_not_the_callers_fault() {
    let world = World::new();
    let (view, _) = stored(&world).await;
    world.memory[0].go_down();
    world.memory[1].go_down();
    assert_eq!(world.rows(&view, SUM).await, ["249750.0\tbuy\t1000"], "one zone is enough to read");
    world.memory[2].go_down();

    assert_eq!(world.ask(&view, SUM).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn nothing_that_was_opened_outlives_its_lease() {
    let world = World::new();
    let (view, file) = stored(&world).await;
    let lease = world.lease();
    let run = async |sql: &str| {
        let run = world
            .engine
            .run(&view, Arc::clone(&lease), "web", sql, CancellationToken::new())
            .await;
        run.unwrap().collect().await.unwrap()
    };
    run(SUM).await;
    assert_eq!(lease.footers().len(), 1, "footers are kept while the lease lasts");
    let footer = Arc::downgrade(&lease.footer(&world.zones, &file).await.unwrap());
    run("SELECT * FROM events WHERE event = 'buy' ORDER BY price LIMIT 3").await;
    assert!(footer.upgrade().is_some() && lease.footers().len() == 1);

    let held = Arc::downgrade(&lease);
    drop(lease);

    assert!(held.upgrade().is_none() && footer.upgrade().is_none());
}
