//! Names of types, as a Trino client reads them.

use arrow::datatypes::{DataType, TimeUnit};

/// The name of a type in a result's schema and in `DESCRIBE`.
pub fn engine_type(data_type: &DataType) -> String {
    let fixed = match data_type {
        DataType::Null => "unknown",
        DataType::Boolean => "boolean",
        DataType::Int8 => "tinyint",
        DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 | DataType::Duration(_) => "bigint",
        DataType::UInt64 => "decimal(20,0)",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Union(..) => "varchar",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "varbinary",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Interval(_) => "interval day to second",
        DataType::Timestamp(unit, zone) => return format!("timestamp({}){}", digits(unit), with_zone(zone.is_some())),
        DataType::Time32(unit) | DataType::Time64(unit) => return format!("time({})", digits(unit)),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            return format!("decimal({p},{s})");
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => return format!("array({})", engine_type(item.data_type())),
        DataType::Dictionary(_, value) => return engine_type(value),
        DataType::RunEndEncoded(_, value) => return engine_type(value.data_type()),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|f| format!("{} {}", f.name(), engine_type(f.data_type())))
                .collect();
            return format!("row({})", fields.join(", "));
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return "map".to_owned();
            };
            let pair: Vec<_> = pair.iter().map(|f| engine_type(f.data_type())).collect();
            return format!("map({})", pair.join(", "));
        }
    };
    fixed.to_owned()
}

fn digits(unit: &TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn with_zone(zone: bool) -> &'static str {
    if zone { " with time zone" } else { "" }
}
