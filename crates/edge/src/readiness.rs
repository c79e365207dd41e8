//! Whether a role can do its work, and if not, why.

use std::sync::Arc;

use tokio::sync::watch;

/// What the reason begins with of a vault that waits for shares of its root key.
pub const SEALED: &str = "sealed: ";

/// Shared between those who know and those who ask. Starts as not ready.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<Option<String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Some("starting".to_owned()))))
    }
}

impl Readiness {
    /// It can.
    pub fn set_ready(&self) {
        if self.0.send_replace(None).is_some() {
            tracing::info!("ready");
        }
    }

    /// It cannot, for this reason.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let before = self.0.send_replace(Some(reason.clone()));
        if before.as_ref() != Some(&reason) {
            tracing::warn!("not ready: {reason}");
        }
    }

    /// `Ok` when ready, else the reason.
    pub fn ready(&self) -> Result<(), String> {
        match &*self.0.borrow() {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }

    /// Returns when it is ready.
    pub async fn wait(&self) {
        // The sender is held by `self`: the channel cannot close meanwhile.
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }
}
