//! A clock that a test turns while an installation runs: `tests/clock/clock.c`, preloaded into all of its processes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

const SECOND: i64 = 1_000_000_000;

/// The time of day as an installation sees it, and as its clients do.
#[derive(Debug, Clone)]
pub struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: Arc<File>,
}

impl Clock {
    /// A clock that is right; the library is compiled into `directory`, with the C compiler that the build needs too.
    pub(crate) fn make(directory: &Path) -> anyhow::Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clock/clock.c");
        let (library, path) = (directory.join("clock.so"), directory.join("clock"));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .context("there is no C compiler")?;
        ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        fs::write(&path, 0_i64.to_ne_bytes())?;
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&path)?);
        Ok(Self { library, path, file })
    }

    /// Sets the clock so many seconds ahead of the right time, or behind it.
    pub fn set_ahead(&self, seconds: i64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(&(seconds * SECOND).to_ne_bytes(), 0)?)
    }

    /// Sets the clock to this moment, in seconds since 1970; it goes on from there.
    pub fn set_to(&self, moment: i64) -> anyhow::Result<()> {
        self.set_ahead(moment - i64::try_from(right().as_secs())?)
    }

    /// What a process needs in its environment to live by this clock.
    pub(crate) fn variables(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("TEST_CLOCK", &self.path)]
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let now = i64::try_from(right().as_nanos()).ok()?.checked_add(i64::from_ne_bytes(bytes))?;
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(now).ok()?)))
    }
}

#[expect(clippy::disallowed_methods, reason = "what the turned clock is measured by")]
fn right() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_sees_the_clock_turned_and_so_does_what_it_starts() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::make(directory.path()).unwrap();
        let year = |words: &[&str]| {
            let mut command = Command::new(words[0]);
            let ran = command.args(&words[1..]).envs(clock.variables()).output().unwrap();
            String::from_utf8(ran.stdout).unwrap().trim().to_owned()
        };
        clock.set_to(2_200_000_000).unwrap();
        assert_eq!(year(&["date", "-u", "+%Y"]), "2039");
        assert_eq!(year(&["env", "-i", "PATH=/usr/bin:/bin", "date", "-u", "+%Y"]), "2039");
        assert_eq!(clock.current_time().unwrap().as_secs() / 10, 220_000_000);
        clock.set_ahead(-3600).unwrap();
        let late = i64::try_from(right().as_secs()).unwrap() - year(&["date", "+%s"]).parse::<i64>().unwrap();
        assert!((3598..=3610).contains(&late), "{late}");
    }
}
