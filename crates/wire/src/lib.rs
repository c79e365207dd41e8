//! What roles say to each other: messages, clients, and the one table of who may call what.
//!
//! Promise: a method that is not in [`calls::CALLS`] can be called by nobody, and a method without a line there fails the build's tests.
//!
//! Start at `proto/coffer/v1/roles.proto` and [`calls`]. Does not know TLS, sockets or what a method does.

pub mod audited;
pub mod calls;
pub mod proving;

/// Messages, clients and servers made from `roles.proto`.
#[expect(missing_docs, reason = "generated; the protocol file has the words")]
#[expect(clippy::allow_attributes, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("coffer.v1");
}

/// Metadata that holds the encoded pass of a call about a product.
pub const PASS_HEADER: &str = "coffer-pass-bin";
/// Metadata that holds the request id, as text.
pub const REQUEST_ID_HEADER: &str = "coffer-request-id";
/// Metadata of an answer that names what stood in the way (a job id).
pub const CONFLICT_HEADER: &str = "coffer-conflict";
/// Metadata of an answer that names the [`base::ErrorKind`], because several kinds share a gRPC code.
pub const KIND_HEADER: &str = "coffer-error-kind";
/// The largest message that a role takes, in bytes.
pub const MAX_MESSAGE: usize = 256 << 20;
