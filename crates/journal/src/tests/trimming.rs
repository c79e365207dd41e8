//! Entries that are taken out of segments: gone for good, while the chain and all others stay, and nobody else can take one out.

use super::*;

/// A segment for each of these words, with an entry for each of its letters; and one after them.
async fn with_segments(words: &[&str]) -> World {
    let world = World::new();
    let journal = world.journal();
    for word in words {
        let entries = word.chars().map(|letter| entry(&letter.to_string()));
        journal.append_all(entries.collect()).await.unwrap();
    }
    journal.close().await;
    world
}

impl World {
    async fn segment(&self, number: usize) -> Segment {
        self.house.recover(&self.restarted()).await.unwrap().segments[number].clone()
    }

    /// Without deleting the object that was before.
    async fn form(&self, segment: &Segment, keep: &[usize], with: bool) -> Result<Segment, TrimError> {
        let with = with.then_some(&self.house.private);
        trim(&self.house.parts(&self.zones), segment, keep, &self.house.private.public(), with).await
    }

    async fn trimmed(&self, number: usize, keep: &[usize]) -> Segment {
        let before = self.segment(number).await;
        let form = self.form(&before, keep, true).await.unwrap();
        self.zones.delete(&before.name).await.unwrap();
        form
    }

    fn holds(&self, name: &ObjectName) -> bool {
        self.each.iter().any(|zone| zone.objects().contains(name))
    }
}

#[tokio::test]
async fn what_is_taken_out_is_gone_and_the_rest_of_the_journal_is_as_it_was() {
    let world = with_segments(&["ab", "cde", "f"]).await;
    let head = world.house.recover(&world.restarted()).await.unwrap().head();
    let before = world.segment(1).await;

    // Of some the rest has to be opened, of none nothing.
    assert!(matches!(world.form(&before, &[1], false).await, Err(TrimError::Sealed)));
    let form = world.trimmed(1, &[1]).await;
    let first = world.segment(0).await;
    world.form(&first, &[], false).await.unwrap();
    world.zones.delete(&first.name).await.unwrap();

    assert_eq!(world.read().await, ["d", "f"]);
    assert!(!world.holds(&before.name) && world.holds(&form.name) && before.open(&world.zones, &world.house.private).await.is_err());
    let found = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!((found.head(), found.segments.len(), found.superseded.len()), (head, 3, 0));
    found.check_head(&head).unwrap();
    assert_eq!((found.segments[0].headers.len(), found.segments[0].trimmed.len()), (0, 2));
    assert_eq!(found.segments[1].trimmed, ["about c", "about e"]);
    assert_eq!(
        (found.segments[1].place_of(&before, 1), found.segments[1].place_of(&before, 2)),
        (Some(0), None)
    );
    // The journal goes on, its last segment trimmed as well.
    world.trimmed(2, &[]).await;
    let found = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(found.head(), head);
    let journal = world.house.start(&world.zones, quick(), found.tail());
    journal.append(entry("g")).await.unwrap();
    let upto = journal.head();
    let (key, zones) = (world.house.installation.key(), world.restarted());
    let back = read_back(&zones, &key, Role::Warehouse, JOURNAL, product(), &upto).await.unwrap();
    assert_eq!(back.iter().map(|segment| segment.headers.len()).collect::<Vec<_>>(), [0, 1, 0, 1]);
    let after = recover_after(&zones, &key, Role::Warehouse, JOURNAL, product(), &head)
        .await
        .unwrap();
    assert_eq!(after.segments.len(), 1);
    assert_eq!(world.read().await, ["d", "g"]);
}

#[tokio::test]
async fn a_segment_is_trimmed_more_than_once_and_of_several_forms_the_last_counts() {
    let world = with_segments(&["abcd"]).await;
    let first = world.segment(0).await;
    let second = world.form(&first, &[0, 1, 3], true).await.unwrap();
    let third = world.form(&second, &[0, 2], true).await.unwrap();
    assert_eq!(third.headers, ["about a", "about d"]);
    // A crash came before anything was deleted.
    let found = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!((&found.segments[0].name, found.segments.len()), (&third.name, 1));
    assert_eq!(found.superseded.len(), 2);
    for before in &found.superseded {
        world.zones.delete(before).await.unwrap();
    }
    assert_eq!(world.read().await, ["a", "d"]);
}

#[tokio::test]
async fn what_one_form_leaves_out_is_read_from_no_other() {
    let world = with_segments(&["abcd"]).await;
    let before = world.segment(0).await;
    // Two that knew nothing of each other.
    world.form(&before, &[0, 1, 2], true).await.unwrap();
    world.form(&before, &[1, 3], true).await.unwrap();
    world.zones.delete(&before.name).await.unwrap();
    assert_eq!(world.read().await, ["b"]);
    let segment = world.segment(0).await;
    assert_eq!(segment.open(&world.zones, &world.house.private).await.unwrap().len(), 1);
    // And the next form holds what is left.
    let last = world.form(&segment, &[], false).await.unwrap();
    assert_eq!((last.headers.len(), world.read().await.len()), (0, 0));
}

