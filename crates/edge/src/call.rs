//! What a handler asks of a request, and what a caller puts into one.

use base::{ErrorKind, Op, RequestId, Role, Timestamp};
use seal::HolderId;
use tonic::{Request, Status, metadata::MetadataValue};
use wire::{PASS_HEADER, REQUEST_ID_HEADER};

use crate::status;

/// The role at the other end, as its certificate says. In the extensions of every request that came with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The role.
    pub role: Role,
    /// Its key: what passes are bound to.
    pub holder: HolderId,
    /// When its certificate ends.
    pub expires_at: Timestamp,
}

/// The encoded pass that a request came with, after it was verified.
#[derive(Debug, Clone)]
pub(crate) struct RawPass(pub(crate) Vec<u8>);

/// Who is asking: there only when the request came with a pass that was verified.
pub fn op<T>(request: &Request<T>) -> Result<Op, Status> {
    request.extensions().get::<Op>().cloned().ok_or_else(no_pass)
}

/// The verified pass itself, to be sent on to the vault.
pub fn raw_pass<T>(request: &Request<T>) -> Result<Vec<u8>, Status> {
    request.extensions().get::<RawPass>().map(|pass| pass.0.clone()).ok_or_else(no_pass)
}

/// A call that shows `pass`, about the request `request`.
pub fn with_pass<T>(message: T, pass: &[u8], request: RequestId) -> Request<T> {
    let mut call = Request::new(message);
    call.metadata_mut().insert_bin(PASS_HEADER, MetadataValue::from_bytes(pass));
    // An id's text is letters and digits, which every metadata value may hold.
    if let Ok(id) = request.to_string().parse() {
        call.metadata_mut().insert(REQUEST_ID_HEADER, id);
    }
    call
}

fn no_pass() -> Status {
    status(ErrorKind::Unauthenticated, "this call needs a pass")
}
