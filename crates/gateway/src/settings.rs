//! What an operator may write about the gateway.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of the public interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySettings {
    /// How much one import may be.
    pub limits: events::Limits,
    /// Bytes of import bodies, as sent, that may be in the gateway's memory at once. More are told to try again.
    pub max_import_bytes: usize,
    /// Bytes of imports, inflated and as columns, that may be in memory at once. Others wait their turn. Never less than one import
    /// may take.
    pub max_inflated_bytes: usize,
    /// Imports that are inflated and decoded at the same moment.
    pub max_decoding: usize,
    /// Bytes of a request with parameters. A query is the largest of them.
    pub max_parameters: usize,
    /// Bytes of one query.
    pub max_query: usize,
    /// Different identities in one query.
    pub max_query_identities: usize,
    /// How long a body may stand still before its sender is given up.
    #[serde(with = "humantime_serde")]
    pub body_idle: Duration,
    /// How long a body may take in all.
    #[serde(with = "humantime_serde")]
    pub body_total: Duration,
    /// How long another role may take to answer.
    #[serde(with = "humantime_serde")]
    pub upstream: Duration,
    /// Rows of a table that one look at its end may ask for.
    pub max_tail: u32,
    /// Jobs on one page of a list.
    pub max_job_page: u64,
    /// Bytes of one stored row of a result that is turned into text: JSON, csv or tsv.
    pub max_result_row: usize,
    /// Keys that did not work, per address and minute, before it has to wait.
    pub failed_keys_per_minute: u32,
    /// Callers whose passes are remembered.
    pub remembered_callers: usize,
    /// The port of the public listener, where the plain one sends pages to.
    pub public_port: Option<u16>,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            limits: events::Limits::default(),
            max_import_bytes: 512 << 20,
            max_inflated_bytes: 1 << 30,
            max_decoding: std::thread::available_parallelism().map_or(2, usize::from),
            max_parameters: 2 << 20,
            max_query: 1 << 20,
            max_query_identities: 1_000,
            body_idle: Duration::from_secs(20),
            body_total: Duration::from_secs(600),
            upstream: Duration::from_secs(60),
            max_tail: 1_000,
            max_job_page: 1_000,
            max_result_row: 32 << 20,
            failed_keys_per_minute: 30,
            remembered_callers: 10_000,
            public_port: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_being_handed_over() {
        let mut settings = GatewaySettings {
            public_port: Some(8443),
            ..GatewaySettings::default()
        };
        settings.limits.max_columns = 7;
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<GatewaySettings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<GatewaySettings>(r#"{"max_querry": 1}"#).is_err());
    }
}