#[tokio::test]
async fn a_zone_that_was_away_gets_the_trimmed_form_and_does_not_bring_the_other_back() {
    let world = with_segments(&["ab", "c"]).await;
    world.down(&[2]);
    let before = world.segment(0).await;
    let form = world.trimmed(0, &[1]).await;
    world.all_back();
    assert!(world.each[2].objects().contains(&before.name));
    let zones = world.restarted();
    let key = world.house.installation.key();
    zones.vouch_with(Arc::new(move |name, object| is_segment(&key, Role::Warehouse, name, object)));
    let cancel = caught_up(&zones).await;
    assert!(!world.holds(&before.name) && world.each[2].objects().contains(&form.name));
    drop(cancel);
    world.down(&[0]);
    assert_eq!(world.read().await, ["b", "c"]);
}

#[tokio::test]
async fn nothing_is_trimmed_where_the_zones_do_not_take_it() {
    let world = with_segments(&["ab"]).await;
    let before = world.segment(0).await;
    world.down(&[1, 2]);
    let refused = world.form(&before, &[1], true).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    world.all_back();
    assert_eq!(world.read().await, ["a", "b"]);
    for keep in [&[0, 2][..], &[1, 0], &[0, 0]] {
        assert!(matches!(world.form(&before, keep, true).await, Err(TrimError::Internal { .. })));
    }
    let all = world.form(&before, &[0, 1], false).await.unwrap();
    assert_eq!(all.name, before.name, "there is nothing to take out");
}

fn plant(world: &World, id: &str, bytes: &Bytes) -> ObjectName {
    let name = ObjectName::new(&format!("{JOURNAL}/20251123"), id, bytes).unwrap();
    world.each.iter().for_each(|zone| zone.plant(&name, bytes.clone()));
    name
}

async fn bytes_of(world: &World, name: &ObjectName) -> Bytes {
    world.each[0].get(name, trim::MAX_OBJECT).await.unwrap()
}

#[tokio::test]
async fn nobody_but_the_role_takes_an_entry_out() {
    let world = with_segments(&["ab", "cd"]).await;
    let segment = world.segment(0).await;
    let stranger = InstallationSigner::generate(&SeededEntropy::new(5));
    for (by, role) in [(&stranger, Role::Warehouse), (&world.house.installation, Role::Identity)] {
        let parts = JournalParts {
            signer: world.house.signer(by, role),
            ..world.house.parts(&world.zones)
        };
        let public = world.house.private.public();
        let forged = trim(&parts, &segment, &[], &public, None).await.unwrap();
        let found = world.house.recover(&world.restarted()).await.unwrap();
        assert_eq!(
            found.refused.iter().map(|refused| &refused.name).collect::<Vec<_>>(),
            [&forged.name]
        );
        let key = world.house.installation.key();
        assert!(!is_segment(
            &key,
            Role::Warehouse,
            &forged.name,
            &bytes_of(&world, &forged.name).await
        ));
        world.each.iter().for_each(|zone| assert!(zone.lose(&forged.name)));
        assert_eq!(world.read().await, ["a", "b", "c", "d"]);
    }

    // What the role signed of one segment says nothing of another.
    let other = world.segment(1).await;
    let form = world.form(&other, &[0], true).await.unwrap();
    let good = bytes_of(&world, &form.name).await;
    let (_, record, payload) = trim::split(&good).unwrap();
    let (head, _) = record::split(&bytes_of(&world, &segment.name).await).unwrap();
    let lengths = [head.len(), record.len()].map(|length| u32::try_from(length).unwrap().to_le_bytes());
    let moved = Bytes::from([b"cftrim\0\x01", &lengths[0][..], &lengths[1], &head, &record, &payload].concat());
    let planted = plant(&world, &trim::object_id(segment.id, 0, 1), &moved);
    let found = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(found.refused.iter().map(|refused| &refused.name).collect::<Vec<_>>(), [&planted]);
    assert_eq!(world.read().await, ["a", "b", "c"]);
    // Nor under another name.
    for id in [
        trim::object_id(other.id, 0, 2),
        trim::object_id(other.id, 1, 1),
        trim::object_id(segment.id, 0, 1),
        format!("{}-t01", record::object_id(other.id, 0)),
        format!("{}-t0", record::object_id(other.id, 0)),
    ] {
        let planted = plant(&world, &id, &good);
        let found = world.house.recover(&world.restarted()).await.unwrap();
        assert!(found.refused.iter().any(|refused| refused.name == planted), "{id}");
        world.each.iter().for_each(|zone| assert!(zone.lose(&planted)));
    }
}

