//! Proof 4: two products; every credential of the one against every operation on what is the other's. The list of operations is the
//! router's own: a new route without an expectation here fails this test.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base::{KeyKind, Verb};
use gateway::{Needs, Operation, operations};
use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, Client, Installation, Product, packed_rows};
use wire::v1::CreateCredentialRequest;
use wire::v1::vault_operator_client::VaultOperatorClient;

/// What a caller of another product must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The same for everybody, key or not; it tells nothing of anybody.
    Public,
    /// Its own list, in which nothing of ours stands.
    NothingOfOurs,
    /// Records of its own product: of what it asked about ours as well, and of nothing that is ours.
    ItsOwnRecords,
    /// Another thing under the same name, its own.
    ItsOwn,
    /// The same where its key may make one; else there is none.
    ItsOwnIfItMayMakeOne,
    /// There is no such thing for it.
    NotFound,
}

/// One line for every route there is.
const EXPECTED: &[(&str, &str, Expected)] = &[
    ("GET", "/health", Expected::Public),
    ("GET", "/v3/system/server_status", Expected::Public),
    // Before a database of our name is made and dropped: that is the caller's own from then on.
    ("GET", "/v1/dropped", Expected::NothingOfOurs),
    ("GET", "/v1/audit", Expected::ItsOwnRecords),
    ("GET", "/v1/audit/export", Expected::ItsOwnRecords),
    ("POST", "/v1/dropped/{database}/restore", Expected::NotFound),
    ("POST", "/v1/dropped/{database}/{table}/restore", Expected::NotFound),
    ("POST", "/v1/people/erase", Expected::NotFound),
    ("POST", "/v1/people/open", Expected::NotFound),
    ("POST", "/v1/people/show", Expected::NotFound),
    ("GET", "/v3/database/list", Expected::NothingOfOurs),
    ("POST", "/v3/database/create/{database}", Expected::ItsOwn),
    ("POST", "/v3/database/delete/{database}", Expected::NotFound),
    ("GET", "/v3/table/list/{database}", Expected::NotFound),
    ("POST", "/v3/table/create/{database}/{table}/log", Expected::NotFound),
    ("POST", "/v3/table/delete/{database}/{table}", Expected::NotFound),
    ("POST", "/v3/table/update/{database}/{table}", Expected::NotFound),
    ("POST", "/v3/table/update-schema/{database}/{table}", Expected::NotFound),
    ("GET", "/v3/table/tail/{database}/{table}", Expected::NotFound),
    ("PUT", "/v3/table/import/{database}/{table}/{format}", Expected::NotFound),
    (
        "PUT",
        "/v3/table/import_with_id/{database}/{table}/{unique_id}/{format}",
        Expected::NotFound,
    ),
    ("POST", "/v3/job/issue/{engine}/{database}", Expected::NotFound),
    ("GET", "/v3/job/list", Expected::NothingOfOurs),
    ("GET", "/v3/job/status/{job}", Expected::NotFound),
    ("GET", "/v3/job/show/{job}", Expected::NotFound),
    ("GET", "/v3/job/result/{job}", Expected::NotFound),
    ("POST", "/v3/job/kill/{job}", Expected::NotFound),
    ("OPTIONS", "/{database}/{table}", Expected::Public),
    ("POST", "/{database}/{table}", Expected::ItsOwnIfItMayMakeOne),
    ("GET", "/v1/rejected/{database}/{table}", Expected::NotFound),
    ("POST", "/v1/rejected/{database}/{table}/replay", Expected::NotFound),
];

/// What belongs to a product.
#[derive(Debug, Clone)]
struct Things {
    database: String,
    table: String,
    import: String,
    job: String,
    /// The id of a person.
    person: String,
}

impl Things {
    /// What nobody has, of the same length.
    fn of_nobody() -> Self {
        Self {
            database: "nobodys_base".into(),
            table: "nobodys_rows".into(),
            import: "nobodys-import".into(),
            job: "999999999999".into(),
            person: "999999999999".into(),
        }
    }

    fn names(&self) -> [&str; 3] {
        [&self.database, &self.table, &self.import]
    }
}

fn request(operation: &Operation, things: &Things) -> anyhow::Result<(Method, String)> {
    let mut path = operation.path.to_owned();
    for (hole, filling) in [
        ("{database}", things.database.as_str()),
        ("{table}", &things.table),
        ("{unique_id}", &things.import),
        ("{format}", "msgpack.gz"),
        ("{engine}", "trino"),
        ("{job}", &things.job),
    ] {
        path = path.replace(hole, filling);
    }
    if path.contains('{') {
        bail!("{} has a hole that this test does not know; give it a filling", operation.path);
    }
    Ok((operation.method.parse()?, path))
}

