//! The data of the bench as files: one gzip per body that is sent, as JSON lines and as msgpack.
//!
//! Promise: a folder that says it is done holds all of the data; what was broken off is made anew.
//!
//! Start at [`prepare`]. A folder belongs to one number of rows and one seed, and is used again.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::data::{Event, Shop};
use super::say;

/// Changes when the same rows and seed would give other files.
const VERSION: u32 = 1;
/// Rows of a body.
const LARGE: usize = 10_000;
/// Rows of a small body.
const SMALL: usize = 500;
/// So many rows are written as small bodies as well.
const SMALL_ROWS: usize = 200_000;

/// Bodies in both forms, not compressed yet.
struct Body {
    folder: &'static str,
    number: usize,
    json: Vec<u8>,
    msgpack: Vec<u8>,
}

impl Body {
    fn new(folder: &'static str) -> Self {
        Self {
            folder,
            number: 0,
            json: Vec::new(),
            msgpack: Vec::new(),
        }
    }

    /// What was gathered; the next one goes on empty.
    fn take(&mut self) -> Self {
        let full = Self {
            folder: self.folder,
            number: self.number,
            json: std::mem::take(&mut self.json),
            msgpack: std::mem::take(&mut self.msgpack),
        };
        self.number += 1;
        full
    }
}

/// The folder with the data, which is made unless it is there.
pub(crate) fn prepare(under: &Path, rows: u64, seed: u64) -> anyhow::Result<PathBuf> {
    let folder = under.join(format!("data-{VERSION}-{rows}-{seed}"));
    let done = folder.join("done");
    if done.exists() {
        return Ok(folder);
    }
    say(&format!("making {rows} rows, once"));
    let began = Instant::now();
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for size in ["large", "small"] {
        fs::create_dir_all(folder.join(size))?;
    }
    let (json, msgpack) = write(&folder, rows, seed)?;
    fs::write(done, format!("{json} {msgpack}\n"))?;
    say(&format!("made them in {:.0} s", began.elapsed().as_secs_f64()));
    Ok(folder)
}

/// Writes all; how many bytes it was as JSON and as msgpack before it was compressed.
fn write(folder: &Path, rows: u64, seed: u64) -> anyhow::Result<(u64, u64)> {
    let (mut json, mut msgpack) = (0, 0);
    thread::scope(|scope| -> anyhow::Result<()> {
        let (send, receive) = mpsc::sync_channel::<Body>(4);
        let packer = scope.spawn(move || -> anyhow::Result<()> {
            for body in receive {
                let place = folder.join(body.folder);
                pack(&place.join(format!("{:05}.jsonl.gz", body.number)), &body.json)?;
                pack(&place.join(format!("{:05}.msgpack.gz", body.number)), &body.msgpack)?;
            }
            Ok(())
        });
        let (mut large, mut small) = (Body::new("large"), Body::new("small"));
        for (index, event) in Shop::new(rows, seed).enumerate() {
            let (json_before, msgpack_before) = (large.json.len(), large.msgpack.len());
            as_json(&event, &mut large.json);
            as_msgpack(&event, &mut large.msgpack);
            json += (large.json.len() - json_before) as u64;
            msgpack += (large.msgpack.len() - msgpack_before) as u64;
            if index < SMALL_ROWS {
                small.json.extend_from_slice(&large.json[json_before..]);
                small.msgpack.extend_from_slice(&large.msgpack[msgpack_before..]);
                if (index + 1) % SMALL == 0 {
                    send.send(small.take()).context("the packer has ended")?;
                }
            }
            if (index + 1) % LARGE == 0 {
                send.send(large.take()).context("the packer has ended")?;
            }
        }
        for rest in [small.take(), large.take()] {
            if !rest.json.is_empty() {
                send.send(rest).context("the packer has ended")?;
            }
        }
        drop(send);
        packer.join().map_err(|_| anyhow::anyhow!("the packer broke off"))?
    })?;
    Ok((json, msgpack))
}

fn pack(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut packed = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    packed.write_all(bytes)?;
    fs::write(path, packed.finish()?).with_context(|| format!("could not write {}", path.display()))
}

