//! How many refusals are recorded one by one, so that whoever is refused cannot fill the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{ProductId, Timestamp};

use crate::draft::{Draft, Object, Who};

/// So long is counted together.
const SPAN: Duration = Duration::from_secs(60);

/// So many products are counted by themselves at a time; refusals of more are counted together.
const MOST_PRODUCTS: usize = 1_000;

/// Counts refusals by who was refused, by which rule, and about which product, so that nobody who is refused in one product has others'
/// refusals counted only. Callers and rules are from short lists, and products are bounded: so is what is kept.
#[derive(Debug)]
pub struct Bound {
    most: u64,
    counted: BTreeMap<(Who, String, Option<ProductId>), Counted>,
}

#[derive(Debug)]
struct Counted {
    since: Timestamp,
    seen: u64,
    last: Option<Draft>,
}

impl Bound {
    /// At most so many one by one, of one caller, one rule and one product, in a minute.
    pub fn of(most: u64) -> Self {
        Self {
            most,
            counted: BTreeMap::new(),
        }
    }

    /// Gives the draft back if it is to be recorded by itself; else it is counted.
    pub fn admit(&mut self, draft: Draft) -> Option<Draft> {
        let mut key = (draft.who, draft.rule.clone(), draft.product);
        if draft.product.is_some() && self.counted.len() >= MOST_PRODUCTS && !self.counted.contains_key(&key) {
            key.2 = None;
        }
        let counted = self.counted.entry(key).or_insert(Counted {
            since: draft.at,
            seen: 0,
            last: None,
        });
        counted.seen += 1;
        if counted.seen <= self.most {
            return Some(draft);
        }
        counted.last = Some(draft);
        None
    }

    /// What was only counted, as one record for each caller, rule and product, once its minute is over. A clock that went back ends a minute as well.
    pub fn due(&mut self, now: Timestamp) -> Vec<Draft> {
        let over = |counted: &Counted| now < counted.since || now.since(counted.since) >= SPAN;
        let ended: Vec<_> = self.counted.extract_if(.., |_, counted| over(counted)).collect();
        ended
            .into_iter()
            .filter_map(|(key, counted)| self.summary(key.2, counted))
            .collect()
    }

    /// All of it, now.
    pub fn rest(&mut self) -> Vec<Draft> {
        let all = std::mem::take(&mut self.counted);
        all.into_iter().filter_map(|(key, counted)| self.summary(key.2, counted)).collect()
    }

    fn summary(&self, product: Option<ProductId>, counted: Counted) -> Option<Draft> {
        let last = counted.last?;
        Some(Draft {
            object: Object::None,
            request: None,
            pass: None,
            on_behalf: None,
            product,
            count: counted.seen - self.most,
            ..last
        })
    }
}
