//! Whether two products have anything in common by which somebody who is in both could be told.
//!
//! Everything that is kept of people, or made of them while a lease lasts, is a value of some kind: ids, rows as they are sealed, what identities
//! are looked up by, people's keys, the keyrings. Two products may have in common what an identity is, and nothing else.

use std::collections::{BTreeMap, HashSet};

use base::{ProductId, Secret};
use seal::{DataKey, SealError, keyed_hash};

use super::{AT_ONCE, Keys, ProveError, ProveParts, keys, view_of};
use crate::keys::ProductKeys;
use crate::ring::Ring;
use crate::view::View;

/// How many values are held at once; of more, some are compared at a time.
const MOST: u64 = 8_000_000;
/// Values of somebody, in the mean: id, row, key, and three of an identity.
const EACH: u64 = 6;

/// Kinds of values.
const IDENTITIES: &str = "identities";
const IDS: &str = "person ids";
const ROWS: &str = "sealed rows";
const PERSONAL: &str = "keys of personal values";
const LOOKUPS: &str = "lookup hashes";
const RECEIPTS: &str = "receipt hashes";
const KEYS: &str = "keys of the product";

/// What two products have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alike {
    /// How many people are kept of each.
    pub people: [u64; 2],
    /// How many values of both were compared.
    pub compared: u64,
    /// How many identities are known in both: those by which something in common would show.
    pub identities: u64,
    /// How many values of each other kind are in both: of each kind there has to be none.
    pub common: BTreeMap<&'static str, u64>,
}

/// Compares everything that is kept of the people of two products.
pub async fn unlinkable(parts: &ProveParts<'_>, of: [ProductId; 2]) -> Result<Alike, ProveError> {
    let mut both = Vec::new();
    for product in of {
        let handed = parts.handed.products.iter().find(|handed| handed.product == product.get());
        let keys = keys(handed.ok_or(ProveError::NoProduct(product.get()))?)?;
        both.push(Values::of(parts, keys).await?);
    }
    let compared = compare(&both[0], &both[1], &DataKey::generate(parts.entropy)).await;
    for (view, _) in both.iter().filter_map(|values| values.view.as_ref()) {
        view.close().await;
    }
    compared
}

async fn compare(first: &Values, second: &Values, by: &DataKey) -> Result<Alike, ProveError> {
    let mut alike = Alike {
        people: [first.count().await?, second.count().await?],
        common: [IDS, ROWS, PERSONAL, LOOKUPS, RECEIPTS, KEYS].map(|kind| (kind, 0)).into(),
        ..Alike::default()
    };
    let turns = (alike.people[0].saturating_mul(EACH)).div_ceil(MOST).max(1);
    for turn in 0..turns {
        let mut seen: HashSet<u128> = HashSet::new();
        let mut compared = 0;
        first
            .each(&mut |kind, value| {
                let mark = mark(by, kind, value);
                if turn_of(mark, turns) == turn {
                    seen.insert(mark);
                    compared += 1;
                }
            })
            .await?;
        second
            .each(&mut |kind, value| {
                let mark = mark(by, kind, value);
                if turn_of(mark, turns) != turn {
                    return;
                }
                compared += 1;
                if !seen.contains(&mark) {
                    return;
                }
                match kind {
                    IDENTITIES => alike.identities += 1,
                    kind => *alike.common.entry(kind).or_default() += 1,
                }
            })
            .await?;
        alike.compared += compared;
    }
    Ok(alike)
}

/// Stands for a value. Under a key that is made for the comparison and goes with it.
fn mark(by: &DataKey, kind: &str, value: &[u8]) -> u128 {
    let hash = keyed_hash(by, &[kind.as_bytes(), &[0], value].concat());
    u128::from_be_bytes(std::array::from_fn(|at| hash[at]))
}

fn turn_of(mark: u128, turns: u64) -> u64 {
    (mark >> 64) as u64 % turns
}

/// All values of one product.
struct Values {
    keys: Keys,
    product: ProductKeys,
    view: Option<(View, Option<Ring>)>,
}

impl Values {
    async fn of(parts: &ProveParts<'_>, keys: Keys) -> Result<Self, ProveError> {
        let (file, product) = (view_of(&parts.directory, keys.product), keys.product);
        let failed = ProveError::view(product);
        let view = if file.exists() {
            let view = View::look(&file).await.map_err(&failed)?;
            let does_not_open = |source| ProveError::DoesNotOpen { product, source };
            let ring = match view.ring().await.map_err(&failed)? {
                None => None,
                Some(sealed) => {
                    let source = SealError::DoesNotOpen { what: "keyring of people" };
                    let key = keys.people.get(&sealed.epoch).ok_or_else(|| does_not_open(source))?;
                    Some(Ring::open(product, &sealed, key).map_err(does_not_open)?)
                }
            };
            Some((view, ring))
        } else {
            None
        };
        Ok(Self {
            product: ProductKeys::new(product, keys.lookup.clone(), keys.people.clone(), 1),
            keys,
            view,
        })
    }

    async fn count(&self) -> Result<u64, ProveError> {
        match &self.view {
            Some((view, _)) => view.count().await.map_err(ProveError::view(self.keys.product)),
            None => Ok(0),
        }
    }

    /// Tells of every value, with its kind.
    async fn each(&self, tell: &mut dyn FnMut(&'static str, &[u8])) -> Result<(), ProveError> {
        let failed = ProveError::view(self.keys.product);
        tell(KEYS, self.keys.lookup.reveal());
        self.keys.people.values().for_each(|key| tell(KEYS, key.reveal()));
        let Some((view, ring)) = &self.view else { return Ok(()) };
        let mut last = 0;
        loop {
            let erased = view.erased_after(last, AT_ONCE).await.map_err(&failed)?;
            let Some(end) = erased.last() else { break };
            last = *end;
            erased.iter().for_each(|id| tell(IDS, &id.to_be_bytes()));
        }
        let Some(ring) = ring else { return Ok(()) };
        ring.keys().for_each(|key| tell(KEYS, key.reveal()));
        let mut last = 0;
        loop {
            let rows = view.persons_after(last, AT_ONCE).await.map_err(&failed)?;
            let Some((end, _)) = rows.last() else { break };
            last = end.get();
            for (id, row) in &rows {
                tell(IDS, &id.get().to_be_bytes());
                tell(ROWS, row);
                let person = ring.open_person(*id, row).map_err(|source| ProveError::DoesNotOpen {
                    product: self.keys.product,
                    source,
                })?;
                tell(PERSONAL, person.key.reveal());
                for known in &person.identities {
                    self.identity(&known.identity, tell);
                }
            }
        }
        Ok(())
    }

    fn identity(&self, identity: &Secret, tell: &mut dyn FnMut(&'static str, &[u8])) {
        tell(IDENTITIES, identity.reveal().as_bytes());
        tell(LOOKUPS, &self.product.hash(identity));
        tell(RECEIPTS, &self.product.receipt_hash(identity));
    }
}
