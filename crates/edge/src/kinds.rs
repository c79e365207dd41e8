//! Kinds of error, and the status codes that stand for them on the wire. The only place that maps one to the other.

use base::ErrorKind;
use http::StatusCode;
use tonic::{Code, Status, metadata::MetadataValue};
use wire::KIND_HEADER;

pub(crate) const fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Forbidden => "forbidden",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::TooLarge => "too-large",
        ErrorKind::TooMuch => "too-much",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Internal => "internal",
    }
}

const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::AlreadyExists,
        // tonic itself answers so when a message is over the limit.
        ErrorKind::TooLarge => Code::OutOfRange,
        ErrorKind::TooMuch => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

/// What a role answers to another role when it cannot do what was asked.
pub fn status(kind: ErrorKind, message: impl Into<String>) -> Status {
    let mut status = Status::new(code(kind), message);
    status.metadata_mut().insert(KIND_HEADER, MetadataValue::from_static(name(kind)));
    status
}

/// What the caller of another role can do about its answer.
///
/// A connection that failed or broke counts as `Unavailable`.
pub fn kind_of(status: &Status) -> ErrorKind {
    let named = status.metadata().get(KIND_HEADER).and_then(|value| value.to_str().ok());
    if let Some(kind) = ErrorKind::ALL.into_iter().find(|kind| Some(name(*kind)) == named) {
        return kind;
    }
    // Only a status that was made on this side, by the transport, has a source.
    if std::error::Error::source(status).is_some() {
        return ErrorKind::Unavailable;
    }
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition => ErrorKind::Invalid,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::Forbidden,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::Conflict,
        Code::OutOfRange => ErrorKind::TooLarge,
        Code::ResourceExhausted => ErrorKind::TooMuch,
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Ok | Code::Unknown | Code::Internal | Code::Unimplemented => ErrorKind::Internal,
    }
}

/// The status of an HTTP answer.
pub const fn http_status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::TooMuch => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire_with_and_without_its_header() {
        for kind in ErrorKind::ALL {
            let sent = status(kind, "x");
            assert_eq!(kind_of(&sent), kind);
            assert_eq!(kind_of(&Status::new(sent.code(), "x")), kind, "by its code alone");
        }
    }

    #[test]
    fn a_broken_connection_is_unavailable() {
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert_eq!(kind_of(&broken), ErrorKind::Unavailable);
    }
}
