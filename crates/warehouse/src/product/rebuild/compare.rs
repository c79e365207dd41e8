//! Whether a product's tables hold what its raw log says: read back from the zones, decoded the way queries do it, and added up.
//!
//! Files that a rebuild makes are read back as soon as they are in the zones, beside the next ones; the others when all is compared.
//!
//! Memory is bounded: so many files are open at once as there are processors, and of each no more is held than a row group and the rows
//! that are decoded at once, in the columns that the file has.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base::{DatabaseName, ErrorKind, TableId, TableName, Timestamp};
use columns::catalog::FileRecord;
use columns::{Digest, DigestKey};
use edge::rebuild::{Finding, MOST_DAYS};
use futures::{StreamExt, TryStreamExt, stream};
use query::{FileView, Lease, OpenFile};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wire::v1::RebuildFinding;
use zones::{ObjectName, Zones};

use super::super::{Product, ProductError, chain};
use super::rows::{ReadBack, Types, hash, types_of};
use super::{Old, Rebuild, Totals};

/// A table to be read.
struct Held {
    id: TableId,
    database: DatabaseName,
    name: TableName,
    types: Types,
    files: Vec<Arc<FileRecord>>,
    is_dropped: bool,
    /// Whether it has rows of which there is no raw log.
    is_carried: bool,
    /// The first day of which all rows are kept.
    kept_from: Option<i64>,
    /// The files from before, where their rows are to look as they do now.
    old_files: Option<Vec<Arc<FileRecord>>>,
}

/// What tables are compared with.
pub(super) struct Against<'a> {
    /// What the raw log says.
    pub(super) totals: &'a HashMap<TableId, Totals>,
    /// How many rows wait in it and are in no file.
    pub(super) waiting: &'a HashMap<TableId, u64>,
    /// How many rows it had before they were let go.
    pub(super) let_go: &'a HashMap<TableId, u64>,
    /// What was there before.
    pub(super) old: Option<&'a Old>,
    /// What was read back already.
    pub(super) read: &'a ReadBack,
}

/// How files are read back right after they are written, while others are made.
#[derive(Clone)]
pub(super) struct Back {
    lease: Arc<Lease>,
    key: DigestKey,
    queries: Handle,
    /// A place for each that may be read at once.
    places: Arc<Semaphore>,
}

impl Back {
    /// What a file holds. None where it is not what was expected: whoever compares reads it again, and says what is wrong.
    pub(super) async fn read(&self, product: &Arc<Product>, file: &FileRecord, types: Types) -> Option<(ObjectName, (Digest, Types))> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let (zones, lease, key) = (Arc::clone(&product.shared.zones), Arc::clone(&self.lease), self.key.clone());
        let reader: query::Held = product.readers.enter();
        let view = product.file_view(file, &reader);
        let under = Arc::clone(&types);
        let read = self.queries.spawn(async move { digest(&zones, &lease, view, &key, &under).await });
        let read = read.await;
        drop(place);
        let read = read.ok()?.ok()?;
        (read.whole().rows == file.rows).then(|| (file.object.clone(), (read, types)))
    }
}

/// What came of it.
pub(super) enum Outcome {
    /// All was said. False when a table does not hold what the raw log says.
    Compared(bool),
    /// These files could not be read back and can be made anew. Nothing was said of any table.
    Unread(Vec<ObjectName>),
}

/// What is in files.
#[derive(Default)]
struct Read {
    digest: Digest,
    /// Those that could not be read, and why.
    unread: Vec<(ObjectName, String)>,
}

