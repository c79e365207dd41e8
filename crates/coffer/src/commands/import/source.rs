//! A file, or standard input, opened: its format known and its content unpacked, with the first bytes at hand.
//!
//! Promise: in memory are [`SAMPLE_BYTES`] of the content at most, besides the windows of gzip (32 KiB) or zstd (128 MiB at the very most).
//!
//! Start at [`Source::open`]. Does not know rows.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use columns::plain::PlainFile;
use flate2::read::MultiGzDecoder;

use super::format::{self, Compression, Format};
use crate::failure::{Exit, Failure, Outcome};
use crate::terminal;

/// How much of the content is looked at before anything is sent.
pub(super) const SAMPLE_BYTES: usize = 8 << 20;
/// Enough to know how a file is packed, and to look at the first line.
const PEEK: usize = 4 << 10;

/// Where content comes from.
pub(super) struct Source {
    /// As it was named.
    pub(super) name: String,
    /// The file, for what is remembered of it; none for standard input and pipes.
    pub(super) file: Option<Watched>,
    pub(super) format: Format,
    pub(super) compression: Compression,
    /// Columns and their types, where the file itself says them.
    pub(super) columns: Vec<(String, String)>,
    /// Rows, where the file itself says them.
    pub(super) rows: Option<u64>,
    /// The first bytes of the content.
    pub(super) head: Vec<u8>,
    /// Whether that is all of it.
    pub(super) is_short: bool,
    /// Bytes of the file that were read.
    pub(super) read: Arc<AtomicU64>,
    rest: Box<dyn Read + Send>,
}

/// A file that should not change while it is sent.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    file: File,
    then: (u64, i64, i64),
}

impl Watched {
    fn new(path: PathBuf, file: File, metadata: &Metadata) -> Self {
        Self {
            path,
            size: metadata.len(),
            file,
            then: state(metadata),
        }
    }

    /// Whether the file is what it was when it was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| state(&now) == self.then)
    }
}

fn state(metadata: &Metadata) -> (u64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

impl Source {
    /// Opens a file, or standard input for `-`, and looks at its beginning.
    pub(super) fn open(path: &Path, asked: Option<Format>) -> Outcome<Self> {
        let name = terminal::harmless(&path.display().to_string()).into_owned();
        let failed = |error: io::Error| {
            let exit = match error.kind() {
                io::ErrorKind::NotFound => Exit::NotFound,
                io::ErrorKind::PermissionDenied => Exit::NotAllowed,
                _ => Exit::Failed,
            };
            Failure::new(exit, format!("could not read {name}")).why(error)
        };
        let (mut raw, file): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            if metadata.is_dir() {
                return Err(Failure::new(Exit::Usage, format!("could not read {name}"))
                    .why("it is a directory")
                    .next("name the files in it"));
            }
            let watched = if metadata.is_file() {
                Some(Watched::new(
                    std::path::absolute(path).map_err(failed)?,
                    file.try_clone().map_err(failed)?,
                    &metadata,
                ))
            } else {
                None
            };
            (Box::new(file), watched)
        };
        let read = Arc::new(AtomicU64::new(0));
        let mut peeked = Vec::with_capacity(PEEK);
        raw.by_ref().take(PEEK as u64).read_to_end(&mut peeked).map_err(failed)?;
        let compression = Compression::of(&peeked);
        format::check_name(&name, compression, &peeked)?;
        if format::is_parquet(&peeked) && asked.is_none_or(|asked| asked == Format::Parquet) || asked == Some(Format::Parquet) {
            return Self::parquet(name, file, read);
        }
        let raw = Counted {
            inner: Cursor::new(peeked).chain(raw),
            read: Arc::clone(&read),
        };
        let mut rest: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(raw),
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(raw))),
            Compression::Zstd => Box::new(zstd::Decoder::new(raw).map_err(failed)?),
        };
        let head = head(&mut rest).map_err(|error| damaged(&name, &error))?;
        let format = match asked {
            Some(format) => format,
            None => format::recognise(&name, &head)?,
        };
        if format == Format::Parquet {
            return Err(not_parquet(&name, "its name says Parquet, its content does not"));
        }
        Ok(Self {
            is_short: head.len() < SAMPLE_BYTES,
            name,
            file,
            format,
            compression,
            columns: Vec::new(),
            rows: None,
            head,
            read,
            rest,
        })
    }

    /// Parquet is read as the msgpack that is sent: everything after this sees maps one after the other.
    fn parquet(name: String, file: Option<Watched>, read: Arc<AtomicU64>) -> Outcome<Self> {
        let Some(watched) = file else {
            return Err(Failure::new(Exit::Usage, format!("could not read {name}"))
                .why("Parquet is read from its end, which a pipe does not have")
                .next("name a file"));
        };
        let refused = |error: &dyn std::fmt::Display| not_parquet(&name, &error.to_string());
        let own = File::open(&watched.path).map_err(|error| refused(&error))?;
        let plain = PlainFile::open(own).map_err(|error| refused(&error))?;
        let (columns, rows) = (plain.columns().to_vec(), plain.rows());
        let mut rest: Box<dyn Read + Send> = Box::new(Repacked {
            rows: plain.rows(),
            size: watched.size,
            plain,
            done: 0,
            packed: Cursor::default(),
            read: Arc::clone(&read),
        });
        let head = head(&mut rest).map_err(|error| refused(&error))?;
        Ok(Self {
            is_short: head.len() < SAMPLE_BYTES,
            name,
            file: Some(watched),
            format: Format::Parquet,
            compression: Compression::None,
            columns,
            rows: Some(rows),
            head,
            read,
            rest,
        })
    }

    /// The whole content, from its beginning.
    pub(super) fn content(&mut self) -> impl Read + Send + use<> {
        let rest = std::mem::replace(&mut self.rest, Box::new(io::empty()));
        Cursor::new(std::mem::take(&mut self.head)).chain(rest)
    }
}

