//! What the README says to type works as it stands there: its blocks are taken out of the file and run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use testkit::until;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

const BINARY: &str = env!("CARGO_BIN_EXE_coffer");
const README: &str = include_str!("../../../README.md");
const ENOUGH: Duration = Duration::from_secs(300);

/// The blocks of a language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README
        .split(&fence)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("\n```")?.0))
        .collect()
}

/// A directory like a checkout that was built, with the binary where `./demo` leaves it.
fn checkout() -> anyhow::Result<tempfile::TempDir> {
    let home = tempfile::tempdir()?;
    fs::create_dir_all(home.path().join("target/debug"))?;
    symlink(BINARY, home.path().join("target/debug/coffer"))?;
    Ok(home)
}

fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .env("PATH", format!("{}:/usr/bin:/bin", home.join("target/debug").display()))
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a script of `program` that comes on standard input, after what a user's shell has been told before.
async fn typed(home: &Path, before: &str, program: &str, script: &str) -> anyhow::Result<String> {
    let mut child = command("bash", home)
        .arg("-c")
        .arg(format!("{before}\nexec {program}"))
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(script.as_bytes()).await?;
    drop(input);
    let ended = tokio::time::timeout(ENOUGH, child.wait_with_output())
        .await
        .context("it does not end")??;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "{}\n{script}\n{said}", ended.status);
    Ok(String::from_utf8(ended.stdout)?)
}

async fn stop(mut child: Child) -> anyhow::Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().context("it has ended")?)?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let ended = tokio::time::timeout(Duration::from_secs(60), child.wait())
        .await
        .context("it does not stop")??;
    ensure!(ended.success(), "it stopped with {ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_says_to_type_beside_the_demo_works() -> anyhow::Result<()> {
    let home = checkout()?;
    let mut demo = command(BINARY, home.path())
        .args(["demo", "--port", "0"])
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(demo.stdout.take().context("no output")?).lines();
    tokio::time::timeout(ENOUGH, async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("coffer sql") {
                return Ok(());
            }
        }
        anyhow::bail!("the demo ended before it had said what to try")
    })
    .await
    .context("the demo does not say what to try")??;

    let shell = blocks("sh");
    let said = typed(home.path(), "", "bash -e -O expand_aliases", shell.first().context("no block")?).await?;
    for word in ["view", "web", "events", "warehouse"] {
        ensure!(said.contains(word), "{word:?} is not in what the commands print:\n{said}");
    }
    let interpreter = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    ensure!(interpreter.exists(), "there is no Python environment in .venv; `./test` makes it");
    let python = blocks("python");
    ensure!(python.len() == 1, "{} blocks of Python", python.len());
    let said = typed(
        home.path(),
        ". coffer-data/demo.env",
        &format!("{} -I -", interpreter.display()),
        python[0],
    )
    .await?;
    ensure!(said.contains("1001") && said.contains("12.5"), "{said}");
    ensure!(!said.contains("ada@example.com"), "an identity came back: {said}");
    stop(demo).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_says_to_type_without_the_demo_works() -> anyhow::Result<()> {
    let home = checkout()?;
    let data = home.path().join("data");
    let block = blocks("sh")
        .get(1)
        .context("no block")?
        .replace("/srv/coffer", &data.to_string_lossy());
    let (serve, rest) = block.split_once('\n').context("one line only")?;
    let serve = serve.split('#').next().unwrap_or(serve).trim();
    // Any free port: this machine may have a Coffer on the usual one.
    let serving = command("bash", home.path())
        .args(["-c", &format!("exec {serve}")])
        .env("COFFER_LISTEN__PUBLIC", "127.0.0.1:0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    until("it serves", ENOUGH, || async {
        ensure!(data.join("run/serving.json").exists(), "nobody says where it listens");
        Ok(())
    })
    .await?;
    typed(home.path(), "", "bash -e", rest).await?;
    stop(serving).await
}