async fn call(client: &Client, operation: &Operation, things: &Things) -> anyhow::Result<Answer> {
    let (method, path) = request(operation, things)?;
    let form = Some("application/x-www-form-urlencoded");
    match method {
        Method::PUT => {
            client
                .send(
                    method,
                    &path,
                    Some("application/octet-stream"),
                    packed_rows(&[json!({"time": 1, "planted": "by another"})]),
                )
                .await
        }
        Method::POST if path.contains("/job/issue/") => {
            client
                .send(method, &path, form, format!("query=SELECT+*+FROM+{}", things.table).into())
                .await
        }
        Method::POST if operation.path == "/{database}/{table}" => {
            let record = json!({"planted": "by another", "uuid": "abcdefab-cdef-abcd-efab-cdefabcdefab"});
            let body = json!({ "events": [record] }).to_string();
            client
                .send(method, &path, Some("application/vnd.treasuredata.v1+json"), body.into())
                .await
        }
        Method::POST if path.contains("/update-schema/") => client.send(method, &path, form, "schema=%5B%5D".into()).await,
        Method::POST if path.starts_with("/v1/people/") => {
            client
                .send(method, &path, form, format!("id={}&reason=ticket-1", things.person).into())
                .await
        }
        Method::POST => client.send(method, &path, form, Vec::new()).await,
        _ => client.send(method, &path, None, Vec::new()).await,
    }
}

/// A product with everything that an operation can name.
async fn furnished(installation: &Installation, name: &str) -> anyhow::Result<(Product, Things)> {
    let product = installation.product(name).await?;
    let things = Things {
        database: format!("{name}_base"),
        table: format!("{name}_rows"),
        import: format!("{name}-import"),
        job: String::new(),
        person: String::new(),
    };
    let client = installation.client(&product.admin_key)?;
    client.create_table(&things.database, &things.table).await?;
    let row = json!({"time": 1_700_000_000, "owner": name, "email": "ada@example.com"});
    client
        .import(&things.database, &things.table, Some(&things.import), &[row])
        .await?
        .ok()?;
    client.query(&things.database, &format!("SELECT * FROM {}", things.table)).await?;
    let job = newest_job(&client).await?.to_string();
    let rows = client
        .query(&things.database, &format!("SELECT email FROM {}", things.table))
        .await?;
    let person = rows[0][0].to_string();
    Ok((product, Things { job, person, ..things }))
}

/// The number of the product's newest job.
async fn newest_job(client: &Client) -> anyhow::Result<u64> {
    let jobs = client.get("/v3/job/list").await?.ok()?.json()?;
    Ok(jobs["jobs"][0]["job_id"].as_str().context("no job in the list")?.parse()?)
}

/// A finished job of the owner with a number that no job of the stranger has: each product may count its own.
async fn a_job_beyond(owner: &Client, stranger: &Client, things: &Things) -> anyhow::Result<String> {
    let beyond = newest_job(stranger).await?;
    loop {
        owner.query(&things.database, &format!("SELECT * FROM {}", things.table)).await?;
        let newest = newest_job(owner).await?;
        if newest > beyond {
            return Ok(newest.to_string());
        }
    }
}

async fn untouched(client: &Client, things: &Things) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT count(*), min(owner), max(owner) FROM {} WHERE email = person_id('ada@example.com')",
        things.table
    );
    let rows = client.query(&things.database, &sql).await?;
    ensure!(
        rows.len() == 1 && rows[0][0] == json!(1) && rows[0][1] == rows[0][2],
        "the rows of {} are {rows:?}",
        things.database
    );
    Ok(())
}

/// What is the same whoever asks: the answer without the request's id and the names asked for.
fn bare(answer: &Answer, things: &Things) -> String {
    let mut body = answer.json().unwrap_or_else(|_| json!(answer.text()));
    if let Some(fields) = body.as_object_mut() {
        fields.remove("request_id");
    }
    let mut text = body.to_string();
    for name in things.names().into_iter().chain([things.job.as_str()]) {
        text = text.replace(name, "*");
    }
    text
}

