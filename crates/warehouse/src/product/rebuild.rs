//! A product's tables and catalog made anew from its raw log, or compared with it.
//!
//! Promise: what is made anew stands beside what was there until it is whole and, where that is asked for, read back and found to be
//! what the raw log says. Then it takes its place in one step. Interrupted anywhere it goes on, and no row gets in twice: a file and the
//! batches that are in it enter the new catalog together. A file that cannot be read back is made anew. What is thrown away takes its files
//! along.
//!
//! All files are made anew, whatever is left of the old ones: which of them can be trusted would have to be found out by reading the
//! raw log, which is the same work. But a table whose raw log was let go in part keeps its files, as far as the old catalog can be read:
//! there is nothing to make them from. Dropped tables that can be brought back are made anew like others. Not made anew, because it is in no zone: jobs and their results.
//!
//! Start at [`Rebuild::run`]; what is to be read is in `plan`, how in `rows`, how tables are compared in `compare`.

mod compare;
mod plan;
mod rows;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use base::{ProductId, TableId, Timestamp};
use columns::catalog::{BatchHash, Catalog};
use columns::{DIGEST_VERSION, Digest, DigestKey, Part};
use edge::rebuild::{Finding, Order, RebuildLog, put_in_place, remove_database};
use events::ColumnType;
use journal::{Journal, Recovered, Tail};
use seal::{PrivateKey, Purpose, derive};
use tokio::runtime::Handle;
use wire::v1::Head;
use zones::ObjectName;

use super::recover::{loaded, raw_log};
use super::state::{State, Table};
use super::{Begun, Product, ProductError, journal_name};
use crate::shared::Shared;
use compare::{Against, Outcome};
use plan::Plan;

/// What tells one rebuild from another, over all its interruptions.
pub(crate) type RunId = [u8; 16];
/// The catalog that is being made, in the product's directory.
pub(crate) const REBUILDING: &str = "catalog.rebuilding";
/// How often in one go files that cannot be read back are made anew.
const MOST_TRIES: u32 = 3;

/// One product that is to be rebuilt.
pub(crate) struct Rebuild<'a> {
    pub(crate) id: ProductId,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) key: PrivateKey,
    /// Where files are read back.
    pub(crate) queries: &'a Handle,
    /// What the vault remembers of the journal.
    pub(crate) remembered: Option<&'a Head>,
    pub(crate) run: RunId,
    pub(crate) order: Order,
    pub(crate) log: &'a RebuildLog,
}

/// What the raw log says of a table.
#[derive(Debug, Default)]
struct Totals {
    all: Digest,
    /// Only what was in files before.
    earlier: Digest,
}

/// What was there before, as far as it can be read.
struct Old {
    catalog: Catalog,
    state: State,
    changed_upto: u64,
    covered: HashMap<TableId, HashSet<BatchHash>>,
}

impl Old {
    async fn read(path: &Path) -> Result<Self, ProductError> {
        let catalog = Catalog::open(path).await?;
        let read = async {
            let (state, changed_upto) = loaded(&catalog).await?;
            let covered = covered(&catalog, &state).await?;
            Ok((state, changed_upto, covered))
        };
        match read.await {
            Ok((state, changed_upto, covered)) => Ok(Self {
                catalog,
                state,
                changed_upto,
                covered,
            }),
            Err(error) => {
                catalog.close().await;
                Err(error)
            }
        }
    }
}

/// What came of making a product's tables.
enum Made {
    /// They are in place, or what is wrong was said.
    Ended,
    /// Some files could not be read back and were taken out: what is in them is to be made anew.
    FilesAgain,
    /// The same of tables that were in place already: all is to be made anew.
    AllAgain,
}

async fn covered(catalog: &Catalog, state: &State) -> Result<HashMap<TableId, HashSet<BatchHash>>, ProductError> {
    let mut covered = HashMap::new();
    for id in state.tables.keys() {
        covered.insert(*id, catalog.covered_batches(*id).await?);
    }
    Ok(covered)
}

