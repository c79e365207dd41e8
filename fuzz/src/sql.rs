//! SQL: `person_id` worked by the gateway, and the gate of the query engine behind it.
//!
//! Held: gateway and engine cut every text into the same tokens, so that no call is overlooked, nothing that is not a call is touched,
//! and no identity goes on; a text is worked once and for all; and what the gate lets through begins like a question.

use gateway::fuzzing::person_ids;
use query::fuzzing::{Token, admit, tokens};

/// What a question begins with.
const QUESTIONS: [&str; 8] = ["SELECT", "WITH", "VALUES", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "FROM"];

/// Takes any bytes as a query.
pub fn one(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    is_a_question(text);
    let Some((identities, worked)) = person_ids(text, 101) else {
        assert!(text.to_ascii_lowercase().contains("person_id"), "refused for nothing");
        return;
    };
    if identities.is_empty() {
        assert_eq!(worked, text, "changed for nothing");
    }
    assert_eq!(person_ids(&worked, 101), Some((Vec::new(), worked.clone())), "worked twice");
    if let (Some(before), Some(after)) = (tokens(text), tokens(&worked)) {
        assert_eq!(expected(&before), after, "gateway and engine read {text:?} differently");
    }
    is_a_question(&worked);
}

fn is_a_question(text: &str) {
    match admit(text) {
        Ok(said) => {
            let first = said.trim_start_matches(['(', ' ']);
            let is_question = QUESTIONS.iter().any(|word| first.starts_with(word));
            assert!(is_question, "the gate lets {said:?} through");
        }
        Err(error) => drop(error.to_string()),
    }
}

/// The tokens with a number in place of each call, by the engine's own reading.
fn expected(before: &[Token]) -> Vec<Token> {
    let (mut known, mut out, mut rest) = (Vec::new(), Vec::new(), before);
    while let [first, behind @ ..] = rest {
        rest = behind;
        if let (Token::Word(name), [Token::Other(open), Token::Text(identity), Token::Other(close), after @ ..]) = (first, behind)
            && name.eq_ignore_ascii_case("person_id")
            && (open.as_str(), close.as_str()) == ("(", ")")
        {
            let index = known.iter().position(|name| *name == identity).unwrap_or_else(|| {
                known.push(identity);
                known.len() - 1
            });
            out.push(Token::Other((101 + index).to_string()));
            rest = after;
        } else {
            out.push(first.clone());
        }
    }
    out
}
