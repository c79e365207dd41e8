//! What a role's process that proves something of its own files tells whoever started it, line after line, and how it finds these files.
//!
//! Promise: what is told holds no key and nothing of what a file says: which files, how many attempts, and what came of them. Whoever has a
//! directory may put there what they like: links and devices are no files, nor is anything far below, and nothing is read that is larger than
//! what is looked for.
//!
//! Start at [`Told`].

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use base::ProductId;
use bytes::Bytes;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

/// How many wrong things are told one by one.
const MOST_WRONG: usize = 200;
/// How often it is said that there is something doing.
const SAY: Duration = Duration::from_secs(2);
/// How far below a zone objects lie.
const DEEPEST: usize = 12;

/// What came of all files of one kind of one product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// The product's number.
    pub product: u64,
    /// What they are.
    pub kind: String,
    /// How many were tried.
    pub files: u64,
    /// Of these, how many opened with what has to open them.
    pub opened: u64,
    /// How many more there are that were not tried, as was asked for.
    pub left_out: u64,
    /// How many attempts were refused, by what was tried.
    pub refused: BTreeMap<String, u64>,
}

/// One line to whoever started the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// To which public key, in hexadecimal digits, its keys are to be sealed.
    Key(String),
    /// Keys, sealed, in hexadecimal digits: from the vault's process, for another.
    Sealed(base::Role, String),
    /// It is at work.
    Doing(String),
    /// What came of some files.
    Tally(Tally),
    /// What two products were found to have in common.
    Compared {
        /// How many people are kept of each.
        people: [u64; 2],
        /// How many values of both were compared.
        values: u64,
        /// How many identities are known in both.
        identities: u64,
        /// Of each other kind of value, how many are in both.
        common: BTreeMap<String, u64>,
    },
    /// How many zones were looked at, and how many are in stores and were not.
    Looked(usize, usize),
    /// What the audit journal was found to be: records, of how many in all, and the newest head's root.
    Records(u64, u64, String),
    /// What is wrong with it, at which record.
    Fault(Option<u64>, String),
    /// Nothing could be said: how the command is to end, and why.
    Failed(u8, String),
    /// What does not hold.
    Wrong(String),
    /// Worth knowing.
    Note(String),
    /// There is nothing more to come.
    Done,
}

/// Where lines go.
pub type Out<'a> = &'a mut dyn FnMut(&Line) -> io::Result<()>;

/// What is told, counted.
pub struct Told<'a> {
    out: Out<'a>,
    said: Instant,
    wrong: usize,
    now: Tally,
    sample: Option<u64>,
}

impl<'a> Told<'a> {
    /// Of each kind at most `sample` files are tried, if that is said.
    pub fn new(out: Out<'a>, sample: Option<u64>) -> Self {
        Self {
            out,
            said: Instant::now(),
            wrong: 0,
            now: Tally::default(),
            sample,
        }
    }

    /// From now on files of this kind.
    pub fn begin(&mut self, product: ProductId, kind: &str) {
        self.now = Tally {
            product: product.get(),
            kind: kind.to_owned(),
            ..Tally::default()
        };
    }

    /// Whether the next file is to be tried.
    pub fn wants(&mut self, what: &str) -> io::Result<bool> {
        if self.said.elapsed() >= SAY {
            self.said = Instant::now();
            (self.out)(&Line::Doing(what.to_owned()))?;
        }
        let wanted = self.sample.is_none_or(|most| self.now.files < most);
        if wanted {
            self.now.files += 1;
        } else {
            self.now.left_out += 1;
        }
        Ok(wanted)
    }

    /// The file is gone since it was listed: it was not tried.
    pub fn gone(&mut self) {
        self.now.files = self.now.files.saturating_sub(1);
    }

    /// The file opened with what has to open it.
    pub fn opened(&mut self) {
        self.now.opened += 1;
    }

