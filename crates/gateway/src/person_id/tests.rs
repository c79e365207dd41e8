use proptest::prelude::*;

use super::*;

fn rewritten(text: &str) -> Result<String, PersonIdError> {
    Calls::find(text).map(|calls| {
        let ids: Vec<i64> = (0..calls.identities().len()).map(|n| 101 + n as i64).collect();
        calls.replaced(&ids)
    })
}

fn names(text: &str) -> Vec<String> {
    Calls::find(text)
        .unwrap()
        .identities()
        .iter()
        .map(|identity| identity.reveal().to_owned())
        .collect()
}

#[test]
fn a_call_becomes_a_number() {
    let check = |text: &str, expected: &str| assert_eq!(rewritten(text).as_deref(), Ok(expected), "{text}");
    check(
        "SELECT * FROM t WHERE user_id = person_id('ada')",
        "SELECT * FROM t WHERE user_id = 101",
    );
    check("person_id('a')=x OR PERSON_ID ( 'b' )=x", "101=x OR 102=x");
    check("x IN (person_id('a'), person_id('b'), Person_Id('a'))", "x IN (101, 102, 101)");
    check("person_id /* of */ ( -- whom\n 'a' /* yes */ ) + 1", "101 + 1");
    check(
        "SELECT person_id('a')e5, person_id('b').5, person_id('c')",
        "SELECT 101 e5, 102 .5, 103",
    );
    check("x=person_id('a')\n", "x=101\n");
    check(
        "SELECT 0$$ '$$, person_id('a'), 1.5e-3L, .5, 0x1F",
        "SELECT 0$$ '$$, 101, 1.5e-3L, .5, 0x1F",
    );
    // A number of ours joins nothing that stands before it.
    check(
        "SELECT .5e-person_id('a'), ?person_id('b'), x=person_id('c')",
        "SELECT .5e- 101, ? 102, x=103",
    );
    // To the engine two strokes are a sign of their own, so that no comment begins here.
    check("1 //* person_id('a') */ 2", "1 //* 101 */ 2");
}

