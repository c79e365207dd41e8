//! Proof 5: identities, event values, keys, passes and SQL texts that were planted are found nowhere at rest: not in any byte under the
//! data directory, not in what is compressed there, not in logs, command lines or environments.

use std::fs;
use std::path::{Path, PathBuf};

use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::{CredentialId, ProductId, Role, Scope, SeededEntropy, Timestamp, Verb, Verbs};
use http::Method;
use seal::{Assertion, Grant, HolderId, InstallationSigner, Signer};
use serde_json::{Value, json};
use testkit::markers::{Found, Markers};
use testkit::{Client, Installation, Product, gzip, until};

const DATABASE: &str = "markers";
const IDENTITY: &str = "planted-ada-7f3a91@example.com";
const EVENT: &str = "planted-event-value-5c20d4e8";
const NESTED: &str = "planted-nested-value-91bb07aa";
const COLUMN_TEXT: &str = "planted-sql-literal-e44d10c7";
const PERSONAL: &str = "planted-personal-value-d27e19b0";
const RECORD: &str = "b7d41e90-5c3a-4f6e-9a21-d08c6e5f1b37";
const ASIDE: &str = "planted-eve-in-a-row-set-aside-60d2@example.com";
const TAIL: &str = "planted-late-value-3b8f6610";

async fn planted(installation: &Installation) -> anyhow::Result<(Markers, Client)> {
    let product = installation.product("markers").await?;
    let set = ["products", "set", "markers", "--personal-columns", "name"];
    installation.operator(&set).await?.ok()?;
    let client = installation.client(&product.admin_key)?;
    let mut markers = Markers::default();
    for (name, value) in [
        ("an identity", IDENTITY),
        ("an event's value", EVENT),
        ("a value in nested JSON", NESTED),
        ("a SQL text", COLUMN_TEXT),
        ("a personal value", PERSONAL),
        ("an identity in a row that was set aside", ASIDE),
        ("a value not yet in a table file", TAIL),
        ("the id of a record", RECORD),
    ] {
        markers.plant(name, value);
    }
    markers.plant_bytes("the id of a record, in bytes", &hex::decode(RECORD.replace('-', ""))?);
    for (name, key) in [
        ("the write key", &product.write_key),
        ("the read key", &product.read_key),
        ("the admin key", &product.admin_key),
    ] {
        // The number in front is no secret, and too short to search for.
        markers.plant(name, key.split('/').nth(1).unwrap_or_default());
    }

    passes(installation, &product, &mut markers).await?;

    client.create_table(DATABASE, "events").await?;
    let rows: Vec<Value> = (0..500)
        .map(|n| json!({"time": 1_700_000_000 + n, "email": IDENTITY, "what": EVENT, "name": PERSONAL, "more": {"deep": [NESTED, n]}}))
        .collect();
    for key in [&product.write_key, &product.admin_key] {
        client.with_key(key).import(DATABASE, "events", None, &rows).await?.ok()?;
    }
    // One that is stored, and one that cannot be.
    let record = json!({"time": 1_700_000_900, "what": "", "uuid": RECORD});
    let broken = json!({"time": "not a time", "email": IDENTITY, "uuid": RECORD});
    let body = json!({ "events": [record, broken] }).to_string();
    let sent = client
        .send(
            Method::POST,
            &format!("/{DATABASE}/events"),
            Some("application/vnd.treasuredata.v1.js+json"),
            body.into(),
        )
        .await?;
    ensure!(sent.ok()?.text().contains(RECORD), "no receipt");
    let asked = format!("SELECT what, more, '{COLUMN_TEXT}' AS t FROM events WHERE email = person_id('{IDENTITY}') ORDER BY time");
    let found = client.with_key(&product.read_key).query(DATABASE, &asked).await?;
    ensure!(
        found.len() == 1000 && found[0][0] == json!(EVENT),
        "{} rows, the first {:?}",
        found.len(),
        found.first()
    );
    // Wrong queries and refused imports are where logs get talkative.
    let wrong = client
        .query(
            DATABASE,
            &format!("SELECT {} FROM events WHERE what = '{EVENT}'", COLUMN_TEXT.replace('-', "_")),
        )
        .await;
    ensure!(wrong.is_err(), "a column that is not there was found");
    client.import(DATABASE, "nowhere", None, &rows[..1]).await?;
    client.get(&format!("/v3/job/show/{EVENT}")).await?;
    client
        .import(DATABASE, "events", Some(EVENT), &[json!({"time": "not a time", "email": ASIDE})])
        .await?
        .ok()?;
    let shown = client.get(&format!("/v1/rejected/{DATABASE}/events")).await?.ok()?.json()?;
    let contents = shown["rejected"].as_array().into_iter().flatten();
    let bytes = contents.filter_map(|row| hex::decode(row["content_hex"].as_str()?).ok());
    ensure!(
        bytes.into_iter().any(|bytes| position(&bytes, ASIDE.as_bytes()).is_some()),
        "what was set aside is not there: {shown}"
    );
    Ok((markers, client))
}

