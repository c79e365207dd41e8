//! Personal values: sealed under their owner's key, so that equal ones of one person and column are sealed alike.
//!
//! A sealed value says whose it is, by the person's id, and nothing else. One that nobody owns carries the key of its call, wrapped
//! under a key of the product. Stored form, of both: the first byte tells which, and the rest must never change.
//!
//! Start at [`Sealer`] and [`open`]. Does not know how values came and where they go.

use base::{Entropy, PersonId, ProductId, Secret};
use seal::{DataKey, Purpose, SealError, derive, open_alike, seal_alike};

use crate::keys::ProductKeys;

/// Personal values in one call.
pub(crate) const MOST_PERSONAL: usize = 100_000;
/// Bytes of all personal values in one call.
pub(crate) const MOST_PERSONAL_BYTES: usize = 32 << 20;
/// Different columns in one call.
const MOST_COLUMNS: usize = 256;
const LONGEST_COLUMN: usize = 128;
/// So many bytes of values are as much work as an identity.
const BYTES_PER_IDENTITY: usize = 1 << 10;

/// In front of a value that a person owns: their id follows, 8 bytes, the first the highest.
const OWNED: u8 = 1;
/// In front of a value that nobody owns: the wrapped key of its call follows.
const UNOWNED: u8 = 2;
/// A wrapped key: a version, a nonce, 32 bytes and a tag.
const WRAPPED: usize = 1 + 12 + 32 + 16;

/// What is to be sealed.
#[derive(Debug, Default)]
pub(crate) struct Personal {
    /// Names of columns, in small letters.
    pub(crate) columns: Vec<String>,
    pub(crate) values: Vec<PersonalValue>,
}

/// One value.
#[derive(Debug)]
pub(crate) struct PersonalValue {
    /// Which of the identities of the call owns it.
    pub(crate) owner: Option<usize>,
    /// Which of the columns it is of.
    pub(crate) column: usize,
    pub(crate) value: Secret,
}

/// Why personal values cannot be sealed in one call. Never says which values.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PersonalError {
    #[error("{values} personal values of {bytes} bytes in one call, at most {MOST_PERSONAL} of {MOST_PERSONAL_BYTES} bytes are possible")]
    TooMuch { values: usize, bytes: usize },
    #[error("a call has at most {MOST_COLUMNS} personal columns, each of 1 to {LONGEST_COLUMN} bytes in small letters")]
    Columns,
    #[error("personal value number {position} is of an owner or a column that the call does not name")]
    Place { position: usize },
}

impl Personal {
    /// Refuses what is more than a call may hold, and what points to nothing; `identities` is how many the call has.
    pub(crate) fn check(&self, identities: usize) -> Result<(), PersonalError> {
        let (values, bytes) = (self.values.len(), self.bytes());
        if values > MOST_PERSONAL || bytes > MOST_PERSONAL_BYTES {
            return Err(PersonalError::TooMuch { values, bytes });
        }
        let good = |name: &String| (1..=LONGEST_COLUMN).contains(&name.len()) && !name.bytes().any(|b| b.is_ascii_uppercase());
        if self.columns.len() > MOST_COLUMNS || !self.columns.iter().all(good) {
            return Err(PersonalError::Columns);
        }
        let lost = |value: &PersonalValue| value.column >= self.columns.len() || value.owner.is_some_and(|owner| owner >= identities);
        match self.values.iter().position(lost) {
            Some(index) => Err(PersonalError::Place { position: index + 1 }),
            None => Ok(()),
        }
    }

    /// How many identities would be as much work.
    pub(crate) fn work(&self) -> usize {
        self.values.len() + self.bytes() / BYTES_PER_IDENTITY
    }

    fn bytes(&self) -> usize {
        self.values.iter().map(|value| value.value.reveal().len()).sum()
    }
}

/// Seals the values of one call.
pub(crate) struct Sealer<'a> {
    keys: &'a ProductKeys,
    /// The key for values that nobody owns, and the same wrapped.
    unowned: (DataKey, Vec<u8>),
}

impl<'a> Sealer<'a> {
    pub(crate) fn new(keys: &'a ProductKeys, entropy: &dyn Entropy) -> Self {
        let key = DataKey::generate(entropy);
        let wrapped = seal::wrap(&batches(keys), &batch_context(keys.product()), key.reveal(), entropy);
        Self {
            keys,
            unowned: (key, wrapped),
        }
    }

    /// The value sealed, as that of a person with their key or as nobody's.
    pub(crate) fn seal(&self, owner: Option<(PersonId, &DataKey)>, column: &str, value: &Secret) -> Vec<u8> {
        let context = context(self.keys.product(), owner.map(|(id, _)| id), column);
        let (head, key) = match owner {
            Some((id, key)) => ([&[OWNED], &id.get().to_be_bytes()[..]].concat(), key),
            None => ([&[UNOWNED], &self.unowned.1[..]].concat(), &self.unowned.0),
        };
        let key = derive(key.reveal(), Purpose::PersonalValues, &context);
        [head, seal_alike(&key, &context, value.reveal().as_bytes())].concat()
    }
}

/// The value that was sealed in `column` for this owner, with their key; or for nobody.
pub(crate) fn open(keys: &ProductKeys, owner: Option<(PersonId, &DataKey)>, column: &str, sealed: &[u8]) -> Result<Secret, SealError> {
    const MALFORMED: SealError = SealError::Malformed { what: "sealed value" };
    let unwrapped;
    let (key, rest) = match owner {
        Some((id, key)) => {
            let head = [&[OWNED], &id.get().to_be_bytes()[..]].concat();
            (key, sealed.strip_prefix(&head[..]).ok_or(MALFORMED)?)
        }
        None => {
            let rest = sealed.strip_prefix(&[UNOWNED]).ok_or(MALFORMED)?;
            let (wrapped, rest) = rest.split_at_checked(WRAPPED).ok_or(MALFORMED)?;
            let key = seal::unwrap(&batches(keys), &batch_context(keys.product()), wrapped)?;
            unwrapped = DataKey::try_from(key.reveal())?;
            (&unwrapped, rest)
        }
    };
    let context = context(keys.product(), owner.map(|(id, _)| id), column);
    let key = derive(key.reveal(), Purpose::PersonalValues, &context);
    let opened = open_alike(&key, &context, rest)?;
    let text = std::str::from_utf8(opened.reveal()).map_err(|_| MALFORMED)?;
    Ok(Secret::new(text.to_owned()))
}

/// A value opens in its own product, for its own owner and column only. Numbers have no slash, and the name comes last.
fn context(product: ProductId, owner: Option<PersonId>, column: &str) -> Vec<u8> {
    let owner = owner.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
    format!("personal/{product}/{owner}/{column}").into_bytes()
}

fn batches(keys: &ProductKeys) -> DataKey {
    keys.derived(Purpose::PersonalBatches)
}

fn batch_context(product: ProductId) -> Vec<u8> {
    format!("personal/{product}").into_bytes()
}
