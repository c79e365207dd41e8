//! The objects that the catalogs of all products know, so that nothing else below `tables/` is copied from zone to zone.
//!
//! A file is bound to its catalog and not signed: whether one is ours cannot be seen from it alone. Whoever owns a zone may put
//! anything there under a name that fits; without this it would be copied to all others.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use base::Role;
use columns::catalog::Catalog;
use futures::{StreamExt, stream};
use seal::InstallationKey;
use zones::{ObjectName, Vouch};

use crate::product::JOURNALS;
use crate::product::rebuild::REBUILDING;

/// What stands before the names of all files.
pub(crate) const TABLES: &str = "tables";
/// How many catalogs are read at once at a start.
const AT_ONCE: usize = 8;

/// Names of files, staged and condemned objects.
#[derive(Debug, Default)]
pub(crate) struct Known(RwLock<HashSet<ObjectName>>);

impl Known {
    /// What the catalogs below the role's directory know, those of products that nobody has opened yet included.
    pub(crate) async fn load(directory: &Path) -> Arc<Self> {
        let known = Arc::new(Self::default());
        let mut catalogs = Vec::new();
        if let Ok(mut products) = tokio::fs::read_dir(directory.join("products")).await {
            while let Ok(Some(product)) = products.next_entry().await {
                // The one that a rebuild is making, too: it goes on with the files that are in it.
                catalogs.extend(["catalog.db", REBUILDING].map(|name| product.path().join(name)));
            }
        }
        let read = |path: std::path::PathBuf| {
            let known = Arc::clone(&known);
            async move {
                if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
                    return;
                }
                match Self::read(&path).await {
                    Ok(objects) => known.add(objects),
                    Err(error) => tracing::error!(path = %path.display(), error = %crate::product::chain(&error),
                        "a catalog cannot be read: its files are not copied to zones that lack them"),
                }
            }
        };
        stream::iter(catalogs).for_each_concurrent(AT_ONCE, read).await;
        known
    }

    async fn read(path: &Path) -> Result<Vec<ObjectName>, columns::catalog::CatalogError> {
        let catalog = Catalog::open(path).await?;
        let objects = catalog.objects().await;
        catalog.close().await;
        objects
    }

    /// To be called before an object is put into the zones.
    pub(crate) fn add(&self, objects: impl IntoIterator<Item = ObjectName>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(objects);
    }

    /// It is gone from the zones.
    pub(crate) fn remove(&self, object: &ObjectName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(object);
    }

    fn has(&self, object: &ObjectName) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(object)
    }

    /// Tells the zones which objects are the warehouse's own: segments that it signed, and what its catalogs know.
    pub(crate) fn vouch(self: &Arc<Self>, installation: InstallationKey) -> Vouch {
        let known = Arc::clone(self);
        Arc::new(move |name, object| {
            if name.is_below(JOURNALS) {
                journal::is_segment(&installation, Role::Warehouse, name, object)
            } else {
                name.is_below(TABLES) && known.has(name)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use base::{SeededEntropy, TableId};
    use bytes::Bytes;
    use seal::InstallationSigner;

    use super::*;

    #[tokio::test]
    async fn files_of_a_rebuild_that_was_interrupted_are_ours() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("products/7");
        std::fs::create_dir_all(&place).unwrap();
        let object = |number: u8| ObjectName::new("tables/7/x", &number.to_string(), &[number]).unwrap();
        for (number, name) in [(1, "catalog.db"), (2, REBUILDING)] {
            let catalog = Catalog::open(&place.join(name)).await.unwrap();
            catalog.stage(TableId::from_bytes([7; 16]), &object(number)).await.unwrap();
            catalog.close().await;
        }
        let vouch = Known::load(directory.path())
            .await
            .vouch(InstallationSigner::generate(&SeededEntropy::new(1)).key());
        let ours = [1, 2, 3].map(|number| vouch(&object(number), &Bytes::from(vec![number])));
        assert_eq!(ours, [true, true, false]);
    }
}
