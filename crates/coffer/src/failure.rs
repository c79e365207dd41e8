//! How a command ends when it does not end well: what happened, why, what to do next, and an exit code a script can act on.

use std::fmt;
use std::io;
use std::time::Duration;

use base::ErrorKind;

/// Exit codes. They are part of the command line's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did not work.
    Failed = 1,
    /// The command line itself is wrong.
    Usage = 2,
    /// Known, but not allowed; or not known at all.
    NotAllowed = 3,
    /// There is no such thing.
    NotFound = 4,
    /// It exists already, or is in use.
    Conflict = 5,
    /// What was sent is not acceptable.
    Refused = 6,
    /// Not now; the same again is safe.
    Temporary = 7,
    /// Something that was checked does not hold.
    Unverified = 8,
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid | ErrorKind::TooLarge => Self::Refused,
            ErrorKind::Unauthenticated | ErrorKind::Forbidden => Self::NotAllowed,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::TooMuch | ErrorKind::Unavailable => Self::Temporary,
            ErrorKind::Corrupt => Self::Unverified,
            ErrorKind::Internal => Self::Failed,
        }
    }
}

/// What a person is told, in this order.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    what: String,
    why: Option<String>,
    next: Option<String>,
    request: Option<String>,
    /// How long to wait at least before the very same request is sent again, where that can help.
    pub(crate) again: Option<Duration>,
    /// Only the exit code is for anybody.
    pub(crate) silent: bool,
}

/// Whoever read our output stopped reading, as `head` does: that is their choice and needs no words.
pub(crate) fn output_broke(error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::Failed, "could not write to standard output").why(error);
    Failure {
        silent: error.kind() == io::ErrorKind::BrokenPipe,
        ..failure
    }
}

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// The same for a log, where a line is one record.
    pub(crate) fn in_one_line(&self) -> String {
        let part = |text: &Option<String>| {
            text.iter()
                .map(|text| format!(": {}", text.replace('\n', "; ")))
                .collect::<String>()
        };
        format!("{}{}{}", self.what, part(&self.why), part(&self.next))
    }

    /// What happened.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            why: None,
            next: None,
            request: None,
            again: None,
            silent: false,
        }
    }

    /// Why it happened.
    pub(crate) fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// What to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Trying again may help, after so long at least.
    pub(crate) fn again_after(mut self, wait: Duration) -> Self {
        self.again = Some(wait);
        self
    }

    /// What happened, after all, with the words about why that are there.
    pub(crate) fn ended(self, exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            ..self
        }
    }

    /// Whether a server said so, and not the lack of one.
    pub(crate) fn was_answered(&self) -> bool {
        self.request.is_some()
    }

    /// The id under which the server's logs know this request.
    pub(crate) fn request(mut self, id: Option<String>) -> Self {
        self.request = id;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(why) = &self.why {
            write!(f, "\n  why:  {}", why.replace('\n', "\n        "))?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next: {next}")?;
        }
        if let Some(request) = &self.request {
            write!(f, "\n  request id: {request}")?;
        }
        Ok(())
    }
}

/// Adds what was being done to an error whose own words say why.
pub(crate) trait During<T> {
    /// `what` could not be done; the error is the reason.
    fn during(self, what: impl Into<String>) -> Outcome<T>;
}

impl<T, E: fmt::Display> During<T> for Result<T, E> {
    fn during(self, what: impl Into<String>) -> Outcome<T> {
        self.map_err(|error| Failure::new(Exit::Failed, what).why(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_next_and_the_request_in_that_order() {
        let failure = Failure::new(Exit::NotFound, "no table")
            .why("it is not there")
            .next("make it")
            .request(Some("r1".into()));
        assert_eq!(
            failure.to_string(),
            "error: no table\n  why:  it is not there\n  next: make it\n  request id: r1"
        );
    }

    #[test]
    fn only_what_may_be_tried_again_ends_with_seven() {
        for kind in ErrorKind::ALL {
            assert_eq!(Exit::from(kind) == Exit::Temporary, kind.is_temporary(), "{kind:?}");
        }
    }
}
