//! Operators and literals that become functions: `||`, `[…]`, `{…}` and others, within the same bounds as what is called by name.

use std::sync::Arc;

use datafusion::arrow::compute::kernels::concat_elements::concat_elements_dyn;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::utils::list_ndims;
use datafusion::common::{DFSchema, Result, TableReference};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawDictionaryExpr, RawFieldAccessExpr, RawWindowExpr,
};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::allowance::Allowance;
use super::bounded::{bounded, within_bounds};

/// The engine's planners, each made to keep within bounds, and before them one for `||` between texts.
pub(super) fn planners(engines: Vec<Arc<dyn ExprPlanner>>, allowance: &Arc<Allowance>) -> Vec<Arc<dyn ExprPlanner>> {
    let joining = Joining {
        function: bounded(Arc::new(ScalarUDF::new_from_impl(Join::default())), allowance),
    };
    let within = |inner| {
        Arc::new(Within {
            inner,
            allowance: Arc::clone(allowance),
        }) as Arc<dyn ExprPlanner>
    };
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(joining)];
    planners.extend(engines.into_iter().map(within));
    planners
}

#[derive(Debug)]
struct Joining {
    function: Arc<ScalarUDF>,
}

impl ExprPlanner for Joining {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        // Lists are put together by functions already.
        let joins = expr.op == BinaryOperator::StringConcat
            && list_ndims(&expr.left.get_type(schema)?) + list_ndims(&expr.right.get_type(schema)?) == 0;
        Ok(if joins {
            PlannerResult::Planned(self.function.call(vec![expr.left, expr.right]))
        } else {
            PlannerResult::Original(expr)
        })
    }

    fn plan_compound_identifier(&self, _: &Field, _: Option<&TableReference>, _: &[String]) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Original(Vec::new()))
    }
}

/// `||` between texts, as a function: nothing where one side is nothing.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Join {
    signature: Signature,
}

impl Default for Join {
    fn default() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Join {
    fn name(&self) -> &'static str {
        "||"
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let names: Vec<String> = arguments.iter().map(|argument| argument.schema_name().to_string()).collect();
        Ok(names.join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = two(arguments)?;
        let (left, right) = BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [left, right] = two(arguments)?;
        BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&call.args)?;
        let [left, right] = two(&arrays)?;
        let joined = concat_elements_dyn(left, right)?;
        let constant = call.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        Ok(if constant {
            ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&joined, 0)?)
        } else {
            ColumnarValue::Array(joined)
        })
    }
}

fn two<T>(arguments: &[T]) -> Result<&[T; 2]> {
    arguments
        .try_into()
        .map_err(|_| datafusion::common::plan_datafusion_err!("|| stands between two values"))
}

/// A planner of the engine whose functions are bounded.
#[derive(Debug)]
struct Within {
    inner: Arc<dyn ExprPlanner>,
    allowance: Arc<Allowance>,
}

impl Within {
    #[expect(clippy::unnecessary_wraps, reason = "it ends every method below")]
    fn bound<T>(&self, planned: PlannerResult<T>) -> Result<PlannerResult<T>> {
        Ok(match planned {
            PlannerResult::Planned(expr) => PlannerResult::Planned(within_bounds(expr, &self.allowance)),
            original => original,
        })
    }
}

impl ExprPlanner for Within {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        self.bound(self.inner.plan_binary_op(expr, schema)?)
    }

    fn plan_field_access(&self, expr: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        self.bound(self.inner.plan_field_access(expr, schema)?)
    }

    fn plan_array_literal(&self, items: Vec<Expr>, schema: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        self.bound(self.inner.plan_array_literal(items, schema)?)
    }

    fn plan_position(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.bound(self.inner.plan_position(arguments)?)
    }

    fn plan_dictionary_literal(&self, expr: RawDictionaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawDictionaryExpr>> {
        self.bound(self.inner.plan_dictionary_literal(expr, schema)?)
    }

    fn plan_extract(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.bound(self.inner.plan_extract(arguments)?)
    }

    fn plan_substring(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.bound(self.inner.plan_substring(arguments)?)
    }

    fn plan_struct_literal(&self, arguments: Vec<Expr>, named: bool) -> Result<PlannerResult<Vec<Expr>>> {
        self.bound(self.inner.plan_struct_literal(arguments, named)?)
    }

    fn plan_overlay(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.bound(self.inner.plan_overlay(arguments)?)
    }

    fn plan_make_map(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.bound(self.inner.plan_make_map(arguments)?)
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        table: Option<&TableReference>,
        names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        self.bound(self.inner.plan_compound_identifier(field, table, names)?)
    }

    fn plan_aggregate(&self, expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        self.inner.plan_aggregate(expr)
    }

    fn plan_window(&self, expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        self.inner.plan_window(expr)
    }
}
