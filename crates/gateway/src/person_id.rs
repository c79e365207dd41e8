//! `person_id('ada@example.com')` in a query: worked here, so that no identity reaches the role that stores events.
//!
//! Promise: a text without such a call comes back byte for byte; inside strings, comments and quoted identifiers nothing is
//! touched; a call whose argument is anything but one plain string literal is refused, never sent on.
//!
//! Start at [`Calls::find`]. Knows how SQL text is cut into tokens (as the engine's generic dialect does it). Does not know
//! what the statement means, and does not know how identities are translated.

use std::{collections::HashMap, fmt::Write as _, iter::Peekable, ops::Range, str::CharIndices};

use base::Secret;

const NAME: &str = "person_id";

/// Why a query with `person_id` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PersonIdError {
    #[error(
        "person_id takes exactly one string in single quotes, such as person_id('ada@example.com'); it is worked before the query runs, so columns and expressions cannot be its argument"
    )]
    NotOneLiteral,
    #[error("person_id is called by its bare name, without quotes or a prefix")]
    NotBare,
    #[error("the query ends inside a string, a quoted name or a comment")]
    Unterminated,
    #[error("a comment that begins with /*! is read as part of the query; leave it out of a query with person_id")]
    Hint,
    #[error("a raw string such as r'…' cannot stand in a query with person_id; write it in plain single quotes")]
    Raw,
}

/// The calls of `person_id` in a text.
#[derive(Debug)]
pub(crate) struct Calls<'a> {
    text: &'a str,
    places: Vec<(Range<usize>, usize)>,
    identities: Vec<Secret>,
}

impl<'a> Calls<'a> {
    /// Finds them, without changing anything yet.
    pub(crate) fn find(text: &'a str) -> Result<Self, PersonIdError> {
        let mut tokens = Tokens {
            text,
            chars: text.char_indices().peekable(),
        };
        let mut calls = Self {
            text,
            places: Vec::new(),
            identities: Vec::new(),
        };
        let mut known = HashMap::new();
        // An unfinished string matters only to a text that may hold an identity; the engine words it better for all others.
        let concerned = text.to_ascii_lowercase().contains(NAME);
        let mut before = None;
        let mut token = tokens.next();
        while let Some((kind, span)) = token {
            let mut following = tokens.next_significant();
            match kind {
                Kind::Unterminated if concerned => return Err(PersonIdError::Unterminated),
                Kind::Hint if concerned => return Err(PersonIdError::Hint),
                Kind::Raw if concerned => return Err(PersonIdError::Raw),
                _ => {}
            }
            let opens = following.as_ref().is_some_and(|(kind, _)| *kind == Kind::Symbol('('));
            if opens && let Some(bare) = kind.names_person_id(&text[span.clone()]) {
                // The engine reads "1person_id" as a number and a name.
                let begins_within = text[..span.start].ends_with(|c: char| is_part(c) || c == '.');
                if !bare || begins_within || before == Some(Kind::Symbol('.')) {
                    return Err(PersonIdError::NotBare);
                }
                let (identity, end) = argument(&mut tokens, text)?;
                let next = calls.identities.len();
                let index = *known.entry(identity.clone()).or_insert(next);
                if index == next {
                    calls.identities.push(Secret::new(identity));
                }
                calls.places.push((span.start..end, index));
                before = Some(Kind::Other);
                following = tokens.next_significant();
            } else if kind != Kind::Blank {
                before = Some(kind);
            }
            token = following;
        }
        Ok(calls)
    }

    /// The different identities asked for, in order of first sight.
    pub(crate) fn identities(&self) -> &[Secret] {
        &self.identities
    }

