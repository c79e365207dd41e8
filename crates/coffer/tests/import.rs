//! `coffer import` and `coffer tail`: every format gives the same table, and however often an import is killed, each row is there exactly once.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::{Client, Installation, Product, gzip, until};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

const BINARY: &str = env!("CARGO_BIN_EXE_coffer");
const SOON: Duration = Duration::from_secs(60);
const DATABASE: &str = "files";

/// The command, as a user of the installation runs it with one key.
fn coffer(installation: &Installation, key: (&str, &str), words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(words)
        .env_clear()
        .env("LANG", "C.UTF-8")
        .env("HOME", installation.aside("home"))
        .env("COFFER_ENDPOINT", installation.endpoint())
        .env("COFFER_CA", installation.ca())
        .env(key.0, key.1)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn run(mut command: Command) -> anyhow::Result<Ended> {
    let output = tokio::time::timeout(Duration::from_secs(180), command.output())
        .await
        .context("it does not end")??;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Ended {
    fn with(self, code: i32) -> anyhow::Result<Self> {
        ensure!(
            self.code == Some(code),
            "ended with {:?}:\n{}\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

fn admin(product: &Product) -> (&'static str, &str) {
    ("COFFER_ADMIN_KEY", &product.admin_key)
}

fn write(product: &Product) -> (&'static str, &str) {
    ("COFFER_WRITE_KEY", &product.write_key)
}

fn file(installation: &Installation, name: &str, content: &[u8]) -> anyhow::Result<PathBuf> {
    let path = installation.aside(name);
    std::fs::write(&path, content)?;
    Ok(path)
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path is no text")
}

/// Rows with everything that a format could spoil.
fn rows() -> Vec<Value> {
    (0..500_i64)
        .map(|n| {
            let word = match n % 5 {
                0 => "plain".to_owned(),
                1 => "with, comma".to_owned(),
                2 => format!("say \"{n}\""),
                3 => "two\nlines\tand a tab".to_owned(),
                _ => "Käse \\ 🧀".to_owned(),
            };
            json!({"time": 1_700_000_000 + n, "n": n, "price": n as f64 + 0.5, "ok": n % 2 == 0, "zip": format!("{:05}", n * 7), "word": word})
        })
        .collect()
}

const COLUMNS: [&str; 6] = ["time", "n", "price", "ok", "zip", "word"];

fn cell(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn delimited(rows: &[Value], between: &str, cell: impl Fn(String) -> String) -> Vec<u8> {
    let mut lines = vec![COLUMNS.join(between)];
    for row in rows {
        let cells: Vec<String> = COLUMNS.iter().map(|column| cell(self::cell(&row[column]))).collect();
        lines.push(cells.join(between));
    }
    (lines.join("\n") + "\n").into_bytes()
}

fn csv(rows: &[Value]) -> Vec<u8> {
    delimited(rows, ",", |cell| {
        if cell.contains([',', '"', '\n']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    })
}

fn tsv(rows: &[Value]) -> Vec<u8> {
    delimited(rows, "\t", |cell| {
        cell.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t")
    })
}

fn json_lines(rows: &[Value]) -> Vec<u8> {
    rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes()
}

fn unzipped(packed: &[u8]) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut plain)?;
    Ok(plain)
}

/// The same rows as a Parquet file of another program's.
fn parquet(rows: &[Value]) -> anyhow::Result<Vec<u8>> {
    use arrow::array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;
    let longs = |column: &str| -> Int64Array { rows.iter().map(|row| row[column].as_i64()).collect() };
    let texts = |column: &str| -> StringArray { rows.iter().map(|row| row[column].as_str()).collect() };
    let batch = RecordBatch::try_from_iter([
        ("time", Arc::new(longs("time")) as _),
        ("n", Arc::new(longs("n")) as _),
        (
            "price",
            Arc::new(rows.iter().map(|row| row["price"].as_f64()).collect::<Float64Array>()) as _,
        ),
        (
            "ok",
            Arc::new(rows.iter().map(|row| row["ok"].as_bool()).collect::<BooleanArray>()) as _,
        ),
        ("zip", Arc::new(texts("zip")) as _),
        ("word", Arc::new(texts("word")) as _),
    ])?;
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

async fn everything(client: &Client, table: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let sql = format!("SELECT {} FROM {table} ORDER BY n", COLUMNS.join(", "));
    client.query(DATABASE, &sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_and_packing_gives_the_same_table() -> anyhow::Result<()> {
    let installation = Installation::start(BINARY).await?;
    let product = installation.product("formats").await?;
    let client = installation.client(&product.admin_key)?;
    let rows = rows();
    let expected: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| COLUMNS.iter().map(|column| row[column].clone()).collect())
        .collect();

    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1);
    let packed = unzipped(&testkit::packed_rows(&rows))?;
    let files = [
        ("a.jsonl", json_lines(&rows)),
        ("b.json", serde_json::to_vec_pretty(&rows)?),
        ("c.csv", csv(&rows)),
        ("d.tsv", tsv(&rows)),
        ("e.msgpack", packed.clone()),
        ("f.parquet", parquet(&rows)?),
        ("g.csv.gz", gzip(&csv(&rows))),
        ("h.jsonl.zst", zstd(&json_lines(&rows))?),
        ("i.msgpack.gz", gzip(&packed)),
        ("j.tsv.zst", zstd(&tsv(&rows))?),
    ];
    for (name, content) in files {
        let table = format!("table_{}", name.replace('.', "_"));
        let path = file(&installation, name, &content)?;
        let target = format!("{DATABASE}.{table}");
        // Chunks of an odd size: rows must not care where they are cut.
        let words = ["import", text(&path)?, "--table", &target, "--chunk-rows", "77", "-o", "json"];
        let ran = run(coffer(&installation, admin(&product), &words)).await?.with(0)?;
        let summary: Value = serde_json::from_str(&ran.stdout)?;
        ensure!(
            summary[0]["rows_sent"] == 500 && summary[0]["chunks_sent"] == 7 && summary[0]["complete"] == true,
            "{name}: {summary}"
        );
        ensure!(ran.stderr.contains("500 rows into"), "{name}: {}", ran.stderr);
        ensure!(everything(&client, &table).await? == expected, "{name} is another table");
    }

    // The same bytes under another name are the same rows, and it says so.
    let copy = file(&installation, "another.csv", &csv(&rows))?;
    let words = [
        "import",
        text(&copy)?,
        "--table",
        "files.table_c_csv",
        "--chunk-rows",
        "77",
        "-o",
        "json",
    ];
    let ran = run(coffer(&installation, admin(&product), &words)).await?.with(0)?;
    let summary: Value = serde_json::from_str(&ran.stdout)?;
    ensure!(summary[0]["rows_known"] == 500, "{summary}");
    ensure!(ran.stderr.contains("500 rows had been stored before"), "{}", ran.stderr);
    ensure!(
        everything(&client, "table_c_csv").await? == expected,
        "there are more rows than before"
    );

    // Standard input is an import of its own each time.
    for round in 1..=2 {
        let words = ["import", "-", "--format", "csv", "--table", "files.piped"];
        let mut child = coffer(&installation, admin(&product), &words).stdin(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        input.write_all(&csv(&rows)).await?;
        drop(input);
        let ran = child.wait_with_output().await?;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success() && said.contains("cannot be gone on with"), "{said}");
        let count = client.number(DATABASE, "SELECT count(*) FROM piped").await?;
        ensure!(count == 500 * round, "{count} rows after {round} times");
    }
    installation.finish().await
}

const MANY: i64 = 6_000;

fn many() -> Vec<u8> {
    let mut text = String::from("time,n,note\n");
    for n in 0..MANY {
        text.push_str(&format!("{},{n},\"row\n{n}\"\n", 1_700_000_000 + n));
    }
    text.into_bytes()
}

async fn is_each_row_there_once(client: &Client, table: &str) -> anyhow::Result<()> {
    let sql = format!("SELECT count(*), count(DISTINCT n), min(n), max(n), count(DISTINCT note) FROM {table}");
    let found = client.query(DATABASE, &sql).await?;
    let expected = json!([[MANY, MANY, 0, MANY - 1, MANY]]);
    ensure!(json!(found) == expected, "{found:?} instead of {expected}");
    Ok(())
}

/// How many chunks the memory of an import holds as acknowledged.
fn remembered(installation: &Installation) -> usize {
    let directory = installation.aside("home").join(".local/state/coffer/imports");
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| std::fs::read_to_string(file.path()).ok())
        .map(|text| text.lines().filter(|line| line.starts_with('+')).count())
        .sum()
}

/// Begins the import until it has been killed `kills` times in the middle, then lets it end; what the last run said.
async fn killed(installation: &Installation, product: &Product, words: &[&str], kills: usize, forgetful: bool) -> anyhow::Result<Ended> {
    let state = installation.aside("home").join(".local/state");
    for kill in 0..kills {
        let before = remembered(installation);
        let mut child: Child = coffer(installation, write(product), words).spawn()?;
        // Now before anything was acknowledged in this run, now in the midst of it.
        let enough = before + (kill * 5) % 7;
        let in_the_midst = until("the import gets on", SOON, || async {
            let begun = std::fs::read_dir(state.join("coffer/imports")).is_ok_and(|mut files| files.next().is_some());
            ensure!(
                begun && remembered(installation) >= enough,
                "{} of {enough} chunks",
                remembered(installation)
            );
            Ok(())
        })
        .await;
        ensure!(child.try_wait()?.is_none(), "it ended before kill {kill}: nothing is proved");
        child.kill().await?;
        in_the_midst?;
        if forgetful {
            std::fs::remove_dir_all(&state)?;
        }
    }
    run(coffer(installation, write(product), words)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_it_is_killed_each_row_is_there_exactly_once() -> anyhow::Result<()> {
    const KILLS: usize = 12;
    let installation = Installation::start(BINARY).await?;
    let product = installation.product("kills").await?;
    let client = installation.client(&product.admin_key)?;
    let path = file(&installation, "many.csv", &many())?;

    for (table, forgetful) in [("remembered", false), ("forgotten", true)] {
        client.create_table(DATABASE, table).await?;
        let target = format!("{DATABASE}.{table}");
        let words = ["import", text(&path)?, "--table", &target, "--chunk-rows", "20", "-o", "json"];
        let last = killed(&installation, &product, &words, KILLS, forgetful).await?.with(0)?;
        let summary: Value = serde_json::from_str(&last.stdout)?;
        let chunks = (summary[0]["chunks_sent"].as_i64(), summary[0]["chunks_skipped"].as_i64());
        ensure!(
            chunks
                .0
                .zip(chunks.1)
                .is_some_and(|(sent, skipped)| sent + skipped == MANY / 20 && (skipped > 0) != forgetful),
            "{chunks:?} of {} chunks were sent and skipped in the last run",
            MANY / 20
        );
        is_each_row_there_once(&client, table).await?;
    }

    // An admin key sees that the table is the same: nothing is sent again. Without it, all of it is, and stored once.
    let words = [
        "import",
        text(&path)?,
        "--table",
        "files.forgotten",
        "--chunk-rows",
        "20",
        "-o",
        "json",
    ];
    for (key, again) in [(write(&product), true), (admin(&product), true), (admin(&product), false)] {
        let ran = run(coffer(&installation, key, &words)).await?.with(0)?;
        let summary: Value = serde_json::from_str(&ran.stdout)?;
        ensure!((summary[0]["chunks_sent"] != 0) == again, "{summary}");
        is_each_row_there_once(&client, "forgotten").await?;
    }

    // A table that is made anew under the same name has none of it.
    client.post("/v3/table/delete/files/forgotten", &[]).await?.ok()?;
    run(coffer(&installation, admin(&product), &words)).await?.with(0)?;
    is_each_row_there_once(&client, "forgotten").await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_for_a_server_that_is_away_and_gives_up_with_seven() -> anyhow::Result<()> {
    let mut installation = Installation::start(BINARY).await?;
    let product = installation.product("away").await?;
    installation.client(&product.admin_key)?.create_table(DATABASE, "away").await?;
    let path = file(&installation, "many.csv", &many())?;
    let words = ["import", text(&path)?, "--table", "files.away", "--chunk-rows", "20"];

    let mut child = coffer(&installation, write(&product), &words).spawn()?;
    until("the import gets on", SOON, || async {
        ensure!(remembered(&installation) > 3, "{} chunks", remembered(&installation));
        Ok(())
    })
    .await?;
    installation.kill_all().await?;
    ensure!(child.try_wait()?.is_none(), "it ended before the server was away");
    installation.up().await?;
    let ended = tokio::time::timeout(SOON * 2, child.wait()).await.context("it does not end")??;
    ensure!(ended.success(), "it ended with {ended}");
    let client = installation.client(&product.admin_key)?;
    is_each_row_there_once(&client, "away").await?;

    installation.stop().await?;
    let short = [&words[..], &["--patience", "1s", "--again"]].concat();
    let ran = run(coffer(&installation, write(&product), &short)).await?.with(7)?;
    ensure!(ran.stderr.contains("next: run the same command again"), "{}", ran.stderr);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_sent_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let installation = Installation::start(BINARY).await?;
    let product = installation.product("refusals").await?;
    let client = installation.client(&product.admin_key)?;
    let path = file(&installation, "x.csv", b"time,n\n1700000000,1\n1700000001,2\n")?;
    let path = text(&path)?;
    let import = |key, words: &[&str]| {
        run(coffer(
            &installation,
            key,
            &[&["import", path, "--table", "files.plain"], words].concat(),
        ))
    };
    let count = || client.number(DATABASE, "SELECT count(*) FROM plain");

    // Looking changes nothing.
    let ran = import(admin(&product), &["--dry-run", "-o", "json"]).await?.with(0)?;
    ensure!(
        ran.stderr.contains("would be made") && ran.stderr.contains("nothing was sent"),
        "{}",
        ran.stderr
    );
    let look: Value = serde_json::from_str(&ran.stdout)?;
    ensure!(
        look[0]["rows"] == 2 && look[0]["columns"]["n"] == "long" && look[0]["whole"] == true,
        "{look}"
    );
    ensure!(client.get("/v3/table/list/files").await?.status == 404, "a dry run made something");

    // A key that may send cannot make the table; one that may read cannot send.
    let ran = import(write(&product), &[]).await?.with(4)?;
    ensure!(ran.stderr.contains("next:") && ran.stderr.contains("admin key"), "{}", ran.stderr);
    let ran = import(admin(&product), &[]).await?.with(0)?;
    ensure!(ran.stderr.contains("made the table files.plain"), "{}", ran.stderr);
    import(("COFFER_WRITE_KEY", &product.read_key), &["--again"]).await?.with(3)?;
    ensure!(count().await? == 2, "{} rows", count().await?);

    // Other options, and a file that grew.
    import(admin(&product), &["--types", "n=string"]).await?.with(5)?;
    std::fs::write(path, "time,n\n1700000000,1\n1700000001,2\n1700000002,3\n")?;
    let ran = import(admin(&product), &[]).await?.with(5)?;
    ensure!(ran.stderr.contains("changed") && ran.stderr.contains("--again"), "{}", ran.stderr);
    // Of the same length, too.
    std::fs::write(path, "time,n\n1700000000,1\n1700000001,7\n")?;
    import(admin(&product), &[]).await?.with(5)?;
    ensure!(count().await? == 2, "{} rows", count().await?);
    // Under another label it is another import.
    import(admin(&product), &["--label", "second"]).await?.with(0)?;
    ensure!(count().await? == 4, "{} rows", count().await?);

    // What is unclear is not sent.
    for (name, content, code) in [
        ("mixed.csv", &b"time\n1700000000\n1700000000000\n"[..], 6),
        ("cut.json", b"[{\"a\":1},{\"a\":2}", 6),
        ("cut.csv.gz", &gzip(b"time,n\n1700000000,1\n")[..20], 6),
        ("what.txt", b"a b c", 2),
    ] {
        let path = file(&installation, name, content)?;
        run(coffer(
            &installation,
            admin(&product),
            &["import", text(&path)?, "--table", "files.plain"],
        ))
        .await?
        .with(code)?;
    }
    run(coffer(
        &installation,
        admin(&product),
        &["import", "absent.csv", "--table", "files.plain"],
    ))
    .await?
    .with(4)?;
    ensure!(count().await? == 4, "{} rows", count().await?);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_import_says_how_to_go_on() -> anyhow::Result<()> {
    let installation = Installation::start(BINARY).await?;
    let product = installation.product("stopped").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "stopped").await?;
    let path = file(&installation, "many.csv", &many())?;
    let words = ["import", text(&path)?, "--table", "files.stopped", "--chunk-rows", "20"];

    let child = coffer(&installation, write(&product), &words).spawn()?;
    until("the import gets on", SOON, || async {
        ensure!(remembered(&installation) > 1, "{} chunks", remembered(&installation));
        Ok(())
    })
    .await?;
    interrupt(&child)?;
    let ran = tokio::time::timeout(SOON, child.wait_with_output())
        .await
        .context("it does not stop")??;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.code() == Some(7) && said.contains("run the same command again"),
        "{:?} {said}",
        ran.status
    );

    let ran = run(coffer(&installation, write(&product), &words)).await?.with(0)?;
    ensure!(ran.stderr.contains("were there before"), "{}", ran.stderr);
    is_each_row_there_once(&client, "stopped").await?;

    // Nor does a pipe that says nothing keep it.
    let mut child = coffer(
        &installation,
        write(&product),
        &["import", "-", "--format", "csv", "--table", "files.stopped"],
    )
    .stdin(Stdio::piped())
    .spawn()?;
    let input = child.stdin.take();
    let pid = child.id().context("it has ended")?;
    until("it listens for signals", SOON, || async {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).context("no mask")?;
        ensure!(u64::from_str_radix(caught, 16)? & 2 != 0, "not yet");
        Ok(())
    })
    .await?;
    interrupt(&child)?;
    let ran = tokio::time::timeout(SOON, child.wait_with_output())
        .await
        .context("it does not stop")??;
    ensure!(ran.status.code() == Some(1), "{:?}", ran.status);
    drop(input);
    installation.finish().await
}

fn interrupt(child: &Child) -> anyhow::Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().context("it has ended")?)?);
    Ok(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_shows_the_newest_rows_and_each_that_arrives_once() -> anyhow::Result<()> {
    let installation = Installation::start(BINARY).await?;
    let product = installation.product("tail").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "live").await?;
    let row = |n: i64| json!({"time": 1_700_000_000 + n / 2, "n": n});
    let rows: Vec<Value> = (0..50).map(row).collect();
    client.import(DATABASE, "live", Some("first"), &rows).await?.ok()?;
    let key = ("COFFER_READ_KEY", product.read_key.as_str());

    let ran = run(coffer(&installation, key, &["tail", "files.live", "-n", "4", "-o", "csv"]))
        .await?
        .with(0)?;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    ensure!(
        lines.len() == 5 && lines[0] == "time,n" && lines[1].starts_with("1700000023,") && lines[4].starts_with("1700000024,"),
        "{lines:?}"
    );
    run(coffer(&installation, key, &["tail", "files.absent"])).await?.with(4)?;

    let mut child = coffer(&installation, key, &["tail", "files.live", "-f", "-n", "2"]).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut seen = Vec::new();
    let mut next = async |count: usize| -> anyhow::Result<Vec<i64>> {
        while seen.len() < count {
            let line = tokio::time::timeout(SOON, lines.next_line()).await.context("no row came")??;
            let row: Value = serde_json::from_str(&line.context("it ended")?)?;
            seen.push(row["n"].as_i64().context("no n")?);
        }
        Ok(seen.clone())
    };
    next(2).await?;
    for round in 0..3_i64 {
        // Two rows of one second, one of which came before: only what is new is shown.
        let new: Vec<Value> = (0..3).map(|n| row(50 + round * 3 + n)).collect();
        client.import(DATABASE, "live", Some(&format!("round-{round}")), &new).await?.ok()?;
        let mut shown = next(2 + 3 * (round as usize + 1)).await?.split_off(2 + 3 * round as usize);
        shown.sort_unstable();
        ensure!(
            shown == [50 + round * 3, 51 + round * 3, 52 + round * 3],
            "{shown:?} in round {round}"
        );
    }
    child.kill().await?;
    ensure!(lines.next_line().await?.is_none(), "a row was shown twice");
    run(coffer(&installation, key, &["tail", "files.live", "-f", "-o", "json"]))
        .await?
        .with(2)?;
    installation.finish().await
}
