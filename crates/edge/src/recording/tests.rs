use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base::ManualClock;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Keeps what it takes, while it takes anything.
#[derive(Default)]
struct Kept {
    drafts: Mutex<Vec<Draft>>,
    away: AtomicBool,
    hangs: AtomicBool,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Recorder for Kept {
    async fn record(&self, drafts: Vec<Draft>) -> Result<(), Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(status(ErrorKind::Unavailable, "away"));
        }
        self.drafts.lock().unwrap().extend(drafts);
        Ok(())
    }
}

fn draft(rule: &str) -> Draft {
    Draft {
        at: NOW,
        rule: rule.into(),
        ..left_out(Role::Warehouse, NOW, 1)
    }
}

fn auditing() -> (Auditing, Arc<Kept>) {
    let (auditing, kept) = (Auditing::default(), Arc::new(Kept::default()));
    auditing.by(kept.clone());
    (auditing, kept)
}

#[tokio::test]
async fn what_is_recorded_first_is_recorded_when_the_answer_comes() {
    let (auditing, kept) = auditing();
    auditing.first(draft("calls")).await.unwrap();
    assert_eq!(kept.drafts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_place_or_an_answer_it_is_refused() {
    let nowhere = Auditing::default().first(draft("calls")).await.unwrap_err();
    let (auditing, kept) = auditing();
    kept.away.store(true, Ordering::SeqCst);
    let away = auditing.first(draft("calls")).await.unwrap_err();
    kept.hangs.store(true, Ordering::SeqCst);
    let hangs = auditing.first(draft("calls")).await.unwrap_err();

    for refusal in [nowhere, away, hangs] {
        assert_eq!(crate::kind_of(&refusal), ErrorKind::Unavailable);
        assert!(refusal.message().contains("record"), "{refusal}");
    }
}

#[tokio::test]
async fn what_is_recorded_afterwards_waits_until_it_can_be() {
    let (auditing, kept) = auditing();
    kept.away.store(true, Ordering::SeqCst);
    let (clock, cancel) = (ManualClock::at(NOW), CancellationToken::new());
    let (running, stop) = (auditing.clone(), cancel.clone());
    let task = tokio::spawn(async move { running.run(Role::Warehouse, &clock, &stop).await });
    for _ in 0..3 {
        auditing.note(draft("calls"));
    }
    while kept.asked.load(Ordering::SeqCst) < 3 {
        sleep(AGAIN).await;
    }
    assert_eq!(kept.drafts.lock().unwrap().len(), 0);

    kept.away.store(false, Ordering::SeqCst);
    while kept.drafts.lock().unwrap().is_empty() {
        sleep(AGAIN).await;
    }
    auditing.note(draft("last"));
    cancel.cancel();
    task.await.unwrap();

    let drafts = kept.drafts.lock().unwrap();
    assert_eq!(
        drafts.iter().map(|draft| draft.rule.as_str()).collect::<Vec<_>>(),
        ["calls", "calls", "calls", "last"]
    );
}

#[tokio::test]
async fn what_there_is_no_room_for_is_counted_and_the_count_is_recorded() {
    let (auditing, kept) = auditing();
    for _ in 0..MOST_WAITING + 7 {
        auditing.note(draft("calls"));
    }
    let _ = auditing.send(Role::Warehouse, NOW, false).await;
    auditing.send(Role::Warehouse, NOW, false).await.unwrap();

    let drafts = kept.drafts.lock().unwrap();
    assert_eq!(drafts.len(), MOST_WAITING + 1);
    assert_eq!((drafts[MOST_WAITING].count, drafts[MOST_WAITING].method.as_str()), (7, "/left-out"));
}

#[tokio::test]
async fn who_follows_the_journal_is_recorded_once_and_then_as_a_number() {
    let (auditing, kept) = auditing();
    let read = |who: Who, object: &str| Draft {
        who,
        method: "/coffer.v1.AuditOperator/Read".into(),
        object: Object::named(object),
        ..draft("calls")
    };
    for _ in 0..3_600 {
        auditing.done(read(Who::Operator, ""));
    }
    auditing.done(read(Who::Role(Role::Gateway), ""));
    auditing.done(read(Who::Operator, "export"));
    let other = Draft {
        method: "/coffer.v1.Warehouse/Tail".into(),
        ..draft("calls")
    };
    (0..5).for_each(|_| auditing.done(other.clone()));
    auditing
        .send(Role::Vault, NOW.plus(Duration::from_secs(3_599)), false)
        .await
        .unwrap();
    assert_eq!(kept.drafts.lock().unwrap().len(), 1 + 1 + 1 + 5);

    auditing
        .send(Role::Vault, NOW.plus(Duration::from_secs(3_600)), false)
        .await
        .unwrap();
    let drafts = kept.drafts.lock().unwrap();
    assert_eq!(drafts.len(), 9);
    assert_eq!((drafts[8].count, drafts[8].who), (3_599, Who::Operator));
}

#[test]
fn a_key_of_which_too_much_fails_has_to_wait_and_others_do_not() {
    let (auditing, _) = auditing();
    let of = |key: u8, seconds| Draft {
        on_behalf: Some(CredentialId::from_bytes([key; 16])),
        at: NOW.plus(Duration::from_secs(seconds)),
        ..draft("calls")
    };
    (0..FAILURES).for_each(|_| auditing.failed(&of(1, 0)));
    assert!(!auditing.may_try(&of(1, 59)) && auditing.may_try(&of(2, 59)) && auditing.may_try(&draft("calls")));
    assert!(auditing.may_try(&of(1, 60)));
    auditing.failed(&of(1, 60));
    assert!(auditing.may_try(&of(1, 61)), "the count began anew");
}

#[tokio::test]
async fn records_that_are_refused_for_good_keep_none_behind_them_from_being_taken() {
    struct Refuses(AtomicUsize);
    #[async_trait::async_trait]
    impl Recorder for Refuses {
        async fn record(&self, drafts: Vec<Draft>) -> Result<(), Status> {
            self.0.fetch_add(drafts.len(), Ordering::SeqCst);
            Err(status(ErrorKind::Forbidden, "not its own"))
        }
    }
    let auditing = Auditing::default();
    let refuses = Arc::new(Refuses(AtomicUsize::new(0)));
    auditing.by(refuses.clone());
    auditing.note(draft("calls"));
    auditing.send(Role::Warehouse, NOW, false).await.unwrap();
    assert_eq!((refuses.0.load(Ordering::SeqCst), auditing.notes().left_out), (1, 1));
}

#[tokio::test]
async fn refusals_without_end_do_not_fill_the_journal() {
    let (auditing, kept) = auditing();
    for _ in 0..100_000 {
        auditing.refusal(draft("pass"));
    }
    auditing
        .send(Role::Warehouse, NOW.plus(Duration::from_secs(61)), false)
        .await
        .unwrap();

    let drafts = kept.drafts.lock().unwrap();
    assert_eq!(drafts.len() as u64, REFUSALS + 1);
    assert_eq!(drafts.iter().map(|draft| draft.count).sum::<u64>(), 100_000, "none is forgotten");
}
