//! A result on its way out, part by part, for as long as its reader may read.

use std::sync::Arc;

use base::JobId;
use edge::revocations::Ended;
use futures::{Stream, stream};
use tokio::sync::mpsc;

use super::result::PART;
use super::{JobError, Jobs};
use crate::leases::Reading;

/// How many parts are read ahead of a reader.
const AHEAD: usize = 4;

/// Why a result stops in the middle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartsError {
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Ended(#[from] Ended),
}

impl Jobs {
    /// The bytes of a finished job's result from `offset` on, `length` of them or, for 0, all. When the right to read ends, so do
    /// they, with an error: what was read ahead is not given out any more.
    pub(crate) async fn parts(
        self: &Arc<Self>,
        id: JobId,
        reading: Reading,
        offset: u64,
        length: u64,
    ) -> Result<impl Stream<Item = Result<Vec<u8>, PartsError>> + Send + use<>, JobError> {
        let (key, total) = self.result(id, reading.key()).await?;
        let end = match length {
            0 => total,
            length => offset.saturating_add(length).min(total),
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (jobs, right) = (Arc::clone(self), reading.clone());
        tokio::spawn(async move {
            let mut at = offset;
            let read = async move {
                while at < end {
                    let next = (at + PART).min(end);
                    let part = jobs
                        .files
                        .read(id, &key, at..next, total)
                        .await
                        .map_err(|error| PartsError::Job(error.into()));
                    let over = part.is_err();
                    // An error here means that the reader is gone.
                    if sender.send(part).await.is_err() || over {
                        return;
                    }
                    at = next;
                }
            };
            // The reader is told below; here only the key must go.
            let _ = right.while_it_lasts(read).await;
        });
        Ok(stream::unfold(Some((receiver, reading)), |state| async move {
            let (mut receiver, reading) = state?;
            match reading.while_it_lasts(receiver.recv()).await {
                Ok(part) => part.map(|part| (part, Some((receiver, reading)))),
                Err(ended) => Some((Err(ended.into()), None)),
            }
        }))
    }
}
