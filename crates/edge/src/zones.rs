//! How a role's zones are, for the operator's eyes; and the scrubber that looks after them.
//!
//! Start at [`ZoneReport::look_after`], which a role with zones calls once. The service is the same for every role: one without zones says
//! that it has none.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::zones::{Circuit, Named, Progress, ScrubReport, Scrubber, ZoneState, Zones};
use base::{Clock, ErrorKind, Timestamp};
use futures::{Stream, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::v1::role_zones_server::{RoleZones, RoleZonesServer};
use wire::v1::{ScrubNames, ScrubRequest, ScrubRun, ScrubUpdate, ScrubbedZone, ZoneHealth, ZoneStatus, ZonesRequest, ZonesResponse};

use crate::{Metrics, RoleContext, status};

/// How often an operator hears how far a run is.
const TELL: Duration = Duration::from_millis(200);

/// Tells the operator how the role's zones are. A role that has zones says once which.
#[derive(Clone, Default)]
pub struct ZoneReport(Arc<OnceLock<Kept>>);

struct Kept {
    scrubber: Arc<Scrubber>,
    since: Timestamp,
}

impl RoleContext {
    /// From now on the role's zones are shown to its operator and scrubbed once a day. Only the first call counts.
    pub fn look_after(&self, zones: &Arc<Zones>) {
        self.zones.look_after(zones, &self.directory, &self.clock, self.cancel.clone());
    }
}

impl ZoneReport {
    fn look_after(&self, zones: &Arc<Zones>, directory: &Path, clock: &Arc<dyn Clock>, cancel: CancellationToken) {
        let scrubber = Scrubber::new(Arc::clone(zones), directory, Arc::clone(clock));
        let kept = Kept {
            scrubber: Arc::clone(&scrubber),
            since: clock.now(),
        };
        if self.0.set(kept).is_err() {
            return tracing::warn!("the zones of this role were reported twice, the first report stays");
        }
        scrubber.spawn(cancel);
    }

    /// How they are now, in a line each.
    pub(crate) fn in_short(&self) -> Vec<ZoneStatus> {
        let short = |zone: ZoneState| ZoneStatus {
            name: zone.name,
            up: zone.up,
            detail: zone.detail,
            waiting: zone.waiting as u64,
        };
        self.states().into_iter().map(short).collect()
    }

    /// Brings what is counted up to date.
    pub(crate) fn measure(&self, metrics: &Metrics) {
        type Measure = (&'static str, &'static str, fn(&ZoneState) -> u64);
        const ALL: [Measure; 9] = [
            ("zone_up", "whether the zone works", |zone| u64::from(zone.up)),
            (
                "zone_circuit_open",
                "whether nothing is written to the zone because it kept failing",
                |zone| u64::from(zone.circuit != Circuit::Closed),
            ),
            ("zone_waiting_objects", "objects known to wait to be copied to the zone", |zone| {
                zone.waiting as u64
            }),
            ("zone_waiting_bytes", "their bytes, as far as known", |zone| zone.waiting_bytes),
            (
                "zone_waiting_since_seconds",
                "since when the oldest of them waits, in seconds since 1970, 0 for none",
                |zone| {
                    zone.waiting_since
                        .map_or(0, |since| u64::try_from(since.as_secs()).unwrap_or_default())
                },
            ),
            ("zone_missing_found", "objects found missing in the zone since the start", |zone| {
                zone.missing
            }),
            ("zone_corrupt_found", "copies found wrong in the zone since the start", |zone| {
                zone.corrupt
            }),
            ("zone_repaired", "copies replaced in the zone since the start", |zone| zone.repaired),
            (
                "zone_read_p95_microseconds",
                "what 95 of its last 100 reads did not exceed",
                |zone| zone.read_p95.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            ),
        ];
        for zone in self.states() {
            for (name, help, of) in ALL {
                let gauge = metrics.gauges(name, help);
                let label = vec![("zone", zone.name.clone())];
                gauge.get_or_create(&label).set(i64::try_from(of(&zone)).unwrap_or(i64::MAX));
            }
        }
    }

    /// The service, for the role's local socket. What streams ends with `cancel`.
    pub(crate) fn service(&self, cancel: CancellationToken) -> RoleZonesServer<Service> {
        RoleZonesServer::new(Service {
            report: self.clone(),
            cancel,
        })
    }

    fn states(&self) -> Vec<ZoneState> {
        self.0.get().map(|kept| kept.scrubber.zones().status()).unwrap_or_default()
    }
}

impl fmt::Debug for ZoneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ZoneReport")
    }
}

