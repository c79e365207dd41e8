//! What a start makes of objects that cannot be read.

use super::*;
use crate::ZoneError;

/// A zone whose copy of an object cannot be read: a bad sector, or a file that its owner took the permissions from.
#[derive(Debug)]
struct Locked(MemoryZone);

#[async_trait::async_trait]
impl Zone for Locked {
    fn name(&self) -> &str {
        self.0.name()
    }
    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.0.put(name, bytes).await
    }
    async fn get(&self, _: &ObjectName, _: u64) -> Result<Bytes, ZoneError> {
        Err(ZoneError::Down {
            zone: self.name().to_owned(),
            detail: "permission is denied".into(),
        })
    }
    async fn get_range(&self, name: &ObjectName, _: std::ops::Range<u64>) -> Result<Bytes, ZoneError> {
        self.get(name, 0).await
    }
    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        self.0.list_page(prefix, after, most).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.0.delete(name).await
    }
    async fn probe(&self) -> Result<(), ZoneError> {
        self.0.probe().await
    }
    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }
    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.0.set_complete().await
    }
}

#[tokio::test]
async fn what_cannot_be_read_was_accepted_only_if_a_majority_can_hold_it() {
    // How many zones there are, hold it, and are away; and whether it may have been accepted.
    for (count, holding, away, perhaps) in [
        (3, 1, 0, false),
        (3, 1, 1, true),
        (5, 1, 0, false),
        (5, 2, 0, false),
        (5, 1, 1, false),
        (5, 2, 1, true),
        (5, 1, 2, true),
    ] {
        let world = World::new(count);
        let (name, _) = object("planted");
        let (good, bytes) = object("good");
        world.zones.put(&good, bytes).await.unwrap();
        world.eventually_in(&good, &"abcde"[..count]).await;
        for zone in &world.each[..holding] {
            zone.plant(&name, Bytes::from_static(b"rubbish"));
        }
        for zone in &world.each[count - away..] {
            zone.go_down();
        }

        let settled = world.restarted().settle("raw").await.unwrap();

        let case = format!("{holding} of {count} hold it, {away} are away");
        assert_eq!(settled.objects, [good], "{case}");
        let (unreadable, doubtful) = if perhaps { (vec![], vec![name]) } else { (vec![name], vec![]) };
        assert_eq!((settled.unreadable, settled.doubtful), (unreadable, doubtful), "{case}");
    }
}

#[tokio::test]
async fn a_copy_that_its_zone_does_not_give_out_holds_up_nothing() {
    let (name, bytes) = object("locked away");
    let locked = MemoryZone::new("a");
    locked.plant(&name, bytes);
    let zones = over(vec![
        Arc::new(Locked(locked)),
        Arc::new(MemoryZone::new("b")),
        Arc::new(MemoryZone::new("c")),
    ]);

    let settled = zones.settle("raw").await.unwrap();

    assert_eq!((settled.objects, settled.unreadable), (vec![], vec![name]));
}

#[tokio::test]
async fn an_empty_zone_in_a_lost_ones_place_says_nothing_until_it_is_filled() {
    let world = World::new(3);
    let (a, b, c) = (&world.each[0], &world.each[1], &world.each[2]);
    let (name, bytes) = object("accepted");
    b.fail_next_puts(1);
    world.zones.put(&name, bytes).await.unwrap();
    world.eventually_in(&name, "ac").await;

    c.replace();
    a.go_down();
    let refused = world.restarted().settle("raw").await.unwrap_err();
    assert!(
        matches!(
            refused,
            SettleError::TooFewZones {
                answering: 1,
                needed: 2,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(!c.is_complete());

    // With all others there it is known what there is.
    a.come_back();
    let restarted = world.restarted();
    assert_eq!(restarted.settle("raw").await.unwrap().objects, std::slice::from_ref(&name));
    assert!(!c.is_complete());
    look_after_all(&restarted).await;
    assert!(c.is_complete());
    assert_eq!(world.holders(&name), "abc");
    a.go_down();
    assert_eq!(world.restarted().settle("raw").await.unwrap().objects, [name]);
}

#[tokio::test]
async fn while_a_zone_is_away_a_new_one_is_filled_and_does_not_count() {
    let world = World::new(3);
    let (name, bytes) = object("accepted");
    world.zones.put(&name, bytes).await.unwrap();
    world.eventually_in(&name, "abc").await;
    world.each[2].replace();
    world.each[0].go_down();

    let restarted = world.restarted();
    look_after_all(&restarted).await;
    look_after_all(&restarted).await;

    assert_eq!(world.holders(&name), "abc");
    assert!(!world.each[2].is_complete(), "what is in the zone that is away nobody knows");
    world.each[0].come_back();
    look_after_all(&restarted).await;
    look_after_all(&restarted).await;
    assert!(world.each[2].is_complete());
}

#[tokio::test]
async fn two_new_zones_are_filled_before_anything_is_made_certain() {
    let world = World::new(3);
    let (name, bytes) = object("accepted");
    world.each[0].plant(&name, bytes);
    world.each[1].replace();
    world.each[2].replace();

    let settled = world.restarted().settle("raw").await.unwrap();

    assert_eq!(settled.objects, std::slice::from_ref(&name));
    assert_eq!(world.holders(&name), "abc");
    assert!(world.each.iter().all(|zone| zone.is_complete()));
}

#[tokio::test]
async fn what_the_role_does_not_vouch_for_stays_in_the_zone_where_it_is() {
    let world = World::new(3);
    let (own, bytes) = object("our own");
    let (strange, rubbish) = object("rubbish");
    world.each[2].plant(&own, bytes);
    world.each[2].plant(&strange, rubbish);
    let restarted = world.restarted();
    restarted.vouch_with(Arc::new(|_, bytes| bytes.starts_with(b"our")));

    for _ in 0..2 {
        let settled = restarted.settle("raw").await.unwrap();
        assert_eq!((settled.objects, settled.strangers), (vec![own.clone()], vec![strange.clone()]));
        look_after_all(&restarted).await;
    }

    assert_eq!((world.holders(&own), world.holders(&strange)), ("abc".into(), "c".into()));
    assert!(restarted.status().iter().all(|zone| zone.up && zone.waiting == 0));
    restarted.delete(&own).await.unwrap();
    assert!(world.each.iter().all(|zone| zone.objects().iter().any(|name| name.is_tombstone())));
}
