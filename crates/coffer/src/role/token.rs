//! The hardware token that holds the root key, through a process of its own: the vendor's module is loaded there and never into the vault.
//!
//! Promise: that process does one thing, ends with it or after [`LONGEST`], and does not outlive the vault. What passes between the two goes
//! through pipes, and is wiped.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use base::{ErrorKind, OsEntropy};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::alarm;
use seal::DataKey;
use serde::{Deserialize, Serialize};
use vault::{Token, TokenAct, TokenError, TokenSettings, use_token_once};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::{During, Exit, Failure, Outcome};

/// Seconds that a token may take; a module that hangs is ended then.
const LONGEST: u32 = 60;
const MOST: u64 = 64 << 10;
/// The command that [`run`] is.
pub(crate) const COMMAND: &str = "use-token";

/// What is asked of the process. In hex, because JSON has no bytes.
#[derive(Serialize, Deserialize, Zeroize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[zeroize(skip)]
    settings: TokenSettings,
    wrap: Option<String>,
    unwrap: Option<String>,
    context: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Done(String),
    /// The place of its kind in [`ErrorKind::ALL`], and the words.
    Refused(usize, String),
}

/// The token, by a process for each use.
pub(super) struct ByProcess(pub(super) TokenSettings);

impl fmt::Debug for ByProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByProcess({})", self.0.token)
    }
}

impl Token for ByProcess {
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<Vec<u8>, TokenError> {
        let done = self.ask(Some(key.reveal()), None, context)?;
        Ok(done.to_vec())
    }

    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<DataKey, TokenError> {
        let done = self.ask(None, Some(wrapped), context)?;
        DataKey::try_from(&done[..]).map_err(|_| failed("it gave something that is not a key"))
    }
}

impl ByProcess {
    fn ask(&self, wrap: Option<&[u8; 32]>, unwrap: Option<&[u8]>, context: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let mut asked = Asked {
            settings: self.0.clone(),
            wrap: wrap.map(hex::encode),
            unwrap: unwrap.map(hex::encode),
            context: hex::encode(context),
        };
        let line = serde_json::to_vec(&asked).map(Zeroizing::new);
        asked.zeroize();
        let line = line.map_err(failed)?;
        let mut child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .env_clear()
            .envs(&self.0.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Nobody knows what a module says there.
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        // Closed when written: its end is the end of the question.
        let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(&line));
        let mut text = Zeroizing::new(Vec::with_capacity(4 << 10));
        let read = match child.stdout.take() {
            Some(pipe) => pipe.take(MOST).read_to_end(&mut text),
            None => Ok(0),
        };
        let ended = child.wait().map_err(failed)?;
        let answer = serde_json::from_slice(&text);
        match (written.and(read), answer) {
            (Ok(_), Ok(Answer::Done(mut done))) => {
                let bytes = hex::decode(&done).map(Zeroizing::new);
                done.zeroize();
                // Not the error's words: it shows a character of what it could not read.
                bytes.map_err(|_| failed("its answer cannot be read"))
            }
            (Ok(_), Ok(Answer::Refused(kind, why))) => Err(TokenError::new(
                ErrorKind::ALL.get(kind).copied().unwrap_or(ErrorKind::Internal),
                why,
            )),
            (Err(error), _) => Err(failed(error)),
            (Ok(_), Err(_)) => Err(failed(format!(
                "the program that loads its module ended without an answer ({ended}): the module hangs for over {LONGEST} seconds, or crashes"
            ))),
        }
    }
}

fn failed(why: impl fmt::Display) -> TokenError {
    TokenError::new(ErrorKind::Unavailable, why)
}

/// Reads what is asked from standard input and answers on standard output.
pub(crate) fn run() -> Outcome {
    let what = "could not use the token";
    // A module may start threads of its own and wait for what never comes; and whoever asked may be gone.
    alarm::set(LONGEST);
    prctl::set_pdeathsig(Signal::SIGKILL).during(what)?;
    if let Some(undone) = edge::harden_process().into_iter().next() {
        return Err(Failure::new(Exit::Failed, what).why(undone));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(16 << 10));
    std::io::stdin().lock().take(MOST).read_to_end(&mut text).during(what)?;
    let mut asked: Asked = serde_json::from_slice(&text).map_err(|_| {
        Failure::new(
            Exit::Usage,
            "this is what the vault runs when a hardware token holds its root key; it reads JSON",
        )
    })?;
    let answer = match answer(&asked) {
        Ok(done) => Answer::Done(hex::encode(&*done)),
        Err(error) => {
            let kind = ErrorKind::ALL.iter().position(|kind| *kind == error.kind);
            Answer::Refused(kind.unwrap_or(usize::MAX), error.why)
        }
    };
    asked.zeroize();
    let line = serde_json::to_vec(&answer).map(Zeroizing::new).during(what)?;
    if let Answer::Done(mut done) = answer {
        done.zeroize();
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).during(what)
}

fn answer(asked: &Asked) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let invalid = || TokenError::new(ErrorKind::Invalid, "what was asked cannot be read");
    let bytes = |text: &str| hex::decode(text).map(Zeroizing::new).map_err(|_| invalid());
    let context = bytes(&asked.context)?;
    match (&asked.wrap, &asked.unwrap) {
        (Some(key), None) => {
            let key = DataKey::try_from(&bytes(key)?[..]).map_err(|_| invalid())?;
            use_token_once(&asked.settings, &TokenAct::Wrap(&key), &context, &OsEntropy)
        }
        (None, Some(wrapped)) => use_token_once(&asked.settings, &TokenAct::Unwrap(&bytes(wrapped)?), &context, &OsEntropy),
        _ => Err(invalid()),
    }
}
