//! Rows written as JSON objects (RFC 8259): in an array, or one after the other.
//!
//! Start at [`read`]. Objects that follow one another are told apart by their own braces, as long as they are JSON. From the first one
//! on that is not, rows end where lines do: so one broken line is set aside and the next is read, and no text is looked at more than
//! a few times however broken it is.

mod scan;

use super::records::UUID;
use super::rows::{Rows, Slot, Stop, Value};
use super::{DecodeError, RecordId, RowFault};
use scan::{Scanner, Text};

const FORM: &str = "JSON";

/// Reads an array of objects, or objects in a row.
pub(super) fn read(body: &[u8], rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    // A byte order mark is no part of the text (RFC 8259, section 8.1).
    let mut scanner = Scanner::new(body, if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 });
    scanner.space();
    if scanner.peek() == Some(b'[') {
        array(&mut scanner, rows)?;
        return end(&mut scanner, rows);
    }
    sequence(&mut scanner, rows)
}

/// Reads one record by itself, or the records of an envelope.
pub(super) fn read_records(body: &[u8], single: bool, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(body, if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 });
    scanner.space();
    if single {
        element(&mut scanner, rows)?;
        return end(&mut scanner, rows);
    }
    opened(&mut scanner).map_err(|_| DecodeError::NoEnvelope)?;
    array(&mut scanner, rows)?;
    scanner.space();
    // A second list would have to be refused after the first was taken, or be lost: an envelope holds one thing.
    scanner.expect(b'}').map_err(|_| DecodeError::NoEnvelope)?;
    end(&mut scanner, rows)
}

/// `{"events":` or `{"records":`, up to the bracket.
fn opened(scanner: &mut Scanner<'_>) -> Result<(), Stop> {
    scanner.expect(b'{')?;
    scanner.space();
    match scanner.string()? {
        Text::Plain(b"events" | b"records") => {}
        _ => return Err(Stop::Damaged),
    }
    scanner.space();
    scanner.expect(b':')?;
    scanner.space();
    match scanner.peek() {
        Some(b'[') => Ok(()),
        _ => Err(Stop::Damaged),
    }
}

/// Nothing may follow.
fn end(scanner: &mut Scanner<'_>, rows: &Rows<'_>) -> Result<(), DecodeError> {
    scanner.space();
    match scanner.peek() {
        None => Ok(()),
        Some(_) => Err(DecodeError::Damaged {
            row: rows.number(),
            form: FORM,
        }),
    }
}

/// The elements of an array, the first of its brackets not read yet. Without white space and commas nobody can tell where the next
/// one begins, so what is not JSON ends it.
fn array(scanner: &mut Scanner<'_>, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let limits = rows.told.limits;
    scanner.next();
    scanner.space();
    if scanner.peek() == Some(b']') {
        scanner.next();
        return Ok(());
    }
    loop {
        scanner.space();
        element(scanner, rows)?;
        scanner.space();
        match scanner.next() {
            Some(b',') => {}
            Some(b']') => return Ok(()),
            Some(_) => return Err(Stop::Damaged.refusal(rows.number(), FORM, limits)),
            None => return Err(Stop::Truncated.refusal(rows.number(), FORM, limits)),
        }
    }
}

/// One value, kept as a row or set aside.
fn element(scanner: &mut Scanner<'_>, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let limits = rows.told.limits;
    let (from, number) = (scanner.at(), rows.number());
    let clipped = scanner.window(limits.max_row);
    let fault = match row(scanner, rows).and_then(|()| rows.keep()) {
        Ok(()) => None,
        Err(Stop::Row(fault)) => Some(fault),
        Err(Stop::Truncated) if clipped => Some(RowFault::TooLarge { max: limits.max_row }),
        Err(stop) => return Err(stop.refusal(number, FORM, limits)),
    };
    scanner.no_window();
    if let Some(fault) = fault {
        scanner.rewind(from);
        if rows.lacks_id() {
            rows.is_of(id(scanner));
            scanner.rewind(from);
        }
        scanner.skip().map_err(|stop| stop.refusal(number, FORM, limits))?;
        rows.set_aside(fault, from..scanner.at())?;
    }
    Ok(())
}

/// The id of a record that cannot be a row, wherever in it the id stands: its sender knows it by that.
fn id(scanner: &mut Scanner<'_>) -> Option<RecordId> {
    let mut found = None;
    let mut closed = scanner.expect(b'{').err();
    while closed.is_none() {
        scanner.space();
        let key = scanner.string().ok()?;
        let is_id = matches!(key, Text::Plain(name) if name == UUID.as_bytes());
        scanner.space();
        scanner.expect(b':').ok()?;
        scanner.space();
        match scanner.peek() {
            Some(b'"') if is_id => {
                found = match scanner.string().ok()? {
                    Text::Plain(text) => RecordId::parse(text),
                    Text::Unescaped => RecordId::parse(scanner.unescaped()),
                }
            }
            _ => scanner.skip().ok()?,
        }
        scanner.space();
        closed = scanner.expect(b',').err();
    }
    found
}

