//! A role's process that attacks instead of serving: at the point where the role would begin to, with what the role has by then.
//!
//! Promise: no attack harms what it is made on, also where it works. Files are opened for writing and not written, processes get signals
//! that change nothing, calls have a body that no handler takes, and what is made has a name of the drill's own and is removed.
//!
//! Start at [`run`]. Files are in [`files`], processes and system calls in [`kernel`], other roles in [`calls`].

pub(crate) mod calls;
mod files;
mod kernel;

use std::io::{self, Read, Write};

use base::Role;
use nix::errno::Errno;
use tokio::runtime::Builder;

use crate::breach::{Attempt, Came, Line, Scene};
use crate::failure::{During, Outcome};
use crate::handover::Handover;

/// Where results go: a pipe to the drill.
pub(super) struct Told {
    role: Role,
    out: io::Stdout,
}

impl Told {
    fn line(&mut self, line: &Line) -> Outcome {
        let what = "could not tell the drill what came of it";
        let mut text = serde_json::to_vec(line).during(what)?;
        text.push(b'\n');
        self.out.write_all(&text).and_then(|()| self.out.flush()).during(what)
    }

    /// Tells of something tried of which the kernel said `result`.
    pub(super) fn tried<T>(&mut self, asset: &str, act: &str, target: impl Into<String>, result: io::Result<T>) -> Outcome {
        let (came, says) = judged(result);
        self.said(asset, act, target, came, says)
    }

    pub(super) fn said(&mut self, asset: &str, act: &str, target: impl Into<String>, came: Came, says: impl Into<String>) -> Outcome {
        self.line(&Line::Attempt(Attempt {
            asset: asset.to_owned(),
            act: act.to_owned(),
            target: target.into(),
            came,
            says: says.into(),
        }))
    }
}

/// What is no wall's refusal and not the absence of the thing counts as got: the walls let it through.
fn judged<T>(result: io::Result<T>) -> (Came, String) {
    let error = match result {
        Ok(_) => return (Came::Got, "done".into()),
        Err(error) => error,
    };
    let Some(errno) = error.raw_os_error().map(Errno::from_raw) else {
        return (Came::Got, error.to_string());
    };
    let came = match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::EXDEV | Errno::ENOSYS => Came::Refused,
        Errno::ENOENT | Errno::ESRCH | Errno::ENXIO | Errno::ENODEV | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => Came::Absent,
        _ => Came::Got,
    };
    (came, format!("{errno:?}"))
}

/// Tries everything and tells what came of it; then waits until the drill has looked at the process.
pub(super) fn run(mut handover: Handover, scene: &Scene, mut supervisor: impl Read) -> Outcome {
    let role = handover.role;
    let mut told = Told { role, out: io::stdout() };
    told.line(&Line::Begun)?;
    supervisor.read_exact(&mut [0]).during("the drill is gone")?;
    files::attack(scene, &handover.directory, &mut told)?;
    kernel::processes(scene, &mut told)?;
    kernel::users(scene, &mut told)?;
    if !scene.users_alone {
        files::machine(&mut told)?;
        kernel::sockets(scene, &handover.peers, &mut told)?;
        // The vault makes its own certificate, out of what only one process may have open: see `commands::isolation`.
        if role != Role::Vault {
            let runtime = Builder::new_current_thread().enable_all().build().during("could not start")?;
            runtime.block_on(calls::attack(&mut handover, &mut told))?;
            drop(runtime);
        }
        kernel::programs(&mut told)?;
        kernel::namespaces(&mut told)?;
        told.line(&Line::Last)?;
        kernel::in_place(&mut told)?;
    }
    told.line(&Line::Done)?;
    // Until the drill lets go of us.
    let _ = supervisor.read(&mut [0]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_walls_word_is_a_refusal() {
        let check = |errno: Errno, came| assert_eq!(judged::<()>(Err(errno.into())).0, came, "{errno:?}");
        check(Errno::EACCES, Came::Refused);
        check(Errno::EPERM, Came::Refused);
        check(Errno::ENOENT, Came::Absent);
        check(Errno::ECONNREFUSED, Came::Got);
        check(Errno::EINVAL, Came::Got);
        assert_eq!(judged::<()>(Err(io::Error::from(io::ErrorKind::TimedOut))).0, Came::Got);
        assert_eq!(judged(Ok(())).0, Came::Got);
    }
}
