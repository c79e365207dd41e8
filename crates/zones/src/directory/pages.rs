//! Listing a directory tree page by page, in the order of the objects' names.
//!
//! Promise: a page costs the memory of a page for each level of the tree, however much lies in it. Where a directory has more
//! entries than that, it is read again for the next of them.

use std::collections::BinaryHeap;
use std::io::ErrorKind as Io;
use std::path::Path;

use super::Inner;
use crate::disk::EntryKind;
use crate::name::{MAX_NAME, is_prefix};
use crate::{ObjectName, ZoneError};

/// Fewer entries than this are not worth reading a directory again for.
const LEAST: usize = 64;

/// An entry as its place in the order of names demands: that of a directory ends in a slash.
type Key = String;

struct Page<'a> {
    after: &'a str,
    most: usize,
    names: Vec<ObjectName>,
}

impl Inner {
    pub(super) fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        self.check_marker()?;
        let mut page = Page {
            after,
            most,
            names: Vec::new(),
        };
        if is_prefix(prefix) {
            let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            self.add(&below, &mut page)?;
        }
        // A zone that went away while it was listed must not pass for one with fewer objects.
        self.check_marker()?;
        Ok(page.names)
    }

    /// Adds what lies below `directory`, which ends in a slash unless it is the root.
    fn add(&self, directory: &str, page: &mut Page<'_>) -> Result<(), ZoneError> {
        let (after, room) = (page.after, page.most.saturating_sub(page.names.len()).max(LEAST));
        // All of it comes after, none of it does, or what comes after stands in it.
        let mut floor = after.strip_prefix(directory).unwrap_or_default().to_owned();
        if floor.is_empty() && after > directory {
            return Ok(());
        }
        // The directory in which the last name lies is gone through again.
        let mut again = floor.split_once('/').map(|(first, _)| format!("{first}/"));
        loop {
            let entries = self.entries_after(directory, &floor, again.take().as_deref(), room)?;
            let is_last = entries.len() < room;
            for key in entries {
                if page.names.len() >= page.most {
                    return Ok(());
                }
                let path = format!("{directory}{key}");
                if key.ends_with('/') {
                    self.add(&path, page)?;
                } else {
                    page.names.extend(ObjectName::checked(&path));
                }
                floor = key;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The first `most` entries of a directory after `floor`, sorted; `also` is taken for one that comes after it.
    fn entries_after(&self, directory: &str, floor: &str, also: Option<&str>, most: usize) -> Result<Vec<Key>, ZoneError> {
        let mut first: BinaryHeap<Key> = BinaryHeap::new();
        let each = self.disk.each(Path::new(directory), &mut |entry| {
            let key = match entry.kind {
                EntryKind::Directory => format!("{}/", entry.name),
                EntryKind::File => entry.name,
                EntryKind::Other => return,
            };
            let wanted = key.as_str() > floor || also == Some(&key);
            if !wanted || first.len() >= most && first.peek().is_some_and(|last| key > *last) {
                return;
            }
            // Longer paths than that lead to no object.
            let is_way = |name: &str| directory.len() + name.len() < MAX_NAME && is_prefix(name);
            if key.strip_suffix('/').is_none_or(is_way) {
                first.push(key);
            }
            if first.len() > most {
                first.pop();
            }
        });
        match each {
            Err(error) if error.kind() == Io::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.down(&error)),
            Ok(()) => Ok(first.into_sorted_vec()),
        }
    }
}