fn head(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    from.take(SAMPLE_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// What to say of content that cannot be unpacked.
pub(super) fn damaged(name: &str, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => Exit::Refused,
        _ => Exit::Failed,
    };
    Failure::new(exit, format!("{name} cannot be read to its end"))
        .why(error)
        .next("is it whole? fetch it again, or repack it")
}

fn not_parquet(name: &str, why: &str) -> Failure {
    Failure::new(Exit::Refused, format!("{name} cannot be read as Parquet"))
        .why(why)
        .next("it must be a whole file, not encrypted, uncompressed or with snappy or zstd inside")
}

/// Counts what is read of the file itself.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Batches of Parquet as msgpack maps.
struct Repacked {
    plain: PlainFile,
    rows: u64,
    done: u64,
    size: u64,
    packed: Cursor<Vec<u8>>,
    read: Arc<AtomicU64>,
}

impl Read for Repacked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.packed.read(into)?;
            if length > 0 || into.is_empty() {
                return Ok(length);
            }
            let next = self.plain.next_batch().map_err(io::Error::other)?;
            let Some(batch) = next else {
                return if self.done == self.rows {
                    Ok(0)
                } else {
                    Err(io::Error::other("it has other rows than its footer says"))
                };
            };
            let mut packed = std::mem::take(&mut self.packed).into_inner();
            packed.clear();
            events::encode_maps(&batch, 0..batch.num_rows(), &mut packed).map_err(io::Error::other)?;
            self.packed = Cursor::new(packed);
            self.done += batch.num_rows() as u64;
            // How far in the file, going by rows.
            let part = u128::from(self.size) * u128::from(self.done) / u128::from(self.rows.max(1));
            self.read.store(part as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Level::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn opened(name: &str, bytes: &[u8]) -> Outcome<(Format, Compression, io::Result<Vec<u8>>)> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut source = Source::open(&path, None)?;
        let mut content = Vec::new();
        let read = source.content().read_to_end(&mut content).map(|_| content);
        Ok((source.format, source.compression, read))
    }

    #[test]
    fn content_is_the_same_however_it_is_packed() {
        let text = b"a,b\n1,2\n".repeat(2_000_000);
        let members = [gzip(&text[..1_000]), gzip(&text[1_000..])].concat();
        for (name, bytes, compression) in [
            ("x.csv", text.clone(), Compression::None),
            ("x.csv.gz", members, Compression::Gzip),
            ("x.csv.zst", zstd::encode_all(&text[..], 1).unwrap(), Compression::Zstd),
        ] {
            let (format, packed, content) = opened(name, &bytes).unwrap();
            assert_eq!((format, packed), (Format::Csv, compression));
            assert!(content.unwrap() == text, "{name}");
        }
    }

    #[test]
    fn a_cut_off_file_is_an_error_and_never_a_short_one() {
        let mut noise = Vec::new();
        for n in 0..3_000_000_u64 {
            noise.extend(n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        }
        let whole = gzip(&noise);
        let (.., content) = opened("x.csv.gz", &whole[..whole.len() - 9]).unwrap();
        assert_eq!(damaged("x", &content.unwrap_err()).exit, Exit::Refused);
        assert_eq!(opened("x.csv.gz", &gzip(b"a,b\n1,2\n")[..20]).unwrap_err().exit, Exit::Refused);
        assert_eq!(opened("x.parquet", b"PAR1 and no more").unwrap_err().exit, Exit::Refused);
        assert_eq!(opened("x.parquet", b"a,b\n").unwrap_err().exit, Exit::Refused);
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.csv");
        std::fs::write(&path, "a,b\n").unwrap();
        let source = Source::open(&path, None).unwrap();
        let watched = source.file.as_ref().unwrap();
        assert!(watched.is_unchanged());
        File::options().append(true).open(&path).unwrap().write_all(b"1,2\n").unwrap();
        assert!(!watched.is_unchanged());
    }
}
