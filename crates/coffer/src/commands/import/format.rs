//! What a file holds and how it is packed, by its first bytes and by its name.
//!
//! Promise: bytes count for more than a name where they leave no doubt (gzip, zstd, Parquet); text whose kind no name tells is not guessed at.

use std::fmt;

use clap::ValueEnum;

use crate::failure::{Exit, Failure, Outcome};

/// The forms of rows that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object per line
    Jsonl,
    /// JSON objects in one array, or one after the other
    Json,
    /// Comma-separated (RFC 4180)
    Csv,
    /// Tab-separated, with \t, \n, \r, \\ and \N
    Tsv,
    /// Maps one after the other
    Msgpack,
    /// Apache Parquet, not encrypted
    Parquet,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jsonl => "JSON lines",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Tsv => "TSV",
            Self::Msgpack => "msgpack",
            Self::Parquet => "Parquet",
        })
    }
}

impl Format {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Msgpack => "msgpack",
            Self::Parquet => "parquet",
        }
    }
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes alone.
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Whether these are the first bytes of a Parquet file.
pub(super) fn is_parquet(head: &[u8]) -> bool {
    head.starts_with(b"PAR1")
}

/// Refuses a name that says another packing than the bytes do: half a file, or not the one that was meant.
pub(super) fn check_name(name: &str, packed: Compression, head: &[u8]) -> Outcome {
    let said = match extension(&name.to_ascii_lowercase()) {
        "gz" | "gzip" => Compression::Gzip,
        "zst" | "zstd" => Compression::Zstd,
        _ => return Ok(()),
    };
    if said == packed || head.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("{name} cannot be read"))
        .why(format!("its name says {}, its first bytes do not", said.name()))
        .next("rename it, or fetch it again"))
}

/// The form of the rows: by the name, where that says one; by the first bytes of the content otherwise.
pub(super) fn recognise(name: &str, head: &[u8]) -> Outcome<Format> {
    let mut plain = name.to_ascii_lowercase();
    for packed in [".gz", ".gzip", ".zst", ".zstd"] {
        if let Some(inner) = plain.strip_suffix(packed) {
            plain = inner.to_owned();
            break;
        }
    }
    match extension(&plain) {
        "jsonl" | "ndjson" => return Ok(Format::Jsonl),
        "json" => return Ok(json(head)),
        "csv" => return Ok(Format::Csv),
        "tsv" | "tab" => return Ok(Format::Tsv),
        "msgpack" | "mpk" | "mp" => return Ok(Format::Msgpack),
        "parquet" => return Ok(Format::Parquet),
        _ => {}
    }
    match without_mark(head).trim_ascii_start() {
        [b'{' | b'[', ..] => Ok(json(head)),
        _ if matches!(head.first(), Some(0x80..=0x8f | 0xde | 0xdf)) => Ok(Format::Msgpack),
        _ => Err(Failure::new(Exit::Usage, format!("the format of {name} is not known"))
            .why("neither its name nor its first bytes say what it holds")
            .next("name it: --format csv, tsv, jsonl, json, msgpack or parquet")),
    }
}

/// What Windows programs write before text.
pub(super) fn without_mark(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head)
}

/// Lines, when the first of them is an object of its own; else one array, or objects that take several lines.
fn json(head: &[u8]) -> Format {
    let text = without_mark(head).trim_ascii_start();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let whole = serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
    if text.starts_with(b"{") && whole {
        Format::Jsonl
    } else {
        Format::Json
    }
}

fn extension(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or_default();
    file.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_first_bytes_tell_the_format() {
        let check = |name: &str, head: &[u8], expected: Format| assert_eq!(recognise(name, head).unwrap(), expected, "{name}");
        check("a/b.csv", b"{", Format::Csv);
        check("B.CSV.GZ", b"", Format::Csv);
        check("x.tsv.zst", b"", Format::Tsv);
        check("x.ndjson", b"[1]", Format::Jsonl);
        check("x.json", b" [{\"a\":1}]", Format::Json);
        check("x.json", b"\xef\xbb\xbf{\"a\":1}\n{\"a\":2}\n", Format::Jsonl);
        check("x.json", b"{\n  \"a\": 1\n}\n", Format::Json);
        check("-", b"{\"a\":1}", Format::Jsonl);
        check("export", b"\x82\xa1a\x01", Format::Msgpack);
        check("export.mpk.gz", b"", Format::Msgpack);
        check("x.parquet", b"PAR1", Format::Parquet);
        for unknown in ["-", "x", "x.txt", "dir.csv/x"] {
            assert_eq!(recognise(unknown, b"a,b\n1,2\n").unwrap_err().exit, Exit::Usage, "{unknown}");
        }
    }

    #[test]
    fn a_name_that_the_bytes_deny_is_refused() {
        let check = |name: &str, head: &[u8]| check_name(name, Compression::of(head), head).map_err(|failure| failure.exit);
        assert_eq!(check("x.csv.gz", b"\x1f\x8b\x08"), Ok(()));
        assert_eq!(check("x.csv", b"\x1f\x8b\x08"), Ok(()), "packed all the same");
        assert_eq!(check("x.csv.gz", b"a,b"), Err(Exit::Refused));
        assert_eq!(check("x.csv.zst", b"\x1f\x8b\x08"), Err(Exit::Refused));
        assert_eq!(check("x.csv.zst", b"\x28\xb5\x2f\xfd"), Ok(()));
    }
}
