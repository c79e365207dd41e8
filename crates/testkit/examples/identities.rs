//! Measures how fast identities become ids, through a whole installation: `identities BINARY [IMPORTS]`.
//!
//! Each import has 100,000 rows with an identity each: first all of them new, then the same ones again. What the identity role took of a core is
//! the kernel's account of its process; what the gateway waited for it is the gateway's own. One connection, one import at a time.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base::Role;
use http::Method;
use testkit::{Client, Installation, gzip};

const DATABASE: &str = "web";
const EACH: u64 = 100_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let binary = words.next().context("usage: identities BINARY [IMPORTS]")?;
    let imports: u64 = words.next().map_or(Ok(10), |count| count.parse())?;
    let binary = std::path::absolute(binary)?;
    let installation = Installation::start(binary.to_str().context("a path that is not text")?).await?;
    let product = installation.product("shop").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "visits").await?;
    let bodies: Vec<Vec<u8>> = (0..imports).map(body).collect();

    let mut out = std::io::stdout();
    writeln!(
        out,
        "identities,each,rows,seconds,per_second,waited_per_second,core_seconds,per_core_second"
    )?;
    for round in ["new", "known", "known"] {
        let (waited, core, started) = (waited(&installation).await?, core_time(&installation)?, Instant::now());
        for body in &bodies {
            send(&client, body.clone()).await?;
        }
        let rows = imports * EACH;
        let seconds = started.elapsed().as_secs_f64();
        let waited = (self::waited(&installation).await? - waited).as_secs_f64();
        let core = (core_time(&installation)? - core).as_secs_f64();
        let per = |seconds: f64| rows as f64 / seconds.max(0.001);
        writeln!(
            out,
            "{round},{EACH},{rows},{seconds:.2},{:.0},{:.0},{core:.2},{:.0}",
            per(seconds),
            per(waited),
            per(core)
        )?;
    }
    installation.finish().await
}

/// JSON lines: `{"time":1,"email":"person-7@example.com"}`.
fn body(number: u64) -> Vec<u8> {
    let lines = (number * EACH..(number + 1) * EACH).map(|n| format!("{{\"time\":{},\"email\":\"person-{n}@example.com\"}}\n", n + 1));
    gzip(lines.collect::<String>().as_bytes())
}

async fn send(client: &Client, body: Vec<u8>) -> anyhow::Result<()> {
    let path = format!("/v3/table/import/{DATABASE}/visits/jsonl.gz");
    client.send(Method::PUT, &path, None, body).await?.ok().map(drop)
}

/// How long the gateway has waited for the identity role since it started.
async fn waited(installation: &Installation) -> anyhow::Result<Duration> {
    let metrics = installation.operator(&["metrics", "gateway"]).await?.ok()?;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("coffer_stage_nanoseconds_total{") && line.contains("\"wait for identity\""));
    let value = line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    Ok(Duration::from_nanos(value.parse()?))
}

/// What the identity role has taken of all cores since it started.
fn core_time(installation: &Installation) -> anyhow::Result<Duration> {
    let pid = *installation.pids().get(&Role::Identity).context("the identity role does not run")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: the state, and ten numbers before these two.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    ensure!(fields.len() > 12, "{stat}");
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // Linux tells it in hundredths of a second, whatever its clock's rate.
    Ok(Duration::from_millis(ticks * 10))
}
