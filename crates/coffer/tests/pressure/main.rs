//! Pressure: large numbers, full disks, too little memory. Each works, or is refused with what to do about it, and nothing that was
//! acknowledged is lost. What is refused, and where the bounds are, is in docs/limits.md.

mod disks;
mod numbers;
mod results;
mod roles;

use std::time::{Duration, Instant};

use testkit::{Client, until};

const DATABASE: &str = "pressure";
const PATIENCE: Duration = Duration::from_secs(120);

/// How long something took, for whoever reads the test's output.
fn took(what: &str, begun: Instant) {
    eprintln!("{:7.1} s  {what}", begun.elapsed().as_secs_f64());
}

/// A number, asked for until it is answered: roles may just have been started.
async fn number(client: &Client, sql: &str) -> anyhow::Result<i64> {
    until(sql, PATIENCE, || client.number(DATABASE, sql)).await
}
