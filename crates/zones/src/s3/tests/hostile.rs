//! Stores, and whoever owns them, that answer what they should not.

use super::*;

#[tokio::test]
async fn of_what_is_too_long_nothing_is_kept() {
    let world = World::new(Fault::None).await;
    let zone = world.zone().await;
    let (name, bytes) = object(b"kept");
    zone.put(&name, bytes).await.unwrap();

    world.twin.break_it(Fault::Swamps);
    let long = zone.get(&name, MOST).await;
    assert!(
        matches!(
            long,
            Err(ZoneError::Long {
                length: 1_048_576,
                most: MOST,
                ..
            })
        ),
        "{long:?}"
    );
    let range = zone.get_range(&name, 0..3).await;
    assert!(matches!(range, Err(ZoneError::Down { .. })), "{range:?}");
}

#[tokio::test]
async fn a_write_that_was_done_and_denied_is_unclear() {
    let world = World::new(Fault::None).await;
    let zone = world.zone().await;
    let (name, bytes) = object(b"perhaps");

    world.twin.break_it(Fault::DoesAndDenies);
    let put = zone.put(&name, bytes.clone()).await;
    assert!(
        matches!(&put, Err(ZoneError::Unclear { detail, .. }) if detail.contains("500 (InternalError)")),
        "{put:?}"
    );
    assert_eq!(zone.get(&name, MOST).await.unwrap(), bytes);
    // It answered, so nothing more of it can arrive.
    zone.delete(&name).await.unwrap();
    assert!(matches!(zone.get(&name, MOST).await, Err(ZoneError::NotFound { .. })));
}

#[tokio::test]
async fn what_lies_in_an_archive_is_no_object() {
    let world = World::new(Fault::None).await;
    let zone = world.zone().await;
    let (name, bytes) = object(b"cold");
    zone.put(&name, bytes).await.unwrap();

    world.twin.break_it(Fault::Archives);
    for answer in [zone.get(&name, MOST).await, zone.get_range(&name, 0..2).await] {
        assert!(
            matches!(&answer, Err(ZoneError::Wrong { detail, .. }) if detail.contains("archive")),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_listing_without_an_end_is_given_up() {
    let world = World::new(Fault::None).await;
    let zone = world.zone().await;
    world.twin.break_it(Fault::EndlessListing);
    assert_eq!(detail(zone.list("").await.unwrap_err()), "its listing has no end");
}

#[tokio::test]
async fn keys_that_are_no_names_of_objects_are_passed_over() {
    let world = World::new(Fault::None).await;
    let zone = world.zone().await;
    let (name, bytes) = object(b"kept");
    zone.put(&name, bytes).await.unwrap();
    for odd in ["raw/7/none", "raw/../../x", "Raw", "probe/1/key", "a%20b", "raw/7/.x"] {
        world.twin.plant(odd, b"odd");
    }
    assert_eq!(zone.list("").await.unwrap(), [name]);
}
