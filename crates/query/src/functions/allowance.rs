//! How much the functions of one query may make.
//!
//! Promise: what they have made and the query still holds is no more than the query may have of memory, and a constant is no
//! larger than it can be copied to wherever the statement may use it. Does not know functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayData, ArrayRef, make_array};
use datafusion::arrow::buffer::Buffer;
use datafusion::common::{Result, ScalarValue, exec_err, resources_err};

/// How many bytes one call may make for one batch of rows.
pub(super) const MOST_BYTES: u64 = 64 << 20;
/// What is smaller is not counted: there is not enough text in a statement to make much of it.
const LEAST: usize = 4 << 10;
/// How many bytes all copies of a constant may have together.
const CONSTANTS: u64 = 256 << 20;

/// What is left for the functions of one query.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: AtomicU64,
    constant: u64,
}

impl Allowance {
    /// For a query that may have so much memory, and whose text uses a constant so often at most.
    pub(crate) fn new(memory: usize, uses: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(memory as u64),
            constant: (CONSTANTS / (uses as u64).max(1)).min(MOST_BYTES),
        })
    }

    /// Counts what was made until nobody holds it any more.
    pub(super) fn hold(self: &Arc<Self>, made: ArrayRef) -> Result<ArrayRef> {
        let data = made.to_data();
        let bytes = counted(&data);
        if bytes == 0 {
            return Ok(made);
        }
        let share = Arc::new(Share::take(self, bytes)?);
        Ok(make_array(held(data, &share)?))
    }

    /// Counts a constant, which the query's plan may keep to the end.
    pub(super) fn keep(self: &Arc<Self>, function: &str, made: ScalarValue) -> Result<ScalarValue> {
        let bytes = made.size();
        if bytes < LEAST {
            return Ok(made);
        }
        // A list is shared by its copies, a text is not.
        if !made.data_type().is_nested() && bytes as u64 > self.constant {
            return exec_err!(
                "{function} would make more than {} KiB out of constants alone: ask for less",
                self.constant >> 10
            );
        }
        Share::take(self, bytes as u64)?.forever();
        Ok(made)
    }
}

/// A part of an allowance, given back when it is dropped.
#[derive(Debug)]
struct Share {
    of: Arc<Allowance>,
    bytes: u64,
}

impl Share {
    fn take(of: &Arc<Allowance>, bytes: u64) -> Result<Self> {
        let taken = of
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes));
        match taken {
            Ok(_) => Ok(Self { of: Arc::clone(of), bytes }),
            Err(left) => resources_err!("{bytes} bytes are more than the {left} that functions may still make"),
        }
    }

    fn forever(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.left.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// A buffer with the share that it takes.
struct Held {
    buffer: Buffer,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

fn counted(data: &ArrayData) -> u64 {
    let own = data.buffers().iter().map(Buffer::len).filter(|bytes| *bytes >= LEAST);
    let bytes = own.map(|bytes| bytes as u64).sum::<u64>();
    data.child_data()
        .iter()
        .fold(bytes, |sum, child| sum.saturating_add(counted(child)))
}

fn held(data: ArrayData, share: &Arc<Share>) -> Result<ArrayData> {
    let hold = |buffer: &Buffer| {
        if buffer.len() < LEAST {
            return buffer.clone();
        }
        Buffer::from(Bytes::from_owner(Held {
            buffer: buffer.clone(),
            _share: Arc::clone(share),
        }))
    };
    let buffers = data.buffers().iter().map(hold).collect();
    let children = data
        .child_data()
        .iter()
        .map(|child| held(child.clone(), share))
        .collect::<Result<_>>()?;
    Ok(data.into_builder().buffers(buffers).child_data(children).build()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{AsArray, Int64Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    fn left(allowance: &Allowance) -> u64 {
        allowance.left.load(Ordering::Acquire)
    }

    #[test]
    fn what_is_held_is_given_back_when_nobody_holds_it() {
        let allowance = Allowance::new(1 << 20, 1);
        let text = "x".repeat(100_000);
        let made: ArrayRef = Arc::new(StringArray::from(vec![Some(text.as_str()), None, Some("y")]));

        let held = allowance.hold(Arc::clone(&made)).unwrap();
        assert_eq!(&held, &made);
        let part = held.slice(2, 1);
        drop(held);
        assert!(left(&allowance) <= (1 << 20) - 100_000, "the part holds all of it");
        assert_eq!(part.as_string::<i32>().value(0), "y");
        drop(part);
        assert_eq!(left(&allowance), 1 << 20);

        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some((0..50_000).map(Some))]);
        let held = allowance.hold(Arc::new(list.clone())).unwrap();
        assert_eq!(held.as_list::<i32>(), &list);
        assert!(left(&allowance) <= (1 << 20) - 400_000);
        drop(held);
        assert_eq!(left(&allowance), 1 << 20);
    }

    #[test]
    fn more_than_is_left_is_refused() {
        let allowance = Allowance::new(1 << 20, 1);
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let first = allowance.hold(Arc::clone(&numbers)).unwrap();
        assert!(allowance.hold(Arc::clone(&numbers)).is_err());
        drop(first);
        assert!(allowance.hold(numbers).is_ok());
    }

    #[test]
    fn a_constant_that_may_be_copied_often_is_smaller() {
        let text = |bytes| ScalarValue::from("x".repeat(bytes).as_str());
        assert!(Allowance::new(1 << 30, 10).keep("f", text(1 << 20)).is_ok());
        assert!(Allowance::new(1 << 30, 1000).keep("f", text(1 << 20)).is_err());
        let allowance = Allowance::new(3 << 20, 10);
        assert!(allowance.keep("f", text(2 << 20)).is_ok());
        assert!(allowance.keep("f", text(2 << 20)).is_err(), "it is in the plan to the end");
    }
}
