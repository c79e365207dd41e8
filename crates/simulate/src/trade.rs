//! What a process does that keeps a product: it takes rows in, writes files, makes and deletes tables, and answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::time::{sleep, timeout};
use base::{Clock, TableId};
use columns::catalog::{BatchHash, CatalogStore};
use futures::future::join_all;
use journal::Recovered;
use zones::GetError;

use crate::ledger::Standing;
use crate::oracle::{Found, Sent, Told};
use crate::process::{DEEDS, Process, SENDERS, without_digests};
use crate::product::{Product, Replay, Said};
use crate::store::CatalogDoor;
use crate::trace::short;

impl Process {
    pub(crate) async fn trade(&self, recovered: &Recovered, found: &[Found]) {
        let Some(product) = self.open(recovered, found).await else { return };
        self.check(&product).await;
        let numbers = AtomicU64::new(0);
        let senders = (0..SENDERS).map(|sender| self.sell(&product, sender));
        tokio::select! {
            biased;
            _ = join_all(senders) => {}
            () = self.keep(&product, &numbers) => {}
        }
        if self.world.deeds.one_in(2) {
            let _in_time = timeout(Duration::from_secs(60), product.journal().close()).await;
        }
    }

    /// Opens the product, however often the catalog fails at that.
    async fn open(&self, recovered: &Recovered, found: &[Found]) -> Option<Arc<Product>> {
        let replay: Option<Replay> = found
            .iter()
            .map(|entry| Some((entry.segment.sequence, Said::read(&entry.text)?)))
            .collect();
        let Some(replay) = replay else {
            self.world.broken("an entry cannot be read".into());
            return None;
        };
        loop {
            let catalog: Arc<dyn CatalogStore> = Arc::new(CatalogDoor {
                world: Arc::clone(&self.world),
                life: Arc::clone(&self.life),
            });
            let start = || self.start(recovered);
            let opened = Product::open(&self.world, &self.zones, catalog, replay.clone(), self.life.number, start).await;
            if let Ok(product) = opened {
                self.world.note(format_args!("{} has opened the product", self.life.number));
                return Some(product);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn sell(&self, product: &Product, sender: u64) {
        let chance = &self.world.deeds;
        for deed in 0..DEEDS {
            sleep(chance.millis(0, 250)).await;
            self.remember_head(product);
            let attempt = format!("{}-{sender}-{deed}", self.life.number);
            let tables = product.tables();
            match (chance.below(10), chance.pick(&tables)) {
                (0, _) | (_, None) => self.create(product, &attempt).await,
                (1, Some(table)) if chance.one_in(2) => self.drop_table(product, *table, &attempt).await,
                (2 | 3, _) => self.check(product).await,
                (_, Some(table)) => self.append_to(product, *table, &attempt).await,
            }
        }
    }

    /// Notes an entry that the journal may hold from now on.
    fn may_be_found(&self, said: &Said, attempt: &str) {
        let sent = Sent {
            told: Told::Nothing,
            lingering: false,
        };
        self.world.oracle().sent.insert(said.text(attempt), sent);
    }

    /// Somebody was told that something is in the journal.
    fn remember_head(&self, product: &Product) {
        self.remember(product.journal());
    }

    async fn create(&self, product: &Product, attempt: &str) {
        let world = &self.world;
        let id = TableId::generate(world.clock.now(), &*world.deeds);
        let number = {
            let mut ledger = world.ledger();
            ledger.numbers += 1;
            ledger.tables.insert(id, Standing::Perhaps);
            ledger.numbers
        };
        let said = Said::Create { id, number };
        self.may_be_found(&said, attempt);
        let outcome = product.change(said, attempt).await;
        if self.life.is_alive() && outcome.is_ok() {
            world.note(format_args!("table {number} is made"));
            world.ledger().tables.insert(id, Standing::There);
            self.remember_head(product);
        }
    }

    async fn drop_table(&self, product: &Product, id: TableId, attempt: &str) {
        let world = &self.world;
        world.ledger().tables.insert(id, Standing::Going);
        let said = Said::Drop { id };
        self.may_be_found(&said, attempt);
        let outcome = product.change(said, attempt).await;
        if self.life.is_alive() && outcome.is_ok() {
            world.note(format_args!("a table is deleted"));
            world.ledger().tables.insert(id, Standing::Gone);
            self.remember_head(product);
        }
    }

    async fn append_to(&self, product: &Product, table: TableId, attempt: &str) {
        let world = &self.world;
        let again = world.ledger().open(table);
        let again = world.deeds.pick(&again).copied().filter(|_| world.deeds.one_in(2));
        let Some(batch) = again.or_else(|| world.ledger().fresh(table)) else {
            return;
        };
        self.may_be_found(&Said::Rows { table, batch }, attempt);
        let outcome = product.append(table, batch, attempt).await;
        if !self.life.is_alive() {
            return;
        }
        let word = match &outcome {
            Ok(true) => "was there",
            Ok(false) => "is stored",
            Err(_) => "is not known to be stored",
        };
        world.note(format_args!("batch {} {word}", batch[0]));
        if outcome.is_ok() {
            if let Some(batch) = world.ledger().batches.get_mut(&batch) {
                batch.accepted = true;
            }
            self.remember_head(product);
        }
    }

    /// Flushes and merges without end.
    async fn keep(&self, product: &Product, numbers: &AtomicU64) {
        let chance = &self.world.deeds;
        loop {
            sleep(chance.millis(50, 800)).await;
            let tables = product.tables();
            let Some(table) = chance.pick(&tables) else { continue };
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            let (what, done) = if chance.one_in(3) {
                ("merge", product.merge(*table, number).await)
            } else {
                ("flush", product.flush(*table, number).await)
            };
            let word = if done.is_ok() { "done" } else { "failed" };
            self.world.note(format_args!("{what}: {word}"));
        }
    }

    /// Asks for all rows, and holds them against what was promised.
    async fn check(&self, product: &Product) {
        let tables: Vec<(TableId, Standing)> = self.world.ledger().tables.iter().map(|(id, standing)| (*id, *standing)).collect();
        for (table, before) in tables {
            let promised = self.world.ledger().accepted(table);
            let rows = self.rows(product, table).await;
            let stays = before == Standing::There && self.world.ledger().standing(&table) == Some(Standing::There);
            let gone = before == Standing::Gone;
            let (world, number) = (&self.world, self.life.number);
            match rows {
                Ok(Some(_)) if gone => world.broken(format!("{number}: a table was deleted and is there")),
                Ok(None) if stays => world.broken(format!("{number}: a table was made and is not there")),
                Ok(Some(rows)) if stays => {
                    let mut count: BTreeMap<BatchHash, usize> = BTreeMap::new();
                    rows.iter().for_each(|batch| *count.entry(*batch).or_default() += 1);
                    for (batch, times) in &count {
                        let of = world.ledger().batches.get(batch).map(|batch| batch.table);
                        if *times > 1 {
                            world.broken(format!("{number}: batch {} is there {times} times", batch[0]));
                        }
                        if of != Some(table) {
                            world.broken(format!("{number}: batch {} is in another table", batch[0]));
                        }
                    }
                    for batch in promised.iter().filter(|batch| !count.contains_key(*batch)) {
                        world.broken(format!("{number}: batch {} was stored and is not there", batch[0]));
                    }
                }
                Err(GetError::Unavailable { .. }) | Ok(_) => {}
                Err(error) if stays => world.broken(format!(
                    "{number}: a file of a table cannot be read: {}",
                    without_digests(&error.to_string())
                )),
                Err(_) => {}
            }
        }
    }

    async fn rows(&self, product: &Product, table: TableId) -> Result<Option<Vec<BatchHash>>, GetError> {
        let Some(view) = product.view(table) else { return Ok(None) };
        let mut rows = view.memory;
        for object in &view.files {
            rows.extend(product.read(object).await?);
        }
        Ok(Some(rows))
    }

    /// At the end, with all zones back: everything that was stored is there, before and after it is all in files.
    pub(crate) async fn take_stock(&self, recovered: &Recovered, found: &[Found]) {
        let Some(product) = self.open(recovered, found).await else { return };
        self.check(&product).await;
        for (number, table) in product.tables().into_iter().enumerate() {
            if product.flush(table, number as u64).await.is_err() {
                self.world.broken("in the end a table cannot be written to a file".into());
            }
        }
        self.check(&product).await;
        product.journal().close().await;
        sleep(Duration::from_secs(180)).await;
        let listed = self.zones.list("tables/7").await.unwrap_or_default();
        let contents = self.world.catalog.load().await.unwrap_or_default();
        let is_known = |object: &zones::Listed| contents.files.iter().any(|file| file.object == object.name);
        let left: Vec<_> = listed.iter().filter(|object| !is_known(object)).collect();
        for object in &left {
            self.world.note(format_args!("nothing refers to {}", short(&object.name)));
        }
        self.world.ledger().left = left.len();
    }
}
