//! Functions that make much out of little, held to a size: the engine does not count what a function makes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::expr::{Alias, ScalarFunction};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::allowance::{Allowance, MOST_BYTES};
use super::grows::Grows;
use super::sizes::width;
use super::work;

/// How many types may stand in one another: each level of a struct can double what is below it.
const MOST_TYPES: usize = 1000;
/// How much a value of a fixed size may take, as it takes so much in every row.
const WIDEST: u64 = 64 << 10;

/// The function within bounds, when it is one of those that need them.
pub(super) fn bounded(function: Arc<ScalarUDF>, allowance: &Arc<Allowance>) -> Arc<ScalarUDF> {
    if function.inner().is::<Bounded>() {
        return function;
    }
    match Grows::of(function.name()) {
        None => function,
        Some(grows) => Arc::new(ScalarUDF::new_from_impl(Bounded {
            inner: function,
            grows,
            allowance: Arc::clone(allowance),
        })),
    }
}

/// An expression that the engine made of one of ours: the functions at its top are its own, those further down were seen before.
pub(super) fn within_bounds(expr: Expr, allowance: &Arc<Allowance>) -> Expr {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let inner = |arg| match arg {
                Expr::ScalarFunction(ScalarFunction { func, args }) => Expr::ScalarFunction(ScalarFunction {
                    func: bounded(func, allowance),
                    args,
                }),
                other => other,
            };
            Expr::ScalarFunction(ScalarFunction {
                func: bounded(func, allowance),
                args: args.into_iter().map(inner).collect(),
            })
        }
        Expr::Alias(alias) => Expr::Alias(Alias {
            expr: Box::new(within_bounds(*alias.expr, allowance)),
            ..alias
        }),
        other => other,
    }
}

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    grows: Grows,
    allowance: Arc<Allowance>,
}

// All functions of a query share one allowance.
impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.grows == other.grows
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
        self.grows.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.inner.schema_name(arguments)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let made = self.inner.return_type(arguments)?;
        self.check_type(&made).map(|()| made)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Self {
            inner: Arc::new(inner),
            grows: self.grows,
            allowance: Arc::clone(&self.allowance),
        }))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let made = self.inner.return_field_from_args(arguments)?;
        self.check_type(made.data_type()).map(|()| made)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // A call on constants alone is worked once, whatever the number of rows.
        let constant = call.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { call.number_rows };
        work::check(self.name(), &call.args, rows)?;
        let bytes = self.grows.bytes(&call.args, rows, call.return_field.data_type())?;
        if bytes.iter().fold(0u64, |sum, bytes| sum.saturating_add(*bytes)) <= MOST_BYTES {
            return match self.inner.invoke_with_args(call)? {
                ColumnarValue::Array(made) => Ok(ColumnarValue::Array(self.allowance.hold(made)?)),
                ColumnarValue::Scalar(made) => Ok(ColumnarValue::Scalar(self.allowance.keep(self.name(), made)?)),
            };
        }
        if constant {
            self.too_much()
        } else {
            self.in_portions(&call, &bytes)
        }
    }

    fn simplify(&self, arguments: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if !work::may_become_an_operator(self.name(), &arguments) {
            return Ok(ExprSimplifyResult::Original(arguments));
        }
        Ok(match self.inner.simplify(arguments, info)? {
            ExprSimplifyResult::Simplified(expr) => ExprSimplifyResult::Simplified(within_bounds(expr, &self.allowance)),
            original => original,
        })
    }

    fn preimage(&self, arguments: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.inner().preimage(arguments, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(&self, arguments: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(arguments)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

impl Bounded {
    fn too_much<T>(&self) -> Result<T> {
        exec_err!(
            "{} would make more than {} MiB at once: ask for less",
            self.name(),
            MOST_BYTES >> 20
        )
    }

    /// What was reckoned is the most that may be made. Some rows at a time show what is.
    fn in_portions(&self, call: &ScalarFunctionArgs, bytes: &[u64]) -> Result<ColumnarValue> {
        let (mut from, mut made, mut parts) = (0, 0u64, Vec::new());
        while from < bytes.len() {
            let mut sum = 0u64;
            let fit = bytes[from..].iter().take_while(|bytes| {
                sum = sum.saturating_add(**bytes);
                sum <= MOST_BYTES
            });
            let rows = fit.count();
            if rows == 0 {
                return self.too_much();
            }
            let portion = |argument: &ColumnarValue| match argument {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
                constant => constant.clone(),
            };
            let part = self.inner.invoke_with_args(ScalarFunctionArgs {
                args: call.args.iter().map(portion).collect(),
                arg_fields: call.arg_fields.clone(),
                number_rows: rows,
                return_field: Arc::clone(&call.return_field),
                config_options: Arc::clone(&call.config_options),
            })?;
            let part = part.into_array(rows)?;
            made = made.saturating_add(part.to_data().get_slice_memory_size()? as u64);
            if made > MOST_BYTES {
                return self.too_much();
            }
            parts.push(part);
            from += rows;
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(self.allowance.hold(concat(&parts)?)?))
    }

    fn check_type(&self, made: &DataType) -> Result<()> {
        let mut left = MOST_TYPES;
        if !few_parts(made, &mut left) {
            return plan_err!("{} would make a value of more than {MOST_TYPES} parts: nest less", self.name());
        }
        if width(made) > WIDEST {
            return plan_err!(
                "{} would make values of more than {} KiB each: ask for less",
                self.name(),
                WIDEST >> 10
            );
        }
        Ok(())
    }
}

/// Whether a type has no more parts than are left.
fn few_parts(of: &DataType, left: &mut usize) -> bool {
    let Some(rest) = left.checked_sub(1) else { return false };
    *left = rest;
    match of {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => few_parts(item.data_type(), left),
        DataType::Struct(fields) => fields.iter().all(|field| few_parts(field.data_type(), left)),
        _ => true,
    }
}
