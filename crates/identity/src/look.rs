//! Looking into a view with a keyring in hand.

use std::collections::HashMap;
use std::sync::Arc;

use base::PersonId;

use crate::keys::{Hash, ProductKeys};
use crate::ring::{Person, Ring};
use crate::view::{View, ViewError};

/// Fewer are opened sooner than a thread is found for it.
const MANY: usize = 64;
/// Rows in hand at once while all are read.
const AT_ONCE: usize = 50_000;

/// What is kept of these people.
pub(crate) async fn persons(view: &View, ring: &Arc<Ring>, ids: &[PersonId]) -> Result<HashMap<PersonId, Person>, ViewError> {
    let (found, ring) = (view.persons(ids).await?, Arc::clone(ring));
    let many = found.len() > MANY;
    let open = move |(id, sealed): (PersonId, Vec<u8>)| Ok((id, ring.open_person(id, &sealed)?));
    let work = move || found.into_iter().map(open).collect::<Result<HashMap<_, _>, ViewError>>();
    if many {
        tokio::task::spawn_blocking(work).await.map_err(|_| ViewError::Stopping)?
    } else {
        work()
    }
}

/// The hashes of all identities there are, with the ids of those whose they are.
pub(crate) async fn everybody(view: &View, ring: &Arc<Ring>, keys: &Arc<ProductKeys>) -> Result<Vec<(Hash, PersonId)>, ViewError> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let rows = view.persons_after(after, AT_ONCE).await?;
        let Some((last, _)) = rows.last() else { return Ok(all) };
        after = last.get();
        let (ring, keys) = (Arc::clone(ring), Arc::clone(keys));
        let work = move || {
            let mut hashed = Vec::with_capacity(rows.len());
            for (id, sealed) in rows {
                let person = ring.open_person(id, &sealed)?;
                hashed.extend(person.identities.iter().map(|known| (keys.hash(&known.identity), id)));
            }
            Ok::<_, ViewError>(hashed)
        };
        all.extend(tokio::task::spawn_blocking(work).await.map_err(|_| ViewError::Stopping)??);
    }
}