impl Rebuild<'_> {
    /// Compares every table and says what came of it, unless files cannot be read that are `replaceable`.
    pub(super) async fn compare(
        &self,
        product: &Arc<Product>,
        against: &Against<'_>,
        replaceable: &HashSet<ObjectName>,
    ) -> Result<Outcome, ProductError> {
        let Against {
            totals,
            waiting,
            let_go,
            old,
            read: back,
        } = *against;
        let mut tables: Vec<Held> = {
            let state = product.read();
            let held = |table: &super::Table| Held {
                id: table.id,
                database: table.database.clone(),
                name: table.name.clone(),
                types: types_of(table),
                files: table.files.clone(),
                is_dropped: table.dropped.is_some(),
                is_carried: table.raw_gone || self.order.compare_only && let_go.contains_key(&table.id),
                kept_from: first_day(state.retention(table).keep, product.shared.clock.now()),
                old_files: old.and_then(|old| {
                    let before = old.state.tables.get(&table.id)?;
                    let same = **before.schema.declared() == **table.schema.declared();
                    same.then(|| before.files.clone())
                }),
            };
            state.tables.values().map(held).collect()
        };
        tables.sort_by(|a, b| (&a.database, a.name.to_string()).cmp(&(&b.database, b.name.to_string())));
        let rows = |files: &[Arc<FileRecord>]| files.iter().map(|file| file.rows).sum::<u64>();
        let all = tables.iter().map(|t| rows(&t.files) + t.old_files.as_deref().map_or(0, rows)).sum();
        self.log.doing(format!("compares product {}", self.id), 0, all);
        let lease = Arc::new(Lease::new(self.key.clone()));
        let (mut held, mut again) = (Vec::new(), Vec::new());
        for table in &tables {
            let read = self.read(product, &lease, (&table.files, back), &table.types).await?;
            let files = read.unread.iter().map(|(object, _)| object);
            again.extend(files.filter(|object| replaceable.contains(object)).cloned());
            held.push(read);
        }
        if !again.is_empty() {
            self.note(&format!("{} files could not be read back and are made anew", again.len()));
            return Ok(Outcome::Unread(again));
        }
        let mut good = true;
        for (table, read) in tables.into_iter().zip(held) {
            let none = Totals::default();
            let said = totals.get(&table.id).unwrap_or(&none);
            let expected = if self.order.compare_only { &said.earlier } else { &said.all };
            let held = read.digest;
            let mut state = Finding::Good;
            let mut says = "holds what the raw log says".to_owned();
            // What was made is all that the log has; of what was there before, files of rows that are too old may be gone.
            let from = table.kept_from.filter(|_| self.order.compare_only);
            if table.is_carried {
                let rows = expected.whole().rows;
                says = format!("its raw log was let go in part: {rows} of its rows are in it, and the others cannot be compared");
            } else if !same(&held, expected, from) {
                (state, good) = (Finding::Different, false);
                says = format!(
                    "does not hold what the raw log says: {} rows, {}",
                    expected.whole().rows,
                    hex(&expected.whole().sum())
                );
            }
            if let Some((object, why)) = read.unread.first() {
                state = Finding::Damaged;
                says = format!("{says}; {} of its files cannot be read, such as {object}: {why}", read.unread.len());
            }
            if let Some(rows) = let_go.get(&table.id).filter(|_| !table.is_carried) {
                state = if state == Finding::Good { Finding::Note } else { state };
                says = format!("{says}; {rows} rows that the raw log had were let go and cannot be made again");
            }
            match self.before(product, &lease, &table, &said.earlier, old.is_some()).await {
                Before::Unknown => {}
                Before::Same => says.push_str(", and held that before"),
                Before::Unread(why) => says = format!("{says}; what it held before cannot be read: {why}"),
                Before::Different(before) => {
                    state = Finding::Different;
                    says = format!(
                        "{says}; what it held before was something else: {} rows, {} (raw log: {} rows, {})",
                        before.whole().rows,
                        hex(&before.whole().sum()),
                        said.earlier.whole().rows,
                        hex(&said.earlier.whole().sum())
                    );
                }
            }
            if let Some(rows) = waiting.get(&table.id).filter(|rows| **rows > 0) {
                says = format!("{says}; {rows} rows more wait in the raw log and are in no file yet");
            }
            self.tell(&table, state, &held, says);
        }
        Ok(Outcome::Compared(good))
    }

    /// Whether as many rows of each table were read as the log's headers say that there are.
    pub(super) fn are_counted(&self, product: &Product, totals: &HashMap<TableId, Totals>, counted: &HashMap<TableId, u64>) -> bool {
        let state = product.read();
        let mut all = true;
        for table in state.tables.values().filter(|table| !table.raw_gone) {
            let read = totals.get(&table.id).map_or(0, |totals| totals.all.whole().rows);
            let said = counted.get(&table.id).copied().unwrap_or(0);
            if read != said {
                all = false;
                let says = format!("{read} rows were read of a raw log whose headers say that there are {said}");
                let about = self.about(&table.database, &table.name, table.dropped.is_some());
                self.log.found(about, Finding::Different, says);
            }
        }
        all
    }

    /// How many rows there are, where nothing was compared.
    pub(super) fn say_rows(&self, product: &Product, let_go: &HashMap<TableId, u64>) {
        let state = product.read();
        for table in state.tables.values() {
            let (state, says) = match let_go.get(&table.id) {
                None => (Finding::Good, "made anew, not compared".to_owned()),
                Some(_) if table.raw_gone => (Finding::Good, "kept, as its raw log was let go in part; not compared".to_owned()),
                Some(rows) => (
                    Finding::Note,
                    format!("made anew, not compared; {rows} rows that the raw log had were let go and cannot be made again"),
                ),
            };
            self.log.found_in(RebuildFinding {
                about: self.about(&table.database, &table.name, table.dropped.is_some()),
                state: state.as_str().into(),
                rows: table.files.iter().map(|file| file.rows).sum(),
                says,
                ..RebuildFinding::default()
            });
        }
    }

    /// So many at once.
    pub(super) fn reading_back(&self, at_once: usize) -> Back {
        Back {
            lease: Arc::new(Lease::new(self.key.clone())),
            key: self.digest_key(),
            queries: self.queries.clone(),
            places: Arc::new(Semaphore::new(at_once)),
        }
    }

    async fn before(&self, product: &Arc<Product>, lease: &Arc<Lease>, table: &Held, said: &Digest, asked: bool) -> Before {
        if table.is_carried {
            return Before::Unknown;
        }
        let Some(files) = &table.old_files else {
            return if asked {
                Before::Unread("it is a new table, or its types were being changed".into())
            } else {
                Before::Unknown
            };
        };
        match self.read(product, lease, (files, &ReadBack::new()), &table.types).await {
            Ok(Read { unread, .. }) if !unread.is_empty() => {
                let (object, why) = &unread[0];
                Before::Unread(format!("{} of its files, such as {object}: {why}", unread.len()))
            }
            Ok(Read { digest, .. }) if same(&digest, said, table.kept_from) => Before::Same,
            Ok(Read { digest, .. }) => Before::Different(digest),
            Err(error) => Before::Unread(chain(&error)),
        }
    }

    async fn read(
        &self,
        product: &Arc<Product>,
        lease: &Arc<Lease>,
        (files, back): (&[Arc<FileRecord>], &ReadBack),
        types: &Types,
    ) -> Result<Read, ProductError> {
        let mut all = Read::default();
        let mut unknown = Vec::new();
        for file in files {
            // Under other types than those of now the same rows have another sum.
            match back.get(&file.object).filter(|(_, under)| under == types) {
                Some((digest, _)) => {
                    all.digest.merge(digest);
                    self.log.advance(file.rows);
                }
                None => unknown.push(Arc::clone(file)),
            }
        }
        let reader: query::Held = product.readers.enter();
        let key = self.digest_key();
        let one = |file: Arc<FileRecord>| {
            let (zones, lease, types, key) = (Arc::clone(&self.shared.zones), Arc::clone(lease), Arc::clone(types), key.clone());
            let view = product.file_view(&file, &reader);
            let read = self.queries.spawn(async move {
                let first = digest(&zones, &lease, view.clone(), &key, &types).await;
                match first {
                    // The zones were told of the damage, and have perhaps mended their copies.
                    Err(error) if error.kind() == ErrorKind::Corrupt => digest(&zones, &lease, view, &key, &types).await,
                    read => read,
                }
            });
            async move {
                let read = read.await.map_err(|_| ProductError::Internal("reading a file was interrupted"))?;
                self.log.advance(file.rows);
                let why = match read {
                    Ok(digest) if digest.whole().rows == file.rows => return Ok(Ok(digest)),
                    Ok(digest) => format!("{} rows were read of {}", digest.whole().rows, file.rows),
                    Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => chain(&error),
                    Err(error) => return Err(error),
                };
                Ok(Err((file.object.clone(), why)))
            }
        };
        let at_once = self.shared.settings.query.target_partitions.get();
        let mut reading = stream::iter(unknown).map(one).buffer_unordered(at_once);
        while let Some(read) = reading.try_next().await? {
            match read {
                Ok(digest) => all.digest.merge(&digest),
                Err(unread) => all.unread.push(unread),
            }
        }
        Ok(all)
    }

    fn tell(&self, table: &Held, state: Finding, held: &Digest, says: String) {
        let about = self.about(&table.database, &table.name, table.is_dropped);
        let finding = |day: String, part: columns::Part, says: String| RebuildFinding {
            about: about.clone(),
            day,
            state: state.as_str().into(),
            rows: part.rows,
            hash: part.sum().to_vec(),
            says,
        };
        self.log.found_in(finding(String::new(), held.whole(), says));
        if held.days().count() > MOST_DAYS {
            return;
        }
        for (day, part) in held.days() {
            let day = Timestamp::from_secs(day.saturating_mul(86_400)).day();
            self.log.found_in(finding(day, part, String::new()));
        }
    }

    fn about(&self, database: &DatabaseName, table: &TableName, is_dropped: bool) -> String {
        let dropped = if is_dropped { " (dropped)" } else { "" };
        format!("product {}: {database}.{table}{dropped}", self.id)
    }
}