fn as_json(event: &Event, to: &mut Vec<u8>) {
    let mut line = String::with_capacity(512);
    // Nothing in these texts needs to be escaped but the quotes of `properties`.
    let _ = write!(
        line,
        "{{\"time\":{},\"event\":\"{}\",\"user_id\":\"{}\",\"session\":\"{}\",\"url\":\"{}\",\"country\":\"{}\",\"device\":\"{}\",\"app_version\":\"{}\",\"properties\":\"{}\"",
        event.time,
        event.event,
        event.user_id,
        event.session,
        event.url,
        event.country,
        event.device,
        event.app_version,
        event.properties.replace('"', "\\\""),
    );
    if let Some(referrer) = event.referrer {
        let _ = write!(line, ",\"referrer\":\"{referrer}\"");
    }
    if let (Some(cents), Some(quantity)) = (event.cents, event.quantity) {
        let _ = write!(line, ",\"price\":{}.{:02},\"quantity\":{quantity}", cents / 100, cents % 100);
    }
    line.push_str("}\n");
    to.extend_from_slice(line.as_bytes());
}

fn as_msgpack(event: &Event, to: &mut Vec<u8>) {
    let fields = 9 + u8::from(event.referrer.is_some()) + 2 * u8::from(event.cents.is_some());
    to.push(0x80 | fields);
    text(to, "time");
    to.push(0xd3);
    to.extend_from_slice(&event.time.to_be_bytes());
    for (name, value) in [
        ("event", event.event),
        ("user_id", &event.user_id),
        ("session", &event.session),
        ("url", &event.url),
        ("country", event.country),
        ("device", event.device),
        ("app_version", event.app_version),
        ("properties", &event.properties),
    ] {
        text(to, name);
        text(to, value);
    }
    if let Some(referrer) = event.referrer {
        text(to, "referrer");
        text(to, referrer);
    }
    if let (Some(cents), Some(quantity)) = (event.cents, event.quantity) {
        text(to, "price");
        to.push(0xcb);
        to.extend_from_slice(&(cents as f64 / 100.0).to_be_bytes());
        text(to, "quantity");
        to.push(0xcf);
        to.extend_from_slice(&quantity.to_be_bytes());
    }
}

fn text(to: &mut Vec<u8>, text: &str) {
    match text.len() {
        short @ 0..=31 => to.push(0xa0 | short as u8),
        long => to.extend_from_slice(&[0xd9, u8::try_from(long).unwrap_or(u8::MAX)]),
    }
    to.extend_from_slice(&text.as_bytes()[..text.len().min(255)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_same_in_both_forms() {
        let event = Event {
            time: 5,
            event: "purchase",
            user_id: "u".into(),
            session: "s".into(),
            url: "l".repeat(40),
            referrer: None,
            country: "DE",
            device: "tablet",
            app_version: "1",
            cents: Some(1205),
            quantity: Some(2),
            properties: "{\"a\":1}".into(),
        };
        let (mut json, mut msgpack) = (Vec::new(), Vec::new());
        as_json(&event, &mut json);
        as_msgpack(&event, &mut msgpack);
        let json = String::from_utf8(json).expect("it is text");
        assert!(json.contains("\"price\":12.05,\"quantity\":2}"), "{json}");
        assert!(json.contains("\"properties\":\"{\\\"a\\\":1}\""), "{json}");
        assert_eq!(&msgpack[..6], b"\x8b\xa4time");
        let price = [b"\xa5price\xcb".as_slice(), &12.05_f64.to_be_bytes()].concat();
        assert!(msgpack.windows(price.len()).any(|part| part == price));
        assert!(
            msgpack
                .windows(43)
                .any(|part| part == [b"l\xd9\x28".as_slice(), &[b'l'; 40]].concat())
        );
    }

    #[test]
    fn data_is_made_once_and_what_was_broken_off_is_made_anew() {
        let under = tempfile::tempdir().expect("a folder");
        let folder = prepare(under.path(), 1_200, 1).expect("made");
        let large = folder.join("large/00000.msgpack.gz");
        let first = fs::read(&large).expect("there");
        assert!(folder.join("small/00002.jsonl.gz").exists() && !folder.join("small/00003.jsonl.gz").exists());
        fs::write(&large, b"mark").expect("written");
        prepare(under.path(), 1_200, 1).expect("used again");
        assert_eq!(fs::read(&large).expect("there"), b"mark");
        fs::remove_file(folder.join("done")).expect("removed");
        prepare(under.path(), 1_200, 1).expect("made anew");
        assert_eq!(fs::read(&large).expect("there"), first);
    }
}
