//! Why a body or one of its rows could not be decoded. Names the row, never what is in it.

use base::ErrorKind;

/// Why a body is refused whole, nothing of it taken. Rows are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DecodeError {
    #[error("the body has more than {max} bytes; send it in smaller parts")]
    BodyTooLarge { max: usize },
    #[error("the body ends inside row {row}")]
    Truncated { row: usize },
    #[error("row {row} is not valid {form}, and where the next one begins cannot be told")]
    Damaged { row: usize, form: &'static str },
    #[error("the body is not {form}: not one of its rows can be read")]
    NothingReadable { form: &'static str },
    #[error("the body is not an object that holds an array under \"events\" or \"records\" and nothing else")]
    NoEnvelope,
    #[error("the batch has more than {max} rows; send it in smaller parts")]
    TooManyRows { max: usize },
    #[error("with row {row} the batch has more than {max} cells (rows times columns); send it in smaller parts")]
    TooManyCells { row: usize, max: usize },
    #[error("with row {row} the batch has more than {max} bytes of text; send it in smaller parts")]
    TooMuchText { row: usize, max: usize },
    #[error(
        "more than {max} of the body's rows cannot be taken, the first of them, row {row}, because {fault}; is it what it is said to be?"
    )]
    TooManyRejected { row: usize, fault: RowFault, max: usize },
    #[error("the rows of the body that cannot be taken have more than {max} bytes; send it in smaller parts")]
    TooMuchRejected { max: usize },
}

impl DecodeError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BodyTooLarge { .. }
            | Self::TooManyRows { .. }
            | Self::TooManyCells { .. }
            | Self::TooMuchText { .. }
            | Self::TooMuchRejected { .. } => ErrorKind::TooLarge,
            Self::Truncated { .. }
            | Self::Damaged { .. }
            | Self::NothingReadable { .. }
            | Self::NoEnvelope
            | Self::TooManyRejected { .. } => ErrorKind::Invalid,
        }
    }
}

/// Why one row cannot be a row. It is set aside and the others are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RowFault {
    #[error("it is not a map of keys and values")]
    NotAMap,
    #[error("a key is not text in UTF-8")]
    KeyNotText,
    #[error("a key is empty or longer than {max} bytes")]
    Name { max: usize },
    #[error("its time is neither seconds, milliseconds or microseconds since 1970 nor an ISO 8601 date of the years 1 to 9999")]
    Time,
    #[error("it has more than {max} bytes")]
    TooLarge { max: usize },
    #[error("arrays and maps are nested more than {max} deep")]
    TooDeep { max: usize },
    #[error("a map has more than {max} keys")]
    TooManyKeys { max: usize },
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("it is not valid JSON")]
    NotJson,
    #[error("an identity has more than {max} bytes; that is no name of a person, check the identity columns")]
    Identity { max: usize },
}

impl RowFault {
    /// Its name, which stays as it is whatever becomes of the words.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAMap => "not_a_map",
            Self::KeyNotText => "key_not_text",
            Self::Name { .. } => "key_name",
            Self::Time => "time",
            Self::TooLarge { .. } => "too_large",
            Self::TooDeep { .. } => "too_deep",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::Identity { .. } => "identity",
        }
    }

    /// What the sender can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } | Self::TooDeep { .. } | Self::TooManyKeys { .. } | Self::Identity { .. } => ErrorKind::TooLarge,
            Self::NotAMap | Self::KeyNotText | Self::Name { .. } | Self::Time | Self::NotUtf8 | Self::NotJson => ErrorKind::Invalid,
        }
    }
}
