//! Why a body could not be decoded. Names the row, never what is in it.

use base::ErrorKind;

/// Why a body could not be decoded. Rows are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DecodeError {
    #[error("the body has more than {max} bytes; send it in smaller parts")]
    BodyTooLarge { max: usize },
    #[error("the body ends inside row {row}")]
    Truncated { row: usize },
    #[error("row {row} is not valid msgpack")]
    Damaged { row: usize },
    #[error("row {row} is not a map")]
    NotAMap { row: usize },
    #[error("row {row} has a key that is not text in UTF-8")]
    KeyNotText { row: usize },
    #[error("row {row} has a key that is empty or longer than {max} bytes")]
    Name { row: usize, max: usize },
    #[error("the time of row {row} is not a number of seconds since 1970")]
    Time { row: usize },
    #[error("row {row} has more than {max} bytes")]
    RowTooLarge { row: usize, max: usize },
    #[error("row {row} nests arrays and maps more than {max} deep")]
    TooDeep { row: usize, max: usize },
    #[error("row {row} has a map with more than {max} keys")]
    TooManyKeys { row: usize, max: usize },
    #[error("with row {row} the batch has more than {max} columns; put what varies into the values, not into the keys")]
    TooManyColumns { row: usize, max: usize },
    #[error("the batch has more than {max} rows; send it in smaller parts")]
    TooManyRows { max: usize },
    #[error("with row {row} the batch has more than {max} cells (rows times columns); send it in smaller parts")]
    TooManyCells { row: usize, max: usize },
    #[error("with row {row} the batch has more than {max} bytes of text; send it in smaller parts")]
    TooMuchText { row: usize, max: usize },
}

impl DecodeError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BodyTooLarge { .. }
            | Self::RowTooLarge { .. }
            | Self::TooDeep { .. }
            | Self::TooManyKeys { .. }
            | Self::TooManyColumns { .. }
            | Self::TooManyRows { .. }
            | Self::TooManyCells { .. }
            | Self::TooMuchText { .. } => ErrorKind::TooLarge,
            Self::Truncated { .. }
            | Self::Damaged { .. }
            | Self::NotAMap { .. }
            | Self::KeyNotText { .. }
            | Self::Name { .. }
            | Self::Time { .. } => ErrorKind::Invalid,
        }
    }
}
