//! All products that are open here.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use base::{CredentialId, Op, ProductId, Role};
use edge::revocations::Watch;
use edge::{Counter, Gauge, Metrics, Peers};
use futures::{StreamExt as _, stream};
use query::{Engine, FooterRoom};
use seal::PublicKey;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;
use wire::v1::vault_client::VaultClient;
use wire::v1::{Head, PublicKeyRequest};

use crate::jobs::{JobError, Jobs};
use crate::leases::{LeaseError, Leases, Reading};
use crate::product::{Product, ProductError, journal_name};
use crate::queries::Queries;
use crate::shared::Shared;

/// How many look at once at the newest rows of a table, or at what was set aside. Each may take what a query may.
const LOOKS: usize = 2;
/// Products that are closed at the same time.
const CLOSED_AT_ONCE: usize = 32;

/// An open product and its jobs.
pub(crate) struct Open {
    pub(crate) product: Arc<Product>,
    pub(crate) jobs: Arc<Jobs>,
}

/// All products that are open here, and who may read them now.
pub(crate) struct Warehouse {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: Engine,
    /// Where whatever reads many rows is to run.
    pub(crate) queries: Handle,
    /// Where files are to be merged: one thread, which takes no more than its share however much there is to do.
    pub(crate) merging: Handle,
    /// For each who looks at rows without a job.
    pub(crate) looks: Semaphore,
    _threads: (Queries, Queries),
    peers: Arc<Peers>,
    leases: Leases,
    remembered: HashMap<String, Head>,
    products: Mutex<HashMap<ProductId, Arc<OnceCell<Arc<Open>>>>>,
    counted: OnceCell<Counted>,
}

struct Counted {
    rows: Counter,
    memory: Gauge,
    files: Gauge,
    waiting: Gauge,
}

impl Warehouse {
    /// `watch` hears of revocations; without it nobody reads.
    pub(crate) fn new(
        shared: Arc<Shared>,
        peers: Arc<Peers>,
        watch: Option<Arc<Watch>>,
        engine: Engine,
        threads: (Queries, Queries),
        remembered: Vec<Head>,
    ) -> Self {
        let remembered = remembered.into_iter().map(|head| (head.journal.clone(), head)).collect();
        let footers = FooterRoom::new(shared.settings.query.footer_bytes);
        Self {
            shared,
            engine,
            queries: threads.0.handle(),
            merging: threads.1.handle(),
            looks: Semaphore::new(LOOKS),
            _threads: threads,
            peers,
            leases: Leases::new(watch, footers),
            remembered,
            products: Mutex::default(),
            counted: OnceCell::new(),
        }
    }

    /// Where to count.
    pub(crate) fn count_with(&self, metrics: Metrics) {
        let rows = metrics.counter("rows_appended", "rows that were acknowledged");
        let memory = metrics.gauge("rows_in_memory_bytes", "memory taken by rows that are in no file yet");
        let files = metrics.gauge("table_files", "files of all tables that are open");
        let waiting = metrics.gauge("table_files_to_merge", "files among them that wait to be merged with others");
        // Only the first call counts; there is one.
        let _ = self.counted.set(Counted {
            rows,
            memory,
            files,
            waiting,
        });
    }

    /// Counts acknowledged rows.
    pub(crate) fn counted(&self, rows: u64) {
        if let Some(counted) = self.counted.get() {
            counted.rows.inc_by(rows);
        }
    }

    /// The product, opened at its first use.
    pub(crate) async fn open(&self, id: ProductId) -> Result<Arc<Open>, JobError> {
        let cell = Arc::clone(self.products.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default());
        let open = || async {
            let remembered = self.remembered.get(&journal_name(id));
            let public_key = self.public_key(id).await?;
            let product = Product::open(id, public_key, Arc::clone(&self.shared), remembered).await?;
            let jobs = Jobs::open(
                Arc::clone(&product),
                Arc::clone(&self.shared),
                self.engine.clone(),
                self.queries.clone(),
            )
            .await?;
            Ok(Arc::new(Open { product, jobs }))
        };
        cell.get_or_try_init(open).await.map(Arc::clone)
    }

