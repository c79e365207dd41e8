//! Functions that make much out of little, held to a size: the engine does not count what a function makes.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// How many bytes one call may make for one batch of rows.
const MOST_BYTES: u64 = 64 << 20;

/// The function within bounds, when it is one of those that need them.
pub(super) fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let grows = match function.name() {
        "repeat" => Grows::Times,
        "lpad" | "rpad" => Grows::To,
        "array_repeat" | "array_resize" => Grows::Items,
        "range" | "generate_series" => Grows::Between,
        _ => return function,
    };
    Arc::new(ScalarUDF::new_from_impl(Bounded { inner: function, grows }))
}

/// What says how much a call makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Grows {
    /// The first argument as often as the second says.
    Times,
    /// As many characters as the second argument says.
    To,
    /// As many items as the second argument says.
    Items,
    /// One item for each step between the first arguments.
    Between,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    grows: Grows,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let makes = self.grows.bytes(&arguments.args, arguments.number_rows)?;
        if makes > MOST_BYTES {
            return exec_err!(
                "{} would make more than {} MiB at once: ask for less",
                self.name(),
                MOST_BYTES >> 20
            );
        }
        self.inner.invoke_with_args(arguments)
    }
}

impl Grows {
    fn bytes(self, arguments: &[ColumnarValue], rows: usize) -> Result<u64> {
        // A call on constants alone is worked once, whatever the number of rows.
        let constant = arguments.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { rows };
        let arrays = arguments
            .iter()
            .map(|argument| argument.to_array(rows))
            .collect::<Result<Vec<_>>>()?;
        let [first, rest @ ..] = arrays.as_slice() else { return Ok(0) };
        let each = |bytes: &dyn Fn(usize) -> u64| (0..rows).fold(0u64, |sum, row| sum.saturating_add(bytes(row)));
        if let Self::Between = self {
            let (from, to) = match rest {
                [] => (None, numbers(first)?),
                [to, ..] => (Some(numbers(first)?), numbers(to)?),
            };
            let step = rest.get(1).map(numbers).transpose()?;
            return Ok(each(&|row| {
                let from = from.as_ref().map_or(0, |from| from.get(row));
                let step = step.as_ref().map_or(1, |step| step.get(row)).unsigned_abs().max(1);
                (to.get(row).abs_diff(from) / step).saturating_mul(8)
            }));
        }
        let Some(second) = rest.first() else { return Ok(0) };
        let count = numbers(second)?;
        let count = |row| u64::try_from(count.get(row)).unwrap_or(0);
        match self {
            Self::Times => {
                let lengths = numbers(&length(first.as_ref())?)?;
                Ok(each(&|row| count(row).saturating_mul(u64::try_from(lengths.get(row)).unwrap_or(0))))
            }
            Self::To => Ok(each(&|row| count(row).saturating_mul(4))),
            _ => {
                let item = (first.get_array_memory_size() / rows.max(1)).max(8) as u64;
                Ok(each(&|row| count(row).saturating_mul(item)))
            }
        }
    }
}

/// Whole numbers; moments and spans as nanoseconds.
struct Numbers(ArrayRef);

impl Numbers {
    /// The number in a row, zero where there is none.
    fn get(&self, row: usize) -> i64 {
        let numbers = self.0.as_primitive::<Int64Type>();
        if numbers.is_null(row) { 0 } else { numbers.value(row) }
    }
}

fn numbers(array: &ArrayRef) -> Result<Numbers> {
    const DAY: i64 = 86_400_000_000_000;
    let array = match array.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, None))?,
        DataType::Interval(_) => {
            let spans = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let nanos = spans.as_primitive::<IntervalMonthDayNanoType>().unary::<_, Int64Type>(|span| {
                let days = i64::from(span.months).saturating_mul(28).saturating_add(i64::from(span.days));
                days.saturating_mul(DAY).saturating_add(span.nanoseconds)
            });
            Arc::new(nanos) as ArrayRef
        }
        _ => Arc::clone(array),
    };
    Ok(Numbers(cast(&array, &DataType::Int64)?))
}