/// Objects one after the other.
fn sequence(scanner: &mut Scanner<'_>, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let limits = rows.told.limits;
    let (mut by_lines, mut others) = (false, 0usize);
    loop {
        scanner.space();
        let from = scanner.at();
        if scanner.peek().is_none() {
            break;
        }
        let line = if by_lines { scanner.line() } else { usize::MAX };
        let clipped = scanner.window(limits.max_row.min(line)) && limits.max_row < line;
        let number = rows.number();
        let fault = match row(scanner, rows) {
            // In a line of its own, a row is all there is.
            Ok(()) if !by_lines || scanner.rest_is_space() => {
                rows.keep().map_err(|stop| stop.refusal(number, FORM, limits))?;
                scanner.no_window();
                continue;
            }
            Err(Stop::Row(fault)) => fault,
            Err(Stop::Truncated) if clipped => RowFault::TooLarge { max: limits.max_row },
            Ok(()) | Err(Stop::Truncated | Stop::Damaged) => RowFault::NotJson,
            Err(stop) => return Err(stop.refusal(number, FORM, limits)),
        };
        scanner.no_window();
        scanner.rewind(from);
        // A row that is JSON, if not one of ours, ends where its value does.
        let whole = fault != RowFault::NotJson && !by_lines && scanner.skip().is_ok();
        if !whole {
            by_lines = true;
            scanner.rewind(from);
            scanner.skip_line();
        }
        others += usize::from(fault != RowFault::NotJson);
        let sent = scanner.trimmed(from);
        rows.set_aside(fault, sent)?;
    }
    // Rows set aside for other reasons were JSON at least.
    if by_lines && rows.taken() == 0 && others == 0 {
        return Err(DecodeError::NothingReadable { form: FORM });
    }
    Ok(())
}

/// Reads one object into columns. The row is not kept yet.
fn row(scanner: &mut Scanner<'_>, rows: &mut Rows<'_>) -> Result<(), Stop> {
    rows.begin()?;
    match scanner.peek() {
        Some(b'{') => scanner.expect(b'{')?,
        Some(b'[') => return Err(RowFault::NotAMap.into()),
        Some(b'"') => return scanner.string().and(Err(RowFault::NotAMap.into())),
        Some(b'-' | b'0'..=b'9') => return scanner.number().and(Err(RowFault::NotAMap.into())),
        Some(b't') => return scanner.word(b"true").and(Err(RowFault::NotAMap.into())),
        Some(b'f') => return scanner.word(b"false").and(Err(RowFault::NotAMap.into())),
        Some(b'n') => return scanner.word(b"null").and(Err(RowFault::NotAMap.into())),
        Some(_) => return Err(Stop::Damaged),
        None => return Err(Stop::Truncated),
    }
    scanner.space();
    if scanner.peek() == Some(b'}') {
        return scanner.expect(b'}');
    }
    loop {
        scanner.space();
        let slot = match scanner.string()? {
            Text::Plain(name) => rows.slot(name)?,
            Text::Unescaped => rows.slot(scanner.unescaped())?,
        };
        scanner.space();
        scanner.expect(b':')?;
        scanner.space();
        value(scanner, rows, slot)?;
        scanner.space();
        match scanner.next() {
            Some(b',') => {}
            Some(b'}') => return Ok(()),
            Some(_) => return Err(Stop::Damaged),
            None => return Err(Stop::Truncated),
        }
    }
}

fn value(scanner: &mut Scanner<'_>, rows: &mut Rows<'_>, slot: Slot) -> Result<(), Stop> {
    match scanner.peek() {
        Some(b'"') => match scanner.string()? {
            Text::Plain(text) => rows.value(slot, Value::Text(utf8(text)?)),
            Text::Unescaped => rows.value(slot, Value::Text(utf8(scanner.unescaped())?)),
        },
        Some(b'-' | b'0'..=b'9') => {
            let number = scanner.number()?;
            rows.value(slot, number)
        }
        Some(b't') => scanner.word(b"true").and_then(|()| rows.value(slot, Value::Bool(true))),
        Some(b'f') => scanner.word(b"false").and_then(|()| rows.value(slot, Value::Bool(false))),
        Some(b'n') => scanner.word(b"null").and_then(|()| rows.value(slot, Value::Null)),
        Some(b'[' | b'{') => {
            let limits = rows.told.limits;
            let room = rows.room();
            rows.nested(slot, |out| {
                let most = out.len().saturating_add(room);
                scanner.copy(limits, limits.max_depth, most, out)
            })
        }
        Some(_) => Err(Stop::Damaged),
        None => Err(Stop::Truncated),
    }
}

fn utf8(text: &[u8]) -> Result<&[u8], RowFault> {
    std::str::from_utf8(text).map(str::as_bytes).map_err(|_| RowFault::NotUtf8)
}
