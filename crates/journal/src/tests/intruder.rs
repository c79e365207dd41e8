//! Whoever owns every zone may destroy, but not change, forge, move or drop unnoticed.

use super::*;

/// Puts bytes into every zone under a name made for them, so that only the journal itself can tell.
fn plant(world: &World, journal: &str, id: &str, bytes: &Bytes) -> ObjectName {
    let name = ObjectName::new(&format!("{journal}/20251123"), id, bytes).unwrap();
    world.each.iter().for_each(|zone| zone.plant(&name, bytes.clone()));
    name
}

fn remove(world: &World, name: &ObjectName) {
    world.each.iter().for_each(|zone| assert!(zone.lose(name)));
}

async fn bytes_of(world: &World, name: &ObjectName) -> Bytes {
    world.each[0].get(name, record::MAX_OBJECT).await.unwrap()
}

/// The objects in the order of the journal.
fn in_order(world: &World) -> Vec<ObjectName> {
    let mut names = world.objects();
    names.sort_by_key(|name| record::parse_object_id(name.id()).unwrap().0.sequence);
    names
}

async fn damage(world: &World) -> Vec<Damage> {
    match world.house.recover(&world.restarted()).await.unwrap_err() {
        RecoverError::Damaged { damage, .. } => damage,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_bad_copy_is_passed_over_and_three_are_damage() {
    for harm in [MemoryZone::corrupt as fn(&MemoryZone, &ObjectName) -> bool, MemoryZone::truncate] {
        let world = World::with(&["one", "two", "three"]).await;
        let middle = in_order(&world)[1].clone();
        assert!(harm(&world.each[0], &middle) && harm(&world.each[1], &middle));
        assert_eq!(world.read().await, ["one", "two", "three"]);

        // The repair of the two goes on in the background.
        for _ in 0..1000 {
            if bytes_of(&world, &middle).await == world.each[1].get(&middle, record::MAX_OBJECT).await.unwrap() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.each.iter().for_each(|zone| assert!(harm(zone, &middle)));
        let found = world.house.survey(&world.restarted()).await;
        // A flip in the payload does not touch the head: it is noticed when the payload is opened.
        let opened = join_all(
            found
                .segments
                .iter()
                .map(|segment| segment.open(&world.zones, &world.house.private)),
        )
        .await;
        assert!(!found.damage.is_empty() || opened.iter().any(|o| matches!(o, Err(e) if e.kind() == ErrorKind::Corrupt)));
    }
}

#[tokio::test]
async fn no_bit_of_a_segment_can_be_changed_even_under_a_name_that_fits() {
    let world = World::with(&["one"]).await;
    let name = in_order(&world)[0].clone();
    let good = bytes_of(&world, &name).await;
    remove(&world, &name);
    for position in (0..good.len()).step_by(7).chain([good.len() - 1]) {
        let mut bad = good.to_vec();
        bad[position] ^= 0x10;
        let planted = plant(&world, JOURNAL, name.id(), &bad.into());
        let zones = world.restarted();
        let found = world.house.survey(&zones).await;
        for segment in &found.segments {
            let opened = segment.open(&zones, &world.house.private).await;
            assert!(matches!(opened, Err(OpenError::Changed { .. })), "byte {position} was changed");
        }
        assert_eq!(found.segments.len() + found.refused.len(), 1, "byte {position}");
        remove(&world, &planted);
    }
    for length in [0, 5, 12, 100, good.len() - 1] {
        let planted = plant(&world, JOURNAL, name.id(), &good.slice(..length));
        let found = world.house.survey(&world.restarted()).await;
        let opened = join_all(
            found
                .segments
                .iter()
                .map(|segment| segment.open(&world.zones, &world.house.private)),
        )
        .await;
        assert!(opened.iter().all(Result::is_err), "cut to {length} bytes");
        remove(&world, &planted);
    }
}

#[tokio::test]
async fn a_segment_under_another_name_or_in_another_journal_is_refused() {
    let world = World::with(&["one"]).await;
    let name = in_order(&world)[0].clone();
    let bytes = bytes_of(&world, &name).await;
    let (writer, _) = name.id().split_once('-').unwrap();
    for id in [
        format!("{writer}-0000000000000001-0"),
        format!("{writer}-0000000000000000-1"),
        "anything".into(),
    ] {
        let planted = plant(&world, JOURNAL, &id, &bytes);
        let found = world.house.recover(&world.restarted()).await.unwrap();
        assert_eq!(found.refused.iter().map(|refused| &refused.name).collect::<Vec<_>>(), [&planted]);
        assert_eq!(found.segments.len(), 1);
        remove(&world, &planted);
    }

    plant(&world, "raw/8", name.id(), &bytes);
    let key = world.house.installation.key();
    let found = recover(&world.restarted(), &key, Role::Warehouse, "raw/8", ProductId::new(8).ok())
        .await
        .unwrap();
    assert_eq!((found.segments.len(), found.refused.len()), (0, 1));
    assert!(found.refused[0].why.contains("raw/7"), "{}", found.refused[0].why);
}

#[tokio::test]
async fn only_this_role_of_this_installation_writes_this_products_journal() {
    let stranger = InstallationSigner::generate(&SeededEntropy::new(5));
    let cases: [(&str, bool, Role, Option<ProductId>); 4] = [
        ("another installation", true, Role::Warehouse, product()),
        ("another role", false, Role::Identity, product()),
        ("another product", false, Role::Warehouse, ProductId::new(8).ok()),
        ("no product", false, Role::Warehouse, None),
    ];
    for (what, strange, role, of) in cases {
        let world = World::new();
        let by = if strange { &stranger } else { &world.house.installation };
        let parts = JournalParts {
            signer: world.house.signer(by, role),
            ..world.house.parts(&world.zones)
        };
        let (to, writer) = (world.house.private.public(), world.house.writer());
        let forger = Journal::start(parts, quick(), JOURNAL, of, to, writer, Tail::empty());
        forger.append(entry("forged")).await.unwrap();
        forger.close().await;

        let found = world.house.recover(&world.restarted()).await.unwrap();

        assert_eq!((found.segments.len(), found.refused.len()), (0, 1), "{what}");
    }
}

#[tokio::test]
async fn a_segment_taken_out_of_the_middle_is_missed() {
    let world = World::with(&["one", "two", "three", "four"]).await;
    let names = in_order(&world);
    remove(&world, &names[1]);

    assert_eq!(damage(&world).await, [Damage::Missing { sequence: 1 }]);
    let left = world.house.survey(&world.restarted()).await;
    assert_eq!(world.house.texts(&world.zones, &left).await, ["one", "three", "four"]);

    remove(&world, &names[0]);
    assert_eq!(
        damage(&world).await,
        [Damage::Missing { sequence: 0 }, Damage::Missing { sequence: 1 }]
    );
}

#[tokio::test]
async fn the_end_of_a_journal_is_missed_by_whoever_remembers_its_head() {
    let world = World::with(&["one", "two", "three"]).await;
    let whole = world.house.recover(&world.restarted()).await.unwrap();
    let remembered = whole.head();
    assert_eq!(whole.check_head(&remembered), Ok(()));
    assert_eq!(whole.check_head(&Head::default()), Ok(()));
    assert_eq!(
        whole.check_head(&Head {
            length: 2,
            hash: whole.segments[1].hash
        }),
        Ok(())
    );
    assert_eq!(
        whole.check_head(&Head { length: 2, hash: [1; 32] }),
        Err(HeadError::Another { sequence: 1 })
    );

    remove(&world, &in_order(&world)[2]);

    let shorter = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(
        shorter.check_head(&remembered),
        Err(HeadError::Shorter {
            found: 2,
            remembered: 3,
            unreadable: Vec::new()
        })
    );
}

#[tokio::test]
async fn payloads_open_with_the_products_key_only() {
    let world = World::with(&["secret text"]).await;
    let zones = world.restarted();
    let found = world.house.recover(&zones).await.unwrap();
    let bytes = bytes_of(&world, &in_order(&world)[0]).await;

    let other = PrivateKey::generate(&SeededEntropy::new(77));
    let refused = found.segments[0].open(&zones, &other).await.unwrap_err();

    assert!(matches!(refused, OpenError::Seal { .. }), "{refused:?}");
    // The header says "about secret text" in clear; the payload does not stand anywhere.
    let clear = bytes.windows(11).filter(|window| *window == b"secret text").count();
    assert_eq!(clear, 1);
    assert_eq!(found.segments[0].headers, ["about secret text"]);
}

/// Puts rubbish into one zone under the name of a segment of this number, as whoever owns that zone can.
fn rubbish(world: &World, zone: usize, sequence: u64) -> ObjectName {
    let written = in_order(world)[0].clone();
    let (writer, _) = written.id().split_once('-').unwrap();
    let name = ObjectName::new(written.prefix(), &format!("{writer}-{sequence:016x}-7"), b"what it should be").unwrap();
    world.each[zone].plant(&name, Bytes::from_static(b"what it is"));
    name
}

#[tokio::test]
async fn the_owner_of_one_zone_keeps_no_journal_from_opening() {
    for sequence in [0, 1, 2, 3, 1000, u64::MAX] {
        let world = World::with(&["one", "two"]).await;
        let planted = rubbish(&world, 2, sequence);

        let zones = world.restarted();
        let found = world.house.recover(&zones).await.unwrap();

        assert_eq!(world.house.texts(&zones, &found).await, ["one", "two"], "number {sequence}");
        let aside: Vec<_> = found.orphans.iter().chain(found.refused.iter().map(|r| &r.name)).collect();
        assert_eq!(aside, [&planted]);
        let journal = world.house.start(&zones, quick(), found.tail());
        journal.append(entry("three")).await.unwrap();
        journal.close().await;
        assert_eq!(world.read().await, ["one", "two", "three"], "number {sequence}");
    }
}

#[tokio::test]
async fn rubbish_before_a_known_head_keeps_nothing_from_opening() {
    let world = World::with(&["one", "two"]).await;
    let known = world.house.recover(&world.restarted()).await.unwrap().head();
    rubbish(&world, 2, 1);
    world.down(&[0]);

    let key = world.house.installation.key();
    let rest = recover_after(&world.restarted(), &key, Role::Warehouse, JOURNAL, product(), &known).await;

    assert_eq!(rest.unwrap().head(), known);
}

#[tokio::test]
async fn rubbish_where_the_chain_has_gone_on_needs_no_zone_that_is_away() {
    let world = World::with(&["one", "two"]).await;
    rubbish(&world, 2, 0);
    world.down(&[0]);

    assert_eq!(world.read().await, ["one", "two"]);
}

#[tokio::test]
async fn what_a_zone_that_is_away_may_hold_is_waited_for_and_not_overlooked() {
    for sequence in [1, 2] {
        let world = World::with(&["one", "two"]).await;
        let planted = rubbish(&world, 2, sequence);
        world.down(&[0]);

        let error = world.house.recover(&world.restarted()).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(text.contains(planted.as_str()) && text.contains("bring that zone back"), "{text}");
        world.all_back();
        assert_eq!(world.read().await, ["one", "two"]);
    }
}

#[tokio::test]
async fn an_accepted_segment_is_not_overlooked_while_its_one_good_copy_is_away() {
    let world = World::with(&["one", "two"]).await;
    let last = in_order(&world)[1].clone();
    // It was accepted while the first zone was away.
    world.each[0].lose(&last);
    world.each[1].corrupt(&last);
    world.down(&[2]);

    let error = world.house.recover(&world.restarted()).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    world.all_back();
    assert_eq!(world.read().await, ["one", "two"]);
}

#[tokio::test]
async fn a_hole_is_damage_however_few_zones_hold_what_is_left() {
    let world = World::with(&["one", "two", "three"]).await;
    let middle = in_order(&world)[1].clone();
    world.each[0].lose(&middle);
    world.each[1].lose(&middle);
    world.each[2].truncate(&middle);

    assert_eq!(damage(&world).await, [Damage::Unreadable { name: middle }]);
}

#[tokio::test]
async fn an_unreadable_end_that_a_majority_holds_is_damage() {
    let world = World::with(&["one", "two"]).await;
    let last = in_order(&world)[1].clone();
    world.each[0].lose(&last);
    for zone in &world.each[1..] {
        zone.plant(&last, Bytes::from_static(b"rubbish"));
    }

    assert_eq!(damage(&world).await, [Damage::Unreadable { name: last }]);
}

#[tokio::test]
async fn an_end_of_which_one_bad_copy_is_left_is_missed_by_whoever_remembers_it() {
    let world = World::with(&["one", "two"]).await;
    let remembered = world.house.recover(&world.restarted()).await.unwrap().head();
    let last = in_order(&world)[1].clone();
    world.each[0].lose(&last);
    world.each[1].lose(&last);
    world.each[2].truncate(&last);

    let found = world.house.recover(&world.restarted()).await.unwrap();

    let missed = found.check_head(&remembered).unwrap_err();
    assert_eq!(missed.kind(), ErrorKind::Corrupt);
    let text = missed.to_string();
    assert!(text.contains(last.as_str()) && text.contains("put a good copy back"), "{text}");
}

#[tokio::test]
async fn files_without_an_end_in_one_zone_do_not_hold_up_a_start() {
    let (house, base) = (House::new(1), tempfile::tempdir().unwrap());
    let open = || {
        let each = ["a", "b", "c"].map(|name| Arc::new(zones::DirectoryZone::open(name, base.path().join(name), true)) as Arc<dyn Zone>);
        over(each.into(), &house.clock)
    };
    let journal = house.start(&open(), quick(), Tail::empty());
    let texts: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    for text in &texts {
        journal.append(entry(text)).await.unwrap();
    }
    journal.close().await;
    let cancel = caught_up(&open()).await;
    drop(cancel);
    let segments: Vec<ObjectName> = house.recover(&open()).await.unwrap().segments.into_iter().map(|s| s.name).collect();
    for (number, name) in segments.iter().enumerate() {
        let path = base.path().join("a").join(name.as_str());
        std::fs::remove_file(&path).unwrap();
        match number % 3 {
            0 => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            1 => std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(),
            _ => {
                // The beginning of a segment with the longest head that is possible, and nothing after it.
                let longest = u32::try_from(record::MAX_HEAD).unwrap().to_le_bytes();
                std::fs::write(&path, [&b"cfsegm\0\x01"[..], &longest].concat()).unwrap();
                std::fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_len(record::MAX_OBJECT)
                    .unwrap();
            }
        }
    }
    for marker in [false, true] {
        if marker {
            let path = base.path().join("a/zone.json");
            std::fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let found = tokio::time::timeout(Duration::from_secs(5), house.read(&open())).await;
        assert_eq!(found.unwrap(), texts);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let most: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(most < 500 << 10, "{most} KiB of memory");
}

#[tokio::test]
async fn only_segments_that_the_role_wrote_are_copied_from_zone_to_zone() {
    let world = World::with(&["one", "two"]).await;
    let (names, key) = (in_order(&world), world.house.installation.key());
    let good = bytes_of(&world, &names[1]).await;
    let mut changed = good.to_vec();
    changed[100] ^= 1;
    let mut strange = vec![ObjectName::new(names[1].prefix(), names[1].id(), &changed).unwrap()];
    world.each[2].plant(&strange[0], changed.into());
    for (journal, id) in [("raw/8", names[1].id()), (JOURNAL, names[0].id()), (JOURNAL, "anything")] {
        let name = ObjectName::new(&format!("{journal}/20251123"), id, &good).unwrap();
        world.each[2].plant(&name, good.clone());
        strange.push(name);
    }
    // Left behind by a dead writer: the role's own.
    assert!(world.each[0].lose(&names[1]) && world.each[1].lose(&names[1]));

    let zones = world.restarted();
    zones.vouch_with(Arc::new(move |name, object| is_segment(&key, Role::Warehouse, name, object)));
    let found = world.house.recover(&zones).await.unwrap();
    drop(caught_up(&zones).await);

    assert_eq!(world.house.texts(&zones, &found).await, ["one", "two"]);
    assert_eq!(found.refused.len(), 3, "{:?}", found.refused);
    assert!(world.each[0].holds(&names[1]) && world.each[1].holds(&names[1]));
    for name in strange {
        assert!(!world.each[0].holds(&name) && !world.each[1].holds(&name), "{name}");
    }
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_not_passed_over() {
    for (magic, attempt) in [(b"cfsegm\0\x02", "-7"), (b"cftrim\0\x02", "-0-t1")] {
        let world = World::with(&["one", "two"]).await;
        let last = in_order(&world).last().unwrap().clone();
        let mut bytes = bytes_of(&world, &last).await.to_vec();
        bytes[..8].copy_from_slice(magic);
        let bytes = Bytes::from(bytes);
        let id = last.id().strip_suffix("-0").unwrap();
        let name = ObjectName::new(last.prefix(), &format!("{id}{attempt}"), &bytes).unwrap();
        for zone in &world.each[..2] {
            zone.put(&name, bytes.clone()).await.unwrap();
        }

        let refused = world.house.recover(&world.restarted()).await.unwrap_err();

        assert!(matches!(&refused, RecoverError::Newer { version: 2, .. }), "{refused}");
        assert!(refused.to_string().contains("a newer version wrote"), "{refused}");
    }
}
