//! The words every other crate speaks: ids, names, verbs, who asks, kinds of error, time, chance, secrets.
//!
//! Promise: nothing here does I/O, and no type here prints a secret.
//!
//! Start at [`Op`], which says who is asking. Does not know ciphers, storage or the network.

mod clock;
mod columns;
mod entropy;
mod error;
mod ids;
mod names;
mod op;
mod personal;
mod role;
mod secret;
pub mod time;
mod verbs;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use columns::{ColumnNames, LONGEST_IDENTITY, folded};
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use error::ErrorKind;
pub use ids::{CredentialId, IdError, JobId, PersonId, ProductId, RequestId, TableId, WriterId};
pub use names::{DatabaseName, NameError, TableName};
pub use op::{Denied, Op, Scope};
pub use personal::{PersonalColumn, PersonalColumnError};
pub use role::Role;
pub use secret::{Secret, SecretBytes};
pub use verbs::{KeyKind, Verb, Verbs};
