//! Reading, hints, and all problems at once.

use std::path::Path;

use super::*;

fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let variables: Vec<(String, String)> = variables.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    match Config::from_parts(Some((Path::new("c.toml"), text)), &variables, None) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn nothing_needs_to_be_configured() {
    let config = Config::from_parts(None, &[], None).unwrap();
    assert_eq!(config.shape.listen.public, "127.0.0.1:8443".parse().unwrap());
    assert_eq!(config.shape.sandbox, SandboxMode::On);
}

#[test]
fn every_problem_is_reported_at_once_with_its_line_and_the_nearest_name() {
    let text = "sandbax = 'on'\n[listen]\npubic = '1.2.3.4:1'\nplain = 'here'\n[certificate]\nchain = 'x.pem'\n[wharehouse]\n";
    let found = problems(text, &[("COFFER_LISTEN__PLAN", "127.0.0.1:1"), ("COFFER_SANDBOX", "off")]);
    let expected = [
        "c.toml:1: unknown name `sandbax`; did you mean `sandbox`?",
        "c.toml:3: unknown name `pubic`; did you mean `public`?",
        "c.toml:7: unknown name `wharehouse`; did you mean `warehouse`?",
        "COFFER_LISTEN__PLAN: unknown name `plan`; did you mean `plain`?",
        "certificate: chain and key belong together: give both, or neither and the vault issues one",
    ];
    for line in expected {
        assert!(found.iter().any(|f| f == line), "{line}\n{found:#?}");
    }
    assert!(found.iter().any(|f| f.starts_with("c.toml:4: ")), "{found:#?}");
    assert_eq!(found.len(), expected.len() + 1, "{found:#?}");
}

#[test]
fn broken_syntax_is_a_problem_with_a_line() {
    assert!(problems("a = \n", &[])[0].starts_with("c.toml:1: "));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "sandbox = 'required'\n[listen]\npublic = '127.0.0.1:1'\nplain = '127.0.0.1:2'\n";
    let variables = [
        ("COFFER_SANDBOX".into(), "off".into()),
        ("COFFER_LISTEN__PUBLIC".into(), "127.0.0.1:3".into()),
    ];
    let config = Config::from_parts(Some((Path::new("c"), file)), &variables, Some(SandboxMode::On)).unwrap();
    assert_eq!(config.shape.sandbox, SandboxMode::On);
    assert_eq!(config.shape.listen.public.port(), 3);
    assert_eq!(config.shape.listen.plain.map(|p| p.port()), Some(2));
}

#[test]
fn variables_of_the_commands_are_not_settings_and_a_secret_is_never_repeated() {
    assert!(problems("", &[("COFFER_READ_KEY", "1/abc"), ("COFFER_ENDPOINT", "https://x")]).is_empty());
    let found = problems("", &[("COFFER_RAED_KEY", "1/abc")]);
    assert_eq!(found.len(), 1);
    assert!(!found[0].contains("1/abc"), "{found:?}");
}

#[test]
fn zones_in_stores_are_settings_and_show_no_secret() {
    let text = "[warehouse.zones]\nzones = [
        {name='a', url='https://a.example/events/w', region='eu-1', credentials='/keys/a'},
        {name='b', url='https://b.example/events/w', credentials='/keys/b', ca='/keys/ca.pem'},
        {name='c', path='/disk/warehouse/c'}]\n[identity.zones]\nzones = [{name='a', url='https://a.example/events/i', credentials='/keys/i'}]\n";
    assert!(problems(text, &[]).is_empty(), "{:?}", problems(text, &[]));
    let config = Config::from_parts(Some((Path::new("c"), text)), &[], None).unwrap();
    let shown = toml::to_string(&config.shape).unwrap();
    assert!(shown.contains("https://a.example/events/w") && shown.contains("/keys/a"), "{shown}");

    for (bad, expected) in [
        (
            "{name='a', url='http://a.example/events', credentials='/k'}",
            "must begin with https://",
        ),
        ("{name='a', url='https://a.example/events'}", "needs credentials"),
        (
            "{name='a', url='https://a.example/events/i/x', credentials='/k'}",
            "in one place of a store",
        ),
        (
            "{name='a', url='https://b.example/events', credentials='/k'}",
            "its zones and those of identity share the credentials /k",
        ),
        (
            "{name='a', url='https://a.example/events', secret_access_key='hidden'}",
            "unknown name `secret_access_key`",
        ),
        ("{name='a', path='relative'}", "must begin with /"),
        ("{name='a'}", "needs a path, or a url"),
    ] {
        let text = format!(
            "[warehouse.zones]\nzones = [{bad}]\n[identity.zones]\nzones = [{{name='a', url='https://a.example/events/i', credentials='/k'}}]\n"
        );
        let found = problems(&text, &[]);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{bad}: {found:?}");
        assert!(!found.iter().any(|problem| problem.contains("hidden")), "{found:?}");
    }
}
