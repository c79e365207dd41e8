//! Byte ranges of a stored result: what `Range` and `If-Range` ask for.
//!
//! Start at [`Wanted::of`]. Does not know where the bytes come from.

use http::{HeaderMap, header};

/// Which part of a result a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: 200.
    Whole,
    /// From the first to the last byte, both included: 206.
    Part { first: u64, last: u64 },
    /// None of it exists: 416.
    Unsatisfiable,
}

impl Wanted {
    /// Of a result with this length and tag. A range that cannot be read, several at once, and one that was meant for
    /// another state of the result are answered with the whole, as HTTP allows.
    pub(crate) fn of(headers: &HeaderMap, total: u64, tag: &str) -> Self {
        let mut ranges = headers.get_all(header::RANGE).iter();
        let (Some(range), None) = (ranges.next(), ranges.next()) else {
            return Self::Whole;
        };
        let applies = headers.get(header::IF_RANGE).is_none_or(|meant| meant.as_bytes() == tag.as_bytes());
        if !applies {
            return Self::Whole;
        }
        range.to_str().ok().and_then(|text| parse(text, total)).unwrap_or(Self::Whole)
    }
}

fn parse(text: &str, total: u64) -> Option<Wanted> {
    let (unit, spec) = text.split_once('=')?;
    let (from, to) = spec.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = match (from.is_empty(), to.is_empty()) {
        (true, true) => return None,
        // The last so many bytes.
        (true, false) => match number(to)? {
            0 => return Some(Wanted::Unsatisfiable),
            count => (total.saturating_sub(count), total.saturating_sub(1)),
        },
        (false, true) => (number(from)?, total.saturating_sub(1)),
        (false, false) => {
            let (first, last) = (number(from)?, number(to)?);
            if last < first {
                return None;
            }
            (first, last.min(total.saturating_sub(1)))
        }
    };
    Some(if first >= total {
        Wanted::Unsatisfiable
    } else {
        Wanted::Part { first, last }
    })
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(range: &str, if_range: Option<&str>, total: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        if let Some(tag) = if_range {
            headers.insert(header::IF_RANGE, tag.parse().unwrap());
        }
        Wanted::of(&headers, total, "\"tag\"")
    }

    #[test]
    fn one_range_of_bytes_is_understood() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, total, expected) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=2-5", 10, part(2, 5)),
            ("bytes=2-", 10, part(2, 9)),
            ("bytes=2-99", 10, part(2, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-99", 10, part(0, 9)),
            ("Bytes = 1-1", 10, part(1, 1)),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-5", 0, Wanted::Unsatisfiable),
            ("bytes=5-2", 10, Wanted::Whole),
            ("bytes=0-1,4-5", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("rows=1-2", 10, Wanted::Whole),
            ("bytes=99999999999999999999-", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(range, None, total), expected, "{range} of {total}");
        }
        assert_eq!(Wanted::of(&HeaderMap::new(), 10, "\"tag\""), Wanted::Whole);
    }

    #[test]
    fn a_range_of_another_state_gets_the_whole() {
        assert_eq!(wanted("bytes=2-5", Some("\"tag\""), 10), Wanted::Part { first: 2, last: 5 });
        assert_eq!(wanted("bytes=2-5", Some("\"old\""), 10), Wanted::Whole);
        assert_eq!(wanted("bytes=2-5", Some("W/\"tag\""), 10), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_always_inside(text in "bytes=[0-9]{0,3}-[0-9]{0,3}", total in 0u64..200) {
            if let Wanted::Part { first, last } = wanted(&text, None, total) {
                prop_assert!(first <= last && last < total);
            }
        }
    }
}
