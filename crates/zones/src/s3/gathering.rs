//! A listing of a zone in steps, one answer of the store in each: however long all of them take together, no step takes longer than one.
//!
//! Promise: of a store that keeps the order of names as much is asked as a page has; one that does not is gone through once for each
//! [`NAMES`] objects, not once for each page. What is held meanwhile is bounded by [`NAMES`] and [`AT_ONCE`], whoever lists and breaks off.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::Inner;
use super::listing::{Begin, KEYS, PAGES};
use crate::{ObjectName, ZoneError};

/// How many names are kept of a store that lists in no order.
pub(super) const NAMES: usize = 50_000;
/// How many listings may be under way; of one more the oldest is begun anew.
const AT_ONCE: usize = 4;

/// One listing on its way.
#[derive(Debug)]
pub(super) struct Gathering {
    listing: u64,
    below: String,
    /// Names are gathered that come after this.
    after: String,
    names: BTreeSet<ObjectName>,
    /// Whether there were more than are kept.
    cut: bool,
    ended: bool,
    pages: usize,
    token: Option<String>,
    /// After Brent: where the pages go round in a circle, one that was marked comes again.
    marked: Option<String>,
    /// The last key of a store that lists in order; empty before the first.
    last: String,
}

impl Gathering {
    fn new(listing: u64, below: &str, after: &str, last: String) -> Self {
        Self {
            listing,
            below: below.to_owned(),
            after: after.to_owned(),
            names: BTreeSet::new(),
            cut: false,
            ended: false,
            pages: 0,
            token: None,
            marked: None,
            last,
        }
    }

    /// Whether it goes on after this name.
    fn goes_on(&self, below: &str, after: &str) -> bool {
        self.below == below && (self.after == after || (self.ended && self.after.as_str() < after))
    }

    /// The next page of one that has ended; nothing where there is more than was kept.
    fn page(&mut self, after: &str, most: usize) -> Option<Vec<ObjectName>> {
        let names: Vec<ObjectName> = self.names.iter().filter(|name| name.as_str() > after).take(most).cloned().collect();
        if names.len() < most && self.cut {
            return None;
        }
        self.names.retain(|name| names.last().is_some_and(|last| name > last));
        if let Some(last) = names.last() {
            last.as_str().clone_into(&mut self.after);
        }
        Some(names)
    }
}

impl Inner {
    /// One step of a listing: the page, or nothing while there is more to ask.
    pub(super) async fn list_step(
        &self,
        listing: u64,
        below: &str,
        after: &str,
        most: usize,
    ) -> Result<Option<Vec<ObjectName>>, ZoneError> {
        // Taken out while the store is asked: what fails or is given up is not gone on with.
        let known = self.take_gathering(listing).filter(|known| known.goes_on(below, after));
        let in_order = self.ordered.load(Ordering::SeqCst);
        let mut gathering = known.unwrap_or_else(|| Gathering::new(listing, below, after, self.parts.address.key(after)));
        if !gathering.ended {
            if in_order {
                self.gather_in_order(&mut gathering, most).await?;
            } else {
                self.gather_in_any_order(&mut gathering, most.max(self.names_kept.load(Ordering::Relaxed)))
                    .await?;
            }
        }
        if !gathering.ended {
            self.keep_gathering(gathering);
            return Ok(None);
        }
        let Some(names) = gathering.page(after, most) else {
            // What was kept is used up, and there was more.
            self.keep_gathering(Gathering::new(listing, below, after, self.parts.address.key(after)));
            return Ok(None);
        };
        if !in_order && names.len() == most {
            self.keep_gathering(gathering);
        }
        // A bucket that was emptied while it was listed must not pass for a zone with fewer objects.
        self.check_marker().await?;
        Ok(Some(names))
    }

    async fn gather_in_order(&self, gathering: &mut Gathering, most: usize) -> Result<(), ZoneError> {
        let wanted = (most - gathering.names.len().min(most)).saturating_add(1).min(KEYS);
        let from = match gathering.last.as_str() {
            "" => Begin::First,
            last => Begin::After(last),
        };
        let page = self.page(&gathering.below, from, wanted).await?;
        for key in &page.keys {
            if *key <= gathering.last {
                self.is_out_of_order();
                *gathering = Gathering::new(gathering.listing, &gathering.below, &gathering.after, String::new());
                return Ok(());
            }
            gathering.last.clone_from(key);
            let name = self.object(key, &gathering.below);
            gathering.names.extend(name.filter(|name| name.as_str() > gathering.after.as_str()));
            if gathering.names.len() == most {
                gathering.ended = true;
                return Ok(());
            }
        }
        gathering.ended = page.next.is_none();
        gathering.pages += 1;
        if !gathering.ended && (page.keys.is_empty() || gathering.pages > PAGES) {
            return Err(self.endless());
        }
        Ok(())
    }

    async fn gather_in_any_order(&self, gathering: &mut Gathering, most: usize) -> Result<(), ZoneError> {
        let from = gathering.token.as_deref().map_or(Begin::First, Begin::Token);
        let page = self.page(&gathering.below, from, KEYS).await?;
        for key in &page.keys {
            let name = self.object(key, &gathering.below);
            gathering.names.extend(name.filter(|name| name.as_str() > gathering.after.as_str()));
            if gathering.names.len() > most {
                gathering.cut = true;
                gathering.names.pop_last();
            }
        }
        gathering.pages += 1;
        if page.next.is_none() {
            gathering.ended = true;
            return Ok(());
        }
        if page.next == gathering.token || page.next == gathering.marked || gathering.pages > PAGES {
            return Err(self.endless());
        }
        gathering.token = page.next;
        if gathering.pages.is_power_of_two() {
            gathering.marked.clone_from(&gathering.token);
        }
        Ok(())
    }

    fn take_gathering(&self, listing: u64) -> Option<Gathering> {
        let mut all = self.gatherings();
        let at = all.iter().position(|gathering| gathering.listing == listing)?;
        Some(all.remove(at))
    }

    /// The one touched last stands last.
    fn keep_gathering(&self, gathering: Gathering) {
        let mut all = self.gatherings();
        if all.len() >= AT_ONCE {
            all.remove(0);
        }
        all.push(gathering);
    }
}
