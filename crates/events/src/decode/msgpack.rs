//! Rows written as msgpack maps, one after the other.

use super::rows::{Rows, Slot, Stop, Value};
use super::{DecodeError, RowFault, time};
use crate::msgpack::{Nesting, Reader, Token, push_json, push_json_ext};

const FORM: &str = "msgpack";

pub(super) fn read(body: &[u8], rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let outcome = read_all(body, rows);
    // Any text reads as numbers, one per byte. Who sends that has sent something else than msgpack.
    let begins_with_a_number = body.first().is_some_and(|lead| matches!(lead, 0..=0x7f | 0xe0..=0xff));
    if begins_with_a_number && rows.saw_no_map() {
        return Err(DecodeError::NothingReadable { form: FORM });
    }
    outcome
}

fn read_all(body: &[u8], rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let max = rows.told.limits.max_row;
    let mut reader = Reader::new(body);
    while !reader.is_at_end() {
        let from = reader.at();
        let clipped = reader.window(max);
        let number = rows.number();
        let fault = match row(&mut reader, rows) {
            Ok(()) => continue,
            Err(Stop::Row(fault)) => fault,
            // The window ended, not the body.
            Err(Stop::Truncated) if clipped => RowFault::TooLarge { max },
            Err(stop) => return Err(stop.refusal(number, FORM, rows.told.limits)),
        };
        reader.rewind(from);
        let limits = rows.told.limits;
        reader
            .skip()
            .map_err(|fault| Stop::of_msgpack(fault, limits).refusal(number, FORM, limits))?;
        rows.set_aside(fault, from..reader.at())?;
    }
    Ok(())
}

fn row(reader: &mut Reader<'_>, rows: &mut Rows<'_>) -> Result<(), Stop> {
    rows.begin()?;
    let Token::Map(keys) = token(reader, rows)? else {
        return Err(RowFault::NotAMap.into());
    };
    let max = rows.told.limits.max_keys;
    if keys as usize > max {
        return Err(RowFault::TooManyKeys { max }.into());
    }
    for _ in 0..keys {
        let (Token::Str(name) | Token::Bin(name)) = token(reader, rows)? else {
            return Err(RowFault::KeyNotText.into());
        };
        let slot = rows.slot(name)?;
        let token = token(reader, rows)?;
        value(reader, rows, slot, token)?;
    }
    rows.keep()
}

#[inline]
fn token<'a>(reader: &mut Reader<'a>, rows: &Rows<'_>) -> Result<Token<'a>, Stop> {
    reader.token().map_err(|fault| Stop::of_msgpack(fault, rows.told.limits))
}

fn value(reader: &mut Reader<'_>, rows: &mut Rows<'_>, slot: Slot, token: Token<'_>) -> Result<(), Stop> {
    match token {
        Token::Nil => rows.value(slot, Value::Null),
        Token::Bool(value) => rows.value(slot, Value::Bool(value)),
        Token::Long(value) => rows.value(slot, Value::Long(value)),
        Token::Double(value) => rows.value(slot, Value::Double(value)),
        Token::Str(bytes) | Token::Bin(bytes) => rows.value(slot, Value::Bytes(bytes)),
        Token::BigLong(value) => rows.value(slot, Value::Number(value.to_string().as_bytes())),
        Token::Ext(kind, bytes) if slot == Slot::Time => {
            let moment = time::of_ext(kind, bytes)?;
            rows.moment(moment, |sent| push_json_ext(sent, kind, bytes));
            Ok(())
        }
        Token::Array(_) | Token::Map(_) | Token::Ext(..) => {
            let limits = rows.told.limits;
            let room = rows.room();
            rows.nested(slot, |out| {
                let allowed = Nesting {
                    depth: limits.max_depth,
                    keys: limits.max_keys,
                    out: out.len().saturating_add(room),
                };
                push_json(reader, token, allowed, out).map_err(|fault| Stop::of_msgpack(fault, limits))
            })
        }
    }
}
