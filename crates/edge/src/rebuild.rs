//! Rebuilding what a role owns from its journal: what is ordered, what is told of it, and how a new database takes an old one's place.
//!
//! A role that rebuilds serves nothing but this: the owner of the data directory looks, over the local socket, how far it is.
//! Promise: whoever looks gets every finding, in order, and is told that there are no more only when there are none.
//!
//! Start at [`RebuildLog`]. Does not know what is rebuilt.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::ErrorKind;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};
use wire::v1::rebuild_operator_server::{RebuildOperator, RebuildOperatorServer};
use wire::v1::{RebuildFinding, RebuildLookRequest, RebuildLookResponse};

/// How many findings one answer has.
const AT_ONCE: usize = 1_000;
/// How many days of a table are told of one by one; of more, only the whole.
pub const MOST_DAYS: usize = 10_000;

/// What a role is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Compare what the journal says with what was made of it.
    pub verify: bool,
    /// Change nothing: compare with what is there.
    pub compare_only: bool,
}

/// What a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Two that should be the same are not.
    Different,
    /// Something that was stored is missing or wrong.
    Damaged,
    /// Not now; the same again may help.
    Later,
    /// It did not work.
    Failed,
}

impl Finding {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Good, Self::Note, Self::Different, Self::Damaged, Self::Later, Self::Failed];

    /// The word between roles and for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Different => "different",
            Self::Damaged => "damaged",
            Self::Later => "later",
            Self::Failed => "failed",
        }
    }

    /// What a failure of this kind is.
    pub const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Corrupt => Self::Damaged,
            ErrorKind::TooMuch | ErrorKind::Unavailable => Self::Later,
            _ => Self::Failed,
        }
    }
}

/// How far a rebuild is and what it found. Every clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct RebuildLog(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    doing: String,
    done: u64,
    in_all: u64,
    findings: Vec<RebuildFinding>,
    finished: bool,
}

impl RebuildLog {
    /// From now on it does this; `in_all` rows are to be gone through, of which `done` were before.
    pub fn doing(&self, what: impl Into<String>, done: u64, in_all: u64) {
        let mut told = self.told();
        (told.doing, told.done, told.in_all) = (what.into(), done, in_all);
    }

    /// So many more rows are done.
    pub fn advance(&self, rows: u64) {
        self.told().done += rows;
    }

    /// Something was found about something; it has no contents that could be counted.
    pub fn found(&self, about: impl Into<String>, what: Finding, says: impl Into<String>) {
        self.found_in(RebuildFinding {
            about: about.into(),
            state: what.as_str().into(),
            says: says.into(),
            ..RebuildFinding::default()
        });
    }

    /// The same with contents.
    pub fn found_in(&self, finding: RebuildFinding) {
        tracing::info!(
            about = finding.about,
            state = finding.state,
            rows = finding.rows,
            "{}",
            finding.says
        );
        self.told().findings.push(finding);
    }

    /// There is nothing more to come.
    pub fn finish(&self) {
        self.told().finished = true;
    }

    /// What is served to the operator.
    pub fn service(&self) -> RebuildOperatorServer<Looking> {
        RebuildOperatorServer::new(self.looking())
    }

    /// The same without gRPC.
    pub fn looking(&self) -> Looking {
        Looking(self.clone())
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers whoever looks.
#[derive(Debug)]
pub struct Looking(RebuildLog);

#[async_trait::async_trait]
impl RebuildOperator for Looking {
    async fn look(&self, request: Request<RebuildLookRequest>) -> Result<Response<RebuildLookResponse>, Status> {
        let told = self.0.told();
        let from = usize::try_from(request.get_ref().from)
            .unwrap_or(usize::MAX)
            .min(told.findings.len());
        let findings: Vec<_> = told.findings[from..].iter().take(AT_ONCE).cloned().collect();
        let all = from + findings.len() == told.findings.len();
        Ok(Response::new(RebuildLookResponse {
            doing: told.doing.clone(),
            done: told.done,
            in_all: told.in_all,
            findings,
            finished: told.finished && all,
        }))
    }
}

/// Removes a SQLite database that nobody has open, if it is there. Blocks.
pub fn remove_database(path: &Path) -> io::Result<()> {
    for file in [beside(path, "-wal"), beside(path, "-shm"), path.to_owned()] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Puts one SQLite database in another's place, or where there is none. Nobody may have either open. Blocks.
///
/// Broken off at any point, one of the two is there whole: perhaps the old one as it was when its own log was last put into it.
pub fn put_in_place(new: &Path, path: &Path) -> io::Result<()> {
    // What was closed well has neither. A log must never stand beside a database that it is not of.
    for name in ["-wal", "-shm"] {
        if beside(new, name).symlink_metadata().is_ok_and(|meta| meta.len() > 0) {
            return Err(io::Error::other("the new database was not closed"));
        }
        for file in [beside(new, name), beside(path, name)] {
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    File::open(new)?.sync_all()?;
    std::fs::rename(new, path)?;
    for directory in [new.parent(), path.parent()].into_iter().flatten() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_looks_gets_every_finding_and_hears_of_the_end_last() {
        let log = RebuildLog::default();
        log.doing("tables", 5, 100);
        log.advance(7);
        for number in 0..2_500 {
            log.found(number.to_string(), Finding::Good, "");
        }
        log.finish();
        let looking = log.looking();
        let (mut seen, mut looks) = (Vec::new(), 0);
        loop {
            let from = seen.len() as u64;
            let answer = looking.look(Request::new(RebuildLookRequest { from })).await.unwrap().into_inner();
            assert_eq!((answer.done, answer.in_all), (12, 100));
            seen.extend(answer.findings.into_iter().map(|finding| finding.about));
            looks += 1;
            if answer.finished {
                break;
            }
        }
        assert_eq!(looks, 3);
        assert!(seen.iter().enumerate().all(|(at, about)| at.to_string() == *about) && seen.len() == 2_500);
        let beyond = looking.look(Request::new(RebuildLookRequest { from: u64::MAX })).await.unwrap();
        assert!(beyond.into_inner().finished);
    }

    #[test]
    fn a_database_takes_anothers_place_without_its_log() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("new"), "new").unwrap();
        std::fs::write(at("old"), "old").unwrap();
        std::fs::write(at("old-wal"), "log of the old").unwrap();
        put_in_place(&at("new"), &at("old")).unwrap();
        assert_eq!(std::fs::read_to_string(at("old")).unwrap(), "new");
        assert!(!at("old-wal").exists() && !at("new").exists());

        std::fs::write(at("new"), "newer").unwrap();
        std::fs::write(at("new-wal"), "what is not in it yet").unwrap();
        assert!(put_in_place(&at("new"), &at("old")).is_err());
        assert_eq!(std::fs::read_to_string(at("old")).unwrap(), "new");
        remove_database(&at("new")).unwrap();
        remove_database(&at("new")).unwrap();
        assert!(!at("new-wal").exists());
    }
}
