//! A whole installation: its directory, its processes, its operator.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use base::Role;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::OwnedMutexGuard;

use crate::client::Client;
use crate::clock::Clock;
use crate::processes::{Process, is_in_memory, memory, peak_memory, roles_under};
use crate::wait::until;

/// How long an installation may take to be ready; generous, because a machine may be busy with other tests.
const READY: Duration = Duration::from_secs(120);
/// How long a clean stop may take.
const STOP: Duration = Duration::from_secs(60);
/// Lines of a log that are shown when a test fails.
const TAIL: usize = 60;

// One at a time in a process: a machine with two cores cannot carry two installations and keep deadlines.
static ALONE: LazyLock<Arc<tokio::sync::Mutex<()>>> = LazyLock::new(Default::default);

/// A whole installation in a temporary directory, run by the real binary.
pub struct Installation {
    root: TempDir,
    data: PathBuf,
    clock: Option<Clock>,
    binary: PathBuf,
    port: u16,
    plain_port: u16,
    supervisor: Option<Child>,
    /// Every process that was ever seen, so that none is left behind.
    seen: Mutex<BTreeSet<Process>>,
    starts: usize,
    finished: bool,
    _alone: OwnedMutexGuard<()>,
}

/// A product and its keys.
#[derive(Debug, Clone)]
pub struct Product {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// Sends events.
    pub write_key: String,
    /// Asks questions.
    pub read_key: String,
    /// May do everything.
    pub admin_key: String,
}

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    /// Standard output, or an error unless it ended well.
    pub fn ok(self) -> anyhow::Result<String> {
        ensure!(self.code == Some(0), "exit code {:?}:\n{}\n{}", self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

impl fmt::Debug for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installation")
            .field("data", &self.data())
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Installation {
    /// Starts one with the binary at `binary` (in a test of the crate `coffer`: `env!("CARGO_BIN_EXE_coffer")`) and waits until it is ready.
    pub async fn start(binary: &str) -> anyhow::Result<Self> {
        let mut installation = Self::prepare(binary).await?;
        installation.up().await?;
        Ok(installation)
    }

    /// A directory and a configuration; nothing runs yet.
    pub async fn prepare(binary: &str) -> anyhow::Result<Self> {
        let alone = ALONE.clone().lock_owned().await;
        let root = tempfile::Builder::new().prefix("coffer-test-").tempdir()?;
        // Roles that root starts are users of their own, and have to reach their directories.
        fs::set_permissions(root.path(), Permissions::from_mode(0o711))?;
        let (port, plain_port) = (free_port()?, free_port()?);
        let data = root.path().join("data");
        let installation = Self {
            root,
            data,
            clock: None,
            binary: PathBuf::from(binary),
            port,
            plain_port,
            supervisor: None,
            seen: Mutex::default(),
            starts: 0,
            finished: false,
            _alone: alone,
        };
        installation.configure("")?;
        fs::create_dir(installation.logs())?;
        fs::create_dir(installation.data())?;
        fs::set_permissions(installation.data(), Permissions::from_mode(0o700))?;
        Ok(installation)
    }

    /// A clock of its own for all that is started from now on, and for clients that are made from now on.
    pub fn give_clock(&mut self) -> anyhow::Result<Clock> {
        let clock = Clock::make(self.root.path())?;
        self.clock = Some(clock.clone());
        Ok(clock)
    }

    /// Writes the configuration for the next start: what is given (TOML), which may begin with what stands in no section, and our addresses.
    pub fn configure(&self, more: &str) -> anyhow::Result<()> {
        let listen = format!(
            "[listen]\npublic = \"127.0.0.1:{}\"\nplain = \"127.0.0.1:{}\"\n",
            self.port, self.plain_port
        );
        fs::write(self.root.path().join("coffer.toml"), format!("{more}\n{listen}\n"))?;
        Ok(())
    }

    /// Starts the installation on the directory as it is, and waits until it is ready.
    pub async fn up(&mut self) -> anyhow::Result<()> {
        self.spawn().await?;
        let ready = self.ready().await;
        if ready.is_err() {
            self.show_log();
        }
        ready
    }

    /// Starts the installation on a directory with which it cannot start, and waits until it has given up; what it said.
    pub async fn up_in_vain(&mut self) -> anyhow::Result<String> {
        self.spawn().await?;
        let mut supervisor = self.supervisor.take().context("it does not run")?;
        let ended = tokio::time::timeout(READY, supervisor.wait()).await;
        let log = self.log();
        let ended = ended.with_context(|| format!("it started:\n{log}"))??;
        ensure!(!ended.success(), "it ended well:\n{log}");
        Ok(log)
    }

    /// Starts the installation, and waits until these words are in its log, whether it is ready or not.
    pub async fn up_until_said(&mut self, words: &str) -> anyhow::Result<()> {
        self.spawn().await?;
        until(&format!("it says {words:?}"), READY, || async {
            ensure!(self.log().contains(words), "it says:\n{}", self.log());
            Ok(())
        })
        .await
    }

    async fn spawn(&mut self) -> anyhow::Result<()> {
        ensure!(self.supervisor.is_none(), "it runs already");
        // Of a killed process the first thread may be gone while others still hold what it listened on.
        until("its ports are free", STOP, || async {
            for port in [self.port, self.plain_port] {
                TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("port {port}"))?;
            }
            Ok(())
        })
        .await?;
        self.starts += 1;
        let log = File::create(self.logs().join(format!("serve-{}.log", self.starts)))?;
        let child = self
            .command(&["serve", "--data"])
            .arg(self.data())
            .arg("--config")
            .arg(self.root.path().join("coffer.toml"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("could not start {}", self.binary.display()))?;
        let supervisor = pid(&child)?;
        self.supervisor = Some(child);
        self.remember(supervisor);
        Ok(())
    }

    /// Waits until every role runs and says that it is ready.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let supervisor = Process::find(self.supervisor().context("it does not run")?).context("it does not run")?;
        let ended = until("every role is ready", READY, || async {
            if !supervisor.runs() {
                return Ok(true);
            }
            let running = self.roles();
            for role in Role::ALL {
                ensure!(running.contains_key(&role), "{role} does not run");
            }
            let doctor = self.doctor().await?;
            for role in Role::ALL {
                ensure!(is_ready(&doctor, role), "{role} is not ready: {doctor}");
            }
            let health = self.anonymous()?.get("/v3/system/server_status").await?;
            ensure!(health.status == 200, "the gateway answers {}", health.status);
            Ok(false)
        })
        .await?;
        ensure!(!ended, "the supervisor ended before all was ready");
        Ok(())
    }

    /// Stops it as an operator would, and waits for the end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut supervisor) = self.supervisor.take() else {
            return Ok(());
        };
        self.roles();
        Process::find(pid(&supervisor)?)
            .context("the supervisor is gone")?
            .signal(Signal::SIGTERM);
        let ended = tokio::time::timeout(STOP, supervisor.wait())
            .await
            .context("it did not stop in time")??;
        ensure!(ended.success(), "it stopped with {ended}");
        for process in self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            ensure!(!process.runs(), "process {} outlived its supervisor", process.pid);
        }
        Ok(())
    }

    /// The end of a test: stops the installation and looks whether it stopped well.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.finished = true;
        Ok(())
    }

    /// `kill -9` of one role.
    pub fn kill(&self, role: Role) -> anyhow::Result<()> {
        let process = *self.roles().get(&role).with_context(|| format!("{role} does not run"))?;
        process.signal(Signal::SIGKILL);
        Ok(())
    }

    /// `kill -9` of everything, the supervisor first, so that it can tidy nothing up.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        self.roles();
        let mut supervisor = self.supervisor.take().context("it does not run")?;
        supervisor.kill().await?;
        let processes: Vec<Process> = self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        for process in &processes {
            process.signal(Signal::SIGKILL);
        }
        until("the killed are gone", STOP, || async {
            ensure!(!processes.iter().any(|p| p.runs()), "some still run");
            Ok(())
        })
        .await
    }

    /// The process numbers of the roles that run.
    pub fn pids(&self) -> BTreeMap<Role, i32> {
        self.roles().into_iter().map(|(role, process)| (role, process.pid)).collect()
    }

    /// The memory that a role's process has now, in bytes.
    pub fn memory(&self, role: Role) -> anyhow::Result<u64> {
        let process = *self.roles().get(&role).with_context(|| format!("{role} does not run"))?;
        memory(process.pid).with_context(|| format!("the memory of {role} cannot be read"))
    }

    /// The most memory that a role's process ever had at once, in bytes.
    pub fn peak_memory(&self, role: Role) -> anyhow::Result<u64> {
        let process = *self.roles().get(&role).with_context(|| format!("{role} does not run"))?;
        peak_memory(process.pid).with_context(|| format!("the memory of {role} cannot be read"))
    }

    /// Whether `wanted` stands anywhere in what a role can write to in its memory. Only root may look.
    pub fn in_memory(&self, role: Role, wanted: &[u8]) -> anyhow::Result<bool> {
        let process = *self.roles().get(&role).with_context(|| format!("{role} does not run"))?;
        is_in_memory(process.pid, wanted).with_context(|| format!("the memory of {role} cannot be searched"))
    }

    /// The process number of the supervisor.
    pub fn supervisor(&self) -> Option<i32> {
        self.supervisor.as_ref().and_then(|child| pid(child).ok())
    }

    /// Runs a command of the operator on this installation (`--data` is added) to its end.
    pub async fn operator(&self, words: &[&str]) -> anyhow::Result<Ran> {
        let mut command = self.command(words);
        Ok(command.arg("--data").arg(self.data()).kill_on_drop(true).output().await?.into())
    }

    /// The same with something on its standard input.
    pub async fn operator_reading(&self, words: &[&str], input: &str) -> anyhow::Result<Ran> {
        let mut command = self.command(words);
        command.arg("--data").arg(self.data()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut pipe = child.stdin.take().context("no pipe")?;
        // A command that ends before it has read all says why itself.
        let _ = pipe.write_all(input.as_bytes()).await;
        drop(pipe);
        Ok(child.wait_with_output().await?.into())
    }

    /// Runs a command to its end, with nothing added.
    pub async fn run(&self, words: &[&str]) -> anyhow::Result<Ran> {
        Ok(self.command(words).kill_on_drop(true).output().await?.into())
    }

    /// Starts a command of the operator on this installation (`--data` is added); it is killed when what is returned is dropped.
    pub fn spawn_operator(&self, words: &[&str]) -> anyhow::Result<Child> {
        let mut command = self.command(words);
        command.arg("--data").arg(self.data()).kill_on_drop(true);
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs a command of a client with these variables to its end.
    pub async fn user(&self, words: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Ran> {
        let mut command = self.command(words);
        command
            .env("COFFER_ENDPOINT", self.endpoint())
            .env("COFFER_CA", self.ca())
            .envs(variables.iter().copied());
        Ok(command.kill_on_drop(true).output().await?.into())
    }

    /// What `coffer doctor -o json` says.
    pub async fn doctor(&self) -> anyhow::Result<serde_json::Value> {
        let ran = self.operator(&["doctor", "-o", "json"]).await?;
        serde_json::from_str(&ran.stdout).with_context(|| format!("doctor: {}{}", ran.stdout, ran.stderr))
    }

    /// Makes a product with a key of each kind.
    pub async fn product(&self, name: &str) -> anyhow::Result<Product> {
        self.operator(&["products", "create", name]).await?.ok()?;
        let (write_key, read_key, admin_key) = (
            self.key(name, "write").await?,
            self.key(name, "read").await?,
            self.key(name, "admin").await?,
        );
        let number = admin_key.split('/').next().unwrap_or_default().parse()?;
        Ok(Product {
            number,
            name: name.to_owned(),
            write_key,
            read_key,
            admin_key,
        })
    }

    /// Makes a key.
    pub async fn key(&self, product: &str, kind: &str) -> anyhow::Result<String> {
        let said = self
            .operator(&["keys", "create", "--product", product, "--kind", kind])
            .await?
            .ok()?;
        said.split_whitespace()
            .find(|word| is_key(word))
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("no key in {said:?}"))
    }

    /// A client without a key.
    pub fn anonymous(&self) -> anyhow::Result<Client> {
        self.client_with(None)
    }

    /// A client with this key.
    pub fn client(&self, key: &str) -> anyhow::Result<Client> {
        self.client_with(Some(key))
    }

    fn client_with(&self, key: Option<&str>) -> anyhow::Result<Client> {
        match &self.clock {
            Some(clock) => Client::by_the_clock(self.port, &self.ca(), key, Arc::new(clock.clone())),
            None => Client::new(self.port, &self.ca(), key),
        }
    }

    /// Where the gateway is.
    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The gateway's plain HTTP port, which refuses.
    pub fn plain_port(&self) -> u16 {
        self.plain_port
    }

    /// The certificate to trust.
    pub fn ca(&self) -> PathBuf {
        self.data().join("ca.pem")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// From now on the data directory is another one, named as with [`Installation::aside`].
    pub fn use_data(&mut self, name: &str) {
        self.data = self.aside(name);
    }

    /// Where the logs of every start are kept.
    pub fn logs(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    /// The directory of a zone of a role.
    pub fn zone(&self, role: Role, name: &str) -> PathBuf {
        self.data().join("zones").join(role.as_str()).join(name)
    }

    /// Gives what lies at `path` to the user that a role is, as an operator would who puts something there while it runs.
    pub fn give(&self, role: Role, path: &Path) -> anyhow::Result<()> {
        let own = fs::metadata(self.data().join("roles").join(role.as_str()))?;
        Ok(std::os::unix::fs::lchown(path, Some(own.uid()), Some(own.gid()))?)
    }

    /// A place outside the data directory, gone with the installation.
    pub fn aside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The words that the binary said in its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.logs().join(format!("serve-{}.log", self.starts))).unwrap_or_default()
    }

    /// How often it was started.
    pub fn starts(&self) -> usize {
        self.starts
    }

    fn roles(&self) -> BTreeMap<Role, Process> {
        let roles = self.supervisor().map(roles_under).unwrap_or_default();
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(roles.values().copied());
        roles
    }

    fn remember(&self, pid: i32) {
        if let Some(process) = Process::find(pid) {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(process);
        }
    }

    /// The binary with nothing of this process's environment.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).env_clear().env("LANG", "C.UTF-8").env("HOME", self.root.path());
        if let Some(clock) = &self.clock {
            command.envs(clock.variables());
        }
        command.current_dir(self.root.path()).stdin(Stdio::null());
        command
    }

    fn show_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("the last of {} lines that the installation said:", lines.len());
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            eprintln!("  {line}");
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.roles();
        if !self.finished {
            self.show_log();
        }
        if let Some(supervisor) = &mut self.supervisor {
            let _gone = supervisor.start_kill();
        }
        for process in self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            process.signal(Signal::SIGKILL);
        }
    }
}

fn pid(child: &Child) -> anyhow::Result<i32> {
    Ok(i32::try_from(child.id().context("it has ended")?)?)
}

fn is_key(word: &str) -> bool {
    word.split_once('/').is_some_and(|(product, secret)| {
        !product.is_empty()
            && product.bytes().all(|b| b.is_ascii_digit())
            && secret.len() >= 32
            && secret.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Whether doctor finds nothing wrong with the role itself.
fn is_ready(doctor: &serde_json::Value, role: Role) -> bool {
    doctor
        .as_array()
        .is_some_and(|lines| lines.iter().any(|line| line["about"] == role.as_str() && line["state"] == "ok"))
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: it must still be free after a restart.
fn free_port() -> anyhow::Result<u16> {
    static NEXT: Mutex<u16> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..2000 {
        *next = next.wrapping_add(1);
        let port = 20_000 + (std::process::id() as u16).wrapping_mul(13).wrapping_add(*next) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}