    async fn public_key(&self, id: ProductId) -> Result<PublicKey, ProductError> {
        let mut vault = VaultClient::new(self.peers.channel(Role::Vault));
        let asked = vault.public_key(PublicKeyRequest { product: id.get() }).await;
        let answer = asked.map_err(|status| ProductError::Vault(Box::new(status)))?.into_inner();
        Ok(PublicKey::try_from(answer.public_key.as_slice())?)
    }

    /// The right to read the caller's product.
    pub(crate) async fn lease(&self, op: &Op, pass: &[u8]) -> Result<Reading, LeaseError> {
        self.leases.get(op, pass, &self.peers, self.shared.clock.now()).await
    }

    /// A credential was revoked: its leases end, and with them its jobs and whatever else reads.
    pub(crate) fn revoke(&self, credential: CredentialId) {
        self.leases.revoke(credential);
    }

    /// Nobody may read any more.
    pub(crate) fn revoke_all(&self) {
        self.leases.clear();
    }

    pub(crate) fn sweep(&self) {
        self.leases.sweep(self.shared.clock.now());
        if let Some(counted) = self.counted.get() {
            counted.memory.set(i64::try_from(self.shared.memory.used()).unwrap_or(i64::MAX));
        }
    }

    pub(crate) async fn flush_due(&self) {
        for open in self.all() {
            open.product.flush_due().await;
        }
        self.shared.memory.relieved();
    }

    /// Merges small files of products that somebody may read now, and tidies old results.
    pub(crate) async fn merge_due(&self, cancel: &CancellationToken) {
        for open in self.all() {
            if let Some((lease, nobody)) = self.leases.alive(open.product.id) {
                let stop = cancel.child_token();
                let mut merging = pin!(open.product.merge_due(&lease, &stop));
                tokio::select! {
                    () = &mut merging => {}
                    () = nobody.cancelled() => {
                        stop.cancel();
                        // To its end, or its files would be in the catalog and not in the state.
                        merging.await;
                    }
                }
            }
            open.jobs.tidy().await;
        }
        if let Some(counted) = self.counted.get() {
            let count = |(files, waiting): (usize, usize), open: Arc<Open>| {
                let (more, due) = open.product.count_files();
                (files + more, waiting + due)
            };
            let (files, waiting) = self.all().into_iter().fold((0, 0), count);
            counted.files.set(i64::try_from(files).unwrap_or(i64::MAX));
            counted.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }

    /// Takes out of the zones what nothing needs any more.
    pub(crate) async fn delete_condemned(&self) {
        for open in self.all() {
            open.product.delete_condemned().await;
        }
    }

    /// Reads tables again whose columns get other types, of products that somebody may read now.
    pub(crate) async fn retype_due(&self, cancel: &CancellationToken) {
        for open in self.all() {
            if let Some((lease, nobody)) = self.leases.alive(open.product.id) {
                let stop = cancel.child_token();
                let mut retyping = pin!(open.product.retype_due(&lease, &stop));
                tokio::select! {
                    () = &mut retyping => {}
                    () = nobody.cancelled() => {
                        stop.cancel();
                        // To its end, as with merging. Another lease lets it begin anew.
                        retyping.await;
                    }
                }
            }
        }
    }

    /// Takes rows out of raw logs that went for good; with the lease of somebody who may read the product now, where there is one.
    pub(crate) async fn trim_due(&self, cancel: &CancellationToken) {
        for open in self.all() {
            let stop = cancel.child_token();
            let Some((lease, nobody)) = self.leases.alive(open.product.id) else {
                open.product.trim_due(None, &stop).await;
                continue;
            };
            let mut trimming = pin!(open.product.trim_due(Some(&lease), &stop));
            tokio::select! {
                () = &mut trimming => {}
                () = nobody.cancelled() => {
                    stop.cancel();
                    trimming.await;
                }
            }
        }
    }

    pub(crate) fn heads(&self) -> Vec<Head> {
        self.all().iter().filter_map(|open| open.product.decided()).collect()
    }

    pub(crate) async fn close(&self) {
        // Together: each waits for disks most of the time, and there may be a thousand.
        let close = async |open: Arc<Open>| {
            open.jobs.close().await;
            open.product.close().await;
        };
        stream::iter(self.all()).for_each_concurrent(CLOSED_AT_ONCE, close).await;
    }

    fn all(&self) -> Vec<Arc<Open>> {
        self.products
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter_map(|cell| cell.get().cloned())
            .collect()
    }
}
