//! Real stores that speak S3, for tests: SeaweedFS, one process for each, which fail apart from one another.
//!
//! Promise: a store listens on the loopback only, keeps everything in one temporary directory, and is gone when it is dropped. It can
//! be killed, stopped in its tracks, filled and wiped. Start at [`Stores::start`].
//!
//! The server comes with the Python environment that `./test` makes. Its buckets are directories of its filer, which listens beside
//! it without any access control: by that way buckets are made, and things put where they do not belong.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::processes::Process;
use crate::python::root;
use crate::wait::until;

/// The bucket that every store has.
pub const BUCKET: &str = "events";
/// Who may do everything in it.
const KEY: &str = "coffer-test";
const SECRET: &str = "coffer-test-secret-0001";

/// How long a store may take to start.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to stop in its tracks.
const STOPPED: Duration = Duration::from_secs(60);
/// Room for objects, in volumes of 64 MB.
const ROOM: u32 = 200;

/// Stores of one test, under one authority.
#[derive(Debug)]
pub struct Stores {
    /// In the order in which they were asked for.
    pub each: Vec<Store>,
    place: TempDir,
}

/// One store.
#[derive(Debug)]
pub struct Store {
    name: String,
    place: PathBuf,
    port: u16,
    volumes: u32,
    child: Option<Child>,
}

fn key_file() -> String {
    format!("access_key_id = {KEY}\nsecret_access_key = {SECRET}\n")
}

impl Stores {
    /// Starts stores with these names, each with an empty bucket, and waits until they answer.
    pub async fn start(names: &[&str]) -> anyhow::Result<Self> {
        Self::with_volumes(names, ROOM).await
    }

