use super::*;

fn values(values: &[(Option<usize>, usize)]) -> Vec<PersonalValue> {
    let value = |(owner, len): &(Option<usize>, usize)| PersonalValue {
        owner: *owner,
        column: 0,
        value: Secret::new("x".repeat(*len)),
    };
    values.iter().map(value).collect()
}

fn secrets(count: usize) -> Vec<Secret> {
    (0..count).map(|n| Secret::new(format!("person {n}"))).collect()
}

/// Every part within its bounds, every value once and in order with its own owner, everybody asked for.
fn check(identities: usize, personal: &[(Option<usize>, usize)], calls: usize) {
    let personal = values(personal);
    let parts = parts(&secrets(identities), &personal, Vec::new()).unwrap();
    assert_eq!(parts.len(), calls);
    let mut next = 0;
    let mut seen = vec![false; identities];
    for part in &parts {
        assert!(part.identities.len() <= MAX_AT_ONCE && part.owners.len() <= MAX_AT_ONCE);
        assert_eq!((part.personal.start, part.personal.len()), (next, part.owners.len()));
        next = part.personal.end;
        let of_part = &personal[part.personal.clone()];
        assert!(of_part.iter().map(|value| value.value.reveal().len()).sum::<usize>() <= MAX_PERSONAL_BYTES);
        for (value, owner) in of_part.iter().zip(&part.owners) {
            assert_eq!(value.owner, (*owner as usize).checked_sub(1).map(|at| part.identities[at]));
        }
        part.identities.iter().for_each(|place| seen[*place] = true);
    }
    assert_eq!(next, personal.len());
    assert!(seen.into_iter().all(|seen| seen));
}

#[test]
fn what_there_is_to_ask_is_cut_into_calls() {
    check(0, &[], 0);
    check(3, &[], 1);
    check(100_001, &[], 2);
    check(0, &[(None, 5)], 1);
    check(3, &[(Some(2), 1), (None, 1), (Some(0), 1), (Some(2), 1)], 1);
    check(2, &[(Some(0), MAX_PERSONAL_BYTES), (Some(0), 1), (Some(0), MAX_PERSONAL_BYTES)], 3);
    let many: Vec<_> = (0..150_000).map(|n| (Some(n), 1)).collect();
    check(150_000, &many, 2);
    check(250_000, &many, 3);
    let of_few: Vec<_> = (0..200_001).map(|n| (Some(n % 3), 0)).collect();
    check(5, &of_few, 3);
}

#[test]
fn identities_that_are_long_together_are_cut_by_their_bytes() {
    let long: Vec<_> = (0..70_000)
        .map(|n| Secret::new(format!("{n:0>len$}", len = base::LONGEST_IDENTITY)))
        .collect();
    let owned = values(&(0..70_000).map(|n| (Some(n), 1)).collect::<Vec<_>>());
    for (personal, owners) in [(&[][..], 0), (&owned, 70_000)] {
        let parts = parts(&long, personal, Vec::new()).unwrap();
        let asked: Vec<usize> = parts.iter().flat_map(|part| part.identities.iter().copied()).collect();
        assert_eq!(asked, (0..70_000).collect::<Vec<_>>());
        assert_eq!(parts.iter().map(|part| part.owners.len()).sum::<usize>(), owners);
        assert_eq!(parts.len(), 3);
        for part in &parts {
            let bytes: usize = part.identities.iter().map(|place| long[*place].reveal().len()).sum();
            assert!(bytes <= MAX_IDENTITY_BYTES && part.personal.len() == part.owners.len());
        }
    }
}

#[test]
fn a_value_larger_than_a_call_is_refused() {
    let refused = parts(&[], &values(&[(None, MAX_PERSONAL_BYTES + 1)]), Vec::new()).unwrap_err();
    assert_eq!(refused.status().as_u16(), 413);
}

#[test]
fn a_table_has_its_own_personal_columns_and_those_of_all() {
    let settings = |personal: &[&str]| ProductSettings {
        personal_columns: personal.iter().map(|name| (*name).to_owned()).collect(),
        identity_columns: vec!["email".into()],
        ..ProductSettings::default()
    };
    let of = |personal: &[&str]| Columns::of(&settings(personal), &"shop".parse().unwrap(), &"orders".parse().unwrap());
    let columns = of(&[
        "phone",
        "shop.orders:name",
        "shop.visits:address",
        "web.orders:nick",
        "shop.orders:phone",
    ])
    .unwrap();
    assert_eq!(columns.identities(), ["email"]);
    assert_eq!(columns.personal(), ["phone", "name"]);
    assert!(!of(&["shop.visits:address"]).unwrap().has_personal());
    assert!(of(&["nonsense:name"]).is_err(), "what cannot be read is not passed over");
}

