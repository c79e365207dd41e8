//! The catalog behind a seam, and a twin of it in memory, for simulations.
//!
//! Promise: the twin does what the database does, held by one suite that both run. It knows nothing of what is declared or set of tables, nor of dropped
//! ones: what is deleted here is deleted for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use base::{DatabaseName, TableId, Timestamp};
use zones::ObjectName;

use super::{BatchHash, Catalog, CatalogError, Contents, DatabaseRecord, FileRecord, RecordHash, Swap, TableRecord};

/// What a product asks of its catalog. Each change is made as a whole or not at all, and again does nothing.
#[async_trait]
pub trait CatalogStore: Send + Sync + std::fmt::Debug {
    /// See [`Catalog::load`].
    async fn load(&self) -> Result<Contents, CatalogError>;
    /// See [`Catalog::create_database`].
    async fn create_database(&self, database: &DatabaseRecord, sequence: u64) -> Result<(), CatalogError>;
    /// See [`Catalog::delete_database`].
    async fn delete_database(&self, database: &DatabaseName, sequence: u64) -> Result<Vec<ObjectName>, CatalogError>;
    /// See [`Catalog::create_table`].
    async fn create_table(&self, table: &TableRecord, sequence: u64) -> Result<(), CatalogError>;
    /// See [`Catalog::delete_table`].
    async fn delete_table(&self, table: TableId, sequence: u64) -> Result<Vec<ObjectName>, CatalogError>;
    /// See [`Catalog::swap`].
    async fn swap(&self, swap: &Swap<'_>) -> Result<(), CatalogError>;
    /// See [`Catalog::is_covered`].
    async fn is_covered(&self, table: TableId, batch: &BatchHash) -> Result<bool, CatalogError>;
    /// See [`Catalog::cover_nothing_of`].
    async fn cover_nothing_of(&self, table: TableId, batch: &BatchHash, at: Timestamp) -> Result<(), CatalogError>;
    /// Those of `records` that are remembered, sorted: see [`Catalog::stored_records`].
    async fn stored_records(&self, table: TableId, records: &[RecordHash]) -> Result<Vec<RecordHash>, CatalogError>;
}

#[async_trait]
impl CatalogStore for Catalog {
    async fn load(&self) -> Result<Contents, CatalogError> {
        Self::load(self).await
    }
    async fn create_database(&self, database: &DatabaseRecord, sequence: u64) -> Result<(), CatalogError> {
        Self::create_database(self, database, sequence).await
    }
    async fn delete_database(&self, database: &DatabaseName, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
        Self::delete_database(self, database, sequence).await
    }
    async fn create_table(&self, table: &TableRecord, sequence: u64) -> Result<(), CatalogError> {
        Self::create_table(self, table, sequence).await
    }
    async fn delete_table(&self, table: TableId, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
        Self::delete_table(self, table, sequence).await
    }
    async fn swap(&self, swap: &Swap<'_>) -> Result<(), CatalogError> {
        Self::swap(self, swap).await
    }
    async fn is_covered(&self, table: TableId, batch: &BatchHash) -> Result<bool, CatalogError> {
        Self::is_covered(self, table, batch).await
    }
    async fn cover_nothing_of(&self, table: TableId, batch: &BatchHash, at: Timestamp) -> Result<(), CatalogError> {
        Self::cover_nothing_of(self, table, batch, at).await
    }
    async fn stored_records(&self, table: TableId, records: &[RecordHash]) -> Result<Vec<RecordHash>, CatalogError> {
        let stored = Self::stored_records(self, table, records).await?;
        Ok(stored.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// A catalog in memory. It outlives the processes of a simulation, as the database does.
#[derive(Debug, Default)]
pub struct MemoryCatalog(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    changed_upto: u64,
    databases: BTreeMap<String, DatabaseRecord>,
    tables: Vec<TableRecord>,
    // Of each table, also of one that is not there.
    columns: BTreeMap<TableId, Vec<(String, u8)>>,
    files: BTreeMap<ObjectName, FileRecord>,
    batches: BTreeSet<(TableId, BatchHash)>,
    records: BTreeSet<(TableId, RecordHash)>,
}

impl MemoryCatalog {
    /// What a database says that cannot be reached, or whose answer is lost.
    pub fn failure() -> CatalogError {
        CatalogError::Database(sqlx::Error::PoolTimedOut)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn changed(&mut self, sequence: u64) {
        self.changed_upto = self.changed_upto.max(sequence + 1);
    }

    fn forget(&mut self, table: TableId) -> Vec<ObjectName> {
        let objects = self.files.values().filter(|file| file.table == table);
        let objects: Vec<ObjectName> = objects.map(|file| file.object.clone()).collect();
        self.files.retain(|_, file| file.table != table);
        self.columns.remove(&table);
        self.batches.retain(|(of, _)| *of != table);
        self.records.retain(|(of, _)| *of != table);
        self.tables.retain(|record| record.id != table);
        objects
    }
}

#[async_trait]
impl CatalogStore for MemoryCatalog {
    async fn load(&self) -> Result<Contents, CatalogError> {
        let held = self.held();
        let mut tables = held.tables.clone();
        tables.sort_by_key(|table| table.number);
        for table in &mut tables {
            table.columns = held.columns.get(&table.id).cloned().unwrap_or_default();
        }
        let mut files: Vec<FileRecord> = held.files.values().cloned().collect();
        files.sort_by(|a, b| (a.time_min, &a.object).cmp(&(b.time_min, &b.object)));
        Ok(Contents {
            databases: held.databases.values().cloned().collect(),
            tables,
            files,
            changed_upto: held.changed_upto,
            ..Contents::default()
        })
    }

    async fn create_database(&self, database: &DatabaseRecord, sequence: u64) -> Result<(), CatalogError> {
        let mut held = self.held();
        held.changed(sequence);
        held.databases
            .entry(database.name.as_str().to_owned())
            .or_insert_with(|| database.clone());
        Ok(())
    }

    async fn delete_database(&self, database: &DatabaseName, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
        let mut held = self.held();
        held.changed(sequence);
        let within = held.tables.iter().filter(|table| table.database == *database);
        let tables: Vec<TableId> = within.map(|table| table.id).collect();
        let objects = tables.into_iter().flat_map(|table| held.forget(table)).collect();
        held.databases.remove(database.as_str());
        Ok(objects)
    }

    async fn create_table(&self, table: &TableRecord, sequence: u64) -> Result<(), CatalogError> {
        let mut held = self.held();
        held.changed(sequence);
        let same = |other: &TableRecord| {
            other.id == table.id || other.number == table.number || (&other.database, &other.name) == (&table.database, &table.name)
        };
        if !held.tables.iter().any(same) {
            held.tables.push(table.clone());
        }
        Ok(())
    }

    async fn delete_table(&self, table: TableId, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
        let mut held = self.held();
        held.changed(sequence);
        Ok(held.forget(table))
    }

    async fn swap(&self, swap: &Swap<'_>) -> Result<(), CatalogError> {
        let mut held = self.held();
        let stale = |what| Err(CatalogError::Stale { what });
        let is_there = |object: &ObjectName| held.files.get(object).is_some_and(|file| file.table == swap.table);
        if !swap.add.is_empty() && swap.add.iter().all(|file| is_there(&file.object)) {
            return Ok(());
        }
        let removed: BTreeSet<&ObjectName> = swap.remove.iter().collect();
        if removed.len() != swap.remove.len() || !swap.remove.iter().all(is_there) {
            return stale("a file to be replaced is not the table's");
        }
        let mut names = BTreeSet::new();
        let mut is_new = |file: &FileRecord| {
            let free = !held.files.contains_key(&file.object) || removed.contains(&file.object);
            free && names.insert(file.object.clone())
        };
        if !swap.add.iter().all(&mut is_new) {
            return stale("a new file is there already");
        }
        let mut batches = BTreeSet::new();
        let mut is_new = |batch: &BatchHash| !held.batches.contains(&(swap.table, *batch)) && batches.insert(*batch);
        if !swap.covered.iter().all(&mut is_new) {
            return stale("rows that come from memory are in a file already");
        }
        for object in swap.remove {
            held.files.remove(object);
        }
        for file in swap.add {
            // To the table of the swap, whatever the file says.
            let file = FileRecord {
                table: swap.table,
                ..file.clone()
            };
            held.files.insert(file.object.clone(), file);
        }
        held.batches.extend(swap.covered.iter().map(|batch| (swap.table, *batch)));
        held.records.extend(swap.records.iter().map(|record| (swap.table, *record)));
        let columns = held.columns.entry(swap.table).or_default();
        for (name, seen) in swap.columns {
            match columns.iter_mut().find(|(known, _)| known == name) {
                Some((_, before)) => *before |= seen,
                None => columns.push((name.clone(), *seen)),
            }
        }
        Ok(())
    }

    async fn is_covered(&self, table: TableId, batch: &BatchHash) -> Result<bool, CatalogError> {
        Ok(self.held().batches.contains(&(table, *batch)))
    }

    async fn cover_nothing_of(&self, table: TableId, batch: &BatchHash, _at: Timestamp) -> Result<(), CatalogError> {
        self.held().batches.insert((table, *batch));
        Ok(())
    }

    async fn stored_records(&self, table: TableId, records: &[RecordHash]) -> Result<Vec<RecordHash>, CatalogError> {
        let held = self.held();
        let asked: BTreeSet<RecordHash> = records.iter().copied().collect();
        Ok(asked
            .into_iter()
            .filter(|record| held.records.contains(&(table, *record)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use base::{Entropy, SeededEntropy, TableName};

    use super::*;

    struct Pair {
        real: Catalog,
        twin: MemoryCatalog,
        chance: SeededEntropy,
        tables: Vec<TableId>,
        objects: Vec<ObjectName>,
    }

    impl Pair {
        fn below(&self, end: u64) -> u64 {
            self.chance.next_u64() % end
        }

        fn table(&self) -> TableId {
            self.tables[self.below(self.tables.len() as u64) as usize]
        }

        /// Small ids, so that they come again.
        fn id(&self) -> [u8; 16] {
            [self.below(40) as u8; 16]
        }

        async fn step(&mut self, sequence: u64) -> String {
            let names = ["web", "shop"].map(|name| name.parse::<DatabaseName>().unwrap());
            let database = names[self.below(2) as usize].clone();
            let at = Timestamp::from_secs(self.below(1000) as i64);
            let said = |answers: [Result<Vec<ObjectName>, CatalogError>; 2]| {
                let [real, twin] = answers.map(|answer| {
                    answer.map_err(|error| error.kind()).map(|mut objects| {
                        objects.sort();
                        objects
                    })
                });
                assert_eq!(real, twin, "at step {sequence}");
                format!("{real:?}")
            };
            let none = |answer: Result<(), CatalogError>| answer.map(|()| Vec::new());
            match self.below(8) {
                0 => {
                    let record = DatabaseRecord {
                        name: database,
                        created_at: at,
                    };
                    said([
                        none(self.real.create_database(&record, sequence).await),
                        none(self.twin.create_database(&record, sequence).await),
                    ])
                }
                1 if self.below(3) == 0 => said([
                    self.real.delete_database(&database, sequence).await,
                    self.twin.delete_database(&database, sequence).await,
                ]),
                2 if self.below(2) == 0 => {
                    let table = self.table();
                    said([
                        self.real.delete_table(table, sequence).await,
                        self.twin.delete_table(table, sequence).await,
                    ])
                }
                1..=3 => {
                    let record = TableRecord {
                        id: self.table(),
                        number: 1 + self.below(5),
                        database,
                        name: ["one", "two", "three"][self.below(3) as usize].parse::<TableName>().unwrap(),
                        created_at: at,
                        columns: Vec::new(),
                    };
                    said([
                        none(self.real.create_table(&record, sequence).await),
                        none(self.twin.create_table(&record, sequence).await),
                    ])
                }
                4 => {
                    let (table, batch) = (self.table(), self.id());
                    said([
                        none(self.real.cover_nothing_of(table, &batch, at).await),
                        none(self.twin.cover_nothing_of(table, &batch, at).await),
                    ])
                }
                _ => self.swap(sequence, at, said).await,
            }
        }

        async fn swap(
            &mut self,
            sequence: u64,
            at: Timestamp,
            said: impl Fn([Result<Vec<ObjectName>, CatalogError>; 2]) -> String,
        ) -> String {
            let table = self.table();
            let known = self.objects.last().cloned().filter(|_| self.below(4) == 0);
            let object = known.unwrap_or_else(|| ObjectName::new("tables/7/t", &format!("f{sequence}"), b"rows").unwrap());
            let add = FileRecord {
                object: object.clone(),
                table,
                file: format!("f{sequence}"),
                bytes: 4,
                rows: 1,
                time_min: self.below(5) as i64,
                time_max: 9,
                sealed_key: vec![1],
            };
            let mut remove: Vec<ObjectName> = {
                let held = self.twin.held();
                let own = held.files.values().filter(|file| file.table == table);
                own.filter(|_| self.below(4) == 0).map(|file| file.object.clone()).collect()
            };
            if self.below(8) == 0 {
                remove.extend(self.objects.first().cloned());
            }
            let mut covered = vec![self.id(), self.id()];
            if self.below(4) > 0 {
                let held = self.twin.held();
                covered.retain(|batch| !held.batches.contains(&(table, *batch)));
                covered.dedup();
            }
            let records = [self.id()];
            // As the product says them: all it knows, in the order in which they were found.
            let columns: Vec<(String, u8)> = (0..=self.below(3)).map(|n| (format!("c{n}"), 1 << self.below(3))).collect();
            let swap = Swap {
                table,
                add: std::slice::from_ref(&add),
                remove: &remove,
                covered: &covered,
                records: &records,
                left_out: &[],
                columns: &columns,
                at,
            };
            let none = |answer: Result<(), CatalogError>| answer.map(|()| Vec::new());
            let word = said([none(self.real.swap(&swap).await), none(self.twin.swap(&swap).await)]);
            if self.below(3) == 0 {
                // As whoever did not hear of the outcome.
                said([none(self.real.swap(&swap).await), none(self.twin.swap(&swap).await)]);
            }
            self.objects.push(object);
            word
        }

        async fn compare(&self, sequence: u64) {
            let (real, twin) = (self.real.load().await.unwrap(), CatalogStore::load(&self.twin).await.unwrap());
            assert_eq!(real.databases, twin.databases, "at step {sequence}");
            assert_eq!(real.tables, twin.tables, "at step {sequence}");
            assert_eq!(real.files, twin.files, "at step {sequence}");
            assert_eq!(real.changed_upto, twin.changed_upto, "at step {sequence}");
            let ids: Vec<[u8; 16]> = (0..40).map(|id| [id; 16]).collect();
            for table in &self.tables {
                let stored = CatalogStore::stored_records(&self.real, *table, &ids).await.unwrap();
                assert_eq!(stored, self.twin.stored_records(*table, &ids).await.unwrap(), "at step {sequence}");
                for id in &ids {
                    let covered = self.real.is_covered(*table, id).await.unwrap();
                    assert_eq!(covered, self.twin.is_covered(*table, id).await.unwrap(), "at step {sequence}");
                }
            }
        }
    }

    #[tokio::test]
    async fn the_twin_does_what_the_database_does() {
        for seed in 0..2 {
            let directory = tempfile::tempdir().unwrap();
            let chance = SeededEntropy::new(seed);
            let mut pair = Pair {
                real: Catalog::open(&directory.path().join("catalog.db")).await.unwrap(),
                twin: MemoryCatalog::default(),
                tables: (0..5).map(|_| TableId::generate(Timestamp::from_secs(1), &chance)).collect(),
                chance,
                objects: Vec::new(),
            };
            let (mut words, mut swaps) = (BTreeSet::new(), 0);
            for sequence in 0..100 {
                let files = pair.twin.held().files.len();
                words.insert(pair.step(sequence).await);
                swaps += usize::from(pair.twin.held().files.len() != files);
                pair.compare(sequence).await;
            }
            // Without these the test would prove nothing.
            assert!(words.contains("Err(Conflict)"), "{words:?}");
            assert!(swaps > 10, "{swaps} swaps were made");
            assert!(words.iter().any(|word| word.len() > 20), "{words:?}");
        }
    }
}
