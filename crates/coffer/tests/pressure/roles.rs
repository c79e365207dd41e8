//! Memory: each role stays within what docs/limits.md says, in a memory cgroup of that size, whatever is sent and asked at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base::Role;
use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Installation, gzip, packed_rows, until};

use super::{DATABASE, PATIENCE, number, took};

const MIB: u64 = 1 << 20;
/// What a role takes beside its limits: the program, its threads, caches, databases; in a build without optimisation.
const BESIDE: u64 = 160 * MIB;
/// What a query reads at once, in MiB, with one partition: a row group as it is stored, and as it is decoded.
const READ: u64 = 64;
/// Small limits, so that a small machine reaches them quickly.
const LIMITS: &str = "
[gateway]
max_import_bytes = 33554432
max_inflated_bytes = 134217728
[gateway.limits]
max_body = 8388608
max_inflated = 50331648
max_cells = 4000000
max_text = 50331648
[warehouse.flush]
memory_limit = 67108864
table_bytes = 16777216
merge_files = 4
rewrite_memory = 67108864
[warehouse.query]
memory_limit_bytes = 33554432
footer_bytes = 16777216
target_partitions = 1
[warehouse.jobs]
running_in_all = 2
";
/// Where rows go, by their kind.
const TABLES: [&str; 4] = ["texts", "wide", "rows", "sparse"];
/// How many columns the table of sparse rows comes to, and how many of them a row has.
const SPARSE: usize = 3_000;
const SPARSE_KEYS: usize = 150;
/// How long all of it goes on, and, where senders are slow, until one of them was slowed down, but no longer than this.
const LOAD: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(90);
/// What a polite sender waits when it is slowed down.
const PAUSE: Duration = Duration::from_millis(500);

/// The bound of each role under [`LIMITS`], as docs/limits.md reckons it.
fn bounds() -> BTreeMap<Role, u64> {
    BTreeMap::from([
        (Role::Vault, BESIDE),
        (Role::Accounts, BESIDE),
        (Role::Identity, BESIDE + 64 * MIB),
        // Bodies as sent; what they are inflated and decoded to; the messages that are on their way.
        (Role::Gateway, BESIDE + (32 + 128 + 128) * MIB),
        // Rows in no file yet and messages that are read; what is written of them; merging; footers; two jobs, and what each reads.
        (Role::Warehouse, BESIDE + (64 + 64 + 64 + 16 + 2 * (32 + READ)) * MIB),
    ])
}

/// A memory cgroup with one process in it.
struct Cgroup {
    path: PathBuf,
    version: u8,
}

