//! What could not be rows of a table, page by page, for whoever wants to see it or try it again.
//!
//! Does not know what is in it: that is sealed under keys that the identity role alone can unwrap.

use std::sync::Arc;

use base::{DatabaseName, RequestId, Scope, TableName};
use query::{Engine, ProductView};
use tokio::runtime::Handle;
use wire::v1::{Aside, AsideName, ListAsideRequest, ListAsideResponse};

use crate::leases::Reading;
use crate::product::aside::{COLUMNS, REPLAYED, read};
use crate::product::{Product, ProductError};
use crate::tail::TailError;

/// The most that one page holds.
const MOST: u32 = 1_000;
/// How many bytes, as they were sent, one page holds; but one that is larger comes alone.
const MOST_BYTES: u64 = 32 << 20;

/// Which part of the list is wanted.
#[derive(Debug)]
pub(crate) struct Page {
    after: Option<(RequestId, u64)>,
    count: u32,
}

impl Page {
    /// As it was asked for.
    pub(crate) fn of(request: &ListAsideRequest) -> Result<Self, ProductError> {
        let after = request.after.as_ref().map(place).transpose()?;
        Ok(Self {
            after,
            count: request.count.clamp(1, MOST),
        })
    }
}

/// A name as the parts of a place in the list. What is no request's id is refused: it becomes a part of a query.
fn place(name: &AsideName) -> Result<(RequestId, u64), ProductError> {
    let wrong = || ProductError::Invalid("the place in the list of what was set aside cannot be read".into());
    let row = name.row.min(i64::MAX.unsigned_abs());
    Ok((name.request.parse().map_err(|_| wrong())?, row))
}

/// A page of what was set aside and not taken by a replay since. Ends with the right to read.
pub(crate) async fn list_aside(
    engine: &Engine,
    queries: &Handle,
    product: &Arc<Product>,
    reading: &Reading,
    scope: &Scope,
    (database, table): (&DatabaseName, &TableName),
    page: Page,
) -> Result<ListAsideResponse, TailError> {
    product.table_id(database, table)?;
    let beside = table.aside();
    if product.table_id(database, &beside).is_err() {
        return Ok(ListAsideResponse::default());
    }
    // Names hold letters, digits and underscores only, and the end that is ours; ids and numbers neither quotes nor blanks.
    let name = format!("\"{database}\".\"{beside}\"");
    let waiting = format!(
        "FROM {name} AS a WHERE a.reason <> '{REPLAYED}' AND NOT EXISTS \
         (SELECT 1 FROM {name} AS b WHERE b.reason = '{REPLAYED}' AND b.request = a.request AND b.row_no = a.row_no)"
    );
    let after = page.after.map_or(String::new(), |(request, row)| {
        format!(" AND (a.request > '{request}' OR a.request = '{request}' AND a.row_no > {row})")
    });
    let read = async {
        let view = Arc::new(product.view(scope, reading.key()).await?);
        let run = |sql: String| run(engine, queries, &view, reading, database, sql);
        // Names and sizes first, so that it is known how much of it fits.
        let count = page.count + 1;
        let found = run(format!(
            "SELECT time, row_no, bytes, request, reason, NULL AS message, NULL AS syntax, NULL AS key_id, NULL AS import_id, \
             NULL AS sealed, NULL AS sealed_key {waiting}{after} ORDER BY a.request, a.row_no LIMIT {count}"
        ))
        .await?;
        let fitting = fitting(&found, page.count);
        let Some(last) = fitting.checked_sub(1).and_then(|last| found.get(last)?.name.as_ref()) else {
            return Ok(ListAsideResponse::default());
        };
        let (request, row) = place(last)?;
        let upto = format!(" AND (a.request < '{request}' OR a.request = '{request}' AND a.row_no <= {row})");
        let aside = run(format!("SELECT {COLUMNS} {waiting}{after}{upto} ORDER BY a.request, a.row_no")).await?;
        Ok(ListAsideResponse {
            aside,
            more: fitting < found.len(),
        })
    };
    reading.while_it_lasts(read).await?
}

/// How many of these one page may hold.
fn fitting(found: &[Aside], count: u32) -> usize {
    let mut bytes = 0_u64;
    let fits = |aside: &&Aside| {
        let first = bytes == 0;
        // An empty one takes room as well.
        bytes = bytes.saturating_add(aside.size.max(1));
        first || bytes <= MOST_BYTES
    };
    found.iter().take(count as usize).take_while(fits).count()
}

async fn run(
    engine: &Engine,
    queries: &Handle,
    view: &Arc<ProductView>,
    reading: &Reading,
    database: &DatabaseName,
    sql: String,
) -> Result<Vec<Aside>, TailError> {
    let cancel = reading.token();
    // Should the caller go away, the query goes too.
    let _stop = cancel.clone().drop_guard();
    let (engine, lease, database, view) = (engine.clone(), reading.lease().clone(), database.clone(), Arc::clone(view));
    let work = async move { engine.run(&view, lease, database.as_str(), &sql, cancel).await?.collect().await };
    let batches = queries.spawn(work).await.map_err(|_| TailError::Broken)??;
    let mut all = Vec::new();
    for batch in &batches {
        all.extend(read(batch)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_as_much_as_fits_and_one_at_least() {
        let sized = |sizes: &[u64]| {
            let aside = |size: &u64| Aside {
                size: *size,
                ..Aside::default()
            };
            fitting(&sizes.iter().map(aside).collect::<Vec<_>>(), 3)
        };
        assert_eq!(sized(&[]), 0);
        assert_eq!(sized(&[0, 0, 0, 0]), 3);
        assert_eq!(sized(&[MOST_BYTES * 2, 1]), 1);
        assert_eq!(sized(&[1, MOST_BYTES * 2]), 1);
        assert_eq!(sized(&[MOST_BYTES / 2, MOST_BYTES / 2, 1]), 2);
    }
}