    /// The same with little room: some seven megabytes for each volume of `volumes`, of which a new store needs a few.
    pub async fn with_volumes(names: &[&str], volumes: u32) -> anyhow::Result<Self> {
        let place = tempfile::Builder::new().prefix("coffer-stores-").tempdir()?;
        // Roles that are users of their own read their access keys there.
        fs::set_permissions(place.path(), Permissions::from_mode(0o711))?;
        certify(place.path())?;
        let identities = serde_json::json!({"identities": [{
            "name": "writer", "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        fs::write(place.path().join("s3.json"), identities.to_string())?;
        private(&place.path().join("credentials"), &key_file())?;
        let mut stores = Self { each: Vec::new(), place };
        for name in names {
            let mut store = Store {
                name: (*name).to_owned(),
                place: stores.place.path().to_owned(),
                port: free_ports()?,
                volumes,
                child: None,
            };
            store.spawn()?;
            stores.each.push(store);
        }
        for store in &stores.each {
            store.ready().await?;
            store.make_bucket().await?;
        }
        Ok(stores)
    }

    /// The certificate to trust.
    pub fn ca(&self) -> PathBuf {
        self.place.path().join("ca.pem")
    }

    /// A file with the access key of all of them.
    pub fn credentials(&self) -> PathBuf {
        self.place.path().join("credentials")
    }

    /// A file with an access key that none of them knows the secret of.
    pub fn wrong_credentials(&self) -> anyhow::Result<PathBuf> {
        let path = self.place.path().join("wrong");
        private(&path, &format!("access_key_id = {KEY}\nsecret_access_key = something-else\n"))?;
        Ok(path)
    }

    /// What must show up in no error, log or message.
    pub fn secret(&self) -> &'static str {
        SECRET
    }

    /// A file of its own with the access key, for what is below `prefix`: roles that are users of their own cannot share one.
    fn credentials_of(&self, prefix: &str) -> anyhow::Result<PathBuf> {
        let path = self.place.path().join(format!("credentials-{}", prefix.replace('/', "-")));
        // A role may own it by now.
        if !path.exists() {
            private(&path, &key_file())?;
        }
        Ok(path)
    }

    /// Zones of a role below `prefix`, as a list of tables in TOML.
    pub fn zones(&self, prefix: &str) -> anyhow::Result<String> {
        let credentials = self.credentials_of(prefix)?;
        let zone = |store: &Store| {
            format!(
                "{{ name = '{}', url = '{}', credentials = '{}', ca = '{}' }}",
                store.name,
                store.url(prefix),
                credentials.display(),
                self.ca().display()
            )
        };
        let zones: Vec<String> = self.each.iter().map(zone).collect();
        Ok(format!("[{}]", zones.join(", ")))
    }
}

impl Store {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a zone below `prefix` of its bucket lies.
    pub fn url(&self, prefix: &str) -> String {
        format!("https://localhost:{}/{BUCKET}/{prefix}", self.port + 5)
    }

    /// `kill -9`. What it acknowledged it has.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts it again on what it has, and waits until it answers.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// From now on it takes connections and answers nothing. Returns when each of its threads has stopped: on a busy machine that is a
    /// while after the signal.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let pid = self.child.as_ref().context("it does not run")?.id();
        until("it has stopped in its tracks", STOPPED, || async {
            ensure!(have_stopped(pid)?, "a thread of {} runs", self.name);
            Ok(())
        })
        .await
    }

    /// It goes on, with what it was asked meanwhile too.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Loses all it has, and starts again with an empty bucket.
    pub async fn wipe(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        fs::remove_dir_all(self.directory())?;
        self.start().await?;
        self.make_bucket().await
    }

    /// Puts something into the bucket, as an intruder would, and an operator with other tools.
    pub async fn plant(&self, key: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = format!("/buckets/{BUCKET}/{key}");
        let (status, said) = self.filer(Method::PUT, &path, bytes).await?;
        ensure!((200..300).contains(&status), "{key} was not planted: status {status}: {said}");
        Ok(())
    }

    /// Takes something out of the bucket.
    pub async fn remove(&self, key: &str) -> anyhow::Result<()> {
        let (status, said) = self.filer(Method::DELETE, &format!("/buckets/{BUCKET}/{key}"), &[]).await?;
        ensure!((200..300).contains(&status), "{key} was not removed: status {status}: {said}");
        Ok(())
    }

    /// What lies in the bucket under `key`.
    pub async fn holds(&self, key: &str) -> anyhow::Result<bool> {
        let (status, _) = self.filer(Method::GET, &format!("/buckets/{BUCKET}/{key}"), &[]).await?;
        Ok(status == 200)
    }

    fn directory(&self) -> PathBuf {
        self.place.join(&self.name)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.as_ref().context("it does not run")?.id();
        let process = Process::find(i32::try_from(pid)?).context("it is gone")?;
        process.signal(signal);
        Ok(())
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        let program = root().join(".venv/bin/weed");
        ensure!(program.exists(), "there is no S3 server in .venv; `./test` puts it there");
        let directory = self.directory();
        fs::create_dir_all(&directory)?;
        let log = File::create(self.place.join(format!("{}.log", self.name)))?;
        let mut command = Command::new(program);
        let at = |more: u16| self.port + more;
        let flags = [
            format!("-dir={}", directory.display()),
            "-ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false -master.electionTimeout=1s -master.heartbeatInterval=100ms".into(),
            format!("-master.volumeSizeLimitMB=64 -master.port={} -master.port.grpc={}", at(1), at(11)),
            format!("-volume.port={} -volume.port.grpc={} -volume.max={}", at(2), at(12), self.volumes),
            "-volume.minFreeSpacePercent=0 -volume.preStopSeconds=0 -filer -s3 -s3.autoCreateBucket=false".into(),
            format!(
                "-filer.port={} -filer.port.grpc={} -filer.localSocket={}/f",
                at(3),
                at(13),
                directory.display()
            ),
            format!("-s3.port={} -s3.port.https={} -s3.port.grpc={}", at(4), at(5), at(14)),
            format!("-s3.port.iceberg=0 -s3.port.lance=0 -s3.localSocket={}/s", directory.display()),
            "-s3.config=s3.json -s3.cert.file=tls.pem -s3.key.file=tls.key".into(),
        ];
        command.args(["-logtostderr=true", "server"]);
        command.args(flags.iter().flat_map(|flags| flags.split(' ')));
        command.current_dir(&self.place).env_clear().env("HOME", &self.place);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("could not start the S3 server")?);
        Ok(())
    }

    /// Waits until it refuses somebody without a key, as it does when it is up.
    async fn ready(&self) -> anyhow::Result<()> {
        let client = Client::new(self.port + 5, &self.place.join("ca.pem"), None)?;
        let ready = until("the store answers", READY, || async {
            let status = client.get("/").await?.status;
            ensure!(status == 403, "status {status}");
            Ok(())
        })
        .await;
        ready.with_context(|| {
            let log = fs::read_to_string(self.place.join(format!("{}.log", self.name))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        })
    }

    async fn make_bucket(&self) -> anyhow::Result<()> {
        until("the bucket is made", READY, || async {
            let (status, said) = self.filer(Method::POST, &format!("/buckets/{BUCKET}/"), &[]).await?;
            ensure!((200..300).contains(&status), "status {status}: {said}");
            Ok(())
        })
        .await
    }

    async fn filer(&self, method: Method, path: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
        let socket = TcpStream::connect(("127.0.0.1", self.port + 3)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let driver = tokio::spawn(async { drop(connection.await) });
        let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        let answer = sender.send_request(request.body(Full::new(Bytes::copy_from_slice(body)))?).await?;
        let status = answer.status().as_u16();
        let said = answer.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

/// An authority in `ca.pem`, and a certificate of it for this machine in `tls.pem` and `tls.key`.
pub fn certify(place: &Path) -> anyhow::Result<()> {
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.distinguished_name = DistinguishedName::new();
    authority.distinguished_name.push(DnType::CommonName, "authority of a test");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    fs::write(place.join("ca.pem"), authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    fs::write(place.join("tls.pem"), leaf.signed_by(&key, &issuer)?.pem())?;
    private(&place.join("tls.key"), &key.serialize_pem())
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// The first of fifteen ports that nobody listens on, below those that the kernel gives to outgoing connections.
fn free_ports() -> anyhow::Result<u16> {
    static NEXT: Mutex<u16> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for _ in 0..400 {
        *next = next.wrapping_add(1);
        let slot = (std::process::id() as u16).wrapping_mul(7).wrapping_add(*next) % 400;
        let base = 12_000 + slot * 20;
        if (1..15).all(|more| TcpListener::bind(("127.0.0.1", base + more)).is_ok()) {
            return Ok(base);
        }
    }
    bail!("no ports are free")
}

/// Whether all threads of a process are stopped by a signal.
fn have_stopped(pid: u32) -> anyhow::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that ends meanwhile does nothing more either.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else {
            continue;
        };
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if !matches!(state, Some('T' | 't' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}
