//! Why a query was refused or failed, in words for the person who asked.

use std::fmt;
use std::time::Duration;

use base::ErrorKind;
use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::parquet::errors::ParquetError;

use crate::reader::ReadFailure;
use crate::session::CATALOG;
use crate::stop::StopReason;

/// Said when a text was to be compared with a number and is none.
const NOT_A_NUMBER: &str = "a text cannot be read as the type it is compared with or cast to; a column of identities holds numbers: compare it with person_id('…')";

/// Why a query was refused or failed. The messages are for the caller: they name their own tables and columns, and
/// nothing of the machine.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No statement at all.
    #[error("there is no statement to run")]
    Empty,
    /// More than one statement.
    #[error("one statement at a time: this text holds {found}; send them one after the other")]
    Several {
        /// How many there were.
        found: usize,
    },
    /// The text is too long.
    #[error("the statement has {bytes} bytes, at most {most} are read")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// Its tree would be too deep to be walked.
    #[error(
        "the statement is too deep: at most {} queries, and {} words and signs in one expression, are read; write IN (...) instead of a chain of OR, or ask in parts",
        crate::steps::MOST_QUERIES,
        crate::steps::MOST_STEPS
    )]
    TooDeep,
    /// It would become too large a plan: the engine puts named queries wherever they are used.
    #[error(
        "the statement reads more than {} tables, each WITH query counted wherever it is named: name them less often, or ask in parts",
        crate::expansion::MOST_TABLES
    )]
    TooManyTables,
    /// Too many tables side by side.
    #[error(
        "at most {} tables are joined in one FROM: join some of them in a query of their own",
        crate::expansion::MOST_JOINED
    )]
    TooManyJoined,
    /// Something else than a question.
    #[error("{what} is not possible here: {advice}")]
    NotAQuery {
        /// What was asked for.
        what: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// Not SQL.
    #[error("the statement cannot be read: {0}")]
    Syntax(String),
    /// No such database.
    #[error("there is no database {name:?}{near}")]
    UnknownDatabase {
        /// What was asked for.
        name: String,
        /// What there is.
        near: Near,
    },
    /// No such table.
    #[error("there is no table {name:?} in database {database:?}{near}")]
    UnknownTable {
        /// Where it was looked for.
        database: String,
        /// What was asked for.
        name: String,
        /// What there is.
        near: Near,
    },
    /// The statement does not fit the tables, or a value does not fit the statement.
    #[error("{0}")]
    Invalid(String),
    /// It needs more memory than a query may have.
    #[error(
        "the query needs more than {} MiB of memory: read less time, fewer columns, or group by fewer distinct values",
        .limit >> 20
    )]
    TooLarge {
        /// How many bytes it may have.
        limit: usize,
    },
    /// The result is larger than a result may be.
    #[error("the result is larger than {} MiB: add a LIMIT, aggregate, or read less time", .limit >> 20)]
    ResultTooLarge {
        /// How many bytes it may have.
        limit: u64,
    },
    /// It took longer than a query may.
    #[error("the query was stopped after {}: read less time or fewer columns", Seconds(.after))]
    TimedOut {
        /// How long it may take.
        after: Duration,
    },
    /// Somebody stopped it.
    #[error("the query was stopped")]
    Cancelled,
    /// No zone gives what is needed.
    #[error("stored data cannot be reached right now, it is safe to try again")]
    Unavailable,
    /// A damaged copy was found after rows had been handed out.
    #[error("a damaged copy of stored data was found and its repair begun: run the query again")]
    Damaged,
    /// What is stored does not open, and no good copy was found.
    #[error("stored data failed verification, the operator has been told")]
    Corrupt,
    /// A mistake of ours.
    #[error("an error inside the server")]
    Internal,
}

