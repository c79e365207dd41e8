//! Bodies that are made to harm: what inflates without end, rows of too many keys, rows nested too deep. Each is answered with its reason,
//! and neither the gateway nor the warehouse takes more memory for it than an import may.

use std::io::{self, Read as _};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, FlushCompress};
use http::Method;
use serde_json::json;
use testkit::{Answer, Client, Installation, gzip, until};

const DATABASE: &str = "abuse";
const MEGABYTE: u64 = 1 << 20;
/// What a bomb becomes.
const BOMB: u64 = 1024 * MEGABYTE;
/// What a body may become, by default (`gateway.limits.max_inflated`). No more of a bomb is ever in memory.
const INFLATED: u64 = 512 * MEGABYTE;
/// What else a role may take meanwhile: the body as sent, what was in memory anyway.
const BESIDE: u64 = 96 * MEGABYTE;
/// Bodies of bad rows that come at the same time, and what each may take.
const AT_ONCE: usize = 4;
const GATEWAY_EACH: u64 = 48 * MEGABYTE;
const WAREHOUSE_EACH: u64 = 128 * MEGABYTE;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_made_to_harm_are_answered_and_memory_stays_flat() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("abuse").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    client
        .import(DATABASE, "events", None, &[json!({"time": 1, "good": true})])
        .await?
        .ok()?;
    let before = Memory::of(&installation)?;

    rows_of_many_keys(&client).await?;
    rows_nested_deep(&client).await?;
    let small = Memory::of(&installation)?;
    for (role, peak) in small.peaks() {
        let most = before.peak(role) + BESIDE;
        ensure!(peak <= most, "{role} took {} MiB for rows of a megabyte", peak / MEGABYTE);
    }

    // What one has taken is given back before the next.
    for bomb in bombs()? {
        goes_off(&client, &bomb).await?;
    }
    let after = Memory::of(&installation)?;
    let most = before.peak(Role::Gateway) + INFLATED + BESIDE;
    ensure!(
        after.peak(Role::Gateway) <= most,
        "the gateway took {} MiB for a bomb",
        after.peak(Role::Gateway) / MEGABYTE
    );
    ensure!(
        after.peak(Role::Warehouse) <= before.peak(Role::Warehouse) + BESIDE,
        "a bomb has reached the warehouse"
    );
    until("what was taken is given back", Duration::from_secs(30), || async {
        for role in [Role::Gateway, Role::Warehouse] {
            let (now, then) = (installation.memory(role)?, before.resident(role));
            ensure!(now <= then + BESIDE, "{role}: {} MiB, {} before", now / MEGABYTE, then / MEGABYTE);
        }
        Ok(())
    })
    .await?;

    ensure!(after.pids == before.pids, "a role was started again");
    client
        .import(DATABASE, "events", None, &[json!({"time": 2, "good": true})])
        .await?
        .ok()?;
    let good = client.number(DATABASE, "SELECT count(*) FROM events WHERE good").await?;
    ensure!(good == 2, "{good} good rows instead of 2");

    nothing_but_bad_rows(&client).await?;
    let full = Memory::of(&installation)?;
    for (role, most) in [(Role::Gateway, GATEWAY_EACH), (Role::Warehouse, WAREHOUSE_EACH)] {
        let (peak, most) = (full.peak(role), after.resident(role) + AT_ONCE as u64 * most + BESIDE);
        ensure!(
            peak <= most.max(after.peak(role)),
            "{role} took {} MiB for what cannot be rows",
            peak / MEGABYTE
        );
    }
    ensure!(full.pids == before.pids, "a role was started again");
    installation.finish().await
}

