//! Runs of the scrubber: by itself once a day, and when an operator asks. What the last one found is remembered over restarts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Progress, SLICES, Sample, ScrubReport};
use crate::Zones;
use crate::quorum::pace::Pace;

/// The file in the role's own directory. Lost it costs a run, and nobody knows when the last one was.
const FILE: &str = "scrub.json";
/// More than that is no record of ours.
const MOST_BYTES: u64 = 1 << 20;
/// How long a role may get on with its start before the first run.
const AFTER_START: Duration = Duration::from_secs(300);
/// How often is looked whether it is time.
const LOOK: Duration = Duration::from_secs(60);

/// Scrubs the zones of one role.
#[derive(Debug)]
pub struct Scrubber {
    zones: Arc<Zones>,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    pace: Pace,
    one_at_a_time: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
    progress: watch::Sender<Progress>,
}

/// What is remembered. Frozen as format 1; new fields have defaults.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    format: u32,
    /// The slice that is read next, and those that some zone did not answer for, one bit each.
    next_slice: u32,
    missed: u32,
    last: Option<ScrubReport>,
    last_full: Option<ScrubReport>,
}

impl Scrubber {
    /// Of `zones`, remembering in `directory`, the role's own. Reads one small file.
    pub fn new(zones: Arc<Zones>, directory: &Path, clock: Arc<dyn Clock>) -> Arc<Self> {
        let path = directory.join(FILE);
        let record = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, "what the last scrub found cannot be read, it counts as never done");
            }
            Record::default()
        });
        Arc::new(Self {
            clock,
            path,
            pace: Pace::new(zones.settings.scrub_bytes_per_second),
            one_at_a_time: tokio::sync::Mutex::default(),
            record: Mutex::new(record),
            progress: watch::Sender::default(),
            zones,
        })
    }

    /// Whose zones these are.
    pub fn zones(&self) -> &Arc<Zones> {
        &self.zones
    }

    /// What the last run found.
    pub fn last(&self) -> Option<ScrubReport> {
        self.record().last.clone()
    }

    /// What the last run found that read every copy.
    pub fn last_full(&self) -> Option<ScrubReport> {
        self.record().last_full.clone()
    }

    /// How far the run is that is under way, now and from now on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Runs once a day (by default), until cancelled.
    pub fn spawn(self: &Arc<Self>, cancel: CancellationToken) -> JoinHandle<()> {
        let scrubber = Arc::clone(self);
        tokio::spawn(async move {
            cancel.run_until_cancelled(scrubber.go_on()).await;
        })
    }

    async fn go_on(&self) {
        let every = self.zones.settings.scrub_every;
        tokio::time::sleep(AFTER_START.min(every)).await;
        loop {
            if self.is_due(self.clock.now()) {
                self.run(false).await;
            }
            tokio::time::sleep(LOOK.min(every)).await;
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let Some(last) = self.last().map(|last| Timestamp::from_micros(last.ended_at)) else {
            return true;
        };
        // A run that ended in the future ended by a clock that was wrong.
        last > now || now.since(last) >= self.zones.settings.scrub_every
    }

    /// Compares everything; reads all copies, or those that are next. Waits while another run is under way.
    pub async fn run(&self, full: bool) -> ScrubReport {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let (sample, expected) = {
            let record = self.record();
            let sample = if full { Sample::ALL } else { next(&record) };
            (sample, record.last.as_ref().map_or(0, |last| last.objects))
        };
        let running = Running(&self.progress);
        self.progress.send_replace(Progress {
            running: true,
            expected,
            ..Progress::default()
        });
        let began_at = self.clock.now().as_micros();
        let mut report = self.zones.scrub(sample, &self.pace, &self.progress).await;
        (report.began_at, report.ended_at, report.full) = (began_at, self.clock.now().as_micros(), full);
        drop(running);
        self.keep(&report, sample);
        say(&report);
        report
    }

    fn keep(&self, report: &ScrubReport, sample: Sample) {
        let record = {
            let mut record = self.record();
            record.format = 1;
            record.missed = if report.zones.iter().all(|zone| zone.silent.is_empty()) {
                record.missed & !sample.0
            } else {
                record.missed | sample.0
            };
            if report.full {
                record.last_full = Some(report.clone());
            } else {
                record.next_slice = (record.next_slice + 1) % SLICES;
            }
            record.last = Some(report.clone());
            record.clone()
        };
        // Written rarely and small; a run is long over when it is missed.
        if let Err(error) = write(&self.path, &record) {
            tracing::warn!(%error, "what the scrub found could not be noted; it will be forgotten at the next start");
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run is under way while this lives, whether it ends or is broken off.
struct Running<'a>(&'a watch::Sender<Progress>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|progress| progress.running = false);
    }
}

/// The slice whose turn it is, and one of those that were missed.
fn next(record: &Record) -> Sample {
    let missed = record.missed & Sample::ALL.0;
    Sample(Sample::of_slice(record.next_slice).0 | (missed & missed.wrapping_neg()))
}

fn say(report: &ScrubReport) {
    let (missing, corrupt): (u64, u64) = report
        .zones
        .iter()
        .fold((0, 0), |(missing, corrupt), zone| (missing + zone.missing, corrupt + zone.corrupt));
    let objects = report.objects;
    tracing::info!(
        objects,
        read = report.read,
        missing,
        corrupt,
        foreign = report.foreign.count,
        "scrubbed {objects} objects: {missing} copies were missing and {corrupt} wrong"
    );
    for name in &report.lost.first {
        tracing::error!(object.name = %name, "no zone has a good copy of {name}");
    }
}

fn read(path: &Path) -> io::Result<Record> {
    if fs::symlink_metadata(path)?.len() > MOST_BYTES {
        return Err(io::Error::other("it is too long"));
    }
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    if record.format != 1 {
        return Err(io::Error::other("it has a format that this program does not know"));
    }
    Ok(record)
}

/// Whole and durable, or not at all.
fn write(path: &Path, record: &Record) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
