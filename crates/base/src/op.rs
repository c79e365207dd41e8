//! Who is asking.

use crate::{CredentialId, DatabaseName, ErrorKind, ProductId, RequestId, Timestamp, Verb, Verbs};

/// Which part of a product a caller may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole product.
    Product,
    /// These databases only.
    Databases(Vec<DatabaseName>),
}

impl Scope {
    /// Whether `database` is inside.
    pub fn allows(&self, database: &DatabaseName) -> bool {
        match self {
            Self::Product => true,
            Self::Databases(list) => list.contains(database),
        }
    }
}

/// Who is asking, for which product, with which rights, until when.
///
/// Made in one place only: where a pass has been verified (`edge`).
#[derive(Debug, Clone)]
pub struct Op {
    /// The credential behind the request.
    pub actor: CredentialId,
    /// The product it belongs to: never optional.
    pub product: ProductId,
    /// Shown to the caller and in every log line.
    pub request: RequestId,
    /// When the right ends.
    pub deadline: Timestamp,
    verbs: Verbs,
    scope: Scope,
}

/// The right asked for is not among those granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this credential has no right to {verb}")]
pub struct Denied {
    verb: Verb,
    kind: ErrorKind,
}

impl Denied {
    /// `Forbidden` for a missing verb, `NotFound` for what is outside the scope.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl Op {
    /// To be called with what a verified pass says, and nowhere else.
    pub fn from_verified(
        actor: CredentialId,
        product: ProductId,
        verbs: Verbs,
        scope: Scope,
        request: RequestId,
        deadline: Timestamp,
    ) -> Self {
        Self {
            actor,
            product,
            request,
            deadline,
            verbs,
            scope,
        }
    }

    /// Whether this caller may do `verb` somewhere in its product.
    pub fn authorize(&self, verb: Verb) -> Result<(), Denied> {
        if self.verbs.contains(verb) {
            Ok(())
        } else {
            Err(Denied {
                verb,
                kind: ErrorKind::Forbidden,
            })
        }
    }

    /// Whether this caller may do `verb` in `database`. What is outside its scope does not exist for it.
    pub fn authorize_in(&self, verb: Verb, database: &DatabaseName) -> Result<(), Denied> {
        if !self.scope.allows(database) {
            return Err(Denied {
                verb,
                kind: ErrorKind::NotFound,
            });
        }
        self.authorize(verb)
    }

    /// The part of the product this caller may touch.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// All rights.
    pub fn verbs(&self) -> Verbs {
        self.verbs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    #[test]
    fn what_is_outside_the_scope_does_not_exist() {
        let (now, chance) = (Timestamp::from_secs(1), SeededEntropy::new(1));
        let (inside, outside): (DatabaseName, DatabaseName) = ("web".parse().unwrap(), "hr_data".parse().unwrap());
        let op = Op::from_verified(
            CredentialId::generate(now, &chance),
            ProductId::new(1).unwrap(),
            Verbs::of(&[Verb::Query]),
            Scope::Databases(vec![inside.clone()]),
            RequestId::generate(now, &chance),
            now,
        );
        assert_eq!(op.authorize_in(Verb::Query, &inside), Ok(()));
        assert_eq!(
            op.authorize_in(Verb::Query, &outside).map_err(|d| d.kind()),
            Err(ErrorKind::NotFound)
        );
        assert_eq!(
            op.authorize_in(Verb::Append, &inside).map_err(|d| d.kind()),
            Err(ErrorKind::Forbidden)
        );
    }
}
