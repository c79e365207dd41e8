//! Power cuts in all zones at once, over disks that forget what was not synced.

use super::*;

/// What the senders were told.
#[derive(Default)]
struct Told {
    accepted: Vec<String>,
    refused: Vec<String>,
}

#[tokio::test]
async fn after_any_power_cut_every_accepted_entry_is_there_once_and_in_order() {
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..200 {
        let told = three_lives(seed).await;
        accepted += told.accepted.len();
        refused += told.refused.len();
    }
    // Without these the test would prove nothing.
    assert!(accepted > 2000 && refused > 500, "{accepted} accepted, {refused} refused");
}

async fn three_lives(seed: u64) -> Told {
    let (house, power) = (House::new(seed), Power::on());
    let mut each: Vec<ForgetfulZone> = ["a", "b", "c"].map(|name| ForgetfulZone::new(name, &power)).into();
    let mut told = Told::default();
    for life in 0..3 {
        let shared: Vec<Arc<ForgetfulZone>> = each.into_iter().map(Arc::new).collect();
        let zones = over(shared.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect(), &house.clock);
        let recovered = house
            .recover(&zones)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        check(&told, &house.texts(&zones, &recovered).await, seed, life);
        let journal = house.start(&zones, quick(), recovered.tail());
        power.cut_after(1 + house.chance.next_u64() % 600);
        for round in 0..6 {
            let texts: Vec<String> = (0..3).map(|i| format!("life {life} round {round} entry {i}")).collect();
            let outcomes = join_all(texts.iter().map(|text| journal.append(entry(text)))).await;
            for (text, outcome) in texts.into_iter().zip(outcomes) {
                match outcome {
                    Ok(_) => told.accepted.push(text),
                    Err(AppendError::TooFewZones { .. }) => told.refused.push(text),
                    Err(_) => {}
                }
            }
        }
        journal.close().await;
        power.restore();
        each = shared.iter().map(|zone| zone.crash_by_chance(&*house.chance)).collect();
    }
    let zones = over(each.into_iter().map(|zone| Arc::new(zone) as Arc<dyn Zone>).collect(), &house.clock);
    check(&told, &house.read(&zones).await, seed, 3);
    told
}

fn check(told: &Told, found: &[String], seed: u64, life: u32) {
    let accepted: Vec<&String> = found.iter().filter(|text| told.accepted.contains(text)).collect();
    assert_eq!(accepted, told.accepted.iter().collect::<Vec<_>>(), "seed {seed}, life {life}");
    for text in found {
        assert!(
            !told.refused.contains(text),
            "seed {seed}, life {life}: {text} was refused and is there"
        );
        assert_eq!(
            found.iter().filter(|other| *other == text).count(),
            1,
            "seed {seed}, life {life}: {text}"
        );
    }
}
