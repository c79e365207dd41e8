//! `coffer serve`: a whole installation on this machine, until asked to stop.

use tokio::runtime::Builder;

use crate::cli::{SandboxMode, Serve};
use crate::config::Config;
use crate::failure::{During, Outcome};
use crate::layout::Layout;
use crate::logging::Logging;
use crate::supervise::{Prepared, Supervisor, asked_to_stop};

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: &Serve) -> Outcome {
    let config = Config::load(&args.settings)?;
    let logging = Logging::from_environment("info");
    logging.start("serve")?;
    let layout = Layout::at(&args.data.data)?;
    for undone in edge::harden_process() {
        tracing::warn!("{undone}");
    }
    let data = layout.root().display().to_string();
    let prepared = Prepared::new(layout, config, logging)?;
    // Little to do once all is up: one thread is enough, and costs the least memory.
    Builder::new_current_thread()
        .enable_all()
        .build()
        .during("could not start")?
        .block_on(async {
            let mut stopping = std::pin::pin!(asked_to_stop());
            let Some(supervisor) = Supervisor::started(prepared, &mut stopping).await? else {
                return Ok(());
            };
            if supervisor.sandbox() == SandboxMode::Off {
                tracing::warn!("the roles run without a sandbox, as asked for");
            }
            if let Some(why) = supervisor.one_user() {
                tracing::warn!("all roles run under one user id: {why}");
            }
            tracing::info!(
                endpoint = supervisor.endpoint(),
                data,
                "coffer {} serves at {}",
                env!("CARGO_PKG_VERSION"),
                supervisor.endpoint()
            );
            stopping.await?;
            supervisor.stop().await;
            tracing::info!("stopped");
            Ok(())
        })
}
