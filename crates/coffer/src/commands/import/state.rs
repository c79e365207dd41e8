//! What this machine remembers of a file that it sends: ids of chunks, begun and acknowledged. No event is in it, nor the file's name.
//!
//! Promise: it only ever saves work. Without it every chunk is sent again and the server stores each once; with it, a file or options
//! that changed in between are noticed before rows are stored a second time in another form.
//!
//! A text file of its own for each file, table and key: a head, then a line for each thing that happened, so that a crash loses the last line at most.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::environment;

/// A larger file is not ours, or of an import of half a million chunks; it is not read.
const MAX_STATE: u64 = 64 << 20;
const VERSION: &str = "coffer import 1";

/// The directory of all of them.
pub(super) fn directory() -> Option<PathBuf> {
    let absolute = |path: String| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let state = environment::text("XDG_STATE_HOME").and_then(absolute);
    let home = || environment::text("HOME").and_then(absolute).map(|home| home.join(".local/state"));
    Some(state.or_else(home)?.join("coffer/imports"))
}

/// What is being imported, as far as it can be told from another import of the same file into the same table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// Of the options that change what rows mean.
    pub(super) meaning: String,
    /// Bytes of the file.
    pub(super) size: u64,
    /// Which table it is, where the key may know: one that was made anew under the same name has nothing of what was sent before.
    pub(super) table: Option<String>,
}

impl Subject {
    fn line(&self) -> String {
        format!("{} {} {}", self.meaning, self.size, self.table.as_deref().unwrap_or("-"))
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let subject = Self {
            meaning: words.next()?.to_owned(),
            size: words.next()?.parse().ok()?,
            table: words.next().filter(|word| *word != "-").map(str::to_owned),
        };
        words.next().is_none().then_some(subject)
    }
}

/// What differs from last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    Options,
    File,
}

/// What is remembered of one file.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By index: the id, and whether it was acknowledged.
    chunks: HashMap<u64, (String, bool)>,
    /// Whether acknowledgements may be relied on.
    trusted: bool,
    file: Option<File>,
}

impl Memory {
    /// Of nothing, and nothing will be.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// Looks up what is remembered under `name` and goes on remembering. With `anew`, what was is forgotten.
    pub(super) fn open(directory: &Path, name: &str, subject: &Subject, anew: bool) -> io::Result<Result<Self, Changed>> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(name);
        let text = if anew { None } else { read(&path)? };
        let earlier = text.as_deref().and_then(parse);
        // Another table under this name has none of it.
        let same_table = |then: &Subject| then.table.is_none() || subject.table.is_none() || then.table == subject.table;
        let memory = match earlier.filter(|(then, ..)| same_table(then)) {
            Some((then, ..)) if then.meaning != subject.meaning => return Ok(Err(Changed::Options)),
            Some((then, ..)) if then.size != subject.size => return Ok(Err(Changed::File)),
            Some((then, chunks, complete)) => {
                // Where nobody can say whether the table is still the same, what is done and over may have gone with it.
                let trusted = match (&then.table, &subject.table) {
                    (Some(_), Some(_)) => true,
                    (None, Some(_)) => false,
                    (_, None) => !complete,
                };
                let mut memory = Self {
                    chunks,
                    trusted,
                    file: Some(OpenOptions::new().append(true).open(&path)?),
                };
                if then.table.is_none() && subject.table.is_some() {
                    // From now on it is known which table this is about.
                    memory.file = Some(begin(directory, &path, subject)?);
                    memory.chunks.values_mut().for_each(|(_, acknowledged)| *acknowledged = false);
                    let known: Vec<_> = memory.chunks.iter().map(|(index, (id, _))| (*index, id.clone())).collect();
                    known.iter().for_each(|(index, id)| memory.begun(*index, id));
                }
                memory
            }
            None => Self {
                chunks: HashMap::new(),
                trusted: true,
                file: Some(begin(directory, &path, subject)?),
            },
        };
        Ok(Ok(memory))
    }

    /// Whether a chunk was acknowledged before; an error when another was in its place.
    pub(super) fn knows(&self, index: u64, id: &str) -> Result<bool, Changed> {
        match self.chunks.get(&index) {
            Some((known, _)) if known != id => Err(Changed::File),
            Some((_, acknowledged)) => Ok(*acknowledged && self.trusted),
            None => Ok(false),
        }
    }

    /// Notes that a chunk is about to be sent.
    pub(super) fn begun(&mut self, index: u64, id: &str) {
        self.note(format_args!("> {index} {id}"));
    }

    /// Notes that a chunk was acknowledged.
    pub(super) fn acknowledged(&mut self, index: u64, id: &str) {
        self.note(format_args!("+ {index} {id}"));
    }

    /// Notes that every chunk was.
    pub(super) fn complete(&mut self) {
        self.note(format_args!("="));
    }

    fn note(&mut self, line: std::fmt::Arguments<'_>) {
        // In one write, so that lines of two runs do not mix. What cannot be noted is sent again, which is safe.
        if let Some(file) = &mut self.file
            && file.write_all(format!("{line}\n").as_bytes()).is_err()
        {
            self.file = None;
        }
    }
}