impl QueryError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownDatabase { .. } | Self::UnknownTable { .. } => ErrorKind::NotFound,
            Self::Empty | Self::Several { .. } | Self::NotAQuery { .. } | Self::Syntax(_) | Self::Invalid(_) => ErrorKind::Invalid,
            Self::TooLong { .. }
            | Self::TooDeep
            | Self::TooManyTables
            | Self::TooManyJoined
            | Self::TooLarge { .. }
            | Self::ResultTooLarge { .. }
            | Self::TimedOut { .. } => ErrorKind::TooLarge,
            Self::Cancelled => ErrorKind::Conflict,
            Self::Unavailable | Self::Damaged => ErrorKind::Unavailable,
            Self::Corrupt => ErrorKind::Corrupt,
            Self::Internal => ErrorKind::Internal,
        }
    }

    /// From what the engine says. Its internal errors are logged here, as only their kind goes further.
    pub(crate) fn from_engine(error: &DataFusionError, memory_limit: usize) -> Self {
        let root = error.find_root();
        if let Some(reason) = cause::<StopReason>(root) {
            return (*reason).into();
        }
        if let Some(failure) = cause::<ReadFailure>(root) {
            if matches!(failure, ReadFailure::Memory { .. }) {
                return Self::TooLarge { limit: memory_limit };
            }
            tracing::warn!(error = %failure, "a file was not read");
            return match failure.kind() {
                ErrorKind::Unavailable | ErrorKind::TooMuch => Self::Unavailable,
                _ => Self::Corrupt,
            };
        }
        if is_damage(root) {
            tracing::error!(error = %root, "stored data failed verification");
            return Self::Corrupt;
        }
        // The engine's words show the text, which may be an identity.
        if let DataFusionError::ArrowError(said, _) = root
            && let ArrowError::CastError(said) | ArrowError::ParseError(said) = said.as_ref()
            && said.contains("string")
        {
            return Self::Invalid(NOT_A_NUMBER.to_owned());
        }
        match root {
            DataFusionError::ResourcesExhausted(_) => Self::TooLarge { limit: memory_limit },
            DataFusionError::SQL(said, _) => Self::Syntax(clean(&said.to_string())),
            DataFusionError::Plan(said) | DataFusionError::Execution(said) => Self::Invalid(clean(said)),
            DataFusionError::NotImplemented(said) => Self::Invalid(format!("not supported: {}", clean(said))),
            DataFusionError::SchemaError(said, _) => Self::Invalid(clean(&said.to_string())),
            DataFusionError::ArrowError(said, _) if !matches!(**said, ArrowError::IoError(..)) => Self::Invalid(clean(&said.to_string())),
            DataFusionError::Collection(many) if !many.is_empty() => Self::from_engine(&many[0], memory_limit),
            other => {
                tracing::error!(error = %other, "a query failed inside the engine");
                Self::Internal
            }
        }
    }
}

impl From<StopReason> for QueryError {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Cancelled => Self::Cancelled,
            StopReason::TimedOut { after } => Self::TimedOut { after },
        }
    }
}

/// Whether stored bytes did not open or did not decode.
pub(crate) fn is_damage(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ParquetError(said) => !matches!(**said, ParquetError::External(_)),
        DataFusionError::ArrowError(said, _) => matches!(**said, ArrowError::ParquetError(_)),
        _ => false,
    }
}

/// The error of ours inside one of the engine's, however it was wrapped on the way.
fn cause<T: std::error::Error + 'static>(error: &DataFusionError) -> Option<&T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(match error {
        DataFusionError::External(inner) => inner.as_ref(),
        DataFusionError::ParquetError(inner) => inner.as_ref(),
        DataFusionError::ArrowError(inner, _) => inner.as_ref(),
        _ => return None,
    });
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<ParquetError>() {
            Some(ParquetError::External(inner)) => Some(inner.as_ref()),
            _ => match error.downcast_ref::<ArrowError>() {
                Some(ArrowError::ExternalError(inner)) => Some(inner.as_ref()),
                _ => match error.downcast_ref::<DataFusionError>() {
                    Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
                    _ => error.source(),
                },
            },
        };
    }
    None
}

/// The engine's words without what only its developers understand.
fn clean(said: &str) -> String {
    let first = said.split("\n\nbacktrace:").next().unwrap_or(said);
    first
        .trim_end_matches(" No function matches the given name and argument types.")
        .replace(&format!("{CATALOG}."), "")
}

/// Names that may have been meant; prints nothing when there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Near(Vec<String>);

impl Near {
    /// The three of `names` that look most like `wanted`.
    pub(crate) fn to<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Self {
        let mut scored: Vec<_> = names.map(|name| (strsim::jaro_winkler(wanted, name), name)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        Self(
            scored
                .into_iter()
                .filter(|(score, _)| *score > 0.7)
                .take(3)
                .map(|(_, name)| name.to_owned())
                .collect(),
        )
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "; is it {}?", self.0.join(" or "))
        }
    }
}

struct Seconds<'a>(&'a Duration);

impl fmt::Display for Seconds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}
