use base::KeyKind;
use seal::verify_pass;

use super::*;
use crate::testing::{World, key};

fn shown(values: &[&str]) -> Result<Option<String>, u16> {
    let headers = values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect();
    shown_key(&headers)
        .map(|key| key.map(|key| key.reveal().to_owned()))
        .map_err(|error| error.status().as_u16())
}

async fn asks(world: &World, key: &str, address: &str) -> Result<Arc<Caller>, u16> {
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, format!("TD1 {key}").parse().unwrap())]);
    let id = RequestId::from_bytes([1; 16]);
    world
        .app
        .callers
        .caller(&headers, address.parse().unwrap(), id)
        .await
        .map_err(|error| error.status().as_u16())
}

const HERE: &str = "192.0.2.1";

#[test]
fn the_key_is_read_from_one_td1_header() {
    assert_eq!(shown(&[]), Ok(None));
    for value in ["TD1 1/abc", "td1 1/abc", " TD1  1/abc "] {
        assert_eq!(shown(&[value]), Ok(Some("1/abc".to_owned())), "{value:?}");
    }
    for values in [&["Bearer 1/abc"][..], &["TD1"], &["1/abc"], &["TD1 1/a", "TD1 1/b"]] {
        assert_eq!(shown(values), Err(401), "{values:?}");
    }
}

#[test]
fn only_what_looks_like_a_key_is_asked_about() {
    assert!(is_key_shaped(&format!("1/{}", "0af".repeat(20))));
    for key in [
        "",
        "1/",
        "/0123456789abcdef",
        "0/0123456789abcdef",
        "1/0123456789abcdeg",
        "1/0123",
        "1/0123456789abcdef/1",
        "x",
    ] {
        assert!(!is_key_shaped(key), "{key}");
    }
    assert!(!is_key_shaped(&format!("1/{}", "a".repeat(257))));
}

#[tokio::test]
async fn a_key_leads_to_a_pass_for_each_role_and_is_judged_once() {
    let world = World::new();
    let caller = asks(&world, &key(KeyKind::Read), HERE).await.unwrap();
    let again = asks(&world, &key(KeyKind::Read), HERE).await.unwrap();

    assert!(Arc::ptr_eq(&caller, &again));
    assert_eq!((world.times_asked(), caller.verbs), (1, KeyKind::Read.verbs()));
    assert_eq!(caller.settings.identity_columns, ["user_id"]);
    for role in AUDIENCES {
        let installation = &world.app.callers.parts.installation;
        // What the vault is shown is for whoever sends it on.
        let shown_to = if role == Role::Gateway { Role::Vault } else { role };
        let verified = verify_pass(installation, caller.pass(shown_to), role, &world.holder(), world.clock.now()).unwrap();
        assert_eq!(verified.product, caller.product);
    }
}

