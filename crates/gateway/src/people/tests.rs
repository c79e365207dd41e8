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
    let parts = parts(&secrets(identities), &personal).unwrap();
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
        let parts = parts(&long, personal).unwrap();
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
    let refused = parts(&[], &values(&[(None, MAX_PERSONAL_BYTES + 1)])).unwrap_err();
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
