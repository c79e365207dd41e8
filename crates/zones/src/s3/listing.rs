//! Listing a zone at once: a page at a time where the store keeps the order of names, else as a whole for every page. In steps, see
//! `gathering`.
//!
//! Amazon's stores list keys in the order of their bytes; one that keeps files in directories may not. Which of the two a store is
//! shows when it is tried out, at every start. A page that is out of order all the same is not believed.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use http::{Method, StatusCode};

use super::Inner;
use super::answers::{self, Page};
use super::client::Ask;
use super::transport::Whole;
use crate::name::is_prefix;
use crate::{ObjectName, ZoneError};

/// What one page may have: a thousand keys, each character of which may be written as three.
const PAGE: u64 = 8 << 20;
/// How many keys a store gives at once, at most.
pub(super) const KEYS: usize = 1000;
/// More pages than a zone has.
pub(super) const PAGES: usize = 100_000;

/// Which page is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin<'a> {
    First,
    /// The keys after this one.
    After(&'a str),
    /// Where the page before it ended.
    Token(&'a str),
}

/// What the names below a prefix begin with.
pub(super) fn below(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{prefix}/") }
}

impl Inner {
    pub(super) async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        if !is_prefix(prefix) || most == 0 {
            return Ok(Vec::new());
        }
        let below = below(prefix);
        // All of it needs no order.
        let in_order = most != usize::MAX && self.ordered.load(Ordering::SeqCst);
        let mut names = None;
        if in_order {
            names = self.in_order(&below, after, most).await?;
        }
        let names = match names {
            Some(names) => names,
            None => self.in_any_order(&below, after, most).await?,
        };
        // A bucket that was emptied while it was listed must not pass for a zone with fewer objects.
        self.check_marker().await?;
        Ok(names)
    }

    /// Nothing when the store does not keep the order after all.
    async fn in_order(&self, below: &str, after: &str, most: usize) -> Result<Option<Vec<ObjectName>>, ZoneError> {
        let mut names = Vec::new();
        let mut last = self.parts.address.key(after);
        for _ in 0..PAGES {
            let wanted = (most - names.len()).saturating_add(1).min(KEYS);
            let from = if last.is_empty() { Begin::First } else { Begin::After(&last) };
            let page = self.page(below, from, wanted).await?;
            for key in &page.keys {
                if *key <= last {
                    self.is_out_of_order();
                    return Ok(None);
                }
                last.clone_from(key);
                names.extend(self.object(key, below).filter(|name| name.as_str() > after));
                if names.len() == most {
                    return Ok(Some(names));
                }
            }
            if page.next.is_none() {
                return Ok(Some(names));
            }
            if page.keys.is_empty() {
                break;
            }
        }
        Err(self.endless())
    }

    /// Looks at everything, and keeps the first `most`.
    async fn in_any_order(&self, below: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        let mut names = BTreeSet::new();
        let mut token: Option<String> = None;
        // After Brent: where the pages go round in a circle, one that was marked comes again.
        let mut marked: Option<String> = None;
        for count in 1..=PAGES {
            let from = token.as_deref().map_or(Begin::First, Begin::Token);
            let page = self.page(below, from, KEYS).await?;
            for key in &page.keys {
                names.extend(self.object(key, below).filter(|name| name.as_str() > after));
                if names.len() > most {
                    names.pop_last();
                }
            }
            if page.next.is_none() {
                return Ok(names.into_iter().collect());
            }
            if page.next == token || page.next == marked {
                break;
            }
            token = page.next;
            if count.is_power_of_two() {
                marked.clone_from(&token);
            }
        }
        Err(self.endless())
    }

    pub(super) fn is_out_of_order(&self) {
        tracing::warn!(zone = %self.parts.name, "the store of zone {} does not list in order", self.parts.name);
        self.ordered.store(false, Ordering::SeqCst);
    }

    /// The object of that key, if it is one and lies there.
    pub(super) fn object(&self, key: &str, below: &str) -> Option<ObjectName> {
        let name = self.parts.address.name(key)?;
        ObjectName::checked(name).ok().filter(|_| name.starts_with(below))
    }

    /// At most `most` keys of what lies in the zone and begins with `below`.
    pub(super) async fn page(&self, below: &str, from: Begin<'_>, most: usize) -> Result<Page, ZoneError> {
        let (prefix, most) = (self.parts.address.key(below), most.to_string());
        let mut query = vec![
            ("list-type", "2"),
            ("encoding-type", "url"),
            ("prefix", prefix.as_str()),
            ("max-keys", most.as_str()),
        ];
        query.extend(match from {
            Begin::First => None,
            Begin::After(key) => Some(("start-after", key)),
            Begin::Token(token) => Some(("continuation-token", token)),
        });
        let mut ask = Ask::new(Method::GET, None, self.parts.read_timeout);
        ask.query = &query;
        ask.most = PAGE;
        let answer = self.send(ask).await?;
        match (answer.status, &answer.body) {
            (StatusCode::OK, Whole::Bytes(xml)) => answers::page(xml).ok_or_else(|| self.down("its listing cannot be read")),
            (StatusCode::OK, Whole::Longer(_)) => Err(self.down("a page of its listing is too long")),
            _ => Err(self.refused(&answer)),
        }
    }

    /// All keys that begin with `below`, of which there are few.
    pub(super) async fn few(&self, below: &str, from: Begin<'_>) -> Result<Vec<String>, ZoneError> {
        let first = self.page(below, from, KEYS).await?;
        let (mut keys, mut next) = (first.keys, first.next);
        for _ in 0..8 {
            let Some(token) = next else { return Ok(keys) };
            let page = self.page(below, Begin::Token(&token), KEYS).await?;
            keys.extend(page.keys);
            next = page.next;
        }
        Err(self.endless())
    }

    pub(super) fn endless(&self) -> ZoneError {
        self.down("its listing has no end")
    }
}
