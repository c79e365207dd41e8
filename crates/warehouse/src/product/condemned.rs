//! Objects that nothing needs any more, out of the zones.
//!
//! Promise: what the catalog has condemned is deleted, once no query reads it, however often that fails or the process ends in between;
//! and nothing else is.
//!
//! Start at [`Product::delete_condemned`]. Whoever condemns in a transaction of the catalog calls [`Product::condemned_some`] after it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use zones::ObjectName;

use super::pauses::Pauses;
use super::{Product, ProductError};

/// How many objects are taken up at once, and how many of them are deleted at the same time.
const TAKEN_UP: u32 = 1_000;
const AT_ONCE: usize = 8;

/// What is to be deleted.
#[derive(Debug)]
pub(super) struct Condemned {
    /// Whether the catalog may have some that are not among these.
    more: AtomicBool,
    /// Those taken up, each with the turn of readers that has to be over.
    waiting: tokio::sync::Mutex<BTreeMap<ObjectName, u64>>,
    pauses: Pauses<()>,
}

impl Default for Condemned {
    fn default() -> Self {
        Self {
            // A process before this one may have left some.
            more: AtomicBool::new(true),
            waiting: tokio::sync::Mutex::default(),
            pauses: Pauses::default(),
        }
    }
}

impl Product {
    /// Notes durably that nothing needs these objects any more, and has them deleted once no query can be reading them. What the state
    /// shows is not to be among them, nor may it come to be.
    pub(crate) async fn condemn(&self, objects: &[ObjectName]) -> Result<(), ProductError> {
        self.catalog.condemn(objects).await?;
        self.condemned_some();
        Ok(())
    }

    /// The same of what was staged and is not to become a file. Should it fail, the next start does it.
    pub(super) async fn give_up(&self, objects: &[ObjectName]) {
        if let Err(error) = self.condemn(objects).await {
            tracing::warn!(product.id = %self.id, error = %super::flush::chain(&error), "could not note that files are not needed, the next start will");
        }
    }

    /// Objects were condemned in the catalog: they will be looked for.
    pub(crate) fn condemned_some(&self) {
        self.condemned.more.store(true, Ordering::SeqCst);
    }

    /// One look at what is condemned: deletes what nobody reads. What fails is tried again at a later look.
    pub(crate) async fn delete_condemned(&self) {
        let Ok(mut waiting) = self.condemned.waiting.try_lock() else {
            return;
        };
        if !self.condemned.pauses.may(&(), self.shared.clock.now()) {
            return;
        }
        let done = self.look_at_condemned(&mut waiting).await;
        self.condemned.pauses.ended((), done.is_ok(), self.shared.clock.now());
        if let Err(error) = done {
            tracing::warn!(product.id = %self.id, objects = waiting.len(), error = %super::flush::chain(&error),
                "could not delete objects that nothing needs any more, trying again");
        }
    }

    async fn look_at_condemned(&self, waiting: &mut BTreeMap<ObjectName, u64>) -> Result<(), ProductError> {
        if waiting.is_empty() && self.condemned.more.swap(false, Ordering::SeqCst) {
            let taken = self.take_up(waiting).await;
            if taken.as_ref().map_or(true, |count| *count >= TAKEN_UP as usize) {
                self.condemned_some();
            }
            taken?;
        }
        let free: Vec<ObjectName> = waiting
            .iter()
            .filter(|(_, turn)| self.readers.have_left(**turn))
            .map(|(object, _)| object.clone())
            .collect();
        for some in free.chunks(AT_ONCE) {
            let deleted = join_all(some.iter().map(|object| self.shared.zones.delete(object))).await;
            let (mut gone, mut failed) = (Vec::new(), None);
            for (object, deleted) in some.iter().zip(deleted) {
                match deleted {
                    Ok(()) => gone.push(object.clone()),
                    Err(error) => failed = Some(error),
                }
            }
            self.catalog.forget_condemned(&gone).await?;
            for object in gone {
                self.shared.known.remove(&object);
                waiting.remove(&object);
            }
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn take_up(&self, waiting: &mut BTreeMap<ObjectName, u64>) -> Result<usize, ProductError> {
        // Invariant: with this held, what the catalog has condemned the state does not show. So whoever takes a view in the next turn
        // does not see it.
        let _control = self.control.lock().await;
        let mut objects = self.catalog.condemned(TAKEN_UP).await?;
        let count = objects.len();
        self.leave_shown(&mut objects);
        let turn = self.readers.end_turn();
        waiting.extend(objects.into_iter().map(|object| (object, turn)));
        Ok(count)
    }

    /// Should the catalog have made a swap and said that it failed, the state shows what is condemned until the next start.
    fn leave_shown(&self, objects: &mut Vec<ObjectName>) {
        if objects.is_empty() {
            return;
        }
        let condemned: HashSet<&ObjectName> = objects.iter().collect();
        let shown: HashSet<ObjectName> = {
            let state = self.read();
            let files = state.tables.values().flat_map(|table| &table.files);
            files
                .map(|file| &file.object)
                .filter(|object| condemned.contains(object))
                .cloned()
                .collect()
        };
        if !shown.is_empty() {
            tracing::error!(product.id = %self.id, objects = shown.len(),
                "files of tables are to be deleted: they stay until the next start, which believes the catalog");
            objects.retain(|object| !shown.contains(object));
        }
    }
}