/// As many rows as may be set aside of one body, none longer than what is said of it: a few kilobytes as sent, several of them at once.
async fn nothing_but_bad_rows(client: &Client) -> anyhow::Result<()> {
    const ROWS: usize = 100_000;
    let body = gzip(format!("\"{}\"\n", "x".repeat(45)).repeat(ROWS).as_bytes());
    ensure!((body.len() as u64) < MEGABYTE / 4, "{} bytes are not small", body.len());
    let all = (0..AT_ONCE).map(|_| sent(client, "jsonl", "gzip", &body));
    for answer in futures::future::join_all(all).await {
        let said = answer?.ok()?.json()?;
        ensure!(said["rejected"] == ROWS, "{said}");
    }
    let small = sent(client, "jsonl", "", "1\n".repeat(900).as_bytes()).await?.ok()?.json()?;
    ensure!(small["rejected"] == 900, "{small}");
    Ok(())
}

/// What roles take, as the kernel counts it.
struct Memory {
    pids: Vec<i32>,
    roles: Vec<(Role, u64, u64)>,
}

impl Memory {
    fn of(installation: &Installation) -> anyhow::Result<Self> {
        let roles = [Role::Gateway, Role::Warehouse];
        let told = |role| Ok((role, installation.memory(role)?, installation.peak_memory(role)?));
        Ok(Self {
            pids: installation.pids().into_values().collect(),
            roles: roles.into_iter().map(told).collect::<anyhow::Result<_>>()?,
        })
    }

    fn resident(&self, role: Role) -> u64 {
        self.roles
            .iter()
            .find(|(of, ..)| *of == role)
            .map_or(0, |(_, resident, _)| *resident)
    }

    fn peak(&self, role: Role) -> u64 {
        self.peaks().find(|(of, _)| *of == role).map_or(0, |(_, peak)| peak)
    }

    fn peaks(&self) -> impl Iterator<Item = (Role, u64)> {
        self.roles.iter().map(|(role, _, peak)| (*role, *peak))
    }
}

async fn sent(client: &Client, format: &str, encoding: &str, body: &[u8]) -> anyhow::Result<Answer> {
    let path = format!("/v3/table/import/{DATABASE}/events/{format}");
    client
        .send_encoded(Method::PUT, &path, None, Some(encoding), body.to_vec())
        .await
        .with_context(|| format!("{format} {encoding}: no answer"))
}

/// A format, a content encoding, and a body that is a megabyte or so and inflates to a gigabyte.
type Bomb = (&'static str, &'static str, Vec<u8>);

fn bombs() -> anyhow::Result<Vec<Bomb>> {
    // A member for each megabyte: the last bytes of the body, which say how much it becomes, speak of the last one.
    let mut member = GzEncoder::new(Vec::new(), Compression::best());
    spaces(&mut member, MEGABYTE)?;
    let members = member.finish()?.repeat(usize::try_from(BOMB / MEGABYTE)?);
    // A megabyte that needs nothing before it, and so stands in the stream as often as it likes.
    let mut deflated = Vec::with_capacity(1 << 16);
    let megabyte = vec![b' '; usize::try_from(MEGABYTE)?];
    Compress::new(Compression::best(), false).compress_vec(&megabyte, &mut deflated, FlushCompress::Full)?;
    let deflated = [deflated.repeat(usize::try_from(BOMB / MEGABYTE)?), vec![3, 0]].concat();
    // Nobody comes as far as the checksums.
    let zlib = [&b"\x78\x9c"[..], &deflated, &[0; 4]].concat();
    let mut zst = zstd::Encoder::new(Vec::new(), 1)?;
    spaces(&mut zst, BOMB)?;
    let zst = zst.finish()?;
    // One member, whose last bytes say the whole.
    let claim = u32::try_from(BOMB)?.to_le_bytes();
    let one = [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &deflated, &[0; 4], &claim].concat();
    Ok(vec![
        ("msgpack.gz", "", one),
        ("msgpack.gz", "", members.clone()),
        ("jsonl", "gzip", members),
        ("json", "deflate", zlib),
        ("jsonl", "deflate", deflated),
        ("msgpack.zst", "", zst.clone()),
        ("jsonl", "zstd", zst),
    ])
}

