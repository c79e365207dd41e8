//! What the breach drill says to the program that it starts with a role's rights, and what that one says back.
//!
//! Promise: it has no secret in it, and nothing in it gives rights: whoever starts a role's process has all that the process is given.
//!
//! Start at [`Scene`]. The table that comes of it is in [`matrix`]. Knows places and processes. Does not know how anything is attacked.

pub(crate) mod matrix;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use base::Role;
use serde::{Deserialize, Serialize};

/// What there is to attack.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scene {
    /// Only what the users by themselves keep apart: there is no sandbox, and nobody is called.
    pub(crate) users_alone: bool,
    /// Directories and files that are there.
    pub(crate) places: Vec<Place>,
    /// The process of each role, and the supervisor's without one.
    pub(crate) processes: Vec<(Option<Role>, i32)>,
    /// Who the others are to the kernel.
    pub(crate) users: BTreeMap<Role, u32>,
    /// Where the world calls.
    pub(crate) public: Vec<SocketAddr>,
}

/// A directory, file or socket of the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Whose it is. None: the installation's.
    pub(crate) whose: Option<Role>,
    pub(crate) part: Part,
    pub(crate) form: Form,
    pub(crate) path: PathBuf,
}

/// What a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// A role's own directory: database, keys, catalog.
    Own,
    /// A zone of a role.
    Zone,
    /// The data directory itself.
    Installation,
}

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    Directory,
    File,
    Socket,
}

/// One attack and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attempt {
    /// The line of the table that it belongs to.
    pub(crate) asset: String,
    /// What was tried, in a word or two. That is what stands in the table if it worked.
    pub(crate) act: String,
    /// On what.
    pub(crate) target: String,
    pub(crate) came: Came,
    /// The kernel's or the other role's word.
    pub(crate) says: String,
}

/// What became of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Came {
    /// It worked, or failed for a reason that is no wall.
    Got,
    /// A wall refused it.
    Refused,
    /// What it was about is not there, so it says nothing.
    Absent,
}

/// A line of the attacking program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    /// It is as the role would begin to serve, and waits to be looked at.
    Begun,
    Attempt(Attempt),
    /// There is nothing more but running a program in its own place, which is how it ends if that works.
    Last,
    /// It tried everything and waits to be let go.
    Done,
}
