//! The processes of an installation, as the kernel shows them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::ensure;
use base::Role;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::markers::contains;

/// A process and when it started: a number alone may belong to somebody else a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    started: u64,
}

impl Process {
    /// The process with this number, if there is one.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        stat(pid).map(|(_, started)| Self { pid, started })
    }

    /// Whether it still runs. One that has ended and was not waited for does not.
    pub(crate) fn runs(self) -> bool {
        stat(self.pid).is_some_and(|(_, started)| started == self.started) && !is_zombie(self.pid)
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(self, signal: Signal) {
        if self.runs() {
            // It may end between the look and the signal; then there is nothing to do.
            let _gone = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// The roles that run as children of `supervisor`.
pub(crate) fn roles_under(supervisor: i32) -> BTreeMap<Role, Process> {
    children(supervisor)
        .into_iter()
        .filter_map(|process| Some((role_of(process.pid)?, process)))
        .collect()
}

/// The most memory that a process ever had at once, in bytes.
pub(crate) fn peak_memory(pid: i32) -> Option<u64> {
    status(pid, "VmHWM:")
}

/// The memory that a process has now, in bytes.
pub(crate) fn memory(pid: i32) -> Option<u64> {
    status(pid, "VmRSS:")
}

fn status(pid: i32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// Whether `wanted` stands anywhere in what a process can write to.
pub(crate) fn is_in_memory(pid: i32, wanted: &[u8]) -> anyhow::Result<bool> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut searched = 0_u64;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let Some((from, to)) = range.split_once('-') else { continue };
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        memory.seek(SeekFrom::Start(from))?;
        let mut bytes = vec![0; usize::try_from(to - from)?];
        // A stretch may be given back between the list and the look.
        let Ok(()) = memory.read_exact(&mut bytes) else { continue };
        searched += to - from;
        if contains(&bytes, wanted) {
            return Ok(true);
        }
    }
    ensure!(searched > 1 << 20, "only {searched} bytes could be read");
    Ok(false)
}

fn children(parent: i32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            stat(pid)
                .filter(|(of, _)| *of == parent)
                .map(|(_, started)| Process { pid, started })
        })
        .filter(|process| !is_zombie(process.pid))
        .collect()
}

/// `coffer role NAME`, read off the command line.
fn role_of(pid: i32) -> Option<Role> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&str> = line
        .split(|byte| *byte == 0)
        .filter_map(|word| std::str::from_utf8(word).ok())
        .collect();
    let at = words.iter().position(|word| *word == "role")?;
    words.get(at + 1)?.parse().ok()
}

/// Parent and start time. The name in the second field may hold anything, so fields are counted from behind it.
fn stat(pid: i32) -> Option<(i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|text| text.rsplit_once(')').map(|(_, rest)| rest.trim_start().starts_with('Z')))
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let me = Process::find(std::process::id() as i32).unwrap();
        assert!(me.runs());
        assert!(
            !Process {
                started: me.started + 1,
                ..me
            }
            .runs()
        );
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let peak = peak_memory(std::process::id() as i32).unwrap();
        let now = memory(std::process::id() as i32).unwrap();
        assert!(
            (1 << 20..1 << 40).contains(&peak) && (1 << 20..1 << 40).contains(&now),
            "{now} of {peak}"
        );
    }

    #[test]
    fn a_child_that_is_no_role_is_not_taken_for_one() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id() as i32).iter().any(|c| c.pid == child.id() as i32));
        assert!(roles_under(std::process::id() as i32).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
