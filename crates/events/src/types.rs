//! What a column holds, and how its type follows from what it has held so far.

use std::{collections::HashMap, fmt, ops::BitOr};

use arrow::datatypes::{DataType, Field};

/// The column that every table has, seconds since the epoch, first.
pub const TIME: &str = "time";

/// The column, of JSON objects, for what no other column of a table takes: keys beyond the number of columns that there may be, times
/// that are more than whole seconds, and a key of this very name. Each under its key, as it was sent.
pub const OVERFLOW: &str = "_overflow";

/// The key in a field's metadata under which its [`Seen`] bits travel.
const SEEN_KEY: &str = "seen";

/// The type of a column, as SQL sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// 64-bit integers.
    Long,
    /// 64-bit floating point numbers.
    Double,
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// Nested values, kept as JSON text.
    Json,
}

impl ColumnType {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Long, Self::Double, Self::String, Self::Boolean, Self::Json];

    /// The name between our roles and on the console.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Double => "double",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Json => "json",
        }
    }

    /// The inverse of [`ColumnType::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == name)
    }

    /// The name in a td table schema. Strict td clients know neither boolean nor JSON: both are shown as what
    /// their values read as once the column is widened, which is text.
    pub const fn td_name(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Double => "double",
            Self::String | Self::Boolean | Self::Json => "string",
        }
    }

    /// The name in a query's result schema.
    pub const fn engine_name(self) -> &'static str {
        match self {
            Self::Long => "bigint",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::String | Self::Json => "varchar",
        }
    }

    /// How Arrow holds it.
    pub const fn data_type(self) -> DataType {
        match self {
            Self::Long => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::String | Self::Json => DataType::Utf8,
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which kinds of value a column has ever held. The column's type is a function of this set and of nothing else,
/// so the order in which batches arrive cannot matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seen(u8);

impl Seen {
    /// Nothing but nulls so far.
    pub const NOTHING: Self = Self(0);
    /// True or false.
    pub const BOOL: Self = Self(1);
    /// Integers that a double holds exactly: at most 2^53 from zero.
    pub const LONG: Self = Self(2);
    /// Integers beyond that.
    pub const BIG_LONG: Self = Self(4);
    /// Floating point numbers.
    pub const DOUBLE: Self = Self(8);
    /// Text.
    pub const STRING: Self = Self(16);
    /// Arrays, maps and extension values, as JSON text.
    pub const JSON: Self = Self(32);

    const KINDS: [(Self, &'static str); 6] = [
        (Self::BOOL, "bool"),
        (Self::LONG, "long"),
        (Self::BIG_LONG, "big long"),
        (Self::DOUBLE, "double"),
        (Self::STRING, "string"),
        (Self::JSON, "json"),
    ];

    /// The kind of one integer.
    pub const fn of_long(value: i64) -> Self {
        if value.unsigned_abs() <= 1 << 53 {
            Self::LONG
        } else {
            Self::BIG_LONG
        }
    }

    /// From stored bits; `None` for bits that mean nothing.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits < 64).then_some(Self(bits))
    }

    /// The stored form.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` has been seen.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there was nothing but nulls.
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// The type that holds all of it unchanged; `None` while there was nothing but nulls.
    pub const fn column_type(self) -> Option<ColumnType> {
        const BOOL: u8 = Seen::BOOL.0;
        const JSON: u8 = Seen::JSON.0;
        const LONGS: u8 = Seen::LONG.0 | Seen::BIG_LONG.0;
        const NUMBERS: u8 = Seen::LONG.0 | Seen::DOUBLE.0;
        match self.0 {
            0 => None,
            BOOL => Some(ColumnType::Boolean),
            JSON => Some(ColumnType::Json),
            bits if bits & !LONGS == 0 => Some(ColumnType::Long),
            bits if bits & !NUMBERS == 0 => Some(ColumnType::Double),
            _ => Some(ColumnType::String),
        }
    }
}

impl BitOr for Seen {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(Self::KINDS.iter().filter(|(kind, _)| self.contains(*kind)).map(|(_, name)| name))
            .finish()
    }
}

/// The Arrow field of a column that has held this. One that held nothing yet counts as text.
pub fn field(name: &str, seen: Seen) -> Field {
    let data_type = seen.column_type().unwrap_or(ColumnType::String).data_type();
    Field::new(name, data_type, true).with_metadata(HashMap::from([(SEEN_KEY.to_owned(), seen.bits().to_string())]))
}

/// The Arrow field of the column [`TIME`].
pub fn time_field() -> Field {
    Field::new(TIME, DataType::Int64, false)
}

/// What a field says its column has held. Without a word from it, the widest that its type allows.
pub fn seen_of(field: &Field) -> Seen {
    stated(field).unwrap_or(match field.data_type() {
        DataType::Null => Seen::NOTHING,
        DataType::Boolean => Seen::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Seen::LONG,
        DataType::Int64 => Seen::LONG | Seen::BIG_LONG,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Seen::DOUBLE,
        _ => Seen::STRING,
    })
}

/// The bits in a field's metadata, when they are there and mean something.
pub(crate) fn stated(field: &Field) -> Option<Seen> {
    field
        .metadata()
        .get(SEEN_KEY)
        .and_then(|bits| bits.parse().ok())
        .and_then(Seen::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_a_function_of_what_was_seen() {
        let check = |kinds: &[Seen], expected| {
            let seen = kinds.iter().fold(Seen::NOTHING, |all, kind| all | *kind);
            assert_eq!(seen.column_type(), expected, "{seen:?}");
        };
        use ColumnType::*;
        check(&[], None);
        check(&[Seen::BOOL], Some(Boolean));
        check(&[Seen::LONG], Some(Long));
        check(&[Seen::LONG, Seen::BIG_LONG], Some(Long));
        check(&[Seen::LONG, Seen::DOUBLE], Some(Double));
        check(&[Seen::DOUBLE], Some(Double));
        check(&[Seen::BIG_LONG, Seen::DOUBLE], Some(String));
        check(&[Seen::BOOL, Seen::LONG], Some(String));
        check(&[Seen::JSON], Some(Json));
        check(&[Seen::JSON, Seen::STRING], Some(String));
        check(&[Seen::JSON, Seen::LONG], Some(String));
    }

    #[test]
    fn a_type_never_gets_narrower() {
        let rank = |t: Option<ColumnType>| match t {
            None => 0,
            Some(ColumnType::String) => 3,
            Some(ColumnType::Double) => 2,
            Some(_) => 1,
        };
        for a in (0..64).filter_map(Seen::from_bits) {
            for b in (0..64).filter_map(Seen::from_bits) {
                assert_eq!(a | b, b | a);
                assert!(rank((a | b).column_type()) >= rank(a.column_type()), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn fields_say_what_they_held() {
        for seen in (0..64).filter_map(Seen::from_bits) {
            assert_eq!(seen_of(&field("x", seen)), seen);
        }
        assert_eq!(seen_of(&Field::new("x", DataType::Int64, true)), Seen::LONG | Seen::BIG_LONG);
        assert_eq!(Seen::of_long(1 << 53), Seen::LONG);
        assert_eq!(Seen::of_long(-(1 << 53) - 1), Seen::BIG_LONG);
        assert_eq!(Seen::of_long(i64::MIN), Seen::BIG_LONG);
    }
}
