//! What travels between the roles, seen by somebody who hears every frame: in a network of its own a whole installation makes a whole
//! journey, and the capture is searched for everything that was planted, and for anything that is not TLS 1.3.
//!
//! Only root can make the network and listen to it. Where tests are obligatory (`CI` is set) that counts as a failure.

mod frames;
mod network;
mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base::Role;
use serde_json::{Value, json};
use testkit::markers::Markers;
use testkit::{Installation, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use frames::Streams;
use network::Capture;

const DATABASE: &str = "capture";
/// How many values are planted.
const CANARIES: usize = 1_000;

#[test]
fn nothing_but_tls_1_3_travels_between_roles_and_none_of_a_thousand_canaries_shows() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        #[expect(clippy::disallowed_methods, reason = "who runs the tests says there that none may be left out")]
        let obligatory = std::env::var_os("CI").is_some();
        ensure!(!obligatory, "only root can listen to a network");
        eprintln!("NOT TESTED: only root can listen to a network");
        return Ok(());
    }
    // This thread and whatever it starts: the runtime's threads, and with them the whole installation.
    network::enter_a_new_one()?;
    let capture = Capture::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(captured(&capture))
}

async fn captured(capture: &Capture) -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[warehouse.flush]\nafter = \"1s\"\n")?;
    installation.up().await?;
    let mut markers = Markers::default();
    let canaries = canaries(&mut markers);
    journey(&installation, &canaries, &mut markers).await?;
    let serving: Value = serde_json::from_slice(&fs::read(installation.data().join("run/serving.json"))?)?;
    // All that was open is closed, and heard to the end.
    installation.stop().await?;
    let heard = Streams::of(&capture.take().await)?;
    judge(&heard, &serving, &markers)?;

    // The control: the same words in clear are heard, and are no TLS.
    installation.up().await?;
    let mut plain = tokio::net::TcpStream::connect(("127.0.0.1", installation.plain_port())).await?;
    let request = format!("POST /v3/{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", canaries[0]);
    plain.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await?;
    installation.stop().await?;
    let heard = Streams::of(&capture.take().await)?;
    ensure!(
        judge(&heard, &serving, &markers).is_err(),
        "what travels in clear is taken for TLS, or not heard at all"
    );
    let to_plain = heard.to_port(installation.plain_port());
    ensure!(to_plain.len() == 1, "{} connections to the plain port", to_plain.len());
    let found = markers.in_bytes(Path::new("the control"), &to_plain[0].bytes);
    ensure!(
        found.iter().any(|found| found.marker == "canary 0"),
        "the control is not found: {found:?}"
    );
    ensure!(tls::look(&to_plain[0].bytes).is_err(), "the control is taken for TLS");
    installation.finish().await
}

/// Values that nothing makes by chance and nothing compresses.
fn canaries(markers: &mut Markers) -> Vec<String> {
    (0..CANARIES)
        .map(|n| {
            let random = blake3::hash(format!("canary {n} of process {}", std::process::id()).as_bytes());
            let canary = format!("cy{}", &random.to_hex()[..30]);
            markers.plant(&format!("canary {n}"), &canary);
            canary
        })
        .collect()
}

