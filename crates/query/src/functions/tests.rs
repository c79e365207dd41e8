use super::*;
use grows::{Grows, STEADY};

#[test]
fn somebody_has_looked_at_every_function() {
    let all = SessionStateDefaults::default_scalar_functions();
    let names: Vec<&str> = all.iter().map(|function| function.name()).collect();
    // What puts its arguments together and nothing more.
    const PARTS: [&str; 2] = ["concat", "overlay"];
    let not_looked_at: Vec<&&str> = names
        .iter()
        .filter(|name| Grows::of(name) == Some(Grows::Parts) && !PARTS.contains(name) && !LEFT_OUT.contains(name))
        .collect();
    assert!(not_looked_at.is_empty(), "{not_looked_at:?}");
    let gone: Vec<&&str> = STEADY.iter().filter(|name| !names.contains(name)).collect();
    assert!(gone.is_empty(), "{gone:?}");
}