    /// The text with each call replaced by its identity's number; `ids` is in the order of [`Calls::identities`].
    ///
    /// An identity that was never seen has the number 0. No person has it, so `= 0` finds no row and `<> 0` finds every
    /// row, which is what the question meant; `NULL` would have answered neither.
    pub(crate) fn replaced(&self, ids: &[i64]) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut copied = 0;
        for (span, index) in &self.places {
            out.push_str(&self.text[copied..span.start]);
            // ".5e-person_id('x')" must not become the number .5e-123, "?person_id('x')" no placeholder.
            if !out.is_empty() && !out.ends_with(|before: char| before.is_whitespace() || "(,=<>/*".contains(before)) {
                out.push(' ');
            }
            let _ = write!(out, "{}", ids.get(*index).copied().unwrap_or(0).max(0));
            // "person_id('x')e5" must not become the number 123e5.
            if self.text[span.end..].starts_with(|next: char| is_part(next) || next == '.') {
                out.push(' ');
            }
            copied = span.end;
        }
        out.push_str(&self.text[copied..]);
        out
    }
}

/// Reads `'literal' )` after the opening parenthesis.
fn argument(tokens: &mut Tokens<'_>, text: &str) -> Result<(String, usize), PersonIdError> {
    let identity = match tokens.next_significant() {
        Some((Kind::Literal, span)) => text[span.start + 1..span.end - 1].replace("''", "'"),
        Some((Kind::Unterminated, _)) => return Err(PersonIdError::Unterminated),
        _ => return Err(PersonIdError::NotOneLiteral),
    };
    match tokens.next_significant() {
        Some((Kind::Symbol(')'), span)) => Ok((identity, span.end)),
        Some((Kind::Unterminated, _)) => Err(PersonIdError::Unterminated),
        _ => Err(PersonIdError::NotOneLiteral),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// White space or a comment.
    Blank,
    /// A name or number without quotes.
    Word,
    /// `"name"` or `` `name` ``.
    Quoted,
    /// `'text'` in its plain form.
    Literal,
    /// Any other string: `E'…'`, `q'[…]'`, `$$…$$` and so on.
    Other,
    /// A string, quoted name or comment that never ends.
    Unterminated,
    /// `/*! … */`: a comment to people, and to the engine a part of the query.
    Hint,
    /// The beginning of `r'…'`, which ends by rules of its own.
    Raw,
    /// One sign of anything else.
    Symbol(char),
}

impl Kind {
    /// Whether this token names the function, and if so, whether by its bare name.
    fn names_person_id(self, token: &str) -> Option<bool> {
        match self {
            Self::Word if token.eq_ignore_ascii_case(NAME) => Some(true),
            Self::Quoted if token[1..token.len() - 1].eq_ignore_ascii_case(NAME) => Some(false),
            _ => None,
        }
    }
}

struct Tokens<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl Tokens<'_> {
    fn next_significant(&mut self) -> Option<(Kind, Range<usize>)> {
        loop {
            match self.next()? {
                (Kind::Blank, _) => {}
                token => return Some(token),
            }
        }
    }

    fn next(&mut self) -> Option<(Kind, Range<usize>)> {
        let (start, first) = self.chars.next()?;
        let kind = match first {
            '\'' => self.until_quote('\'', false, Kind::Literal),
            '"' | '`' => self.until_quote(first, false, Kind::Quoted),
            '-' if self.eat('-') => {
                while self.chars.next_if(|(_, c)| *c != '\n').is_some() {}
                Kind::Blank
            }
            '/' if self.eat('*') => {
                let is_hint = self.text[self.position()..].starts_with('!');
                match self.block_comment() {
                    Kind::Blank if is_hint => Kind::Hint,
                    kind => kind,
                }
            }
            // Two strokes divide; what follows them begins no comment.
            '/' if self.eat('/') => Kind::Symbol('/'),
            '$' => self.dollar(start),
            c if c.is_ascii_digit() => self.number(c),
            // A point of a number, or one between names.
            '.' if self.chars.peek().is_some_and(|(_, c)| c.is_ascii_digit()) => self.fraction(),
            c if c.is_whitespace() => Kind::Blank,
            c if is_part(c) => {
                while self.chars.next_if(|(_, c)| is_part(*c)).is_some() {}
                self.word(start)
            }
            c => Kind::Symbol(c),
        };
        Some((kind, start..self.position()))
    }

    /// A number ends where the engine ends it, whatever stands behind it: `0$$…$$` is a number and a string.
    fn number(&mut self, first: char) -> Kind {
        let digits = self.eat_while(|c| c.is_ascii_digit());
        if first == '0' && digits == 0 && self.eat('x') {
            self.eat_while(|c| c.is_ascii_hexdigit());
            return Kind::Other;
        }
        self.eat('.');
        self.fraction()
    }

    /// What follows the point: digits, an exponent, the mark of a long.
    fn fraction(&mut self) -> Kind {
        self.eat_while(|c| c.is_ascii_digit());
        let rest = &self.text[self.position()..];
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            if exponent[sign..].starts_with(|c: char| c.is_ascii_digit()) {
                self.chars.nth(sign);
                self.eat_while(|c| c.is_ascii_digit());
            }
        }
        self.eat('L');
        Kind::Other
    }

    /// A word, unless it is the prefix of a string.
    fn word(&mut self, start: usize) -> Kind {
        let word = self.text[start..self.position()].to_ascii_lowercase();
        match word.as_str() {
            "r" if self.text[self.position()..].starts_with(['\'', '"']) => Kind::Raw,
            "e" | "n" | "x" | "b" if self.eat('\'') => self.until_quote('\'', word == "e" || word == "x", Kind::Other),
            "q" | "nq" if self.eat('\'') => self.delimited(),
            "u" => {
                if self.text[self.position()..].starts_with("&'") {
                    self.chars.next();
                    self.chars.next();
                    return self.until_quote('\'', false, Kind::Other);
                }
                Kind::Word
            }
            _ => Kind::Word,
        }
    }

    /// Up to the closing quote; a doubled one is part of the text.
    fn until_quote(&mut self, quote: char, backslash: bool, kind: Kind) -> Kind {
        while let Some((_, c)) = self.chars.next() {
            if backslash && c == '\\' {
                self.chars.next();
            } else if c == quote && !self.eat(quote) {
                return kind;
            }
        }
        Kind::Unterminated
    }

    /// `q'[ … ]'`: the character after the quote says what ends it.
    fn delimited(&mut self) -> Kind {
        let Some((_, open)) = self.chars.next() else {
            return Kind::Unterminated;
        };
        let close = match open {
            '[' => ']',
            '(' => ')',
            '{' => '}',
            '<' => '>',
            same => same,
        };
        while let Some((_, c)) = self.chars.next() {
            if c == close && self.eat('\'') {
                return Kind::Other;
            }
        }
        Kind::Unterminated
    }

    /// `$$ … $$`, `$tag$ … $tag$`, or a placeholder such as `$1`.
    fn dollar(&mut self, start: usize) -> Kind {
        while self.chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_').is_some() {}
        if !self.eat('$') {
            return Kind::Other;
        }
        let tag = &self.text[start..self.position()];
        let Some(found) = self.text[self.position()..].find(tag) else {
            self.chars.by_ref().for_each(drop);
            return Kind::Unterminated;
        };
        let end = self.position() + found + tag.len();
        while self.chars.next_if(|(at, _)| *at < end).is_some() {}
        Kind::Other
    }

    /// Comments nest.
    fn block_comment(&mut self) -> Kind {
        let mut depth = 1;
        while let Some((_, c)) = self.chars.next() {
            match c {
                '/' if self.eat('*') => depth += 1,
                '*' if self.eat('/') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Kind::Blank;
            }
        }
        Kind::Unterminated
    }

    /// How many there were.
    fn eat_while(&mut self, wanted: impl Fn(char) -> bool) -> usize {
        let mut eaten = 0;
        while self.chars.next_if(|(_, c)| wanted(*c)).is_some() {
            eaten += 1;
        }
        eaten
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.chars.next_if(|(_, c)| *c == wanted).is_some()
    }

    fn position(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }
}

fn is_part(c: char) -> bool {
    c.is_alphabetic() || c.is_ascii_digit() || matches!(c, '_' | '$' | '#' | '@')
}

#[cfg(test)]
mod tests;