#[test]
fn every_route_has_an_expectation_and_every_expectation_a_route() {
    let routes: BTreeSet<(&str, &str)> = operations().iter().map(|operation| (operation.method, operation.path)).collect();
    let expected: BTreeSet<(&str, &str)> = EXPECTED.iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(
        routes.difference(&expected).collect::<Vec<_>>(),
        Vec::<&(&str, &str)>::new(),
        "these routes have no expectation"
    );
    assert_eq!(
        expected.difference(&routes).collect::<Vec<_>>(),
        Vec::<&(&str, &str)>::new(),
        "these expectations have no route"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_of_one_product_reaches_anything_of_the_other() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[gateway]\nfailed_keys_per_minute = 100000\n")?;
    installation.up().await?;
    let (first, of_first) = furnished(&installation, "first").await?;
    let (second, of_second) = furnished(&installation, "second").await?;

    for (stranger, owner, things) in [(&second, &first, &of_first), (&first, &second, &of_second)] {
        let owners = installation.client(&owner.admin_key)?;
        let strangers = installation.client(&stranger.admin_key)?;
        let revealing = installation.key(&stranger.name, KeyKind::Reveal.as_str()).await?;
        let things = &Things {
            job: a_job_beyond(&owners, &strangers, things).await?,
            ..things.clone()
        };
        for (kind, key) in [
            (KeyKind::Write, &stranger.write_key),
            (KeyKind::Read, &stranger.read_key),
            (KeyKind::Admin, &stranger.admin_key),
            (KeyKind::Reveal, &revealing),
        ] {
            let client = installation.client(key)?;
            for operation in operations() {
                check_stranger(&client, (kind, stranger.number), &operation, things)
                    .await
                    .with_context(|| {
                        format!(
                            "a {kind} key of {} at {} {} of {}",
                            stranger.name, operation.method, operation.path, owner.name
                        )
                    })?;
            }
        }
        untouched(&owners, things).await?;

        // In a query, too, the other's tables do not exist, however they are named.
        let own = if things.database == of_first.database {
            &of_second
        } else {
            &of_first
        };
        for name in [format!("{}.{}", things.database, things.table), things.table.clone()] {
            let refused = strangers.query(&own.database, &format!("SELECT * FROM {name}")).await;
            ensure!(refused.is_err(), "{name} can be read by {}", stranger.name);
        }
        let listed = strangers.query(&own.database, "SHOW DATABASES").await?;
        ensure!(
            !json!(listed).to_string().contains(&things.database),
            "SHOW DATABASES shows {listed:?}"
        );
    }
    installation.finish().await
}

async fn check_stranger(client: &Client, (kind, product): (KeyKind, u64), operation: &Operation, things: &Things) -> anyhow::Result<()> {
    let (_, _, expected) = EXPECTED
        .iter()
        .find(|(method, path, _)| (*method, *path) == (operation.method, operation.path))
        .context("this route has no expectation")?;
    let expected = match expected {
        Expected::ItsOwnIfItMayMakeOne if kind.verbs().contains(Verb::Manage) => &Expected::ItsOwn,
        Expected::ItsOwnIfItMayMakeOne => &Expected::NotFound,
        expected => expected,
    };
    let answer = call(client, operation, things).await?;
    let may = match operation.needs {
        Needs::Nothing => true,
        Needs::Verb(verb) => kind.verbs().contains(verb),
    };
    if !may {
        ensure!(
            answer.status == 403,
            "a key without the right gets {}: {}",
            answer.status,
            answer.text()
        );
    } else {
        match expected {
            Expected::Public => ensure!(answer.status == 200, "status {}", answer.status),
            Expected::NotFound | Expected::ItsOwnIfItMayMakeOne => {
                ensure!(answer.status == 404, "status {}: {}", answer.status, answer.text())
            }
            Expected::NothingOfOurs => {
                ensure!(answer.status == 200, "status {}", answer.status);
                for name in things.names() {
                    ensure!(!answer.text().contains(name), "{name} stands in {}", answer.text());
                }
            }
            Expected::ItsOwnRecords => {
                ensure!(answer.status == 200, "status {}: {}", answer.status, answer.text());
                let records: Vec<Value> = answer.text().lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
                let of = |record: &&Value| record["v"] == 1 || record["coffer-audit"] == 1;
                ensure!(records.iter().any(|record| of(&record)), "no record");
                for record in records.iter().filter(of) {
                    ensure!(record["product"] == product, "another product's record: {record}");
                }
            }
            Expected::ItsOwn => {
                ensure!(answer.status == 200, "status {}: {}", answer.status, answer.text());
                let undone = client.post(&format!("/v3/database/delete/{}", things.database), &[]).await?;
                ensure!(undone.status == 200, "its own could not be deleted: {}", undone.text());
            }
        }
    }
    // What is the other's and what nobody has look the same.
    let nobody = Things::of_nobody();
    let same = call(client, operation, &nobody).await?;
    if *expected == Expected::ItsOwn && same.status == 200 {
        client.post(&format!("/v3/database/delete/{}", nobody.database), &[]).await?.ok()?;
    }
    ensure!(
        same.status == answer.status,
        "status {} for what is the other's, {} for what nobody has",
        answer.status,
        same.status
    );
    if ![Expected::NothingOfOurs, Expected::ItsOwnRecords].contains(expected) {
        let (theirs, nobodys) = (bare(&answer, things), bare(&same, &nobody));
        ensure!(theirs == nobodys, "told apart: {theirs} and {nobodys}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_or_with_too_small_a_one_nothing_opens() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[gateway]\nfailed_keys_per_minute = 100000\n")?;
    installation.up().await?;
    let (product, things) = furnished(&installation, "alone").await?;

    let mut callers = vec![("nobody", installation.anonymous()?, None)];
    for wrong in [
        format!("{}/{}", product.number, "0".repeat(64)),
        format!("{}/{}", product.number + 1, product.admin_key.split('/').nth(1).unwrap_or_default()),
        product.admin_key[..product.admin_key.len() - 1].to_owned(),
        format!("{}0", product.admin_key),
        "x".repeat(7000),
        String::from("1/'; DROP TABLE credentials; --"),
    ] {
        callers.push(("a wrong key", installation.client(&wrong)?, None));
    }
    let ungranted = without_grant(&installation, product.number).await?;
    let revoked = revoked(&installation, "alone").await?;
    callers.push(("a key without a grant", installation.client(&ungranted)?, None));
    callers.push(("a revoked key", installation.client(&revoked)?, None));
    let revealing = installation.key(&product.name, KeyKind::Reveal.as_str()).await?;
    for (kind, key) in [
        (KeyKind::Write, &product.write_key),
        (KeyKind::Read, &product.read_key),
        (KeyKind::Admin, &product.admin_key),
        (KeyKind::Reveal, &revealing),
    ] {
        callers.push((kind.as_str(), installation.client(key)?, Some(kind)));
    }
    for (name, client, kind) in &callers {
        for operation in operations() {
            let Needs::Verb(verb) = operation.needs else { continue };
            if kind.is_some_and(|kind| kind.verbs().contains(verb)) {
                continue;
            }
            let expected = if kind.is_none() { 401 } else { 403 };
            let answer = call(client, &operation, &things).await?;
            ensure!(
                answer.status == expected,
                "{name} at {} {}: {} {}",
                operation.method,
                operation.path,
                answer.status,
                answer.text()
            );
        }
    }
    untouched(&installation.client(&product.admin_key)?, &things).await?;
    print_rights();
    installation.finish().await
}

/// An admin key that the vault made and accounts grants nothing to: what is left when making a key is interrupted.
async fn without_grant(installation: &Installation, product: u64) -> anyhow::Result<String> {
    let socket = edge::operator_channel(installation.data().join("run/vault.sock"));
    let request = CreateCredentialRequest {
        product,
        kind: KeyKind::Admin.as_str().into(),
        shown: String::new(),
    };
    Ok(VaultOperatorClient::new(socket).create_credential(request).await?.into_inner().key)
}

/// An admin key that worked, until it was revoked.
async fn revoked(installation: &Installation, product: &str) -> anyhow::Result<String> {
    let ids = || async {
        let listed = installation
            .operator(&["keys", "list", "--product", product, "-o", "json"])
            .await?
            .ok()?;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed)?;
        anyhow::Ok(listed.iter().map(|key| key["id"].to_string()).collect::<BTreeSet<_>>())
    };
    let before = ids().await?;
    let key = installation.key(product, "admin").await?;
    let client = installation.client(&key)?;
    client.get("/v3/database/list").await?.ok()?;
    let after = ids().await?;
    let id = after
        .difference(&before)
        .next()
        .context("the key is not listed")?
        .trim_matches('"')
        .to_owned();
    installation.operator(&["keys", "revoke", &id, "--yes"]).await?.ok()?;
    testkit::until("the key is revoked", Duration::from_secs(10), || async {
        let answer = client.get("/v3/database/list").await?;
        ensure!(answer.status == 401, "status {}", answer.status);
        Ok(())
    })
    .await?;
    Ok(key)
}

/// The table of who may do what, for whoever reads the test's output.
fn print_rights() {
    eprintln!(
        "{:<75} {}",
        "operation",
        KeyKind::ALL.map(|kind| format!("{:<6}", kind.as_str())).join(" ")
    );
    for operation in operations() {
        let may = KeyKind::ALL.map(|kind| match operation.needs {
            Needs::Nothing => "open  ",
            Needs::Verb(verb) if kind.verbs().contains(verb) => "yes   ",
            Needs::Verb(_) => "-     ",
        });
        eprintln!("{:<75} {}", format!("{} {}", operation.method, operation.path), may.join(" "));
    }
}
