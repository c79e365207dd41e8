//! Which table of calls a role goes by: the one in `wire`, unless a test wants a worse one.

use base::Role;
use wire::calls::{Caller, may_call};

/// A table of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Table {
    /// The one in `wire`.
    #[default]
    Listed,
    /// It lets the gateway lease product keys as well: a broken twin, for showing that a test finds out. Made by no code of the product.
    OneMore,
}

impl Table {
    /// Whether `caller` may call the method at `path`.
    pub(crate) fn admits(self, path: &str, caller: Caller) -> bool {
        let more = self == Self::OneMore && path == "/coffer.v1.Vault/LeaseProductKey" && caller == Caller::Role(Role::Gateway);
        more || may_call(path, caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twins_table_has_one_call_more() {
        let callers = Role::ALL.into_iter().map(Caller::Role).chain([Caller::Nobody, Caller::Operator]);
        let admitted = |table: Table| {
            let each = callers
                .clone()
                .flat_map(|caller| wire::calls::METHODS.iter().map(move |method| (*method, caller)));
            each.filter(|(method, caller)| table.admits(method, *caller)).count()
        };
        assert_eq!(admitted(Table::OneMore), admitted(Table::Listed) + 1);
    }
}
