//! Whether a product's tables hold what its raw log says: read the way queries read them, and added up.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use base::{DatabaseName, TableId, TableName, Timestamp};
use columns::Digest;
use columns::catalog::FileRecord;
use edge::rebuild::{Finding, MOST_DAYS};
use futures::{StreamExt, TryStreamExt, stream};
use query::{DatabaseView, Lease, ProductView, TableView};
use tokio_util::sync::CancellationToken;
use wire::v1::RebuildFinding;

use super::super::{Product, ProductError};
use super::rows::hashed_schema;
use super::{Old, Rebuild, Totals};

/// A table to be read.
struct Held {
    id: TableId,
    database: DatabaseName,
    name: TableName,
    schema: SchemaRef,
    files: Vec<Arc<FileRecord>>,
    is_dropped: bool,
    /// Whether it has rows of which there is no raw log.
    is_carried: bool,
    /// The first day of which all rows are kept.
    kept_from: Option<i64>,
    /// The files from before, where their rows are to look as they do now.
    old_files: Option<Vec<Arc<FileRecord>>>,
}

impl Rebuild<'_> {
    /// Compares every table and says what came of it. False when a table does not hold what the raw log says.
    pub(super) async fn compare(
        &self,
        product: &Arc<Product>,
        totals: &HashMap<TableId, Totals>,
        waiting: &HashMap<TableId, u64>,
        let_go: &HashMap<TableId, u64>,
        old: Option<&Old>,
    ) -> Result<bool, ProductError> {
        let mut tables: Vec<Held> = {
            let state = product.read();
            let held = |table: &super::Table| Held {
                id: table.id,
                database: table.database.clone(),
                name: table.name.clone(),
                schema: hashed_schema(table),
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
        let mut good = true;
        for table in tables {
            let none = Totals::default();
            let said = totals.get(&table.id).unwrap_or(&none);
            let expected = if self.order.compare_only { &said.earlier } else { &said.all };
            let held = self.digest(product, &lease, &table.files, &table.schema).await?;
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
        Ok(good)
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
        match self.digest(product, lease, files, &table.schema).await {
            Ok(before) if same(&before, said, table.kept_from) => Before::Same,
            Ok(before) => Before::Different(before),
            Err(error) => Before::Unread(super::super::chain(&error)),
        }
    }

    async fn digest(
        &self,
        product: &Arc<Product>,
        lease: &Arc<Lease>,
        files: &[Arc<FileRecord>],
        schema: &SchemaRef,
    ) -> Result<Digest, ProductError> {
        let reader: query::Held = product.readers.enter();
        let one = |file: Arc<FileRecord>| {
            let view = ProductView {
                databases: vec![DatabaseView {
                    name: "rebuild".into(),
                    tables: vec![TableView {
                        name: "files".into(),
                        schema: Arc::clone(schema),
                        memory: Vec::new(),
                        files: vec![product.file_view(&file, &reader)],
                    }],
                }],
            };
            let (engine, lease, schema) = (self.engine.clone(), Arc::clone(lease), Arc::clone(schema));
            let read = self.queries.spawn(async move {
                let failed = |error: &dyn std::error::Error| ProductError::File(super::super::chain(error));
                let running = engine
                    .run(&view, lease, "rebuild", "SELECT * FROM files", CancellationToken::new())
                    .await;
                let mut batches = running.map_err(|error| failed(&error))?;
                let mut digest = Digest::new();
                while let Some(batch) = batches.next().await {
                    let adapted = events::adapt(&batch.map_err(|error| failed(&error))?, &schema)?;
                    digest.add(&adapted).map_err(|error| failed(&error))?;
                }
                if digest.whole().rows != file.rows {
                    return Err(ProductError::File(format!(
                        "a file of {} rows gave {}",
                        file.rows,
                        digest.whole().rows
                    )));
                }
                Ok(digest)
            });
            async move {
                let digest = read.await.map_err(|_| ProductError::Internal("reading a file was interrupted"))??;
                self.log.advance(digest.whole().rows);
                Ok::<_, ProductError>(digest)
            }
        };
        let at_once = self.shared.settings.query.target_partitions.get();
        let mut digests = stream::iter(files.to_vec()).map(one).buffer_unordered(at_once);
        let mut all = Digest::new();
        while let Some(digest) = digests.try_next().await? {
            all.merge(&digest);
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
