//! What is asked again and again by the same caller, about the same thing, recorded once: whoever follows the journal would else be all that it says.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{CredentialId, ProductId, Timestamp};

use crate::draft::{Draft, Object, Who};

/// So many are told apart; of more each is recorded.
const MOST: usize = 10_000;

type Key = (Who, Option<CredentialId>, Option<ProductId>, String, Option<String>);

/// Counts what is repeated, by who asks, on whose behalf, what, and about which product.
#[derive(Debug)]
pub struct Repeated {
    span: Duration,
    counted: BTreeMap<Key, (Timestamp, u64, Draft)>,
}

impl Repeated {
    /// What is asked again within `span` of the first time is counted.
    pub fn within(span: Duration) -> Self {
        Self {
            span,
            counted: BTreeMap::new(),
        }
    }

    /// Gives the draft back if it is to be recorded by itself; else it is counted.
    pub fn admit(&mut self, draft: Draft) -> Option<Draft> {
        let object = match &draft.object {
            Object::None => None,
            Object::Name(name) => Some(name.clone()),
            // Of what is hidden it is not said whether it is the same.
            Object::Hidden(_) => return Some(draft),
        };
        let key = (draft.who, draft.on_behalf, draft.product, draft.method.clone(), object);
        if let Some((_, count, last)) = self.counted.get_mut(&key) {
            *count += 1;
            *last = draft;
            return None;
        }
        if self.counted.len() < MOST {
            self.counted.insert(key, (draft.at, 0, draft.clone()));
        }
        Some(draft)
    }

    /// What was only counted, as one record for each, once its time is over. A clock that went back ends it as well.
    pub fn due(&mut self, now: Timestamp) -> Vec<Draft> {
        let span = self.span;
        let over = |since: Timestamp| now < since || now.since(since) >= span;
        let ended: Vec<_> = self.counted.extract_if(.., |_, (since, _, _)| over(*since)).collect();
        ended.into_iter().filter_map(|(_, counted)| summary(counted)).collect()
    }

    /// All of it, now.
    pub fn rest(&mut self) -> Vec<Draft> {
        std::mem::take(&mut self.counted).into_values().filter_map(summary).collect()
    }
}

fn summary((_, count, last): (Timestamp, u64, Draft)) -> Option<Draft> {
    (count > 0).then_some(Draft {
        request: None,
        pass: None,
        count,
        ..last
    })
}
