//! How the engine reads a text, for whoever throws any texts at it (the crate `fuzz`). Nothing of the product calls this.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{self, Tokenizer};

use crate::QueryError;
use crate::gate::{self, Question};

/// A token, without what stands between tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A name without quotes.
    Word(String),
    /// A text in single quotes, its quotes taken off.
    Text(String),
    /// Anything else, as it is written.
    Other(String),
}

/// The tokens of a text; `None` when it cannot be cut into tokens, so that nothing in it runs.
pub fn tokens(text: &str) -> Option<Vec<Token>> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().ok()?;
    let told = |token| match token {
        tokenizer::Token::Whitespace(_) => None,
        tokenizer::Token::Word(word) if word.quote_style.is_none() => Some(Token::Word(word.value)),
        tokenizer::Token::SingleQuotedString(text) => Some(Token::Text(text)),
        other => Some(Token::Other(other.to_string())),
    };
    Some(tokens.into_iter().filter_map(told).collect())
}

/// The statement that the gate lets through, in the engine's words.
pub fn admit(text: &str) -> Result<String, QueryError> {
    Ok(match gate::admit(text, 1 << 20)? {
        Question::Query(statement) => statement.to_string(),
        Question::Show(statement) => statement.to_string(),
    })
}
