//! Proof 2: whatever is killed, whenever: every acknowledged row is there exactly once afterwards, and nobody repaired anything.

mod senders;

use std::time::Duration;

use anyhow::ensure;
use base::Role;
use senders::Senders;
use testkit::{Installation, until};

const ROUNDS: usize = 20;
const DATABASE: &str = "crash";
/// How long a role may take to be back and to take rows again.
const BACK: Duration = Duration::from_secs(90);

/// What is killed in a round, in turn.
#[derive(Debug, Clone, Copy)]
enum Victim {
    One(Role),
    Everything,
}

const VICTIMS: [Victim; 5] = [
    Victim::One(Role::Warehouse),
    Victim::One(Role::Gateway),
    Victim::One(Role::Identity),
    Victim::One(Role::Vault),
    Victim::Everything,
];

#[tokio::test(flavor = "multi_thread")]
async fn after_twenty_kills_every_acknowledged_row_is_there_exactly_once() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    // Files are written and merged all the time, so that kills fall into that as well.
    installation.configure("[warehouse.flush]\nafter = \"1s\"\nmerge_files = 3\n")?;
    installation.up().await?;
    let product = installation.product("crash").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    let senders = Senders::start(&client.with_key(&product.write_key), DATABASE, "events");

    for round in 0..ROUNDS {
        let victim = VICTIMS[round % VICTIMS.len()];
        // Now soon after a batch was taken, now in the middle of the next ones.
        senders.taken_since(senders.taken() + round % 6, BACK).await?;
        let before = installation.pids();
        match victim {
            Victim::One(role) => {
                installation.kill(role)?;
                until(&format!("{role} is back after round {round}"), BACK, || async {
                    let pids = installation.pids();
                    ensure!(
                        pids.get(&role).is_some_and(|pid| Some(pid) != before.get(&role)),
                        "its process is {:?}",
                        pids.get(&role)
                    );
                    Ok(())
                })
                .await?;
            }
            Victim::Everything => {
                installation.kill_all().await?;
                installation.up().await?;
            }
        }
        senders.taken_since(senders.taken(), BACK).await?;
        eprintln!("round {round}: {victim:?} killed, {} batches taken so far", senders.taken());
    }

    let sent = senders.stop().await?;
    installation.ready().await?;
    sent.check(&client, DATABASE, "events").await?;

    // Once more from what is at rest alone: nothing of this may live in a memory only.
    installation.kill_all().await?;
    installation.up().await?;
    sent.check(&client, DATABASE, "events").await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_loses_nothing_and_a_second_start_is_refused() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("stop").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    let senders = Senders::start(&client, DATABASE, "events");
    senders.taken_since(3, BACK).await?;

    let second = installation.operator(&["serve"]).await?;
    ensure!(
        second.code == Some(5),
        "a second start ended with {:?}: {}",
        second.code,
        second.stderr
    );
    let supervisor = installation.supervisor().unwrap_or_default().to_string();
    ensure!(
        second.stderr.contains(&supervisor),
        "it does not say who has the directory: {}",
        second.stderr
    );

    installation.stop().await?;
    installation.up().await?;
    let sent = senders.stop().await?;
    sent.check(&client, DATABASE, "events").await?;
    installation.finish().await
}