fn spaces(into: &mut impl io::Write, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(b' ').take(bytes), into)?;
    into.flush()
}

async fn goes_off(client: &Client, (format, encoding, body): &Bomb) -> anyhow::Result<()> {
    ensure!((body.len() as u64) < 2 * MEGABYTE, "{} bytes are no bomb", body.len());
    let refused = sent(client, format, encoding, body).await?;
    let reason = format!("the body inflates to more than {INFLATED} bytes; send it in smaller parts");
    ensure!(
        refused.status == 413 && refused.text().contains(&reason),
        "{format} {encoding}: {} {}",
        refused.status,
        refused.text()
    );
    Ok(())
}

async fn rows_of_many_keys(client: &Client) -> anyhow::Result<()> {
    const KEYS: u32 = 100_000;
    let mut packed = vec![0xdf];
    packed.extend(KEYS.to_be_bytes());
    for key in 0..KEYS {
        packed.push(0xa5);
        packed.extend(format!("{key:05x}").as_bytes());
        packed.push(1);
    }
    let pairs: Vec<String> = (0..KEYS).map(|key| format!("\"{key:x}\":1")).collect();
    let pairs = pairs.join(",");
    let reason = "a map has more than 1000 keys";
    let (row, within) = (format!("{{{pairs}}}"), format!("{{\"a\":{{{pairs}}}}}"));
    let nested = [b"\x81\xa1a", &packed[..]].concat();
    for (format, body) in [("msgpack.gz", &packed[..]), ("msgpack.gz", &nested)] {
        is_one_bad_row(&sent(client, format, "", &gzip(body)).await?, reason)?;
    }
    for body in [&row, &within] {
        is_one_bad_row(&sent(client, "jsonl", "", body.as_bytes()).await?, reason)?;
        is_one_bad_row(&sent(client, "json", "", format!("[{body}]").as_bytes()).await?, reason)?;
    }
    Ok(())
}

async fn rows_nested_deep(client: &Client) -> anyhow::Result<()> {
    const DEPTH: usize = 10_000;
    let reason = "arrays and maps are nested more than 32 deep";
    let arrays = [b"\x81\xa1a", &[0x91; DEPTH][..], &[0xc0]].concat();
    let maps = [&b"\x81\xa1a".repeat(DEPTH)[..], &[0xc0]].concat();
    for body in [&arrays, &maps] {
        is_one_bad_row(&sent(client, "msgpack.gz", "", &gzip(body)).await?, reason)?;
    }
    let arrays = format!("{{\"a\":{}{}}}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let maps = format!("{}1{}", "{\"a\":".repeat(DEPTH), "}".repeat(DEPTH));
    for body in [&arrays, &maps] {
        is_one_bad_row(&sent(client, "jsonl", "", body.as_bytes()).await?, reason)?;
        is_one_bad_row(&sent(client, "json", "", format!("[{body}]").as_bytes()).await?, reason)?;
    }
    // Never closed: of this nobody can say where a next row would begin.
    let open = format!("[{{\"a\":{}", "[".repeat(DEPTH));
    let refused = sent(client, "json", "", open.as_bytes()).await?;
    ensure!(refused.status == 400, "{} {}", refused.status, refused.text());
    Ok(())
}

/// One row is faulty and nothing else is wrong. Where such rows are set aside, the body is taken and says how many it lacks; where they
/// are not, it is refused with the reason. To be narrowed to the one that is meant.
fn is_one_bad_row(answer: &Answer, reason: &str) -> anyhow::Result<()> {
    if answer.status == 200 {
        let said = answer.json()?;
        ensure!(said["rejected"] == 1, "{said}");
    } else {
        ensure!([400, 413].contains(&answer.status), "{} {}", answer.status, answer.text());
        ensure!(answer.text().contains(reason), "{}", answer.text());
    }
    Ok(())
}
