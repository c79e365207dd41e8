//! Faults planted in twins of the code, to show that the search finds such.

use std::fmt;
use std::str::FromStr;

/// A fault that is planted in all processes of a simulation. Chosen by whoever calls the code, never by an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A zone says that it has an object as soon as it was sent.
    AcknowledgedTooEarly,
    /// What fewer zones than a majority took is not taken back.
    NothingWithdrawn,
    /// Graves are not looked at, so that what was deleted comes back with a zone that was away.
    GravesIgnored,
    /// A writer goes on where its predecessor had begun, as if it had not looked.
    StaleWriter,
    /// A flush says that batches are in a file before that is in the zones.
    CoveredTooEarly,
    /// After a start batches are taken from the journal that are in files already.
    CoverIgnored,
    /// After a change nobody looks whether a later process has taken the store over.
    FencePassed,
}

impl Plant {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::AcknowledgedTooEarly,
        Self::NothingWithdrawn,
        Self::GravesIgnored,
        Self::StaleWriter,
        Self::CoveredTooEarly,
        Self::CoverIgnored,
        Self::FencePassed,
    ];

    /// Its name on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AcknowledgedTooEarly => "acknowledged-too-early",
            Self::NothingWithdrawn => "nothing-withdrawn",
            Self::GravesIgnored => "graves-ignored",
            Self::StaleWriter => "stale-writer",
            Self::CoveredTooEarly => "covered-too-early",
            Self::CoverIgnored => "cover-ignored",
            Self::FencePassed => "fence-passed",
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Plant {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self, anyhow::Error> {
        let known = Self::ALL.iter().find(|plant| plant.as_str() == text);
        known.copied().ok_or_else(|| {
            anyhow::anyhow!(
                "no fault is called {text:?}; there are {}",
                Self::ALL.iter().map(|plant| plant.as_str()).collect::<Vec<_>>().join(", ")
            )
        })
    }
}