#[test]
fn rows_with_several_identities_are_cut_into_calls_that_have_all_of_each() {
    let check = |identities: &[Secret], rows: &[Vec<u32>], calls: usize| {
        let cut = linked(identities, rows);
        assert_eq!(cut.len(), calls);
        let mut next = rows.iter();
        for (part, of_part) in cut {
            let bytes: usize = part.identities.iter().map(|place| identities[*place].reveal().len()).sum();
            assert!(part.identities.len() <= MAX_AT_ONCE && of_part.len() <= MAX_AT_ONCE && bytes <= MAX_IDENTITY_BYTES);
            assert!(part.owners.is_empty() && part.personal.is_empty());
            assert!(of_part.iter().map(|row| row.identities.len()).sum::<usize>() <= MAX_TOGETHER);
            for row in of_part {
                let meant: Vec<u32> = row.identities.iter().map(|at| part.identities[*at as usize] as u32).collect();
                assert_eq!(Some(&meant), next.next());
            }
        }
        assert!(next.next().is_none());
    };
    check(&secrets(2), &[], 0);
    check(&secrets(3), &[vec![0, 1], vec![2, 0]], 1);
    let pairs: Vec<Vec<u32>> = (0..75_000).map(|n| vec![2 * n, 2 * n + 1]).collect();
    check(&secrets(150_000), &pairs, 2);
    let one: Vec<Vec<u32>> = (1..150_000).map(|n| vec![0, n]).collect();
    check(&secrets(150_000), &one, 2);
    let wide: Vec<Vec<u32>> = (0..10_000).map(|n| (0..32).map(|at| (n + at) % 40).collect()).collect();
    check(&secrets(40), &wide, 2);
    let long: Vec<_> = (0..70_000)
        .map(|n| Secret::new(format!("{n:0>len$}", len = base::LONGEST_IDENTITY)))
        .collect();
    check(&long, &(0..35_000).map(|n| vec![2 * n, 2 * n + 1]).collect::<Vec<_>>(), 3);
}

#[test]
fn whoever_was_asked_for_is_not_asked_again_unless_they_own_something() {
    let asked = vec![true, false, true];
    let cut = parts(&secrets(3), &[], asked.clone()).unwrap();
    assert_eq!(cut.iter().map(|part| part.identities.clone()).collect::<Vec<_>>(), [vec![1]]);
    let cut = parts(&secrets(3), &values(&[(Some(2), 1)]), asked).unwrap();
    assert_eq!(cut.iter().map(|part| part.identities.clone()).collect::<Vec<_>>(), [vec![2, 1]]);
    assert!(parts(&secrets(1), &[], vec![true]).unwrap().is_empty());
}

#[test]
fn identities_are_linked_where_the_product_says_so() {
    let settings = |link_identities| ProductSettings {
        identity_columns: vec!["Email".into(), "device".into()],
        link_identities,
        ..ProductSettings::default()
    };
    let limits = events::Limits::default();
    let body = br#"{"email": "ada", "device": "x"}"#;
    let gather = |link| {
        let columns = Columns::of(&settings(link), &"shop".parse().unwrap(), &"orders".parse().unwrap()).unwrap();
        let told = events::Told {
            limits: &limits,
            received_at: base::Timestamp::from_secs(1),
            identities: columns.identities(),
            personal: columns.personal(),
        };
        let decoded = events::decode(events::Syntax::Json, body, &told).unwrap();
        People::gather(&decoded.batch, &columns).unwrap()
    };
    let (linked, apart) = (gather(true), gather(false));
    assert_eq!(
        (linked.together.rows.len(), &linked.identity_columns[..]),
        (1, &["email".to_owned(), "device".to_owned()][..])
    );
    assert_eq!((apart.together.rows.len(), apart.identity_columns.len()), (0, 0));
    assert!(linked.bytes() > apart.bytes());
}