    /// Something was tried on a file that has to be refused.
    pub fn tried(&mut self, file: &str, what: &str, refused: bool) -> io::Result<()> {
        if refused {
            // Every other product's key counts as one kind of attempt.
            let kind = what.split_once(" of product ").map_or(what, |(kind, _)| kind);
            *self.now.refused.entry(kind.to_owned()).or_default() += 1;
            return Ok(());
        }
        self.wrong(format!("{file}: {what}: it was not refused"))
    }

    /// Something does not hold.
    pub fn wrong(&mut self, what: String) -> io::Result<()> {
        self.wrong += 1;
        match self.wrong {
            ..=MOST_WRONG => (self.out)(&Line::Wrong(what)),
            number if number == MOST_WRONG + 1 => (self.out)(&Line::Wrong("and more, which are not told one by one".into())),
            _ => Ok(()),
        }
    }

    /// Something is worth knowing.
    pub fn note(&mut self, what: String) -> io::Result<()> {
        (self.out)(&Line::Note(what))
    }

    /// That was the last file of this kind.
    pub fn end(&mut self) -> io::Result<()> {
        let tally = std::mem::take(&mut self.now);
        (self.out)(&Line::Tally(tally))
    }
}

impl std::fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Told({:?})", self.now)
    }
}

/// Goes through the files below a directory, and tells of each where it is, counted from there. A directory that is not there has none.
pub fn walk<E: From<io::Error>>(directory: &Path, visit: &mut dyn FnMut(&Path) -> Result<(), E>) -> Result<(), E> {
    walk_in(directory, Path::new(""), DEEPEST, visit)
}

fn walk_in<E: From<io::Error>>(
    directory: &Path,
    below: &Path,
    deepest: usize,
    visit: &mut dyn FnMut(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let entries = match fs::read_dir(directory.join(below)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, below.join(entry.file_name()));
        if kind.is_dir() && deepest > 0 {
            walk_in(directory, &path, deepest - 1, visit)?;
        } else if kind.is_file() {
            visit(&path)?;
        }
    }
    Ok(())
}

/// Reads a file of at most so many bytes, no link; `None` where it is gone by now.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Bytes>> {
    // Without waiting for whoever writes, should it be a pipe by now.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = file.metadata()?;
    if !length.is_file() || length.len() > most {
        return Err(io::Error::other("it is no file, or larger than any of its kind"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length.len()).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_links_are_none() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("raw/7")).unwrap();
        fs::write(at("raw/7/one"), b"one").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("raw/7/two")).unwrap();
        std::os::unix::fs::symlink("/etc", at("raw/8")).unwrap();
        let mut found = Vec::new();
        walk::<io::Error>(&at("raw"), &mut |path| {
            found.push(path.to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [Path::new("7/one")]);
        assert_eq!(read(&at("raw/7/one"), 3).unwrap().unwrap(), b"one"[..]);
        assert!(read(&at("raw/7/one"), 2).is_err() && read(&at("raw/7/two"), 1 << 20).is_err());
        assert!(read(&at("raw/7/three"), 3).unwrap().is_none());
        walk::<io::Error>(&at("nowhere"), &mut |_| panic!("there is none")).unwrap();
    }

    #[test]
    fn what_is_refused_is_counted_and_what_is_not_is_told() {
        let mut lines = Vec::new();
        let mut out = |line: &Line| {
            lines.push(line.clone());
            Ok(())
        };
        let mut told = Told::new(&mut out, Some(1));
        told.begin(ProductId::new(7).unwrap(), "raw log");
        assert!(told.wants("one").unwrap() && !told.wants("two").unwrap());
        told.tried("one", "the key of product 8", true).unwrap();
        told.tried("one", "the key of product 9", true).unwrap();
        told.tried("one", "truncated", false).unwrap();
        told.end().unwrap();
        assert_eq!(lines[0], Line::Wrong("one: truncated: it was not refused".into()));
        let Line::Tally(tally) = &lines[1] else { panic!("{lines:?}") };
        assert_eq!((tally.files, tally.left_out, tally.refused["the key"]), (1, 1, 2));
    }
}
