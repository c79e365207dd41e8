//! A small model of a product of the warehouse: rows in memory and in files, a catalog, and the same steps in the same order as
//! `warehouse::product`.
//!
//! It writes to the real journal and the real zones, and to what is a catalog by contract (`columns::catalog::CatalogStore`). A row is
//! the id of its batch, in clear; a file is a list of them. What the warehouse does with values (shape, encryption, DataFusion) is not here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::time::sleep;
use base::{Clock, DatabaseName, TableId, TableName};
use bytes::Bytes;
use columns::catalog::{BatchHash, CatalogError, CatalogStore, FileRecord, Swap, TableRecord};
use journal::{AppendError, Entry, Journal};
use tokio::sync::Notify;
use zones::{GetError, ObjectName, PutError, Zones};

use crate::plant::Plant;
use crate::world::World;

/// How long no file is deleted that was merged into another: longer than any query reads.
const READ: Duration = Duration::from_secs(120);

/// What an entry of the journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Rows { table: TableId, batch: BatchHash },
    Create { id: TableId, number: u64 },
    Drop { id: TableId },
}

impl Said {
    /// As an entry, with a word that makes it another one each time that it is sent.
    pub(crate) fn text(&self, attempt: &str) -> String {
        match self {
            Self::Rows { table, batch } => format!("rows {table} {} {attempt}", batch[0]),
            Self::Create { id, number } => format!("create {id} {number} {attempt}"),
            Self::Drop { id } => format!("drop {id} - {attempt}"),
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (kind, id, number) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        Some(match kind {
            "rows" => Self::Rows {
                table: id,
                batch: [number.parse().ok()?; 16],
            },
            "create" => Self::Create {
                id,
                number: number.parse().ok()?,
            },
            "drop" => Self::Drop { id },
            _ => return None,
        })
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Journal(#[from] AppendError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("it is in the journal and will be made")]
    Postponed,
    #[error(transparent)]
    Zones(#[from] PutError),
    #[error("a file cannot be read")]
    File(#[from] GetError),
    #[error("there is no such table")]
    Gone,
}

#[derive(Debug, Default)]
struct Table {
    /// Batches whose rows are in no file, in order.
    memory: Vec<BatchHash>,
    files: Vec<FileRecord>,
    known: BTreeSet<BatchHash>,
    under_way: BTreeMap<BatchHash, Arc<Notify>>,
}

/// What a table shows.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) memory: Vec<BatchHash>,
    pub(crate) files: Vec<ObjectName>,
}

#[derive(Debug)]
pub(crate) struct Product {
    world: Arc<World>,
    zones: Arc<Zones>,
    catalog: Arc<dyn CatalogStore>,
    journal: Journal,
    state: Mutex<BTreeMap<TableId, Table>>,
    control: tokio::sync::Mutex<VecDeque<(u64, Said)>>,
    writing: tokio::sync::Mutex<()>,
    label: u64,
}

/// What the journal holds, entry by entry, each with the number of its segment.
pub(crate) type Replay = Vec<(u64, Said)>;

impl Product {
    /// Reads the catalog, and of the journal what the catalog has not: as `warehouse::product::recover`.
    pub(crate) async fn open(
        world: &Arc<World>,
        zones: &Arc<Zones>,
        catalog: Arc<dyn CatalogStore>,
        replay: Replay,
        label: u64,
        start: impl FnOnce() -> Journal,
    ) -> Result<Arc<Self>, Failed> {
        let contents = catalog.load().await?;
        let mut state: BTreeMap<TableId, Table> = contents.tables.iter().map(|table| (table.id, Table::default())).collect();
        for file in contents.files {
            if let Some(table) = state.get_mut(&file.table) {
                table.files.push(file);
            }
        }
        let mut gone = Vec::new();
        for (sequence, said) in replay {
            match said {
                Said::Rows { table: id, batch } => {
                    let Some(table) = state.get_mut(&id) else { continue };
                    let covered = catalog.is_covered(id, &batch).await? && world.plant != Some(Plant::CoverIgnored);
                    if !covered && table.known.insert(batch) {
                        table.memory.push(batch);
                    }
                }
                _ if sequence < contents.changed_upto => {}
                change => {
                    gone.extend(commit(world, &*catalog, &change, sequence).await?);
                    show(&mut state, &change);
                }
            }
        }
        let product = Arc::new(Self {
            world: Arc::clone(world),
            zones: Arc::clone(zones),
            catalog,
            journal: start(),
            state: Mutex::new(state),
            control: tokio::sync::Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            label,
        });
        product.remove(gone, Duration::ZERO);
        Ok(product)
    }

    fn state(&self) -> MutexGuard<'_, BTreeMap<TableId, Table>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes in a batch, once: as `warehouse::product::append`. True when it was there already.
    pub(crate) async fn append(&self, table: TableId, batch: BatchHash, attempt: &str) -> Result<bool, Failed> {
        loop {
            let known = self.state().get(&table).ok_or(Failed::Gone)?.known.contains(&batch);
            if known {
                self.journal.decide().await?;
                return Ok(true);
            }
            let other = {
                let mut state = self.state();
                let held = state.get_mut(&table).ok_or(Failed::Gone)?;
                match held.under_way.get(&batch) {
                    Some(other) => Some(Arc::clone(other).notified_owned()),
                    None => {
                        held.under_way.insert(batch, Arc::new(Notify::new()));
                        None
                    }
                }
            };
            match other {
                Some(other) => other.await,
                None => break,
            }
        }
        let outcome = self.append_claimed(table, batch, attempt).await;
        let waiting = self.state().get_mut(&table).and_then(|held| held.under_way.remove(&batch));
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
        outcome
    }

    async fn append_claimed(&self, table: TableId, batch: BatchHash, attempt: &str) -> Result<bool, Failed> {
        if self.catalog.is_covered(table, &batch).await? {
            return Ok(true);
        }
        let said = Said::Rows { table, batch };
        self.journal.append(entry(&said, attempt)).await?;
        let mut state = self.state();
        let held = state.get_mut(&table).ok_or(Failed::Gone)?;
        held.known.insert(batch);
        held.memory.push(batch);
        Ok(false)
    }

    pub(crate) fn tables(&self) -> Vec<TableId> {
        self.state().keys().copied().collect()
    }

    pub(crate) fn view(&self, table: TableId) -> Option<View> {
        self.state().get(&table).map(|held| View {
            memory: held.memory.clone(),
            files: held.files.iter().map(|file| file.object.clone()).collect(),
        })
    }

    /// Makes or deletes a table: as `warehouse::product::changes`.
    pub(crate) async fn change(&self, said: Said, attempt: &str) -> Result<(), Failed> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        if let Said::Drop { id } = said
            && !self.state().contains_key(&id)
        {
            return Err(Failed::Gone);
        }
        let segment = self.journal.append(entry(&said, attempt)).await?;
        waiting.push_back((segment.sequence, said));
        self.make_waiting(&mut waiting).await
    }

    async fn make_waiting(&self, waiting: &mut VecDeque<(u64, Said)>) -> Result<(), Failed> {
        while let Some((sequence, change)) = waiting.front() {
            let made = commit(&self.world, &*self.catalog, change, *sequence).await;
            let objects = made.map_err(|_| Failed::Postponed)?;
            if let Some((_, change)) = waiting.pop_front() {
                show(&mut self.state(), &change);
            }
            self.remove(objects, Duration::ZERO);
        }
        Ok(())
    }

    /// Writes the rows of a table that are in memory to one file: as `warehouse::product::flush`.
    pub(crate) async fn flush(&self, id: TableId, number: u64) -> Result<(), Failed> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        drop(waiting);
        let _writing = self.writing.lock().await;
        let parts = match self.state().get(&id) {
            Some(held) if !held.memory.is_empty() => held.memory.clone(),
            _ => return Ok(()),
        };
        let (file, bytes) = self.file(id, &parts, number)?;
        let early = self.world.plant == Some(Plant::CoveredTooEarly);
        if !early {
            self.zones.put(&file.object, bytes.clone()).await?;
        }
        let _control = self.control.lock().await;
        if !self.state().contains_key(&id) {
            self.remove(vec![file.object], Duration::ZERO);
            return Ok(());
        }
        self.swap(id, &file, &[], &parts).await?;
        let object = file.object.clone();
        if let Some(held) = self.state().get_mut(&id) {
            held.memory.drain(..parts.len());
            held.files.push(file);
            for batch in &parts {
                held.known.remove(batch);
            }
        }
        if early {
            self.zones.put(&object, bytes).await?;
        }
        Ok(())
    }

    /// Puts one file in the place of all: as `warehouse::product::merge`.
    pub(crate) async fn merge(&self, id: TableId, number: u64) -> Result<(), Failed> {
        let files = match self.state().get(&id) {
            Some(held) if held.files.len() > 1 => held.files.clone(),
            _ => return Ok(()),
        };
        let mut rows = Vec::new();
        for file in &files {
            rows.extend(self.read(&file.object).await?);
        }
        let (merged, bytes) = self.file(id, &rows, number)?;
        self.zones.put(&merged.object, bytes).await?;
        let old: Vec<ObjectName> = files.into_iter().map(|file| file.object).collect();
        let _writing = self.writing.lock().await;
        let _control = self.control.lock().await;
        let has = |held: &Table| old.iter().all(|object| held.files.iter().any(|file| file.object == *object));
        if !self.state().get(&id).is_some_and(has) {
            self.remove(vec![merged.object], Duration::ZERO);
            return Ok(());
        }
        self.swap(id, &merged, &old, &[]).await?;
        if let Some(held) = self.state().get_mut(&id) {
            held.files.retain(|file| !old.contains(&file.object));
            held.files.push(merged);
        }
        self.remove(old, READ);
        Ok(())
    }

    async fn swap(&self, table: TableId, add: &FileRecord, remove: &[ObjectName], covered: &[BatchHash]) -> Result<(), Failed> {
        let swap = Swap {
            table,
            add: std::slice::from_ref(add),
            remove,
            covered,
            records: &[],
            left_out: &[],
            columns: &[],
            at: self.world.clock.now(),
        };
        Ok(self.catalog.swap(&swap).await?)
    }

    fn file(&self, table: TableId, rows: &[BatchHash], number: u64) -> Result<(FileRecord, Bytes), Failed> {
        let text: Vec<String> = rows.iter().map(|batch| batch[0].to_string()).collect();
        let bytes = Bytes::from(format!("{number} {table}\n{}", text.join("\n")));
        let file = format!("f{}-{number}", self.label);
        let object = ObjectName::new(&format!("tables/7/{}", table.to_string().to_lowercase()), &file, &bytes).map_err(|_| Failed::Gone)?;
        let record = FileRecord {
            object,
            table,
            file,
            bytes: bytes.len() as u64,
            rows: rows.len() as u64,
            time_min: 0,
            time_max: 0,
            sealed_key: Vec::new(),
        };
        Ok((record, bytes))
    }

    /// The rows of a file.
    pub(crate) async fn read(&self, object: &ObjectName) -> Result<Vec<BatchHash>, GetError> {
        let bytes = self.zones.get(object, 1 << 20).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(text.lines().skip(1).filter_map(|line| Some([line.parse().ok()?; 16])).collect())
    }

    fn remove(&self, objects: Vec<ObjectName>, after: Duration) {
        if objects.is_empty() {
            return;
        }
        let zones = Arc::clone(&self.zones);
        tokio::spawn(async move {
            sleep(after).await;
            for object in objects {
                // As in the warehouse: what fails stays in the zones.
                drop(zones.delete(&object).await);
            }
        });
    }
}

fn entry(said: &Said, attempt: &str) -> Entry {
    let bytes = Bytes::from(said.text(attempt));
    Entry {
        header: bytes.clone(),
        payload: bytes,
    }
}

async fn commit(world: &World, catalog: &dyn CatalogStore, change: &Said, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
    match change {
        Said::Rows { .. } => Ok(Vec::new()),
        Said::Create { id, number } => {
            let named = format!("table_{number}");
            let (Ok(database), Ok(name)) = ("web".parse::<DatabaseName>(), named.parse::<TableName>()) else {
                return Err(CatalogError::Corrupt { what: "name" });
            };
            let at = world.clock.now();
            let table = TableRecord {
                id: *id,
                number: *number,
                database,
                name,
                created_at: at,
                columns: Vec::new(),
            };
            catalog.create_table(&table, sequence).await.map(|()| Vec::new())
        }
        Said::Drop { id } => catalog.delete_table(*id, sequence).await,
    }
}

fn show(state: &mut BTreeMap<TableId, Table>, change: &Said) {
    match change {
        Said::Rows { .. } => {}
        Said::Create { id, .. } => {
            state.entry(*id).or_default();
        }
        Said::Drop { id } => {
            if let Some(table) = state.remove(id) {
                table.under_way.values().for_each(|waiting| waiting.notify_waiters());
            }
        }
    }
}
