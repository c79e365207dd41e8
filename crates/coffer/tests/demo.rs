//! `coffer demo`: an empty directory becomes a running installation with sample events, once; a second run does not start over.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_coffer");
const ENOUGH: Duration = Duration::from_secs(300);

fn demo(home: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["demo", "--data"]).arg(home.join("data")).args(["--port", "0"]);
    command
        .env_clear()
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .current_dir(home)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn to_its_end(home: &Path) -> anyhow::Result<String> {
    let ran = tokio::time::timeout(ENOUGH, demo(home).arg("--exit").output())
        .await
        .context("the demo does not end")??;
    let text = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    ensure!(ran.status.success(), "{}\n{text}", ran.status);
    Ok(text)
}

/// The lines of demo.env, as a shell that sources the file would have them.
fn variables(home: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let path = home.join("data/demo.env");
    let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "demo.env has mode {mode:o}");
    let script = "set -a; . \"$1\"; env -0";
    let ran = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&path)
        .env_clear()
        .output()?;
    let text = String::from_utf8(ran.stdout)?;
    let lines = text
        .split('\0')
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("COFFER_"));
    Ok(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_makes_an_installation_once_and_goes_on_with_it() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let first = to_its_end(home.path()).await?;
    for word in ["100,000", "2,000 people", "demo.env", "ca.pem", "coffer sql", "2 of 3"] {
        ensure!(first.contains(word), "{word:?} is not in what it prints:\n{first}");
    }
    let keys = variables(home.path())?;
    for name in [
        "COFFER_ENDPOINT",
        "COFFER_CA",
        "COFFER_WRITE_KEY",
        "COFFER_READ_KEY",
        "COFFER_ADMIN_KEY",
    ] {
        ensure!(keys.iter().any(|(known, _)| known == name), "{name} is not in demo.env");
    }

    to_its_end(home.path()).await?;
    let same = variables(home.path())?;
    let kept = |name: &str| keys.iter().find(|(n, _)| n == name) == same.iter().find(|(n, _)| n == name);
    ensure!(
        kept("COFFER_ADMIN_KEY") && kept("COFFER_WRITE_KEY") && kept("COFFER_READ_KEY"),
        "a second run made other keys"
    );

    // A third time, to stay: what was sent is there once, for the commands that the first screen tells of.
    let mut staying = demo(home.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (
        staying.stdout.take().context("no output")?,
        staying.stderr.take().context("no output")?,
    );
    let logs = tokio::spawn(async move {
        let mut lines = BufReader::new(err).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            eprintln!("{line}");
        }
    });
    let mut lines = BufReader::new(out).lines();
    tokio::time::timeout(ENOUGH, async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("coffer sql") {
                return Ok(());
            }
        }
        anyhow::bail!("it ended before it had said what to try")
    })
    .await
    .context("it does not say what to try")??;

    let ask = |words: &'static [&'static str]| {
        let variables = variables(home.path());
        async move {
            let ran = Command::new(BINARY)
                .args(words)
                .env_clear()
                .envs(variables?)
                .stdin(Stdio::null())
                .output()
                .await?;
            ensure!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
            Ok(String::from_utf8(ran.stdout)?)
        }
    };
    let count = ask(&["sql", "SELECT count(*) AS n FROM web.events", "-o", "jsonl"]).await?;
    ensure!(count.trim() == r#"{"n":100000}"#, "{count}");
    let people = ask(&[
        "sql",
        "SELECT count(DISTINCT email) AS people FROM web.events",
        "-o",
        "tsv",
        "--no-header",
    ])
    .await?;
    ensure!(people.trim() == "2000", "{people} people");
    let found = ask(&[
        "sql",
        "SELECT count(*) > 100 AS many FROM web.events WHERE email = person_id('ada@example.com')",
        "-o",
        "jsonl",
    ])
    .await?;
    ensure!(found.trim() == r#"{"many":true}"#, "{found}");
    let tables = ask(&["tables", "-o", "csv"]).await?;
    ensure!(tables.contains("events") && tables.contains("100000"), "{tables}");

    let pid = nix::unistd::Pid::from_raw(i32::try_from(staying.id().context("it has ended")?)?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let ended = tokio::time::timeout(Duration::from_secs(60), staying.wait())
        .await
        .context("it does not stop")??;
    ensure!(ended.success(), "it stopped with {ended}");
    logs.abort();
    Ok(())
}
