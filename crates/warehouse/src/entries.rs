//! What the warehouse writes into a product's journal: the header of each entry, in clear but signed.
//!
//! Invariant: a header holds names, sizes, time ranges and keyed hashes. Values of events are in the payload, which is sealed.

use base::{DatabaseName, TableId, TableName, Timestamp};
use columns::catalog::{BatchHash, RecordHash, Retention};
use events::ColumnType;
use prost::Message;

/// One entry of a product's journal, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Header {
    /// Rows of a table; the payload is an Arrow IPC stream.
    Rows(RowsHeader),
    /// A database was made.
    CreateDatabase { name: DatabaseName, at: Timestamp },
    /// A database was dropped with all its tables, at a moment; where none is said, they went for good.
    DeleteDatabase { name: DatabaseName, at: Option<Timestamp> },
    /// A table was made.
    CreateTable {
        id: TableId,
        number: u64,
        database: DatabaseName,
        name: TableName,
        at: Timestamp,
    },
    /// A table was dropped, at a moment; where none is said, it went for good.
    DeleteTable { id: TableId, at: Option<Timestamp> },
    /// The types of a table's columns were declared, in place of what was declared before.
    Declare { id: TableId, columns: Vec<(String, ColumnType)> },
    /// A dropped table came back, under this name.
    Undrop {
        id: TableId,
        database: DatabaseName,
        name: TableName,
    },
    /// The database that was dropped at this moment came back as `to`, with the tables that were dropped with it and not brought back since.
    UndropDatabase {
        name: DatabaseName,
        at: Timestamp,
        to: DatabaseName,
    },
    /// The rows of a table are kept for so long, in place of what was said before.
    Keep { id: TableId, retention: Retention },
    /// Dropped tables and databases went for good. A database is told from others by when it was dropped.
    Purge {
        tables: Vec<TableId>,
        databases: Vec<(DatabaseName, Timestamp)>,
    },
}

/// What is known of a batch of rows without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowsHeader {
    pub(crate) table: TableId,
    pub(crate) batch: BatchHash,
    pub(crate) rows: u64,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    /// The columns of this batch, with the kinds of value seen in each. What was beyond the columns that a table may have is not among
    /// them: its values are in the payload, and shown in the overflow column.
    pub(crate) columns: Vec<(String, u8)>,
    /// Of each row the hash of its own id, zeros for one without; empty when no row has one.
    pub(crate) records: Vec<RecordHash>,
}

/// A header that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("an entry is of a kind that this version of Coffer does not know; if a newer one wrote it, use that version, or a newer one")]
pub(crate) struct UnreadableHeader;

