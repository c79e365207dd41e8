//! A zone in a real store.

use base::{Entropy, OsEntropy};
use testkit::stores::Stores;

use super::*;

/// What is waited for comes sooner on every machine, however much else it has to do.
const LONG: Duration = Duration::from_secs(120);

fn zone_in(stores: &Stores, prefix: &str) -> S3Parts {
    parts(&stores.each[0].url(prefix), &stores.credentials(), &stores.ca())
}

#[tokio::test]
async fn a_real_store_keeps_the_contract() -> anyhow::Result<()> {
    let stores = Stores::start(&["a"]).await?;
    let zone = S3Zone::new(zone_in(&stores, "warehouse/a"));
    assert!(zone.open(Empty::New).await);
    keeps_the_contract(&zone).await;

    // More than one page.
    let many: Vec<(ObjectName, Bytes)> = (0..1100_u32)
        .map(|n| {
            let bytes = Bytes::from(n.to_string());
            (ObjectName::new("many", &format!("o-{n}"), &bytes).unwrap(), bytes)
        })
        .collect();
    for some in many.chunks(50) {
        let put = futures::future::join_all(some.iter().map(|(name, bytes)| zone.put(name, bytes.clone()))).await;
        put.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    let mut expected: Vec<ObjectName> = many.into_iter().map(|(name, _)| name).collect();
    expected.sort();
    assert_eq!(zone.list("many").await?, expected);

    // A long object, whole and in part.
    let long = Bytes::from(vec![7; 9 << 20]);
    let name = ObjectName::new("long", "x", &long)?;
    zone.put(&name, long.clone()).await?;
    assert_eq!(zone.get(&name, 9 << 20).await?, long);
    assert!(matches!(zone.get(&name, (9 << 20) - 1).await, Err(ZoneError::Long { .. })));
    assert_eq!(zone.get_range(&name, (9 << 20) - 10..9 << 20).await?, long.slice(..10));

    // Other access keys are refused, in words that hold none.
    let mut parts = zone_in(&stores, "warehouse/a");
    parts.credentials = stores.wrong_credentials()?;
    assert_eq!(
        detail(S3Zone::new(parts).probe().await.unwrap_err()),
        "its store does not take the access key, or its secret"
    );
    let mut parts = zone_in(&stores, "");
    parts.address = Address::parse(&stores.each[0].url("").replace("/events", "/others")).unwrap();
    assert_eq!(detail(S3Zone::new(parts).probe().await.unwrap_err()), "the bucket does not exist");
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_killed_is_down_and_one_that_hangs_does_not_say() -> anyhow::Result<()> {
    let mut stores = Stores::start(&["a"]).await?;
    let mut parts = zone_in(&stores, "a");
    assert!(S3Zone::new(parts.clone()).open(Empty::New).await);
    (parts.put_timeout, parts.read_timeout) = (Duration::from_secs(3), Duration::from_secs(3));
    let zone = S3Zone::new(parts);
    testkit::until("it works", LONG, || async { Ok(zone.probe().await?) }).await?;
    let (name, bytes) = object(b"kept");
    testkit::until("it is written", LONG, || async { Ok(zone.put(&name, bytes.clone()).await?) }).await?;

    let (late, more) = object(b"late");
    // Which of the two it is depends on whether a connection was open when the store hung: only what was sent may arrive later.
    for _ in 0..10 {
        stores.each[0].pause().await?;
        let put = zone.put(&late, more.clone()).await;
        if matches!(put, Err(ZoneError::Unclear { .. })) {
            break;
        }
        assert!(matches!(put, Err(ZoneError::Down { .. })), "{put:?}");
        stores.each[0].resume()?;
        testkit::until("it works again", LONG, || async { Ok(zone.put(&name, bytes.clone()).await?) }).await?;
    }
    // From now on nothing more is sent that would have to be taken back.
    let put = zone.put(&late, more.clone()).await;
    assert!(matches!(put, Err(ZoneError::Down { .. })), "{put:?}");
    stores.each[0].resume()?;
    testkit::until("it works again", LONG, || async { Ok(zone.probe().await?) }).await?;
    // What was sent before it hung may be carried out yet, so no deletion of that is certain.
    let deleted = zone.delete(&late).await;
    assert!(matches!(deleted, Err(ZoneError::Unclear { .. })), "{deleted:?}");
    let kept = testkit::until("it can be read", LONG, || async { Ok(zone.get(&name, MOST).await?) }).await?;
    assert_eq!(kept, bytes);
    let deleted = testkit::until("it is deleted", LONG, || async {
        match zone.delete(&name).await {
            Ok(()) | Err(ZoneError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    });
    deleted.await?;
    testkit::until("it is written", LONG, || async { Ok(zone.put(&name, bytes.clone()).await?) }).await?;

    stores.each[0].kill()?;
    testkit::until("it is known to be down", LONG, || async {
        let put = zone.put(&late, more.clone()).await;
        anyhow::ensure!(matches!(put, Err(ZoneError::Down { .. })), "{put:?}");
        Ok(())
    })
    .await?;
    assert!(matches!(zone.get(&name, MOST).await, Err(ZoneError::Down { .. })));
    stores.each[0].start().await?;
    let kept = testkit::until("it works again", LONG, || async {
        zone.probe().await?;
        Ok(zone.get(&name, MOST).await?)
    });
    assert_eq!(kept.await?, bytes);
    Ok(())
}

#[tokio::test]
async fn a_full_store_is_down_and_goes_on_giving_out_what_it_has() -> anyhow::Result<()> {
    let stores = Stores::with_volumes(&["a"], 8).await?;
    let mut parts = zone_in(&stores, "a");
    assert!(S3Zone::new(parts.clone()).open(Empty::New).await);
    parts.put_timeout = Duration::from_secs(6);
    let zone = S3Zone::new(parts);
    let mut kept = Vec::new();
    let refused = loop {
        // Nothing that the store could make smaller.
        let mut random = vec![0; 4 << 20];
        OsEntropy.fill(&mut random);
        let bytes = Bytes::from(random);
        let name = ObjectName::new("big", &format!("o-{}", kept.len()), &bytes)?;
        match zone.put(&name, bytes.clone()).await {
            Ok(()) => kept.push((name, bytes)),
            Err(error) => break error,
        }
        anyhow::ensure!(kept.len() < 200, "it takes more than it should have room for");
    };
    assert!(!kept.is_empty());
    assert!(matches!(refused, ZoneError::Unclear { .. }), "{refused:?}");
    let probe = zone.probe().await;
    assert!(probe.is_err(), "a store that takes nothing passes for one that works");
    for (name, bytes) in &kept {
        assert_eq!(zone.get(name, 4 << 20).await?, *bytes);
    }
    assert_eq!(zone.list("big").await?.len(), kept.len());
    Ok(())
}
