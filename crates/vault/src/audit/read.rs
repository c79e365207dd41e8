//! Reading the audit journal: the last records, those after a number, and exports.

use std::sync::Arc;
use std::time::Duration;

use audit::{GapLine, Header, ProductHead, SignedProductHead, Statement, prefix_parts};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{AuditError, AuditLog};

/// Lines that are read and sent at once.
const AT_ONCE: u32 = 2000;
/// How long an export waits for a newer head to be signed by both roles.
const SIGNED_WITHIN: Duration = Duration::from_secs(5);

/// Where lines go.
pub(crate) type Lines = mpsc::Sender<Result<Vec<String>, AuditError>>;

impl AuditLog {
    /// Records after a number, or the last ones, of one product or of all (0).
    pub(crate) async fn some(&self, product: u64, after: Option<u64>, most: u32) -> Result<Vec<String>, AuditError> {
        let rows = match after {
            Some(after) => self.view.records(product, after, u64::MAX, most).await?,
            None => self.view.last(product, most).await?,
        };
        Ok(rows.into_iter().map(|(_, line)| line).collect())
    }

    /// A whole export: up to the newest head that both roles signed, after one was asked for.
    pub(crate) async fn export(self: Arc<Self>, product: u64, boundaries: Vec<u64>, to: Lines) {
        if let Err(error) = self.lines(product, &boundaries, &to).await {
            let _ = to.send(Err(error)).await;
        }
    }

    async fn lines(&self, product: u64, boundaries: &[u64], to: &Lines) -> Result<(), AuditError> {
        let wanted = self.standing.borrow().size;
        self.wanted.notify_one();
        let mut signed = self.signed.subscribe();
        // An older head is better than none.
        let _ = timeout(SIGNED_WITHIN, signed.wait_for(|size| *size >= wanted)).await;
        let head = self.view.newest().await?.ok_or(AuditError::NoHead)?;
        let size = head.head.size;
        let (mut out, mut from, mut count) = (vec![Header::new(&self.key, product, size).to_line()], 0, 0);
        let mut after = 0;
        loop {
            let rows = self.view.records(product, after, size, AT_ONCE).await?;
            let Some((last, _)) = rows.last() else { break };
            after = *last;
            for (n, line) in rows {
                self.gap(from, n - 1, boundaries, &mut out).await?;
                out.push(line);
                (from, count) = (n, count + 1);
            }
            if to.send(Ok(std::mem::take(&mut out))).await.is_err() {
                return Ok(());
            }
        }
        self.gap(from, size, boundaries, &mut out).await?;
        if product > 0 {
            let of = ProductHead {
                journal: head.head.journal.clone(),
                product,
                count,
                size,
                at: self.clock.now().as_micros(),
            };
            let vault = of.sign(&self.signer.get());
            out.push(SignedProductHead { of, vault }.to_line());
        }
        out.push(head.to_line(&self.key));
        let _ = to.send(Ok(out)).await;
        Ok(())
    }

    /// What is somebody else's, between two records of a product.
    async fn gap(&self, from: u64, to: u64, boundaries: &[u64], out: &mut Vec<String>) -> Result<(), AuditError> {
        for node in prefix_parts(from, to, boundaries) {
            let line = GapLine {
                at: node.index << node.level,
                level: node.level,
                hash: hex::encode(self.view.part(node).await?),
            };
            out.push(line.to_line());
        }
        Ok(())
    }
}