impl Rebuild<'_> {
    /// Does what is ordered, and says what it found. Returns the journal's head.
    pub(crate) async fn run(&self) -> Result<Head, ProductError> {
        let directory = self.shared.directory.join("products").join(self.id.to_string());
        tokio::fs::create_dir_all(&directory).await.map_err(ProductError::Directory)?;
        let at = directory.join("catalog.db");
        let (mut tries, mut anew) = (0, false);
        loop {
            self.log.doing(format!("reads the journal of product {}", self.id), 0, 0);
            let recovered = raw_log(self.id, self.shared, &journal::Head::default(), self.remembered).await?;
            let head = recovered.head();
            let old = match at.exists() {
                false => None,
                true => Old::read(&at)
                    .await
                    .inspect_err(|error| self.note(&format!("its old catalog cannot be read: {}", super::chain(error))))
                    .ok(),
            };
            tries += 1;
            let made = if self.order.compare_only {
                self.compare_only(recovered, old).await?;
                Made::Ended
            } else {
                let way = Way {
                    directory: &directory,
                    at: &at,
                    anew,
                    is_last: tries == MOST_TRIES,
                };
                Box::pin(self.make(recovered, old, way)).await?
            };
            match made {
                Made::Ended => {
                    return Ok(Head {
                        journal: journal_name(self.id),
                        length: head.length,
                        hash: head.hash.to_vec(),
                    });
                }
                Made::FilesAgain => {}
                Made::AllAgain => anew = true,
            }
        }
    }

    /// What rows are hashed under.
    fn digest_key(&self) -> DigestKey {
        let product = self.id.get().to_be_bytes();
        DigestKey::new(derive(self.shared.batch_key.reveal(), Purpose::RowSums, &product))
    }

    async fn compare_only(&self, recovered: Recovered, old: Option<Old>) -> Result<(), ProductError> {
        let Some(old) = old else {
            let says = "there is no catalog to compare the raw log with; without --compare-only it is made";
            self.log.found(format!("product {}", self.id), Finding::Damaged, says);
            return Ok(());
        };
        let tail = recovered.tail();
        let mut plan = Plan::to_compare(recovered, old.state, old.changed_upto, &old.covered)?;
        let (waiting, let_go) = (std::mem::take(&mut plan.waiting), std::mem::take(&mut plan.let_go));
        let (product, segments) = self.product(plan, old.catalog, tail);
        let mut totals = HashMap::new();
        let read = self.go_through(&product, segments, false, &mut totals).await?;
        let against = Against {
            totals: &totals,
            waiting: &waiting,
            let_go: &let_go,
            old: None,
            read: &read,
        };
        self.compare(&product, &against, &HashSet::new()).await?;
        close(&product).await;
        Ok(())
    }

    async fn make(&self, recovered: Recovered, old: Option<Old>, way: Way<'_>) -> Result<Made, ProductError> {
        let (tail, head) = (recovered.tail(), recovered.head());
        let mark = [
            &self.run[..],
            &head.length.to_be_bytes(),
            &head.hash,
            &[u8::from(self.order.verify), DIGEST_VERSION],
        ]
        .concat();
        let is_done = match &old {
            Some(old) => !way.anew && old.catalog.rebuild_of(&mark).await? == Some(true),
            None => false,
        };
        let new_at = way.directory.join(REBUILDING);
        let (catalog, old) = match old {
            // Finished before what interrupted the rebuild as a whole.
            Some(old) if is_done => (old.catalog, None),
            old => (self.begun(&new_at, &mark, old.as_ref()).await?, old),
        };
        let before = old.as_ref().map(|_| way.at);
        let mut plan = Plan::to_make(recovered, &catalog, before, old.as_ref().map(|old| &old.covered)).await?;
        let mut totals: HashMap<TableId, Totals> = HashMap::new();
        let mut done = 0;
        for (table, day) in catalog.rebuilt_days().await? {
            let totals = totals.entry(table).or_default();
            let digest = if day.earlier { &mut totals.earlier } else { &mut totals.all };
            digest.add_part(day.day, Part::from_stored(day.rows, day.sum));
            done += if day.earlier { 0 } else { day.rows };
        }
        self.log.doing(format!("tables of product {}", self.id), done, done + plan.rows);
        let (counted, let_go) = (std::mem::take(&mut plan.counted), std::mem::take(&mut plan.let_go));
        let (product, segments) = self.product(plan, catalog, tail);
        let read = self.go_through(&product, segments, true, &mut totals).await?;
        let shown: Vec<(TableId, Vec<(String, ColumnType)>)> = {
            let state = product.read();
            let declared = |table: &Table| table.schema.declared().columns().map(|(name, of)| (name.to_owned(), of)).collect();
            state.tables.values().map(|table| (table.id, declared(table))).collect()
        };
        product.catalog.end_rebuild(&shown).await?;
        let outcome = if self.order.verify {
            let against = Against {
                totals: &totals,
                waiting: &HashMap::new(),
                let_go: &let_go,
                old: old.as_ref(),
                read: &read,
            };
            let replaceable = if way.is_last {
                HashSet::new()
            } else {
                self.replaceable(&product, is_done).await?
            };
            // What was added up is what was written: that this was all, and once, follows from the log's clear headers alone.
            let counted = self.are_counted(&product, &totals, &counted);
            match self.compare(&product, &against, &replaceable).await? {
                Outcome::Compared(good) => Outcome::Compared(good & counted),
                unread => unread,
            }
        } else {
            self.say_rows(&product, &let_go);
            Outcome::Compared(true)
        };
        let made = match outcome {
            Outcome::Unread(_) if is_done => Made::AllAgain,
            Outcome::Unread(objects) => {
                product.catalog.forget_rebuilt(&objects).await?;
                self.delete(&objects).await;
                Made::FilesAgain
            }
            Outcome::Compared(good) => {
                let files = files(&product);
                if good {
                    product.catalog.keep_rebuilt().await?;
                } else if !is_done {
                    self.delete(&made_here(&product.catalog, old.as_ref()).await?).await;
                }
                close(&product).await;
                if let Some(old) = old {
                    old.catalog.close().await;
                }
                self.ended(way, &new_at, is_done, good, &files).await?;
                return Ok(Made::Ended);
            }
        };
        close(&product).await;
        if let Some(old) = old {
            old.catalog.close().await;
        }
        Ok(made)
    }

    /// Puts what is good in place and throws away what is not. Nobody has either catalog open.
    async fn ended(&self, way: Way<'_>, new_at: &Path, is_done: bool, good: bool, files: &HashSet<ObjectName>) -> Result<(), ProductError> {
        if is_done {
            // What interrupted the rebuild may have come before this.
            self.sweep(files).await;
            return Ok(());
        }
        if !good {
            remove_database(new_at).map_err(ProductError::Directory)?;
            self.note("what was made anew is not what the raw log says and is thrown away: what was there stays as it was");
            return Ok(());
        }
        put_in_place(new_at, way.at).map_err(ProductError::Directory)?;
        // They are of jobs that are gone.
        match tokio::fs::remove_dir_all(way.directory.join("results")).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(ProductError::Directory(error)),
            _ => {}
        }
        self.sweep(files).await;
        Ok(())
    }

    /// The files that can be made anew should they not be read back: not those of rows whose raw log was let go.
    async fn replaceable(&self, product: &Product, is_done: bool) -> Result<HashSet<ObjectName>, ProductError> {
        if !is_done {
            return Ok(product.catalog.rebuilt_objects().await?);
        }
        let state = product.read();
        let tables = state.tables.values().filter(|table| !table.raw_gone);
        Ok(tables.flat_map(|table| &table.files).map(|file| file.object.clone()).collect())
    }

    /// The product as planned, over its catalog, and what is to be read.
    fn product(&self, plan: Plan, catalog: Catalog, tail: Tail) -> (Arc<Product>, plan::Segments) {
        let journal = Journal::start(
            self.shared.journal_parts(),
            self.shared.settings.journal.clone(),
            &journal_name(self.id),
            Some(self.id),
            self.key.public(),
            self.shared.writer,
            tail,
        );
        let begun = Begun {
            state: plan.state,
            after: journal::Head::default(),
            latest: Timestamp::default(),
        };
        let product = Product::of_parts(self.id, self.key.public(), Arc::clone(self.shared), journal, catalog, begun);
        (Arc::new(product), plan.segments)
    }

    /// Takes files out of the zones that the catalog does not name: the old ones, and those that an interruption left.
    async fn sweep(&self, keep: &HashSet<ObjectName>) {
        let zones = &self.shared.zones;
        let listed = match zones.list(&format!("tables/{}", self.id)).await {
            Ok(listed) => listed,
            Err(error) => return self.note(&format!("what is left of old files could not be listed: {error}")),
        };
        let names = listed.into_iter().map(|listed| listed.name);
        let gone: Vec<ObjectName> = names.filter(|name| !keep.contains(name)).collect();
        self.delete(&gone).await;
    }

    /// Takes files out of the zones that nothing needs.
    async fn delete(&self, objects: &[ObjectName]) {
        let mut left = 0;
        for object in objects {
            match self.shared.zones.delete(object).await {
                Ok(()) => self.shared.known.remove(object),
                Err(error) => {
                    tracing::warn!(%object, error = %error, "could not delete a file that nothing needs any more");
                    left += 1;
                }
            }
        }
        if left > 0 {
            self.note(&format!("{left} files could not be deleted; nothing needs them"));
        }
    }

    /// The catalog to make, perhaps begun before. One that cannot be gone on with is thrown away, and its files with it.
    async fn begun(&self, path: &Path, mark: &[u8], old: Option<&Old>) -> Result<Catalog, ProductError> {
        if path.exists() {
            if let Ok(catalog) = Catalog::open(path).await {
                if matches!(catalog.rebuild_of(mark).await, Ok(Some(_))) {
                    return Ok(catalog);
                }
                let made = made_here(&catalog, old).await;
                catalog.close().await;
                match made {
                    Ok(made) => self.delete(&made).await,
                    Err(error) => self.note(&format!(
                        "files that were begun before are left over for now: {}",
                        super::chain(&error)
                    )),
                }
            }
            remove_database(path).map_err(ProductError::Directory)?;
        }
        let catalog = Catalog::open(path).await?;
        match catalog.begin_rebuild(mark).await? {
            true => Ok(catalog),
            false => Err(ProductError::Internal("a new catalog is not empty")),
        }
    }

    fn note(&self, says: &str) {
        self.log.found(format!("product {}", self.id), Finding::Note, says);
    }
}

/// How tables are made.
#[derive(Clone, Copy)]
struct Way<'a> {
    directory: &'a Path,
    /// Where the catalog is that serves.
    at: &'a Path,
    /// Even if they are in place already.
    anew: bool,
    /// What cannot be read back now is not made once more.
    is_last: bool,
}

/// The objects that only a rebuild knows that is thrown away: those that it took over are the old catalog's.
async fn made_here(catalog: &Catalog, old: Option<&Old>) -> Result<Vec<ObjectName>, ProductError> {
    let mut made = catalog.objects().await?;
    if let Some(old) = old {
        let kept: HashSet<ObjectName> = old.catalog.objects().await?.into_iter().collect();
        made.retain(|object| !kept.contains(object));
    }
    Ok(made)
}

fn files(product: &Product) -> HashSet<ObjectName> {
    let state = product.read();
    let files = state.tables.values().flat_map(|table| &table.files);
    files.map(|file| file.object.clone()).collect()
}

async fn close(product: &Product) {
    product.journal.close().await;
    product.catalog.close().await;
}
