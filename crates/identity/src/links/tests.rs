use proptest::prelude::*;

use super::*;

const USER: usize = 0;
const EMAIL: usize = 1;
const DEVICE: usize = 2;

fn columns() -> Vec<String> {
    ["user_id", "email", "device"].map(str::to_owned).to_vec()
}

fn hash(name: &str) -> Hash {
    *blake3::hash(name.as_bytes()).as_bytes()
}

fn id(number: i64) -> PersonId {
    PersonId::new(number).unwrap()
}

fn rows(plan: &mut Plan<'_>, rows: &[&[(&str, usize)]]) {
    for row in rows {
        let members: Vec<_> = row
            .iter()
            .map(|(name, column)| Member {
                hash: hash(name),
                column: *column,
            })
            .collect();
        plan.row(&columns(), &members);
    }
}

fn by(columns: &[&str], identities: u64) -> KnownBy {
    KnownBy {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        identities,
    }
}

#[test]
fn whoever_is_new_in_one_row_is_one_person() {
    let ids = HashMap::new();
    let mut plan = Plan::new(&ids, HashMap::new());
    rows(
        &mut plan,
        &[&[("ada@", EMAIL), ("u1", USER), ("d1", DEVICE)], &[("bob@", EMAIL), ("u2", USER)]],
    );

    assert_eq!(
        (plan.who(&hash("ada@")), plan.who(&hash("d1"))),
        (plan.who(&hash("u1")), plan.who(&hash("u1")))
    );
    assert_ne!(plan.who(&hash("ada@")), plan.who(&hash("bob@")));
    assert_eq!(plan.count(), 2);
    plan.who(&hash("eve@"));
    assert_eq!(plan.count(), 3, "of whom no row speaks is a person of their own");
}

#[test]
fn who_was_anonymous_becomes_known() {
    let ids = HashMap::from([(hash("d1"), id(7))]);
    for known in [by(&["device"], 1), by(&[""], 1), by(&["device"], 3)] {
        let mut plan = Plan::new(&ids, HashMap::from([(id(7), known.clone())]));
        rows(&mut plan, &[&[("ada@", EMAIL), ("d1", DEVICE)]]);
        assert_eq!(plan.who(&hash("ada@")), Who::Known(id(7)), "{known:?}");
    }
}

#[test]
fn a_person_has_many_devices() {
    let ids = HashMap::from([(hash("ada@"), id(7))]);
    let mut plan = Plan::new(&ids, HashMap::from([(id(7), by(&["email", "device"], 2))]));
    rows(&mut plan, &[&[("ada@", EMAIL), ("d2", DEVICE)], &[("d3", DEVICE), ("ada@", EMAIL)]]);
    assert_eq!(
        (plan.who(&hash("d2")), plan.who(&hash("d3"))),
        (Who::Known(id(7)), Who::Known(id(7)))
    );
}

#[test]
fn two_who_sign_in_on_one_device_stay_two() {
    let ids = HashMap::from([(hash("d1"), id(7))]);
    for known in [
        by(&["device", "email"], 2),
        by(&["device", ""], 2),
        by(&["device", "undeclared now"], 2),
        by(&["device", "user_id"], 2),
    ] {
        let mut plan = Plan::new(&ids, HashMap::from([(id(7), known.clone())]));
        rows(&mut plan, &[&[("bob@", EMAIL), ("d1", DEVICE), ("d9", DEVICE)]]);
        assert_eq!(plan.who(&hash("bob@")), Who::New(0), "{known:?}");
        assert_eq!(plan.who(&hash("d9")), Who::New(0), "what says less goes with what says more");
    }
    // The same when both are new, one row after the other.
    let ids = HashMap::new();
    let mut plan = Plan::new(&ids, HashMap::new());
    rows(&mut plan, &[&[("ada@", EMAIL), ("d1", DEVICE)], &[("bob@", EMAIL), ("d1", DEVICE)]]);
    assert_eq!(plan.who(&hash("ada@")), plan.who(&hash("d1")));
    assert_ne!(plan.who(&hash("ada@")), plan.who(&hash("bob@")));
}

#[test]
fn one_column_twice_in_a_row_is_no_link() {
    let ids = HashMap::from([(hash("ada@"), id(7))]);
    let mut plan = Plan::new(&ids, HashMap::from([(id(7), by(&["email"], 1))]));
    rows(&mut plan, &[&[("ada@", EMAIL), ("eve@", EMAIL)]]);
    assert_eq!(plan.who(&hash("eve@")), Who::New(0));
}

#[test]
fn links_that_point_to_nothing_are_refused() {
    let links = |columns: usize, column: &[usize], together: &[&[usize]]| Links {
        columns: (0..columns).map(|n| format!("c{n}")).collect(),
        column: column.to_vec(),
        together: together.iter().map(|row| row.to_vec()).collect(),
    };
    assert!(links(2, &[0, 1], &[&[0, 1]]).check(2).is_ok());
    for wrong in [
        links(2, &[0], &[&[0, 1]]),
        links(2, &[0, 2], &[&[0, 1]]),
        links(33, &[0, 1], &[&[0, 1]]),
        links(2, &[0, 1], &[&[0]]),
        links(2, &[0, 1], &[&[0, 2]]),
        links(2, &[0, 1], &[&[0; 33]]),
    ] {
        assert_eq!(wrong.check(2).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
    }
    let mut many = links(2, &[0, 1], &[]);
    for (rows, row) in [(MOST_ROWS + 1, vec![0, 1]), (MOST_MEMBERS / 32 + 1, vec![0; 32])] {
        many.together = vec![row; rows];
        assert_eq!(many.check(2).unwrap_err().kind(), ErrorKind::TooLarge);
    }
    many.together = vec![vec![0, 1]; MOST_ROWS];
    assert!(many.check(2).is_ok());
}

proptest! {
    /// Whatever comes: who has an id keeps it, and nobody has two new identities of the column that says most.
    #[test]
    fn nobody_who_is_known_changes_and_sign_ins_stay_apart(
        said in prop::collection::vec(prop::collection::vec((0u8..12, 0usize..3), 2..5), 1..20),
        known in prop::collection::btree_map(0u8..12, 1i64..5, 0..6),
    ) {
        // An identity is of one column: its number says which.
        let column = |name: u8| usize::from(name) % 3;
        let of = |name: u8| hash(&name.to_string());
        let ids: HashMap<Hash, PersonId> = known.iter().map(|(name, number)| (of(*name), id(*number))).collect();
        let mut kept: HashMap<PersonId, KnownBy> = HashMap::new();
        for (name, number) in &known {
            let by = kept.entry(id(*number)).or_default();
            by.columns.insert(columns()[column(*name)].clone());
            by.identities += 1;
        }
        let mut plan = Plan::new(&ids, kept.clone());
        for row in &said {
            let members: Vec<_> = row.iter().map(|(name, _)| Member { hash: of(*name), column: column(*name) }).collect();
            plan.row(&columns(), &members);
        }
        let mut users: HashMap<Who, u32> = HashMap::new();
        for name in 0..12u8 {
            let who = plan.who(&of(name));
            if let Some(number) = known.get(&name) {
                prop_assert_eq!(who, Who::Known(id(*number)));
            } else if column(name) == 0 {
                *users.entry(who).or_default() += 1;
            }
        }
        for (who, count) in users {
            let had = match who {
                Who::Known(id) => kept.get(&id).is_some_and(|by| by.columns.contains("user_id")),
                Who::New(_) => false,
            };
            prop_assert!(count + u32::from(had) <= 1, "{who:?} has {count} new sign-ins, and had one before: {had}");
        }
    }
}
