//! A revocation that is heard exactly in between: after the right to read was obtained, before or while it is used.

use base::{CredentialId, JobId, Op, RequestId, Verb, Verbs};
use edge::revocations::{Ended, Watch};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::*;
use crate::jobs::{Jobs, PartsError, Request, Status};
use crate::leases::{Leases, Reading, Term};
use crate::tail::{TailError, tail};

const READER: [u8; 16] = [1; 16];
/// Runs for the better part of an hour, unless somebody ends it.
const ENDLESS: &str = "SELECT count(*) FROM events a CROSS JOIN events b CROSS JOIN events c CROSS JOIN events d CROSS JOIN events e \
                       WHERE a.time + b.time + c.time + d.time + e.time = -1";

/// What is waited for comes sooner on every machine, and [`ENDLESS`] ends long after it. That it comes within a second is measured elsewhere.
const LONG: Duration = Duration::from_secs(60);

struct Reader {
    house: House,
    each: Vec<Arc<MemoryZone>>,
    zones: Arc<Zones>,
    product: Arc<Product>,
    leases: Leases,
}

impl Reader {
    async fn new(seed: u64) -> Self {
        let house = House::new(seed);
        let (each, zones) = house.memory();
        let product = house.open(&zones).await.unwrap();
        with_table(&product).await;
        let tags: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        append(&product, None, batch(&tags)).await.unwrap();
        let watch = Watch::new(Arc::clone(&house.clock) as Arc<dyn Clock>);
        watch.hear(Role::Vault);
        watch.hear(Role::Accounts);
        Self {
            leases: Leases::new(Some(watch), query::FooterRoom::new(1 << 20)),
            house,
            each,
            zones,
            product,
        }
    }

    fn reading(&self) -> Reading {
        let from = self.house.clock.now();
        let until = from.plus(Duration::from_secs(300));
        let term = Term { from, until };
        let actor = CredentialId::from_bytes(READER);
        self.leases.hold(product(), actor, self.house.private_key.clone(), term).unwrap()
    }

    fn revoke(&self) {
        self.leases.revoke(CredentialId::from_bytes(READER));
    }

    fn engine(&self) -> Engine {
        Engine::new(Arc::clone(&self.zones), self.house.settings.query.clone())
    }

    async fn jobs(&self) -> Arc<Jobs> {
        let shared = Arc::clone(&self.product.shared);
        Jobs::open(Arc::clone(&self.product), shared, self.engine(), Handle::current())
            .await
            .unwrap()
    }

    async fn issue(&self, jobs: &Arc<Jobs>, reading: Reading, query: &str) -> JobId {
        let now = self.house.clock.now();
        let request = RequestId::generate(now, &*self.house.chance);
        let actor = CredentialId::from_bytes(READER);
        let op = Op::from_verified(actor, product(), Verbs::of(&[Verb::Query]), Scope::Product, request, now);
        let asked = Request {
            database: "web".parse().unwrap(),
            engine: String::new(),
            query: query.to_owned(),
            priority: 0,
            domain_key: None,
        };
        jobs.issue(&op, reading, asked).await.unwrap()
    }

    /// Waits until the job is in none of `states`, and says where it is.
    async fn leaves(&self, jobs: &Jobs, id: JobId, states: &[Status], within: Duration) -> (Status, String) {
        let wait = async {
            loop {
                let job = jobs.show(id, &self.house.private_key).await.unwrap();
                if !states.contains(&job.stored.status) {
                    return (job.stored.status, job.error);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(within, wait).await.expect("it does not end")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_entered_after_the_revocation_was_heard_does_not_run() {
    let reader = Reader::new(40).await;
    let (jobs, reading) = (reader.jobs().await, reader.reading());
    reader.revoke();

    let id = reader.issue(&jobs, reading, ENDLESS).await;

    let (status, error) = reader.leaves(&jobs, id, &[Status::Queued, Status::Running], LONG).await;
    assert_eq!((status, &*error), (Status::Error, "the right to read ended while the job ran"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_ends_with_the_right_to_read_and_another_with_a_kill() {
    let reader = Reader::new(41).await;
    let jobs = reader.jobs().await;
    let (revoked, killed) = (
        reader.issue(&jobs, reader.reading(), ENDLESS).await,
        reader.issue(&jobs, reader.reading(), ENDLESS).await,
    );
    for id in [revoked, killed] {
        reader.leaves(&jobs, id, &[Status::Queued], LONG).await;
    }

    jobs.kill(killed).await.unwrap();
    assert_eq!(reader.leaves(&jobs, killed, &[Status::Running], LONG).await.0, Status::Killed);
    reader.revoke();
    assert_eq!(reader.leaves(&jobs, revoked, &[Status::Running], LONG).await.0, Status::Error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_ends_with_the_right_to_read() {
    let mut reader = Reader::new(42).await;
    // Its rows have to be read back, from zones that hang.
    reader.product = reader.house.open(&reader.zones).await.unwrap();
    reader.each.iter().for_each(|zone| zone.hang());
    let (engine, queries, reading) = (reader.engine(), Handle::current(), reader.reading());
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    let read = tail(&engine, &queries, &reader.product, &reading, &Scope::Product, (&web, &events), 10);
    let mut read = std::pin::pin!(read);
    assert!(
        tokio::time::timeout(Duration::from_millis(20), &mut read).await.is_err(),
        "it waits for the zones"
    );

    reader.revoke();

    let ended = tokio::time::timeout(LONG, &mut read).await.expect("it does not end");
    assert!(matches!(ended, Err(TailError::Ended(Ended::Revoked))));
    reader.each.iter().for_each(|zone| zone.come_back());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_under_a_right_that_has_ended_reads_nothing() {
    let reader = Reader::new(43).await;
    let (engine, queries, reading) = (reader.engine(), Handle::current(), reader.reading());
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    let at = (&web, &events);
    let rows = tail(&engine, &queries, &reader.product, &reading, &Scope::Product, at, 10)
        .await
        .unwrap();
    assert!(!rows.is_empty());
    reader.revoke();

    let ended = tail(&engine, &queries, &reader.product, &reading, &Scope::Product, at, 10).await;

    assert!(matches!(ended, Err(TailError::Ended(Ended::Revoked))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_stops_with_the_right_to_read_though_parts_of_it_were_read_ahead() {
    let reader = Reader::new(44).await;
    let jobs = reader.jobs().await;
    let id = reader.issue(&jobs, reader.reading(), "SELECT tag FROM events").await;
    let (status, error) = reader.leaves(&jobs, id, &[Status::Queued, Status::Running], LONG).await;
    assert_eq!(status, Status::Success, "{error}");
    let whole: Vec<_> = jobs.parts(id, reader.reading(), 0, 0).await.unwrap().collect().await;
    assert!(matches!(&whole[..], [Ok(part)] if !part.is_empty()));

    let mut parts = std::pin::pin!(jobs.parts(id, reader.reading(), 0, 0).await.unwrap());
    reader.revoke();

    assert!(matches!(parts.next().await, Some(Err(PartsError::Ended(Ended::Revoked)))));
    assert!(parts.next().await.is_none());
}
