//! Logs: text on a terminal, one JSON object per line elsewhere, the role in every line. They go to standard error.

use std::fmt;
use std::io;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format as Lines, Full, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, time::SystemTime};
use tracing_subscriber::registry::LookupSpan;

use crate::environment;
use crate::failure::{During, Outcome};
use crate::terminal;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Logging {
    pub(crate) form: Form,
    /// As in `RUST_LOG`.
    pub(crate) filter: String,
    pub(crate) colours: bool,
}

impl Logging {
    /// From `COFFER_LOG`, `COFFER_LOG_FORMAT` and where standard error goes.
    pub(crate) fn from_environment(default: &str) -> Self {
        let form = match environment::text("COFFER_LOG_FORMAT").as_deref() {
            Some("json") => Form::Json,
            Some("text") => Form::Text,
            _ if terminal::shows_messages() => Form::Text,
            _ => Form::Json,
        };
        Self {
            form,
            filter: environment::text("COFFER_LOG").unwrap_or_else(|| default.to_owned()),
            colours: terminal::colours(),
        }
    }

    /// Starts logging, once per process.
    pub(crate) fn start(&self, role: &'static str) -> Outcome {
        let filter = EnvFilter::try_new(&self.filter).during("COFFER_LOG is not a filter such as `info` or `warn,edge=debug`")?;
        let base = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(self.colours);
        let started = match self.form {
            Form::Text => base
                .event_format(TextLine {
                    role,
                    lines: Lines::default().with_target(false).with_ansi(self.colours),
                })
                .try_init(),
            Form::Json => base
                .fmt_fields(JsonFields::new())
                .event_format(JsonLine {
                    role,
                    lines: Lines::default().json().flatten_event(true),
                })
                .try_init(),
        };
        started.during("could not start logging")
    }
}

struct TextLine {
    role: &'static str,
    lines: Lines<Full, SystemTime>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, DefaultFields> for TextLine {
    fn format_event(&self, context: &FmtContext<'_, S, DefaultFields>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "{:<10}", self.role)?;
        self.lines.format_event(context, writer, event)
    }
}

struct JsonLine {
    role: &'static str,
    lines: Lines<Json, SystemTime>,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(256);
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        // A role named by an event's own field must not pass for the writer: ours comes first and its field is another.
        write!(writer, "{{\"process\":\"{}\",{}", self.role, line.get(1..).unwrap_or_default())
    }
}
