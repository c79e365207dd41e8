//! What happened, in order, and a digest of it: two runs of one seed have the same.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::time::SimulatedTime;
use zones::ObjectName;

/// How many lines are kept at most when they are asked for.
const LINES: usize = 200_000;

/// Everything noted so far.
#[derive(Debug)]
pub(crate) struct Trace(Mutex<Noted>);

#[derive(Debug)]
struct Noted {
    hash: blake3::Hasher,
    count: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// With `keep`, its lines can be had afterwards.
    pub(crate) fn new(keep: bool) -> Self {
        Self(Mutex::new(Noted {
            hash: blake3::Hasher::new(),
            count: 0,
            lines: keep.then(Vec::new),
        }))
    }

    /// Notes what happens now.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>10} {what}", SimulatedTime::passed().as_millis());
        let mut noted = self.noted();
        noted.hash.update(line.as_bytes());
        noted.hash.update(b"\n");
        noted.count += 1;
        if let Some(lines) = noted.lines.as_mut().filter(|lines| lines.len() < LINES) {
            lines.push(line);
        }
    }

    /// The digest of all that was noted, and how many lines it was.
    pub(crate) fn digest(&self) -> (String, u64) {
        let noted = self.noted();
        (noted.hash.finalize().to_hex()[..16].to_owned(), noted.count)
    }

    /// The lines, if they were kept.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.noted().lines.take().unwrap_or_default()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name without its digest: of what was sealed that is another in each run, because sealing draws on the machine's chance.
pub(crate) fn short(name: &ObjectName) -> String {
    let id = name.id();
    // The id of a grave ends in the digest of its object.
    let id = id.split_once('.').map_or(id, |(id, _)| id);
    format!("{}/{id}", name.prefix())
}