#[test]
fn the_identity_is_what_the_literal_says() {
    assert_eq!(names("person_id('O''Brien')"), ["O'Brien"]);
    assert_eq!(names("person_id('')"), [""]);
    assert_eq!(names(r"person_id('back\')"), [r"back\"]);
    assert_eq!(names("person_id('käse@例え.jp') person_id('käse@例え.jp')"), ["käse@例え.jp"]);
    assert_eq!(names("person_id('--no /* comment')"), ["--no /* comment"]);
}

#[test]
fn an_unknown_identity_is_nobodys_number() {
    let calls = Calls::find("a <> person_id('nobody')").unwrap();
    assert_eq!(calls.replaced(&[0]), "a <> 0");
    assert_eq!(calls.replaced(&[]), "a <> 0");
}

#[test]
fn strings_comments_and_quoted_names_are_not_touched() {
    for text in [
        "SELECT 'person_id(''a'')'",
        "SELECT 'it''s person_id(' || x",
        "SELECT \"person_id('a')\" FROM t",
        "SELECT `person_id('a')` FROM t",
        "-- person_id('a')\nSELECT 1",
        "/* person_id('a') /* nested */ person_id('b') */ SELECT 1",
        r"SELECT E'it\'s person_id(''a'')'",
        "SELECT $$ person_id('a') $$, $x$ person_id('b') $$ $x$, $1",
        "SELECT q'[it's person_id('a')]', N'person_id(''a'')', U&'person_id(''a'')'",
        "SELECT person_id, t.person_id FROM t GROUP BY person_id",
        "SELECT my_person_id('a'), person_id_of('b')",
        "SELECT \"person_id\" FROM t",
        "SELECT 1 /*! + 2 */",
        "SELECT 0$$ person_id('a') $$, 1e'\\' person_id(''b'')', x'\\' person_id(''c'')'",
        "/* /*! person_id('a') */ */ SELECT 1",
    ] {
        assert_eq!(rewritten(text).as_deref(), Ok(text), "{text}");
    }
}

#[test]
fn every_other_use_is_refused() {
    use PersonIdError::{Hint, NotBare, NotOneLiteral, Raw, Unterminated};
    for (text, expected) in [
        ("person_id()", NotOneLiteral),
        ("person_id(email)", NotOneLiteral),
        ("person_id('a', 'b')", NotOneLiteral),
        ("person_id('a' || 'b')", NotOneLiteral),
        ("person_id('a' 'b')", NotOneLiteral),
        ("person_id(E'a')", NotOneLiteral),
        ("person_id($$a$$)", NotOneLiteral),
        ("person_id(\"a\")", NotOneLiteral),
        ("person_id(('a'))", NotOneLiteral),
        ("person_id('a'", NotOneLiteral),
        ("person_id(", NotOneLiteral),
        ("person_id('a", Unterminated),
        ("SELECT 'oops, x = person_id('a')", Unterminated),
        ("/* person_id('a')", Unterminated),
        ("\"person_id\"('a')", NotBare),
        ("web.person_id('a')", NotBare),
        ("web . person_id('a')", NotBare),
        ("1person_id('a')", NotBare),
        ("SELECT 1 /*! + person_id('a') */", Hint),
        ("person_id /*!of */ ('a')", Hint),
        ("/*!50110 LIMIT 1 */ person_id('a')", Hint),
        ("person_id(/*!'a'*/)", NotOneLiteral),
        // Numbers end where the engine ends them.
        ("1Lperson_id('a')", NotBare),
        ("1.Lperson_id('a')", NotBare),
        ("1.person_id('a')", NotBare),
        ("1e5person_id('a')", NotBare),
        ("0xffperson_id('a')", NotBare),
        ("SELECT r'''it's''', person_id('a')", Raw),
        ("SELECT R\"x\", person_id('a')", Raw),
    ] {
        assert_eq!(rewritten(text), Err(expected), "{text}");
    }
}

/// Pieces that are whole by themselves and call nothing.
fn harmless() -> impl Strategy<Value = String> {
    let quoted = "[^']{0,12}".prop_map(|inner| format!("'{}'", inner.replace('\'', "''")));
    let named = "[^\"]{0,12}".prop_map(|inner| format!("\"{inner}\""));
    let line = "[^\n]{0,12}".prop_map(|inner| format!("--{inner}\n"));
    let block = "([^*/!][^*/]{0,11})?".prop_map(|inner| format!("/*{inner}*/"));
    let call = prop_oneof![
        Just("'person_id(''x'')'"),
        Just("/*person_id('x')*/"),
        Just("--person_id('x')\n"),
        Just("\"person_id('x')\"")
    ];
    prop_oneof![
        quoted,
        named,
        line,
        block,
        call.prop_map(str::to_owned),
        "[a-z0-9+=<>,.() \t]{0,12}"
    ]
    .prop_filter("calls nothing", |piece| !piece.ends_with("person_id"))
}

proptest! {
    #[test]
    fn any_text_without_the_name_is_unchanged(text in any::<String>()) {
        prop_assume!(!text.to_ascii_lowercase().contains(NAME));
        prop_assert_eq!(rewritten(&text), Ok(text));
    }

    #[test]
    fn calls_between_other_pieces_and_nothing_else_are_replaced(pieces in prop::collection::vec((harmless(), "[^']{0,8}"), 0..8)) {
        let (mut text, mut expected) = (String::new(), String::new());
        let mut seen: Vec<&str> = Vec::new();
        for (piece, identity) in &pieces {
            let index = seen.iter().position(|name| name == identity).unwrap_or_else(|| { seen.push(identity); seen.len() - 1 });
            text.push_str(&format!("{piece} =person_id('{identity}') "));
            expected.push_str(&format!("{piece} ={} ", 101 + index));
        }
        prop_assert_eq!(rewritten(&text), Ok(expected));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[person_id('\")$/*\\-qeE;. \n\\\\xé]{0,40}") {
        let _ = rewritten(&text);
        let _ = rewritten(&format!("person_id({text}"));
    }
}
