//! Drills: the operator takes a zone of the role away, through the local socket, and sees what comes of it.
//!
//! Knows nothing of zones: a role that has some says once what to call.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::ErrorKind;
use tonic::{Response, Status};
use wire::v1::{DrillZoneRequest, DrillZoneResponse};

/// What is asked of a zone: its name, how it is away, and for how long; zero brings it back.
type DrillZone = Box<dyn Fn(&str, &str, Duration) -> Result<(), (ErrorKind, String)> + Send + Sync>;

/// Takes a zone away, or brings it back.
#[derive(Clone, Default)]
pub struct Drills(Arc<OnceLock<DrillZone>>);

impl Drills {
    /// From now on `drill` is called when the operator asks for it. Only the first call counts.
    pub fn by(&self, drill: impl Fn(&str, &str, Duration) -> Result<(), (ErrorKind, String)> + Send + Sync + 'static) {
        if self.0.set(Box::new(drill)).is_err() {
            tracing::warn!("the zones of this role were given to drills twice, the first stay");
        }
    }

    pub(crate) fn answer(&self, request: &DrillZoneRequest) -> Result<Response<DrillZoneResponse>, Status> {
        let Some(drill) = self.0.get() else {
            return Err(crate::status(
                ErrorKind::Unavailable,
                "this role has no zones, or has not opened them yet",
            ));
        };
        match drill(&request.zone, &request.absence, Duration::from_secs(request.seconds.into())) {
            Ok(()) => Ok(Response::new(DrillZoneResponse {})),
            Err((kind, why)) => Err(crate::status(kind, why)),
        }
    }
}

impl fmt::Debug for Drills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drills")
    }
}
