//! What a role counts, in the text form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// Label names and values. Values come from short fixed lists, never from a request.
pub type Labels = Vec<(&'static str, String)>;
/// Counters by label.
pub type Counters = Family<Labels, Counter>;
/// Gauges by label.
pub type Gauges = Family<Labels, Gauge>;
/// Histograms by label.
pub type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// From half a millisecond to about a minute.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0];

#[derive(Clone)]
enum Known {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
    Counters(Counters),
    Gauges(Gauges),
    Histograms(Histograms),
}

#[derive(Default)]
struct Inner {
    registry: Registry,
    known: BTreeMap<String, Known>,
}

/// One role's metrics. Clones share them; asking twice for one name gives the same metric.
///
/// Names are given without the prefix `coffer_`, and counters without the suffix `_total`.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Inner>>);

macro_rules! metric {
    ($(#[$doc:meta])* $method:ident, $variant:ident, $type:ty, $new:expr) => {
        $(#[$doc])*
        pub fn $method(&self, name: &str, help: &str) -> $type {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Known::$variant(metric)) = inner.known.get(name) {
                return metric.clone();
            }
            let metric: $type = $new;
            inner.registry.register(format!("coffer_{name}"), help.trim_end_matches('.'), metric.clone());
            inner.known.insert(name.to_owned(), Known::$variant(metric.clone()));
            metric
        }
    };
}

impl Metrics {
    metric!(
        /// Something that happens.
        counter, Counter, Counter, Counter::default()
    );
    metric!(
        /// Something that goes up and down.
        gauge, Gauge, Gauge, Gauge::default()
    );
    metric!(
        /// Something that takes time, in seconds.
        histogram, Histogram, Histogram, seconds()
    );
    metric!(
        /// Something that happens, by label.
        counters, Counters, Counters, Counters::default()
    );
    metric!(
        /// Something that goes up and down, by label.
        gauges, Gauges, Gauges, Gauges::default()
    );
    metric!(
        /// Something that takes time, in seconds, by label.
        histograms, Histograms, Histograms, Histograms::new_with_constructor(seconds)
    );

    /// All of it as text.
    pub fn encode(&self) -> String {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &inner.registry) {
            Ok(()) => text,
            // Writing to a string fails only when a metric's own encoding does.
            Err(fmt::Error) => String::new(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_metric() {
        let metrics = Metrics::default();
        metrics.counter("events", "events taken").inc_by(2);
        metrics.counter("events", "events taken").inc();
        metrics
            .counters("calls", "calls")
            .get_or_create(&vec![("role", "vault".to_owned())])
            .inc();

        let text = metrics.encode();

        assert_eq!(text.matches("coffer_events_total 3").count(), 1, "{text}");
        assert!(text.contains("coffer_calls_total{role=\"vault\"} 1"), "{text}");
    }
}
