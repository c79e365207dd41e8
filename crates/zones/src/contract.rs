//! What every zone has to do, whatever it is made of. Each implementation runs this suite.

use bytes::Bytes;

use crate::{DirectoryZone, ForgetfulZone, MemoryZone, ObjectName, Power, Zone, ZoneError};

/// More than any object here has.
const MOST: u64 = 1000;

pub(crate) async fn keeps_the_contract(zone: &dyn Zone) {
    let object = |prefix: &str, id: &str, bytes: &'static [u8]| (ObjectName::new(prefix, id, bytes).unwrap(), Bytes::from_static(bytes));
    let (one, first) = object("raw/7/20261123", "a-0", b"first");
    let (two, second) = object("raw/7/20261124", "a-1", b"second");
    let (three, third) = object("raw/70", "a-2", b"third");
    zone.probe().await.unwrap();
    assert_eq!(zone.list("").await.unwrap(), []);
    assert!(matches!(zone.get(&one, MOST).await, Err(ZoneError::NotFound { .. })));
    assert!(matches!(zone.get_range(&one, 0..1).await, Err(ZoneError::NotFound { .. })));
    zone.delete(&one).await.unwrap();

    for (name, bytes) in [(&one, &first), (&two, &second), (&three, &third)] {
        zone.put(name, bytes.clone()).await.unwrap();
    }
    zone.put(&one, first.clone()).await.unwrap();

    assert_eq!(zone.get(&one, MOST).await.unwrap(), first);
    assert_eq!(zone.get(&one, 5).await.unwrap(), first);
    let long = zone.get(&one, 4).await;
    assert!(matches!(long, Err(ZoneError::Long { length: 5, most: 4, .. })), "{long:?}");
    assert_eq!(zone.get_range(&two, 1..4).await.unwrap(), second.slice(1..4));
    assert_eq!(zone.get_range(&two, 0..6).await.unwrap(), second);
    for beyond in [3..7, 6..8, 100..101] {
        let short = zone.get_range(&two, beyond.clone()).await;
        assert!(matches!(&short, Err(ZoneError::Short { length: 6, .. })), "{beyond:?}: {short:?}");
    }
    let mut all = vec![one.clone(), two.clone(), three.clone()];
    all.sort();
    assert_eq!(zone.list("").await.unwrap(), all);
    assert_eq!(zone.list("raw/7").await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(zone.list("raw/7/20261124").await.unwrap(), std::slice::from_ref(&two));
    for nothing in ["raw/7/2026", "none", "../raw", "raw/"] {
        assert_eq!(zone.list(nothing).await.unwrap(), [], "{nothing}");
    }

    pages_keep_the_order(zone).await;

    // What is put under a name replaces what is there: a repair.
    zone.put(&two, Bytes::from_static(b"bad")).await.unwrap();
    zone.put(&two, second.clone()).await.unwrap();
    assert_eq!(zone.get(&two, MOST).await.unwrap(), second);

    zone.delete(&one).await.unwrap();
    assert!(matches!(zone.get(&one, MOST).await, Err(ZoneError::NotFound { .. })));
    assert_eq!(zone.list("raw/7").await.unwrap(), [two]);
}

/// Whatever a page begins with and however long it is, all pages together are the sorted list.
async fn pages_keep_the_order(zone: &dyn Zone) {
    let mut more = Vec::new();
    // Bytes that sort before and after the slash, and a path that is a prefix of another's.
    for prefix in ["p/a", "p/a-b", "p/a.b", "p/a/b", "p/a0", "p/ab", "p/a/b/c", "q"] {
        for id in ["1", "1-2", "x"] {
            let name = ObjectName::new(prefix, id, b"page").unwrap();
            zone.put(&name, Bytes::from_static(b"page")).await.unwrap();
            more.push(name);
        }
    }
    for prefix in ["", "p", "p/a"] {
        let all = zone.list(prefix).await.unwrap();
        assert!(all.is_sorted() && all.iter().all(|name| name.is_below(prefix)), "{all:?}");
        for most in [1, 2, 3, 7, 100] {
            let (mut paged, mut after) = (Vec::new(), String::new());
            loop {
                let page = zone.list_page(prefix, &after, most).await.unwrap();
                assert!(page.len() <= most);
                let Some(last) = page.last() else { break };
                last.as_str().clone_into(&mut after);
                paged.extend(page);
            }
            assert_eq!(paged, all, "{prefix:?} by {most}");
        }
        for after in ["a", "p", "p/", "p/a", "p/a/", "p/a/b", "p/a0", "p0", "p/a/b/zz", "q/1", "z"] {
            let page = zone.list_page(prefix, after, 5).await.unwrap();
            let expected: Vec<_> = all.iter().filter(|name| name.as_str() > after).take(5).cloned().collect();
            assert_eq!(page, expected, "below {prefix:?} after {after:?}");
        }
    }
    for name in &more {
        zone.delete(name).await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    keeps_the_contract(&DirectoryZone::open("a", directory.path().join("new/a"), true)).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    keeps_the_contract(&MemoryZone::new("a")).await;
}

#[tokio::test]
async fn a_forgetful_disk_keeps_the_contract_while_the_power_is_on() {
    keeps_the_contract(&ForgetfulZone::new("a", &Power::on())).await;
}
