//! The ids of chunks: under one id the server stores one chunk once, so they are all that keeps rows from being there twice.
//!
//! Promise: the same part of the same file, sent to the same table in the same meaning, has the same id whenever and from wherever it is
//! sent; anything else has another.

use base::{DatabaseName, TableName};

use super::chunks::Chunk;

/// Changes when the same bytes would be sent as other rows.
const VERSION: &str = "coffer/import/1";

/// What all chunks of a file have in common.
#[derive(Debug, Clone)]
pub(super) struct Meaning([u8; 32]);

impl Meaning {
    /// `options` are those that change what rows mean, in a fixed order. `nonce` is empty, unless this run is to be one of its own.
    pub(super) fn new(database: &DatabaseName, table: &TableName, options: &[String], label: &str, nonce: &str) -> Self {
        let own = [database.as_str(), table.as_str(), label, nonce];
        Self(hash(
            VERSION,
            own.into_iter().chain(options.iter().map(String::as_str)).map(str::as_bytes),
        ))
    }

    /// For comparing.
    pub(super) fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The id of a chunk.
    pub(super) fn id(&self, chunk: &Chunk) -> String {
        let (content, place) = (
            blake3::hash(&chunk.bytes),
            [chunk.index, chunk.start, chunk.end()].map(u64::to_be_bytes).concat(),
        );
        hex::encode(hash("chunk", [&self.0[..], &place, content.as_bytes()]))
    }
}

/// Of parts that cannot run into each other.
pub(super) fn hash<'a>(kind: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts) {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn meaning(table: &str, options: &[&str], label: &str, nonce: &str) -> Meaning {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Meaning::new(&"web".parse().unwrap(), &table.parse().unwrap(), &options, label, nonce)
    }

    fn chunk(index: u64, start: u64, bytes: &[u8]) -> Chunk {
        Chunk {
            index,
            start,
            bytes: bytes.to_vec(),
            rows: Vec::new(),
        }
    }

    #[test]
    fn whatever_makes_other_rows_makes_another_id() {
        let plain = meaning("events", &["a", "b"], "", "");
        let ids = [
            plain.id(&chunk(0, 0, b"x\n")),
            plain.id(&chunk(1, 0, b"x\n")),
            plain.id(&chunk(0, 1, b"x\n")),
            plain.id(&chunk(0, 0, b"y\n")),
            meaning("others", &["a", "b"], "", "").id(&chunk(0, 0, b"x\n")),
            meaning("events", &["ab"], "", "").id(&chunk(0, 0, b"x\n")),
            meaning("events", &["a", "b", ""], "", "").id(&chunk(0, 0, b"x\n")),
            meaning("events", &["a", "b"], "again", "").id(&chunk(0, 0, b"x\n")),
            meaning("events", &["a", "b"], "", "again").id(&chunk(0, 0, b"x\n")),
        ];
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn an_id_is_the_same_in_every_version() {
        let id = meaning("events", &["csv", "time"], "", "").id(&chunk(3, 4_096, b"1700000000,a\n"));
        assert_eq!(id, "33c5d1d35105fa2103bc6e479b79aa93c5ff492d0f9f7ecfb919c7737a6f7f2f");
    }
}
