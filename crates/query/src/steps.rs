//! How deep the tree of a statement can become, counted before anybody builds it.
//!
//! Promise: whatever way a text is read, a branch of its tree has no more levels than [`check`] let through; lists may be as
//! long as they like. The parser bounds brackets within brackets itself, but not chains such as `1 + 1 + 1`, and the tree of a
//! long one ends the stack of whoever walks, copies or drops it. Does not know what a statement means.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::QueryError;

/// How many words and signs one expression may have, those in brackets within it included.
pub(crate) const MOST_STEPS: usize = 3000;
/// How many queries a statement may be made of.
pub(crate) const MOST_QUERIES: usize = 500;

/// Refuses a text whose tree may become too deep.
pub(crate) fn check(text: &str) -> Result<(), QueryError> {
    let dialect = GenericDialect {};
    // What cannot be cut into tokens is refused by the parser, in better words.
    let Ok(tokens) = Tokenizer::new(&dialect, text).tokenize() else {
        return Ok(());
    };
    let mut queries = 0;
    let mut open = vec![Level::default()];
    for token in &tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::Word(word) if matches!(word.keyword, Keyword::SELECT | Keyword::VALUES | Keyword::TABLE) => queries += 1,
            _ => {}
        }
        match token {
            Token::Comma | Token::SemiColon => last(&mut open).next_item(),
            Token::LParen | Token::LBracket | Token::LBrace => open.push(Level::default()),
            Token::RParen | Token::RBracket | Token::RBrace if open.len() > 1 => {
                let inner = open.pop().map_or(0, Level::deepest);
                let outer = last(&mut open);
                outer.steps += 1;
                outer.within = outer.within.max(inner);
            }
            _ => last(&mut open).steps += 1,
        }
    }
    let deepest = open.into_iter().map(Level::deepest).sum::<usize>();
    if deepest > MOST_STEPS || queries > MOST_QUERIES {
        return Err(QueryError::TooDeep);
    }
    Ok(())
}

fn last(open: &mut [Level]) -> &mut Level {
    open.last_mut().expect("the outermost level is never closed")
}

/// What stands between two brackets.
#[derive(Default)]
struct Level {
    /// Of the item that is being read: its own words and signs, and the deepest of its brackets.
    steps: usize,
    within: usize,
    /// The deepest item so far.
    deepest: usize,
}

impl Level {
    fn next_item(&mut self) {
        self.deepest = self.deepest.max(self.steps + self.within);
        (self.steps, self.within) = (0, 0);
    }

    fn deepest(mut self) -> usize {
        self.next_item();
        self.deepest
    }
}