/// A new file in place of an older one.
fn begin(directory: &Path, path: &Path, subject: &Subject) -> io::Result<File> {
    let new = directory.join(format!(".new-{}", std::process::id()));
    let _left = fs::remove_file(&new);
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{VERSION}\n{}", subject.line())?;
    fs::rename(&new, path)?;
    Ok(file)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_STATE + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_STATE).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

type Parsed = (Subject, HashMap<u64, (String, bool)>, bool);

fn parse(text: &str) -> Option<Parsed> {
    // A line without its end was cut off by a crash.
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    if lines.next()? != VERSION {
        return None;
    }
    let subject = Subject::read(lines.next()?)?;
    let (mut chunks, mut complete) = (HashMap::new(), false);
    for line in lines {
        let mut words = line.split(' ');
        match (words.next(), words.next().map(str::parse::<u64>), words.next(), words.next()) {
            (Some(sign @ (">" | "+")), Some(Ok(index)), Some(id), None) => {
                let done = sign == "+" || chunks.get(&index).is_some_and(|(_, done)| *done);
                chunks.insert(index, (id.to_owned(), done));
            }
            (Some("="), None, ..) => complete = true,
            _ => {}
        }
    }
    Some((subject, chunks, complete))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn subject(meaning: &str, size: u64, table: Option<&str>) -> Subject {
        Subject {
            meaning: meaning.into(),
            size,
            table: table.map(str::to_owned),
        }
    }

    fn open(place: &Path, subject: &Subject) -> Result<Memory, Changed> {
        Memory::open(&place.join("imports"), "name", subject, false).unwrap()
    }

    #[test]
    fn what_was_acknowledged_is_known_next_time() {
        let place = tempfile::tempdir().unwrap();
        let same = subject("m", 10, Some("7"));
        let mut first = open(place.path(), &same).unwrap();
        first.begun(0, "a");
        first.acknowledged(0, "a");
        first.begun(1, "b");
        drop(first);

        let second = open(place.path(), &same).unwrap();
        assert_eq!(second.knows(0, "a"), Ok(true));
        assert_eq!(second.knows(1, "b"), Ok(false));
        assert_eq!(second.knows(2, "c"), Ok(false));
        // Begun is enough to notice a change: perhaps it was stored.
        assert_eq!(second.knows(1, "other"), Err(Changed::File));

        let path = place.path().join("imports/name");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn other_options_or_another_size_are_noticed_unless_it_is_begun_anew() {
        let place = tempfile::tempdir().unwrap();
        open(place.path(), &subject("m", 10, None)).unwrap().acknowledged(0, "a");
        assert_eq!(open(place.path(), &subject("n", 10, None)).unwrap_err(), Changed::Options);
        assert_eq!(open(place.path(), &subject("m", 11, None)).unwrap_err(), Changed::File);
        let anew = Memory::open(&place.path().join("imports"), "name", &subject("n", 11, None), true)
            .unwrap()
            .unwrap();
        assert_eq!(anew.knows(0, "a"), Ok(false));
    }

    #[test]
    fn acknowledgements_do_not_outlive_their_table() {
        let place = tempfile::tempdir().unwrap();
        let mut first = open(place.path(), &subject("m", 10, Some("7"))).unwrap();
        first.acknowledged(0, "a");
        first.complete();
        assert_eq!(open(place.path(), &subject("m", 10, Some("7"))).unwrap().knows(0, "a"), Ok(true));
        // A key that cannot see the table: what is over may be gone with it.
        assert_eq!(open(place.path(), &subject("m", 10, None)).unwrap().knows(0, "a"), Ok(false));
        assert_eq!(open(place.path(), &subject("m", 10, Some("8"))).unwrap().knows(0, "a"), Ok(false));
        // And then it is the new one's.
        assert_eq!(open(place.path(), &subject("m", 10, Some("8"))).unwrap().chunks.len(), 0);
    }

    #[test]
    fn what_was_sent_without_sight_of_the_table_is_sent_once_more_and_then_known() {
        let place = tempfile::tempdir().unwrap();
        let (blind, seeing) = (subject("m", 10, None), subject("m", 10, Some("7")));
        open(place.path(), &blind).unwrap().acknowledged(0, "a");
        assert_eq!(open(place.path(), &blind).unwrap().knows(0, "a"), Ok(true), "it is not over yet");

        let mut first = open(place.path(), &seeing).unwrap();
        assert_eq!((first.knows(0, "a"), first.knows(0, "b")), (Ok(false), Err(Changed::File)));
        first.acknowledged(0, "a");
        first.complete();
        assert_eq!(open(place.path(), &seeing).unwrap().knows(0, "a"), Ok(true));
    }

    #[test]
    fn a_torn_line_and_a_strange_file_are_nothing() {
        let place = tempfile::tempdir().unwrap();
        let same = subject("m", 10, None);
        let mut first = open(place.path(), &same).unwrap();
        first.acknowledged(0, "aaaa");
        first.acknowledged(1, "bbbb");
        let path = place.path().join("imports/name");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 3]).unwrap();
        let again = open(place.path(), &same).unwrap();
        assert_eq!((again.knows(0, "aaaa"), again.knows(1, "bbbb")), (Ok(true), Ok(false)));
        fs::write(&path, [0xff; 100]).unwrap();
        assert_eq!(open(place.path(), &same).unwrap().knows(0, "aaaa"), Ok(false));
    }
}