impl Cgroup {
    fn around(role: Role, pid: i32, most: u64) -> Option<Self> {
        let name = format!("coffer-test-{}-{role}", std::process::id());
        let (first, second) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (root, version, limit) = if first.join("memory.limit_in_bytes").exists() {
            (first, 1, "memory.limit_in_bytes")
        } else {
            // It is delegated to whoever may write here.
            let _ = fs::write(second.join("cgroup.subtree_control"), "+memory");
            (second, 2, "memory.max")
        };
        let cgroup = Self {
            path: root.join(name),
            version,
        };
        fs::create_dir(&cgroup.path).ok()?;
        fs::write(cgroup.path.join(limit), most.to_string()).ok()?;
        fs::write(cgroup.path.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(cgroup)
    }

    fn peak(&self) -> u64 {
        let name = if self.version == 1 {
            "memory.max_usage_in_bytes"
        } else {
            "memory.peak"
        };
        let text = fs::read_to_string(self.path.join(name)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// How many processes were killed in it.
    fn killed(&self) -> u64 {
        let name = if self.version == 1 { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(self.path.join(name)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.path);
    }
}

/// What became of what was sent.
struct Told {
    begun: Instant,
    rows: AtomicUsize,
    taken: AtomicUsize,
    slowed: AtomicUsize,
}

impl Told {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            rows: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            slowed: AtomicUsize::new(0),
        }
    }

    /// Whether the time is over.
    fn is_over(&self) -> bool {
        let for_so_long = self.begun.elapsed();
        for_so_long >= LONGEST || for_so_long >= LOAD && self.slowed.load(Ordering::SeqCst) > 0
    }
}

/// Sends bodies until the time is over. A refusal has to say when to try again.
async fn send(client: Client, number: usize, told: Arc<Told>) -> anyhow::Result<()> {
    let kinds = [long_texts(number), many_columns(number), many_rows(number)];
    let mut turn = 0;
    while !told.is_over() {
        let sparse = sparse_rows(number, turn);
        let kind = (number + turn) % TABLES.len();
        let (rows, body) = kinds.get(kind).unwrap_or(&sparse);
        let id = format!("{number}-{turn}");
        turn += 1;
        let path = format!("/v3/table/import_with_id/{DATABASE}/{}/{id}/msgpack.gz", TABLES[kind]);
        loop {
            // A connection may time out on a machine that has this much to do. The same id again is stored once.
            let Ok(answer) = client.send(Method::PUT, &path, None, body.clone()).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            match answer.status {
                200 => {
                    told.rows.fetch_add(*rows, Ordering::SeqCst);
                    told.taken.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                429 | 503 => {
                    ensure!(answer.headers.contains_key("retry-after"), "{}", answer.text());
                    told.slowed.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(PAUSE).await;
                }
                other => anyhow::bail!("status {other}: {}", answer.text()),
            }
        }
    }
    Ok(())
}

/// Texts that hardly compress.
fn long_texts(seed: usize) -> (usize, Vec<u8>) {
    let mut bytes = vec![0; 3 << 20];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let row = |text: &[u8]| json!({"time": 1_700_000_000, "text": hex::encode(text)});
    let rows: Vec<Value> = bytes.chunks(16 << 10).map(row).collect();
    (rows.len(), packed_rows(&rows))
}

/// Hundreds of columns, another set of them for each sender.
fn many_columns(seed: usize) -> (usize, Vec<u8>) {
    let row = |n: usize| {
        let cells = (0..400).map(|c| (format!("s{seed}c{c}"), json!(n * c)));
        Value::Object(std::iter::once(("time".to_owned(), json!(1_700_000_000))).chain(cells).collect())
    };
    let rows: Vec<Value> = (0..500).map(row).collect();
    (rows.len(), packed_rows(&rows))
}

/// Few rows, each with other columns than those before and after it, of thousands that the table has in the end.
fn sparse_rows(seed: usize, turn: usize) -> (usize, Vec<u8>) {
    let row = |n: usize| {
        let cells = (0..SPARSE_KEYS).map(|c| (format!("k{}", (seed * 977 + turn * 131 + n * 211 + c * 17) % SPARSE), json!(n * c)));
        Value::Object(
            std::iter::once(("time".to_owned(), json!(1_700_000_000 + n)))
                .chain(cells)
                .collect(),
        )
    };
    let rows: Vec<Value> = (0..100).map(row).collect();
    (rows.len(), packed_rows(&rows))
}

/// Little as sent, much in memory.
fn many_rows(seed: usize) -> (usize, Vec<u8>) {
    let row = |n: usize| json!({"time": 1_700_000_000, "n": n, "kind": format!("kind {}", (n + seed) % 1000), "email": format!("p{}@example.com", n % 500)});
    let rows: Vec<Value> = (0..40_000).map(row).collect();
    (rows.len(), packed_rows(&rows))
}

/// Asks for what takes memory, until the time is over. Such a job may fail, with words that say what to do.
async fn ask(client: Client, first: usize, told: Arc<Told>) -> anyhow::Result<usize> {
    let mut answered = 0;
    let questions = [
        "SELECT text, count(*) FROM texts GROUP BY text ORDER BY 2 DESC",
        "SELECT a.n, b.kind FROM rows a JOIN rows b ON a.kind = b.kind ORDER BY 1, 2 LIMIT 100000",
        "SELECT sum(k1), max(k2000), count(k17) FROM sparse",
        "SELECT * FROM rows ORDER BY n DESC",
        "SELECT * FROM sparse WHERE time > 1700000090",
        "SELECT count(DISTINCT text), count(DISTINCT time) FROM texts",
        "SELECT * FROM wide",
    ];
    for question in questions.iter().cycle().skip(first) {
        if told.is_over() {
            break;
        }
        let path = format!("/v3/job/issue/trino/{DATABASE}");
        let Ok(issued) = client.post(&path, &[("query", question)]).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        ensure!([200, 429, 503].contains(&issued.status), "{}", issued.text());
        if issued.status == 200 {
            let job = issued.json()?["job_id"].as_str().context("no job")?.to_owned();
            let ended = until("the job ends", PATIENCE * 2, || async { client.ended(&job, PATIENCE).await });
            if ended.await? == "success" {
                answered += 1;
            }
        }
    }
    Ok(answered)
}

/// Has a column's type changed and changed back, so that all rows of its table are read again, until the time is over.
async fn retype(client: Client, told: Arc<Told>) -> anyhow::Result<()> {
    let path = format!("/v3/table/update-schema/{DATABASE}/wide");
    for schema in [r#"[["s1c1","string"]]"#, "[]"].iter().cycle() {
        if told.is_over() {
            break;
        }
        if let Ok(changed) = client.post(&path, &[("schema", schema)]).await {
            ensure!([200, 409, 429, 503].contains(&changed.status), "{}", changed.text());
        }
        tokio::time::sleep(PAUSE * 6).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_stays_within_its_memory_whatever_is_sent_and_asked_at_once() -> anyhow::Result<()> {
    // Declared first, so that it goes last: a group with a process in it cannot be removed.
    let mut cgroups = BTreeMap::new();
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure(LIMITS)?;
    installation.up().await?;
    let product = installation.product("pressure").await?;
    let client = installation.client(&product.admin_key)?;
    for table in TABLES {
        client.create_table(DATABASE, table).await?;
    }
    let before = installation.pids();
    let bounds = bounds();
    for (role, most) in &bounds {
        let process = *before.get(role).context("a role does not run")?;
        cgroups.extend(Cgroup::around(*role, process, *most).map(|cgroup| (*role, cgroup)));
    }
    if cgroups.len() < bounds.len() {
        eprintln!(
            "NOT TESTED: that no role is killed in a memory cgroup of its bound; none can be made here. What each takes is measured instead."
        );
    }

    let told = Arc::new(Told::new());
    let senders: Vec<_> = (0..12)
        .map(|number| tokio::spawn(send(client.clone(), number, Arc::clone(&told))))
        .collect();
    let askers: Vec<_> = (0..6)
        .map(|first| tokio::spawn(ask(client.clone(), first, Arc::clone(&told))))
        .collect();
    let retyping = tokio::spawn(retype(client.clone(), Arc::clone(&told)));
    let bomb = gzip(&vec![0x80; 200 << 20]);
    while !told.is_over() {
        let path = format!("/v3/table/import/{DATABASE}/texts/msgpack.gz");
        if let Ok(refused) = client.send(Method::PUT, &path, None, bomb.clone()).await {
            ensure!((400..500).contains(&refused.status) || refused.status == 503, "{}", refused.text());
        }
        tokio::time::sleep(PAUSE).await;
    }
    for sender in senders {
        sender.await??;
    }
    retyping.await??;
    let mut answered = 0;
    for asker in askers {
        answered += asker.await??;
    }
    took("of load", told.begun);
    let (rows, taken, slowed) = (&told.rows, &told.taken, &told.slowed);
    eprintln!("{taken:?} imports with {rows:?} rows taken, {slowed:?} slowed down, {answered} questions answered");

    for (role, bound) in &bounds {
        let peak = installation.peak_memory(*role)?;
        let (there, killed) = cgroups.get(role).map_or((0, 0), |cgroup: &Cgroup| (cgroup.peak(), cgroup.killed()));
        eprintln!(
            "{role:>9}: at most {} MiB, {} MiB with files, bound {} MiB",
            peak / MIB,
            there / MIB,
            bound / MIB
        );
        ensure!(killed == 0, "{role} was killed for want of memory");
        ensure!(peak <= *bound, "{role} took {} MiB, its bound is {} MiB", peak / MIB, bound / MIB);
    }
    ensure!(installation.pids() == before, "a role was started again");
    ensure!(taken.load(Ordering::SeqCst) > 0, "nothing was taken");
    ensure!(
        slowed.load(Ordering::SeqCst) > 0,
        "nobody was slowed down: the load was not hostile enough"
    );

    // All that was acknowledged is there, now and from what is at rest.
    let expected = i64::try_from(rows.load(Ordering::SeqCst))?;
    let all =
        "SELECT (SELECT count(*) FROM texts) + (SELECT count(*) FROM wide) + (SELECT count(*) FROM rows) + (SELECT count(*) FROM sparse)";
    until("every row is there", PATIENCE, || async {
        let found = number(&client, all).await?;
        ensure!(found == expected, "{found} rows instead of {expected}");
        Ok(())
    })
    .await?;
    installation.kill_all().await?;
    cgroups.clear();
    installation.up().await?;
    ensure!(
        number(&client, all).await? == expected,
        "rows are lost or there twice after a start"
    );
    installation.finish().await
}