pub(crate) struct Service {
    report: ZoneReport,
    cancel: CancellationToken,
}

type Updates = Pin<Box<dyn Stream<Item = Result<ScrubUpdate, Status>> + Send>>;

#[async_trait::async_trait]
impl RoleZones for Service {
    type ScrubStream = Updates;

    async fn status(&self, _: Request<ZonesRequest>) -> Result<Response<ZonesResponse>, Status> {
        let Some(kept) = self.report.0.get() else {
            return Ok(Response::new(ZonesResponse::default()));
        };
        Ok(Response::new(ZonesResponse {
            zones: self.report.states().into_iter().map(health).collect(),
            counted_since: kept.since.as_micros(),
            last_scrub: kept.scrubber.last().map(run),
            last_full: kept.scrubber.last_full().map(run),
            scrubbing: kept.scrubber.progress().borrow().running,
        }))
    }

    async fn scrub(&self, request: Request<ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        let Some(kept) = self.report.0.get() else {
            // A role that has zones has them from early in its start.
            return Err(status(ErrorKind::Unavailable, "the role has no zones, or has not opened them yet"));
        };
        let (scrubber, full, cancel) = (Arc::clone(&kept.scrubber), request.into_inner().full, self.cancel.clone());
        let progress = scrubber.progress();
        // It goes on when whoever asked goes away: what was begun is put right, and remembered.
        let running = tokio::spawn(async move { cancel.run_until_cancelled(scrubber.run(full)).await });
        Ok(Response::new(updates(progress, running, self.cancel.clone())))
    }
}

fn updates(progress: watch::Receiver<Progress>, running: JoinHandle<Option<ScrubReport>>, cancel: CancellationToken) -> Updates {
    Box::pin(stream::unfold(
        (progress, Some(running), cancel),
        |(progress, running, cancel)| async move {
            let mut running = running?;
            tokio::select! {
                () = cancel.cancelled() => None,
                ended = &mut running => {
                    let update = match ended {
                        Ok(Some(report)) => Ok(ScrubUpdate { ended: Some(run(report)), ..ScrubUpdate::default() }),
                        _ => Err(status(ErrorKind::Unavailable, "the role stopped before the scrub was done")),
                    };
                    Some((update, (progress, None, cancel)))
                }
                () = sleep(TELL) => {
                    let now = *progress.borrow();
                    let update = ScrubUpdate {
                        objects: now.objects,
                        expected: now.expected,
                        bytes: now.bytes,
                        faults: now.faults,
                        ended: None,
                    };
                    Some((Ok(update), (progress, Some(running), cancel)))
                }
            }
        },
    ))
}

fn health(zone: ZoneState) -> ZoneHealth {
    ZoneHealth {
        state: zone.condition.as_str().into(),
        since: zone.since.as_micros(),
        circuit: zone.circuit.as_str().into(),
        next_try_ms: zone.next_try.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        waiting: zone.waiting as u64,
        waiting_bytes: zone.waiting_bytes,
        waiting_since: zone.waiting_since.map_or(0, Timestamp::as_micros),
        compare: zone.compare,
        missing: zone.missing,
        corrupt: zone.corrupt,
        repaired: zone.repaired,
        read_p95_us: zone.read_p95.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        name: zone.name,
        detail: zone.detail,
    }
}

fn run(report: ScrubReport) -> ScrubRun {
    let complete = report.is_complete();
    let zone = |zone: ::zones::ScrubbedZone| ScrubbedZone {
        name: zone.name,
        silent: zone.silent,
        objects: zone.objects,
        missing: zone.missing,
        corrupt: zone.corrupt,
        repaired: zone.repaired,
    };
    let names = |named: Named| {
        Some(ScrubNames {
            count: named.count,
            first: named.first,
        })
    };
    ScrubRun {
        began_at: report.began_at,
        ended_at: report.ended_at,
        full: report.full,
        objects: report.objects,
        read: report.read,
        bytes: report.bytes,
        zones: report.zones.into_iter().map(zone).collect(),
        lost: names(report.lost),
        doubtful: names(report.doubtful),
        foreign: names(report.foreign),
        complete,
    }
}