/// All that a customer and an operator do, with canaries wherever a value can be.
async fn journey(installation: &Installation, canaries: &[String], markers: &mut Markers) -> anyhow::Result<()> {
    installation
        .operator(&["products", "create", "capture", "--personal-columns", "street"])
        .await?
        .ok()?;
    let mut keys = BTreeMap::new();
    for kind in ["write", "read", "admin"] {
        let key = installation.key("capture", kind).await?;
        markers.plant(&format!("the {kind} key"), &key);
        keys.insert(kind, key);
    }
    let admin = installation.client(&keys["admin"])?;
    let (writer, reader) = (installation.client(&keys["write"])?, installation.client(&keys["read"])?);
    admin.create_table(DATABASE, "events").await?;

    let (values, literals) = canaries.split_at(900);
    let rows: Vec<Value> = values
        .chunks(3)
        .enumerate()
        .map(|(n, three)| json!({"time": 1_700_000_000 + n, "email": three[0], "street": three[1], "text": three[2]}))
        .collect();
    for (n, some) in rows.chunks(100).enumerate() {
        writer.import(DATABASE, "events", Some(&format!("batch-{n}")), some).await?.ok()?;
    }
    // What is no row is set aside, with all that it holds.
    let record = json!({ "events": [{"text": values[0], "time": 1_700_000_000}] }).to_string();
    let taken = admin
        .send(
            http::Method::POST,
            &format!("/{DATABASE}/events"),
            Some("application/vnd.treasuredata.v1+json"),
            record.into(),
        )
        .await?;
    ensure!(taken.status == 200, "status {}: {}", taken.status, taken.text());
    until("all rows are there", Duration::from_secs(60), || async {
        let count = reader.number(DATABASE, "SELECT count(*) FROM events").await?;
        ensure!(count == rows.len() as i64 + 1, "{count} rows");
        Ok(())
    })
    .await?;
    let all = reader.query(DATABASE, "SELECT * FROM events").await?;
    ensure!(json!(all).to_string().contains(&values[2]), "the rows do not hold what was planted");
    for two in literals.chunks(20) {
        let tests: Vec<String> = two
            .iter()
            .map(|word| format!("text = '{word}' OR email = person_id('{word}')"))
            .collect();
        reader
            .query(DATABASE, &format!("SELECT count(*) FROM events WHERE {}", tests.join(" OR ")))
            .await?;
    }
    admin.get(&format!("/v3/table/tail/{DATABASE}/events?count=20")).await?.ok()?;
    admin.get(&format!("/v1/rejected/{DATABASE}/events")).await?.ok()?;
    // A role that is started anew is certified anew, and the others find it again.
    for role in [Role::Identity, Role::Warehouse, Role::Gateway] {
        installation.kill(role)?;
        installation.ready().await?;
    }
    until("it answers again", Duration::from_secs(60), || async {
        reader.number(DATABASE, "SELECT count(*) FROM events").await
    })
    .await?;
    admin.post(&format!("/v3/table/delete/{DATABASE}/events"), &[]).await?.ok()?;
    Ok(())
}

/// Refuses anything that is not TLS 1.3, or in which a marker shows.
fn judge(heard: &Streams, serving: &Value, markers: &Markers) -> anyhow::Result<()> {
    ensure!(heard.others.is_empty(), "there was more than TCP: {:?}", heard.others);
    let mut between: BTreeMap<u16, usize> = BTreeMap::new();
    let (mut bytes, mut hellos) = (0, 0);
    for stream in &heard.streams {
        let seen = match tls::look(&stream.bytes) {
            Ok(seen) => seen,
            Err(why) => bail!("{} is not TLS: {why}", stream.name()),
        };
        if seen.version.is_some_and(|version| version != tls::TLS_1_3) {
            bail!("{} is TLS of version {:04x}", stream.name(), seen.version.unwrap_or_default());
        }
        hellos += usize::from(seen.version.is_some());
        ensure!(
            seen.sealed == 0 || seen.version.is_some() || heard.answers_have_a_version(stream),
            "{} agreed on no version",
            stream.name()
        );
        if seen.sealed > 0 {
            *between.entry(stream.to.port()).or_default() += 1;
        }
        bytes += stream.bytes.len();
        let found = markers.in_bytes(Path::new(&stream.name()), &stream.bytes);
        ensure!(found.is_empty(), "{found:?}");
    }
    eprintln!("{} streams, {bytes} bytes, {hellos} handshakes", heard.streams.len());
    // Every role that is called at all was called, and the world came in.
    for role in [Role::Vault, Role::Accounts, Role::Identity, Role::Warehouse] {
        let address = serving["internal"][role.as_str()].as_str().context("no address")?;
        let port: u16 = address.rsplit(':').next().unwrap_or_default().parse()?;
        ensure!(between.contains_key(&port), "nobody called the {role} role");
    }
    let public = serving["public"]
        .as_str()
        .and_then(|address| address.rsplit(':').next())
        .context("no address")?;
    ensure!(between.contains_key(&public.parse()?), "nobody called the gateway");
    ensure!(bytes > 200_000, "only {bytes} bytes were heard");
    Ok(())
}
