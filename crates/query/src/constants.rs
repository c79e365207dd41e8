//! How much the constants of a plan come to where each row gets a copy of them, and how wide its rows are.
//!
//! Promise: what is only compared is not counted, so that a long list of values to look for costs nothing.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The bytes of the constants that may be copied.
pub(crate) fn copied(plan: &LogicalPlan) -> Result<usize> {
    let mut bytes = 0usize;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                bytes = bytes.saturating_add(match expr {
                    Expr::Literal(value, _) => value.size(),
                    _ => 0,
                });
                Ok(if only_compared(expr) {
                    TreeNodeRecursion::Jump
                } else {
                    TreeNodeRecursion::Continue
                })
            })
        })
    })?;
    Ok(bytes)
}

/// The most columns that rows have anywhere in the plan; at least one.
pub(crate) fn widest(plan: &LogicalPlan) -> Result<usize> {
    let mut most = 1;
    plan.apply_with_subqueries(|node| {
        most = most.max(node.schema().fields().len());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(most)
}

fn only_compared(expr: &Expr) -> bool {
    let constant = |expr: &Expr| matches!(expr, Expr::Literal(..) | Expr::Column(_));
    match expr {
        Expr::BinaryExpr(binary) => binary.op.supports_propagation() && constant(&binary.left) && constant(&binary.right),
        Expr::Like(like) => constant(&like.expr) && constant(&like.pattern),
        Expr::InList(list) => constant(&list.expr) && list.list.iter().all(constant),
        _ => false,
    }
}