#[tokio::test]
async fn no_bit_of_a_trimmed_form_can_be_changed_even_under_a_name_that_fits() {
    let world = with_segments(&["ab"]).await;
    let form = world.trimmed(0, &[1]).await;
    let good = bytes_of(&world, &form.name).await;
    world.each.iter().for_each(|zone| assert!(zone.lose(&form.name)));
    let cut = [0, 11, 12, 16, good.len() - 1].map(|length| good[..length].to_vec());
    let flipped = (0..good.len()).step_by(7).map(|position| {
        let mut bad = good.to_vec();
        bad[position] ^= 0x10;
        bad
    });
    for (number, bad) in flipped.chain(cut).enumerate() {
        let planted = plant(&world, form.name.id(), &bad.into());
        let zones = world.restarted();
        let found = world.house.survey(&zones).await;
        for segment in &found.segments {
            let opened = segment.open(&zones, &world.house.private).await;
            assert!(matches!(opened, Err(OpenError::Changed { .. })), "case {number}");
        }
        assert_eq!(found.segments.len() + found.refused.len(), 1, "case {number}");
        world.each.iter().for_each(|zone| assert!(zone.lose(&planted)));
    }
    // Damaged where it lies, it is damage: nobody takes a journal for one in which nothing was.
    world.each.iter().for_each(|zone| zone.plant(&form.name, good.slice(..40)));
    let found = world.house.survey(&world.restarted()).await;
    assert!(!found.damage.is_empty() && found.segments.is_empty());
}

#[tokio::test]
async fn a_copy_of_a_segment_under_another_day_is_no_other_segment() {
    let world = with_segments(&["a", "b"]).await;
    let segment = world.segment(0).await;
    let bytes = bytes_of(&world, &segment.name).await;
    let copy = ObjectName::new(&format!("{JOURNAL}/20251101"), segment.name.id(), &bytes).unwrap();
    world.each.iter().for_each(|zone| zone.plant(&copy, bytes.clone()));
    let found = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!((found.segments.len(), found.superseded.len(), found.refused.len()), (2, 0, 1));
    assert!(found.refused[0].why.contains("another day"), "{}", found.refused[0].why);
    assert!(
        !crate::is_segment(&world.house.installation.key(), Role::Warehouse, &copy, &bytes),
        "nor is it copied to other zones"
    );
    assert_eq!(world.read().await, ["a", "b"]);
}

#[tokio::test]
async fn after_any_power_cut_no_kept_entry_is_lost_and_none_that_was_taken_out_comes_back() {
    let (mut done, mut broken) = (0, 0);
    for seed in 0..200 {
        let (house, power) = (House::new(seed), Power::on());
        let each = ["a", "b", "c"].map(|name| Arc::new(ForgetfulZone::new(name, &power)));
        let zones = over(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect(), &house.clock);
        let journal = house.start(&zones, quick(), Tail::empty());
        for word in ["abc", "de", "f"] {
            journal
                .append_all(word.chars().map(|letter| entry(&letter.to_string())).collect())
                .await
                .unwrap();
        }
        journal.close().await;
        let segments = house.recover(&zones).await.unwrap().segments;
        power.cut_after(1 + house.chance.next_u64() % 150);
        let mut gone: Vec<&str> = Vec::new();
        for (segment, keep, out) in [(&segments[0], &[0, 2][..], &["b"][..]), (&segments[1], &[], &["d", "e"])] {
            let parts = house.parts(&zones);
            let form = trim(&parts, segment, keep, &house.private.public(), Some(&house.private)).await;
            if form.is_ok() && zones.delete(&segment.name).await.is_ok() {
                gone.extend_from_slice(out);
            }
        }
        let all = gone.len() == 3;
        (done, broken) = (done + usize::from(all), broken + usize::from(!all));
        power.restore();
        let each: Vec<_> = each
            .iter()
            .map(|zone| Arc::new(zone.crash_by_chance(&*house.chance)) as Arc<dyn Zone>)
            .collect();
        let read = house.read(&over(each, &house.clock)).await;
        for kept in ["a", "c", "f"] {
            assert_eq!(read.iter().filter(|text| *text == kept).count(), 1, "seed {seed}: {kept}");
        }
        for out in &gone {
            assert!(!read.iter().any(|text| text == *out), "seed {seed}: {out} came back");
        }
    }
    // Without these the test would prove nothing.
    assert!(done > 20 && broken > 20, "{done} were done, {broken} broken off");
}

#[tokio::test]
async fn a_form_that_a_newer_version_made_is_not_passed_over() {
    let world = with_segments(&["ab", "c"]).await;
    let form = world.trimmed(0, &[1]).await;
    let mut bytes = world.zones.get(&form.name, 1 << 20).await.unwrap().to_vec();
    bytes[7] = 2;
    let (prefix, id) = (form.name.prefix().to_owned(), form.name.id().replace("-t1", "-t2"));
    let newer = ObjectName::new(&prefix, &id, &bytes).unwrap();
    world.zones.put(&newer, bytes.into()).await.unwrap();
    let refused = world.house.recover(&world.restarted()).await.unwrap_err();
    assert!(matches!(&refused, RecoverError::Newer { version: 2, .. }), "{refused}");
}