impl Header {
    /// Whether something went for good by it.
    pub(crate) fn is_for_good(&self) -> bool {
        matches!(
            self,
            Self::Purge { .. } | Self::DeleteTable { at: None, .. } | Self::DeleteDatabase { at: None, .. }
        )
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let kind = match self {
            Self::Rows(rows) => stored::Kind::Rows(stored::Rows {
                table: rows.table.to_bytes().to_vec(),
                batch: rows.batch.to_vec(),
                rows: rows.rows,
                time_min: rows.time_min,
                time_max: rows.time_max,
                columns: rows
                    .columns
                    .iter()
                    .map(|(name, seen)| stored::Column {
                        name: name.clone(),
                        seen: u32::from(*seen),
                    })
                    .collect(),
                records: rows.records.concat(),
            }),
            Self::CreateDatabase { name, at } => stored::Kind::CreateDatabase(stored::CreateDatabase {
                name: name.to_string(),
                at: at.as_micros(),
            }),
            Self::DeleteDatabase { name, at } => stored::Kind::DeleteDatabase(stored::DeleteDatabase {
                name: name.to_string(),
                at: at.map(Timestamp::as_micros),
            }),
            Self::CreateTable {
                id,
                number,
                database,
                name,
                at,
            } => stored::Kind::CreateTable(stored::CreateTable {
                id: id.to_bytes().to_vec(),
                number: *number,
                database: database.to_string(),
                name: name.to_string(),
                at: at.as_micros(),
            }),
            Self::DeleteTable { id, at } => stored::Kind::DeleteTable(stored::DeleteTable {
                id: id.to_bytes().to_vec(),
                at: at.map(Timestamp::as_micros),
            }),
            Self::Declare { id, columns } => stored::Kind::Declare(stored::Declare {
                id: id.to_bytes().to_vec(),
                columns: columns
                    .iter()
                    .map(|(name, of)| stored::Typed {
                        name: name.clone(),
                        of: of.as_str().to_owned(),
                    })
                    .collect(),
            }),
            Self::Undrop { id, database, name } => stored::Kind::Undrop(stored::Undrop {
                id: id.to_bytes().to_vec(),
                database: database.to_string(),
                name: name.to_string(),
            }),
            Self::UndropDatabase { name, at, to } => stored::Kind::UndropDatabase(stored::UndropDatabase {
                name: name.to_string(),
                at: at.as_micros(),
                to: to.to_string(),
            }),
            Self::Keep { id, retention } => stored::Kind::Keep(stored::Keep {
                id: id.to_bytes().to_vec(),
                keep: retention.keep,
                keep_raw: retention.keep_raw,
            }),
            Self::Purge { tables, databases } => stored::Kind::Purge(stored::Purge {
                tables: tables.iter().map(|id| id.to_bytes().to_vec()).collect(),
                databases: databases
                    .iter()
                    .map(|(name, at)| stored::DeleteDatabase {
                        name: name.to_string(),
                        at: Some(at.as_micros()),
                    })
                    .collect(),
            }),
        };
        stored::Header { kind: Some(kind) }.encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, UnreadableHeader> {
        let id = |bytes: &[u8]| TableId::try_from(bytes).map_err(|_| UnreadableHeader);
        let stored = stored::Header::decode(bytes).map_err(|_| UnreadableHeader)?;
        Ok(match stored.kind.ok_or(UnreadableHeader)? {
            stored::Kind::Rows(rows) => Self::Rows(RowsHeader {
                table: id(&rows.table)?,
                batch: rows.batch.as_slice().try_into().map_err(|_| UnreadableHeader)?,
                rows: rows.rows,
                time_min: rows.time_min,
                time_max: rows.time_max,
                columns: rows
                    .columns
                    .into_iter()
                    .map(|column| Ok((column.name, u8::try_from(column.seen).map_err(|_| UnreadableHeader)?)))
                    .collect::<Result<_, _>>()?,
                records: records(&rows.records, rows.rows)?,
            }),
            stored::Kind::CreateDatabase(made) => Self::CreateDatabase {
                name: made.name.parse().map_err(|_| UnreadableHeader)?,
                at: Timestamp::from_micros(made.at),
            },
            stored::Kind::DeleteDatabase(gone) => Self::DeleteDatabase {
                name: gone.name.parse().map_err(|_| UnreadableHeader)?,
                at: gone.at.map(Timestamp::from_micros),
            },
            stored::Kind::CreateTable(made) => Self::CreateTable {
                id: id(&made.id)?,
                number: made.number,
                database: made.database.parse().map_err(|_| UnreadableHeader)?,
                name: TableName::from_stored(&made.name).map_err(|_| UnreadableHeader)?,
                at: Timestamp::from_micros(made.at),
            },
            stored::Kind::DeleteTable(gone) => Self::DeleteTable {
                id: id(&gone.id)?,
                at: gone.at.map(Timestamp::from_micros),
            },
            stored::Kind::Declare(declared) => Self::Declare {
                id: id(&declared.id)?,
                columns: declared
                    .columns
                    .into_iter()
                    .map(|column| Ok((column.name, ColumnType::from_name(&column.of).ok_or(UnreadableHeader)?)))
                    .collect::<Result<_, _>>()?,
            },
            stored::Kind::Undrop(back) => Self::Undrop {
                id: id(&back.id)?,
                database: back.database.parse().map_err(|_| UnreadableHeader)?,
                name: TableName::from_stored(&back.name).map_err(|_| UnreadableHeader)?,
            },
            stored::Kind::UndropDatabase(back) => Self::UndropDatabase {
                name: back.name.parse().map_err(|_| UnreadableHeader)?,
                at: Timestamp::from_micros(back.at),
                to: back.to.parse().map_err(|_| UnreadableHeader)?,
            },
            stored::Kind::Keep(kept) => Self::Keep {
                id: id(&kept.id)?,
                retention: Retention {
                    keep: kept.keep,
                    keep_raw: kept.keep_raw,
                },
            },
            stored::Kind::Purge(gone) => Self::Purge {
                tables: gone.tables.iter().map(|bytes| id(bytes)).collect::<Result<_, _>>()?,
                databases: gone
                    .databases
                    .into_iter()
                    .map(|database| {
                        let at = database.at.map(Timestamp::from_micros).ok_or(UnreadableHeader)?;
                        Ok((database.name.parse().map_err(|_| UnreadableHeader)?, at))
                    })
                    .collect::<Result<_, _>>()?,
            },
        })
    }
}

/// One for each row, or none at all.
fn records(bytes: &[u8], rows: u64) -> Result<Vec<RecordHash>, UnreadableHeader> {
    let (records, rest) = bytes.as_chunks();
    if rest.is_empty() && (records.is_empty() || records.len() as u64 == rows) {
        Ok(records.to_vec())
    } else {
        Err(UnreadableHeader)
    }
}

/// The stored form. Tags are never used again for something else.
mod stored {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Header {
        #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 9, 20, 21, 22, 23")]
        pub(super) kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Kind {
        #[prost(message, tag = "1")]
        Rows(Rows),
        #[prost(message, tag = "2")]
        CreateDatabase(CreateDatabase),
        #[prost(message, tag = "3")]
        DeleteDatabase(DeleteDatabase),
        #[prost(message, tag = "4")]
        CreateTable(CreateTable),
        #[prost(message, tag = "5")]
        DeleteTable(DeleteTable),
        #[prost(message, tag = "9")]
        Declare(Declare),
        #[prost(message, tag = "20")]
        Undrop(Undrop),
        #[prost(message, tag = "21")]
        UndropDatabase(UndropDatabase),
        #[prost(message, tag = "22")]
        Purge(Purge),
        #[prost(message, tag = "23")]
        Keep(Keep),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Rows {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) table: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) batch: Vec<u8>,
        #[prost(uint64, tag = "3")]
        pub(super) rows: u64,
        #[prost(sint64, tag = "4")]
        pub(super) time_min: i64,
        #[prost(sint64, tag = "5")]
        pub(super) time_max: i64,
        #[prost(message, repeated, tag = "6")]
        pub(super) columns: Vec<Column>,
        #[prost(bytes = "vec", tag = "7")]
        pub(super) records: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Column {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(uint32, tag = "2")]
        pub(super) seen: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CreateDatabase {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int64, tag = "2")]
        pub(super) at: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct DeleteDatabase {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int64, optional, tag = "2")]
        pub(super) at: Option<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CreateTable {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) id: Vec<u8>,
        #[prost(uint64, tag = "2")]
        pub(super) number: u64,
        #[prost(string, tag = "3")]
        pub(super) database: String,
        #[prost(string, tag = "4")]
        pub(super) name: String,
        #[prost(int64, tag = "5")]
        pub(super) at: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct DeleteTable {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) id: Vec<u8>,
        #[prost(int64, optional, tag = "2")]
        pub(super) at: Option<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Undrop {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) id: Vec<u8>,
        #[prost(string, tag = "2")]
        pub(super) database: String,
        #[prost(string, tag = "3")]
        pub(super) name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct UndropDatabase {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int64, tag = "2")]
        pub(super) at: i64,
        #[prost(string, tag = "3")]
        pub(super) to: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Keep {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) id: Vec<u8>,
        #[prost(uint64, tag = "2")]
        pub(super) keep: u64,
        #[prost(uint64, tag = "3")]
        pub(super) keep_raw: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Purge {
        #[prost(bytes = "vec", repeated, tag = "1")]
        pub(super) tables: Vec<Vec<u8>>,
        #[prost(message, repeated, tag = "2")]
        pub(super) databases: Vec<DeleteDatabase>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Declare {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) id: Vec<u8>,
        #[prost(message, repeated, tag = "2")]
        pub(super) columns: Vec<Typed>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Typed {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) of: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_their_stored_form() {
        let id = TableId::from_bytes([7; 16]);
        let at = Timestamp::from_micros(-5);
        let check = |header: Header| assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        check(Header::Rows(RowsHeader {
            table: id,
            batch: [9; 16],
            rows: 3,
            time_min: i64::MIN,
            time_max: i64::MAX,
            columns: vec![("event".into(), 16), ("naïve".into(), 1)],
            records: Vec::new(),
        }));
        check(Header::Rows(RowsHeader {
            table: id,
            batch: [9; 16],
            rows: 2,
            time_min: 0,
            time_max: 0,
            columns: Vec::new(),
            records: vec![[1; 16], [0; 16]],
        }));
        check(Header::CreateDatabase {
            name: "web".parse().unwrap(),
            at,
        });
        for at in [None, Some(at), Some(Timestamp::from_micros(0))] {
            check(Header::DeleteDatabase {
                name: "web".parse().unwrap(),
                at,
            });
            check(Header::DeleteTable { id, at });
        }
        check(Header::Undrop {
            id,
            database: "web".parse().unwrap(),
            name: "events".parse::<TableName>().unwrap().aside(),
        });
        check(Header::UndropDatabase {
            name: "web".parse().unwrap(),
            at,
            to: "shop".parse().unwrap(),
        });
        check(Header::Keep {
            id,
            retention: Retention { keep: 86_400, keep_raw: 0 },
        });
        check(Header::Purge {
            tables: vec![id, TableId::from_bytes([8; 16])],
            databases: vec![("web".parse().unwrap(), at)],
        });
        check(Header::CreateTable {
            id,
            number: 4,
            database: "web".parse().unwrap(),
            name: "events".parse().unwrap(),
            at,
        });
        check(Header::CreateTable {
            id,
            number: 5,
            database: "web".parse().unwrap(),
            name: "events".parse::<TableName>().unwrap().aside(),
            at,
        });
        check(Header::Declare {
            id,
            columns: ColumnType::ALL.map(|of| (format!("a {of}"), of)).into(),
        });
    }

    #[test]
    fn a_header_has_a_record_id_for_each_row_or_none() {
        for records in [1, 3] {
            let header = Header::Rows(RowsHeader {
                table: TableId::from_bytes([7; 16]),
                batch: [9; 16],
                rows: 2,
                time_min: 0,
                time_max: 0,
                columns: Vec::new(),
                records: vec![[1; 16]; records],
            });
            assert!(Header::decode(&header.encode()).is_err(), "{records}");
        }
    }

    #[test]
    fn what_is_not_a_header_is_refused() {
        for bytes in [&b""[..], b"\x0a\x00", b"\xff\xff", b"\x12\x02\x0a\x00"] {
            assert!(Header::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