/// What every pass of this product's keys holds, whoever it is for: the credential and what follows it up to the audience. Both halves
/// of a twin made with a signer of our own show how that is written; nothing else writes it so.
async fn passes(installation: &Installation, product: &Product, markers: &mut Markers) -> anyhow::Result<()> {
    let listed = installation
        .operator(&["keys", "list", "--product", &product.name, "-o", "jsonl"])
        .await?
        .ok()?;
    let credentials: Vec<CredentialId> = listed
        .lines()
        .map(|line| Ok(serde_json::from_str::<Value>(line)?["id"].as_str().unwrap_or_default().parse()?))
        .collect::<anyhow::Result<_>>()?;
    ensure!(credentials.len() == 3, "{listed}");
    let (now, entropy) = (Timestamp::from_secs(1_700_000_000), SeededEntropy::new(5));
    let later = now.plus(Duration::from_secs(60));
    let key = Signer::generate(&entropy);
    let certificate = InstallationSigner::generate(&entropy).certify(Role::Vault, key.public_key(), now, later);
    let signer = key.certified(certificate)?;
    for credential in credentials {
        for audience in [Role::Warehouse, Role::Identity] {
            let assertion = Assertion {
                credential,
                product: ProductId::new(product.number)?,
                audience,
                holder: HolderId::from_bytes([0; 32]),
                issued_at: now,
                expires_at: later,
                id: [0; 16],
            };
            let asserted = assertion.sign(&signer);
            let granted = Grant::answering(&assertion, &asserted, Verbs::of(&[Verb::Query]), Scope::Product).sign(&signer);
            for (half, signed) in [("an assertion", asserted), ("a grant", granted)] {
                let (id, audience) = (credential.to_bytes(), audience.as_str().as_bytes());
                let from = position(&signed, &id).context("a pass without its credential")?;
                let end = position(&signed[from..], audience).context("a pass without its audience")? + audience.len();
                markers.plant_bytes(&format!("{half} of a pass"), &signed[from..from + end]);
            }
        }
    }
    Ok(())
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Files, logs, and what the kernel shows of every process.
fn search(installation: &Installation, markers: &Markers) -> anyhow::Result<Vec<Found>> {
    let mut found = markers.in_tree(&installation.data())?;
    found.extend(markers.in_tree(&installation.logs())?);
    for pid in installation.pids().into_values().chain(installation.supervisor()) {
        for shown in ["cmdline", "environ"] {
            let path = PathBuf::from(format!("/proc/{pid}/{shown}"));
            // Whoever may not even read it finds nothing there either.
            if let Ok(bytes) = fs::read(&path) {
                found.extend(markers.in_bytes(&path, &bytes));
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_planted_is_found_nowhere_at_rest() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (markers, client) = planted(&installation).await?;
    ensure!(
        search(&installation, &markers)?.is_empty(),
        "while it runs: {}",
        told(&search(&installation, &markers)?)
    );

    // The same search finds what lies there in clear and compressed: it looks, and it looks everywhere.
    controls(&installation, &markers)?;

    // After a clean stop everything is written out that ever will be.
    client
        .import(DATABASE, "events", None, &[json!({"time": 1_700_000_000, "what": TAIL})])
        .await?
        .ok()?;
    installation.stop().await?;
    let found = search(&installation, &markers)?;
    ensure!(found.is_empty(), "after a stop: {}", told(&found));

    // And it is really there, for who may read it.
    installation.up().await?;
    let count = until("a query is answered", Duration::from_secs(60), || {
        client.number(DATABASE, "SELECT count(*) FROM events WHERE email IS NULL OR what <> ''")
    });
    ensure!(count.await? == 1002, "the rows are gone");
    let found = search(&installation, &markers)?;
    ensure!(found.is_empty(), "after a restart: {}", told(&found));
    installation.finish().await
}

fn controls(installation: &Installation, markers: &Markers) -> anyhow::Result<()> {
    let text = format!("some {EVENT} text");
    let zstd = testkit::markers::zstd(text.as_bytes())?;
    for (name, bytes) in [
        ("plain", text.clone().into_bytes()),
        ("gzip", gzip(text.as_bytes())),
        ("zstd", zstd),
    ] {
        let control = installation.data().join("roles/warehouse").join(format!("control-{name}"));
        fs::write(&control, bytes)?;
        let found = search(installation, markers)?;
        fs::remove_file(&control)?;
        ensure!(found.iter().any(|found| found.place == control), "a marker in {name} is not found");
        ensure!(
            found.iter().all(|found| found.place == control),
            "more than the control: {}",
            told(&found)
        );
    }
    ensure!(
        !markers
            .in_bytes(Path::new("a log"), format!("{{\"message\":\"{EVENT}\"}}").as_bytes())
            .is_empty(),
        "a log line is not searched"
    );
    Ok(())
}

fn told(found: &[Found]) -> String {
    found.iter().map(|found| format!("\n  {found}")).collect()
}