/// All rows of a file, added up.
async fn digest(zones: &Arc<Zones>, lease: &Arc<Lease>, file: FileView, key: &DigestKey, types: &Types) -> Result<Digest, ProductError> {
    let file = OpenFile::open(zones, lease, file).await?;
    let (mut rows, mut digest) = (file.rows()?, Digest::new());
    while let Some(batch) = rows.next().await? {
        hash(&mut digest, key, &batch, types)?;
    }
    Ok(digest)
}

/// What was in the files that were there before.
enum Before {
    /// There were none, or nobody asked.
    Unknown,
    Same,
    Unread(String),
    Different(Digest),
}

/// The first UTC day of which all rows are kept; none where all are, whatever day they are of.
fn first_day(keep: u64, now: Timestamp) -> Option<i64> {
    let keep = i64::try_from(keep).ok().filter(|keep| *keep > 0)?;
    Some(now.as_secs().saturating_sub(keep).div_euclid(86_400).saturating_add(1))
}

/// Whether two are the same from a day on.
fn same(one: &Digest, other: &Digest, from: Option<i64>) -> bool {
    let kept = |digest: &Digest| {
        let days = digest.days().filter(|(day, _)| from.is_none_or(|from| *day >= from));
        days.collect::<Vec<_>>()
    };
    kept(one) == kept(other)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
