//! Being asked to stop.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{During, Outcome};

/// Ends at the first SIGTERM or SIGINT. A second one ends the process, and with it every role, at once.
pub(crate) async fn asked_to_stop() -> Outcome {
    let what = "could not listen for signals";
    let mut terminate = signal(SignalKind::terminate()).during(what)?;
    let mut interrupt = signal(SignalKind::interrupt()).during(what)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: what is under way is finished first; once more stops at once");
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("stopping at once");
        now();
    });
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "asked for twice; roles see the end of their standard input and what they acknowledged is durable"
)]
fn now() {
    std::process::exit(1);
}
