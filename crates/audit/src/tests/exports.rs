//! Every attack on an export, found by [`verify`].

use super::python::verdict;
use crate::*;

const SIZE: u64 = 300;

/// An export, what is done to it, and whether it is of one product.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) lines: Vec<String>,
    pub(super) kept: Vec<String>,
}

fn place(lines: &[String], record: u64) -> usize {
    let text = format!("\"n\":{record},");
    lines.iter().position(|line| line.contains(&text)).unwrap()
}

/// What an export is after each attack. All of them have to be found.
pub(super) fn attacks(product: u64) -> Vec<Attack> {
    let sample = sample::Sample::of(SIZE, 1);
    let export = sample.export(product, &[200]);
    // Two records of product 1, which follow on each other.
    let (one, two) = (place(&export, 6), place(&export, 7));
    // What stands after the last record: signed heads.
    let signed = if product == 0 { 1 } else { 2 };
    let attack = |name, change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = export.clone();
        change(&mut lines);
        assert_ne!(lines, export, "{name}");
        Attack {
            name,
            lines,
            kept: Vec::new(),
        }
    };
    let mut all = vec![
        attack("a record is deleted", &|lines| drop(lines.remove(one))),
        attack("the first record is deleted", &|lines| drop(lines.remove(1))),
        attack("a record is changed", &|lines| {
            lines[one] = lines[one].replace("DeleteTable", "CreateTable")
        }),
        attack("the last record is changed", &|lines| {
            let last = lines.iter().rposition(|line| line.starts_with("{\"v\"")).unwrap();
            lines[last] = lines[last].replace("allowed", "refused");
        }),
        attack("two records are swapped", &|lines| lines.swap(one, two)),
        attack("a record is there twice", &|lines| lines.insert(one, lines[one].clone())),
        attack("the end is cut off", &|lines| {
            let end = lines.len() - signed;
            drop(lines.drain(end - 8..end));
        }),
        attack("the end is cut off, and the first line says so", &|lines| {
            let end = lines.len() - signed;
            drop(lines.drain(end - 8..end));
            lines[0] = lines[0].replace("\"size\":300", "\"size\":292");
        }),
        attack("the head is missing", &|lines| drop(lines.pop())),
        attack("the size under the signatures is another", &|lines| {
            let last = lines.len() - 1;
            lines[last] = lines[last].replace("\"size\":300", "\"size\":299");
        }),
        attack("the head is of another installation", &|lines| {
            let last = lines.len() - 1;
            lines[last] = sample::Sample::of(SIZE, 2).head_line(SIZE);
        }),
        attack("all of it is of another installation but the first line", &|lines| {
            let first = lines[0].clone();
            *lines = sample::Sample::of(SIZE, 2).export(product, &[200]);
            lines[0] = first;
        }),
        attack("accounts did not sign", &|lines| {
            let last = lines.len() - 1;
            let (before, accounts) = lines[last].split_once("\"accounts\":").unwrap();
            let (head, vault) = before.split_once("\"vault\":").unwrap();
            let _ = accounts;
            lines[last] = format!("{head}\"vault\":{vault}\"accounts\":{}}}", vault.trim_end_matches(','));
        }),
    ];
    // What holds by itself, and not beside what was kept.
    let whole = |name, sample: &sample::Sample, kept| Attack {
        name,
        lines: sample.export(product, &[200]),
        kept: vec![kept],
    };
    all.push(whole("rolled back", &sample::Sample::of(250, 1), sample.head_line(SIZE)));
    all.push(whole("forked", &sample, sample_with_another_past().head_line(200)));
    all
}

// The same installation, and another history: what a vault could show to somebody else, had accounts signed for it.
fn sample_with_another_past() -> sample::Sample {
    sample::Sample::of(SIZE, 1).with_another_past()
}

fn check(lines: &[String], kept: &[String]) -> Report {
    let kept = kept.iter().map(|line| SignedHead::parse(line).unwrap()).collect();
    verify(lines.iter().map(String::as_str), None, kept)
}

#[test]
fn what_was_not_touched_holds_for_both_programs() {
    for size in [1, 2, 3, 17, 64, SIZE] {
        for product in [0, 1, 2, 3] {
            let sample = sample::Sample::of(size, 1);
            let then = size.div_ceil(2);
            let export = sample.export(product, &[then]);
            let kept = [sample.head_line(then), sample.head_line(size)];
            let report = check(&export, &kept);
            assert_eq!(report.faults, [], "{size} {product}");
            assert_eq!((report.size, report.product), (size, product));
            if size == SIZE {
                assert_eq!(verdict(&export, &kept).0, 0, "{product}");
            }
        }
    }
}

#[test]
fn every_attack_is_found_by_both_programs() {
    for product in [0, 1] {
        for attack in attacks(product) {
            let report = check(&attack.lines, &attack.kept);
            assert_ne!(report.faults, [], "product {product}: {}", attack.name);
            let (code, said) = verdict(&attack.lines, &attack.kept);
            assert_eq!(code, 8, "product {product}: {}: {said}", attack.name);
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_the_record() {
    let sample = sample::Sample::of(SIZE, 1);
    let export = sample.export(0, &[]);
    let said = |lines: &[String]| {
        check(lines, &[])
            .faults
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };

    let mut changed = export.clone();
    changed[7] = changed[7].replace("DeleteTable", "CreateTable");
    assert!(
        said(&changed).contains("record 8: it was not written after record 7"),
        "{}",
        said(&changed)
    );

    let mut deleted = export.clone();
    deleted.remove(7);
    assert!(said(&deleted).contains("record 7: here stands record 8"), "{}", said(&deleted));

    let shorter = sample::Sample::of(SIZE - 50, 1).export(0, &[]);
    let rolled_back = check(&shorter, &[sample.head_line(SIZE)]).faults;
    assert!(rolled_back[0].to_string().contains("record 251: rolled back"), "{rolled_back:?}");
}

#[test]
fn a_record_that_is_left_out_of_a_customers_export_shows_although_the_tree_is_whole() {
    let sample = sample::Sample::of(SIZE, 1);
    let mut export = sample.export(1, &[]);
    let at = place(&export, 7);
    let leaf = leaf_hash(export[at].as_bytes());
    let gap = GapLine {
        at: 6,
        level: 0,
        hash: hex::encode(leaf),
    };
    export[at] = gap.to_line();

    let faults = check(&export, &[]).faults;

    assert!(faults.iter().any(|fault| fault.record == Some(16)), "{faults:?}");
    assert_eq!(verdict(&export, &[]).0, 8);
}

#[test]
fn garbage_is_refused_and_never_panics() {
    for text in [
        "",
        "x",
        "{}",
        "{\"coffer-audit\":2}",
        "null\nnull",
        "{\"coffer-audit\":1}\n{\"at\":0,\"level\":99,\"hash\":\"\"}",
    ] {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_ne!(check(&lines, &[]).faults, [], "{text:?}");
        assert_eq!(verdict(&lines, &[]).0, 8, "{text:?}");
    }
    let export = sample::Sample::of(20, 1).export(1, &[]);
    for at in 0..export.len() {
        for cut in [0, 1, export[at].len() / 2] {
            let mut lines = export.clone();
            lines[at].truncate(cut);
            assert_ne!(check(&lines, &[]).faults, [], "{at} {cut}");
        }
    }
}
