//! Power cuts in all zones at once, over disks that forget what was not synced.

use zones::{ForgetfulZone, Power};

use super::*;

#[tokio::test]
async fn after_any_power_cut_every_acknowledged_batch_is_there_exactly_once() {
    let mut acknowledged = 0;
    for seed in 0..40 {
        acknowledged += three_lives(seed).await;
    }
    // Without these the test would prove nothing.
    assert!(acknowledged > 200, "only {acknowledged} batches were acknowledged");
}

async fn three_lives(seed: u64) -> usize {
    let (house, power) = (House::new(seed), Power::on());
    let mut each: Vec<ForgetfulZone> = ["a", "b", "c"].map(|name| ForgetfulZone::new(name, &power)).into();
    // What the senders were told was stored, each under its own id, and what they do not know.
    let (mut stored, mut perhaps): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for life in 0..3 {
        let shared: Vec<Arc<ForgetfulZone>> = each.into_iter().map(Arc::new).collect();
        let zones = house.zones(shared.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
        let product = house
            .open(&zones)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        if life == 0 {
            with_table(&product).await;
            append(&product, Some("first"), batch(&["first"])).await.unwrap();
            stored.push("first".to_owned());
        }
        // Whoever was not told sends again under the same id.
        for tag in std::mem::take(&mut perhaps) {
            append(&product, Some(&tag), batch(&[&tag])).await.unwrap();
            stored.push(tag);
        }
        stored.sort();
        assert_eq!(house.tags(&product).await, stored, "seed {seed}, life {life}");
        leftovers::nothing_is_left_over(&product, &zones).await;

        power.cut_after(1 + house.chance.next_u64() % 1_500);
        for number in 0..12 {
            let tag = format!("seed {seed} life {life} batch {number:02}");
            match append(&product, Some(&tag), batch(&[&tag])).await {
                Ok(_) => stored.push(tag),
                Err(_) => perhaps.push(tag),
            }
            if house.chance.next_u64().is_multiple_of(4) {
                product.flush_all().await;
            }
        }
        drop(product);
        power.restore();
        each = shared.iter().map(|zone| zone.crash_by_chance(&*house.chance)).collect();
    }
    stored.len()
}
