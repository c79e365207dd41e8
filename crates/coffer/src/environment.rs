//! The one place that reads the environment.

use std::ffi::OsString;

use base::Secret;

/// A variable, when it is set, not empty and text.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A secret from a variable.
pub(crate) fn secret(name: &str) -> Option<Secret> {
    text(name).map(|value| Secret::new(value.trim().to_owned()))
}

/// Every variable whose name begins with `prefix` and which is text.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn with_prefix(prefix: &str) -> Vec<(String, String)> {
    let text = |value: OsString| value.into_string().ok();
    let mut found: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        .filter(|(name, _)| name.starts_with(prefix))
        .collect();
    found.sort();
    found
}