#[tokio::test]
async fn many_requests_with_a_new_key_ask_the_vault_once() {
    let world = World::new();
    let key = key(KeyKind::Write);
    let all = futures::future::join_all((0..20).map(|_| asks(&world, &key, HERE))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(world.times_asked(), 1);
}

#[tokio::test]
async fn what_is_remembered_ends_half_a_minute_before_the_pass() {
    let world = World::new();
    asks(&world, &key(KeyKind::Read), HERE).await.unwrap();
    world.advance(Duration::from_secs(269));
    asks(&world, &key(KeyKind::Read), HERE).await.unwrap();
    assert_eq!(world.times_asked(), 1);
    world.advance(Duration::from_secs(1));
    asks(&world, &key(KeyKind::Read), HERE).await.unwrap();
    assert_eq!(world.times_asked(), 2);
}

#[tokio::test]
async fn a_revoked_credential_is_forgotten_and_what_it_has_open_ends() {
    let world = World::new();
    let caller = asks(&world, &key(KeyKind::Admin), HERE).await.unwrap();
    let other = asks(&world, &key(KeyKind::Read), HERE).await.unwrap();

    world.watch.note(caller.credential);

    let callers = &world.app.callers;
    assert!(!callers.is_live(&caller, Verb::Append) && callers.is_live(&other, Verb::Query));
    // The fake vault believes the key for ever; what it says about a revoked credential is not kept.
    asks(&world, &key(KeyKind::Admin), HERE).await.unwrap();
    asks(&world, &key(KeyKind::Admin), HERE).await.unwrap();
    assert_eq!((world.times_asked(), callers.lock().len()), (4, 1));
}

#[tokio::test]
async fn word_of_changed_settings_has_that_products_callers_judged_again() {
    let world = World::new();
    let changed = asks(&world, &key(KeyKind::Admin), HERE).await.unwrap();
    asks(&world, &key(KeyKind::Read), HERE).await.unwrap();
    let callers = &world.app.callers;

    let heard = async {
        while callers.changes.load(Ordering::SeqCst) == 0 {
            world.watch.note_change(changed.product);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = callers.follow_changes() => unreachable!("it follows for ever"),
        () = heard => {}
    }

    assert_eq!(callers.lock().len(), 1, "the other product's is still remembered");
    asks(&world, &key(KeyKind::Admin), HERE).await.unwrap();
    assert_eq!(world.times_asked(), 3);
    // Whoever was being asked about while the word came is not remembered with what was true before.
    callers.forget(&changed.credential);
    callers.remember([0; 32], &changed, 0);
    assert_eq!(callers.lock().len(), 1);
}

#[tokio::test]
async fn without_word_of_revocations_only_appending_goes_on() {
    let world = World::new();
    let caller = asks(&world, &key(KeyKind::Admin), HERE).await.unwrap();
    world.clock.advance(Duration::from_secs(9));
    assert!(world.app.callers.is_live(&caller, Verb::Append));
    assert!(!world.app.callers.is_live(&caller, Verb::Query) && !world.app.callers.is_live(&caller, Verb::Manage));
}

#[tokio::test]
async fn an_address_that_guesses_waits_and_known_keys_go_on() {
    let world = World::with(|settings| settings.failed_keys_per_minute = 3);
    let good = key(KeyKind::Read);
    asks(&world, &good, HERE).await.unwrap();
    for guess in ["1/ffffffffffffffff", "not a key", "9/ffffffffffffffff"] {
        assert_eq!(asks(&world, guess, HERE).await.err(), Some(401));
    }
    assert_eq!(asks(&world, "1/fffffffffffffffe", HERE).await.err(), Some(429));
    assert_eq!(
        asks(&world, &key(KeyKind::Write), HERE).await.err(),
        Some(429),
        "an unknown key may be a guess"
    );
    assert!(asks(&world, &good, HERE).await.is_ok());
    // Its pass has ended and the guessing goes on: it is judged again, and is no guess.
    world.advance(Duration::from_secs(360));
    for guess in ["1/ffffffffffffffff", "not a key", "9/ffffffffffffffff"] {
        assert_eq!(asks(&world, guess, HERE).await.err(), Some(401));
    }
    assert_eq!(asks(&world, "1/fffffffffffffffe", HERE).await.err(), Some(429));
    let asked = world.times_asked();
    assert!(asks(&world, &good, HERE).await.is_ok());
    assert_eq!(world.times_asked(), asked + 1);
    assert!(asks(&world, &key(KeyKind::Write), "192.0.2.2").await.is_ok());
    world.advance(Duration::from_secs(61));
    assert!(asks(&world, &key(KeyKind::Write), HERE).await.is_ok());
}

#[tokio::test]
async fn the_key_itself_is_not_kept() {
    let world = World::new();
    asks(&world, &key(KeyKind::Read), HERE).await.unwrap();
    let kept = format!("{:?}", world.app.callers.lock());
    assert!(!kept.contains("00112233445566778899"));
}

#[tokio::test]
async fn passes_of_a_time_to_come_are_not_shown_once_the_clock_was_turned_back() {
    let world = World::new();
    let write = key(KeyKind::Write);
    assert!(asks(&world, &write, HERE).await.is_ok());
    let asked = world.times_asked();
    assert!(asks(&world, &write, HERE).await.is_ok());
    assert_eq!(world.times_asked(), asked);

    world.turn_back(Duration::from_secs(3600));

    assert!(asks(&world, &write, HERE).await.is_ok());
    assert_eq!(world.times_asked(), asked + 1);
}
