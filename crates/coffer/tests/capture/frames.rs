//! From frames to streams: what each side of every TCP connection said, whole, or an error where something was not heard.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, ensure};

/// One direction of a connection.
pub(crate) struct Stream {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Stream {
    pub(crate) fn name(&self) -> String {
        format!("what {} said to {}", self.from, self.to)
    }
}

/// All that was heard.
pub(crate) struct Streams {
    pub(crate) streams: Vec<Stream>,
    /// What was neither TCP nor empty.
    pub(crate) others: BTreeSet<String>,
}

#[derive(Default)]
struct Pieces {
    first: Option<u32>,
    by_offset: BTreeMap<u32, Vec<u8>>,
}

impl Streams {
    pub(crate) fn of(frames: &[Vec<u8>]) -> anyhow::Result<Self> {
        let mut pieces: BTreeMap<(SocketAddr, SocketAddr), Vec<Pieces>> = BTreeMap::new();
        let mut others = BTreeSet::new();
        for frame in frames {
            let segment = match segment(frame).context("a frame cannot be read")? {
                Ok(segment) => segment,
                Err(other) => {
                    others.insert(other);
                    continue;
                }
            };
            let of_pair = pieces.entry((segment.from, segment.to)).or_default();
            if segment.begins
                && of_pair
                    .last()
                    .is_none_or(|last| last.first != Some(segment.sequence.wrapping_add(1)))
            {
                of_pair.push(Pieces {
                    first: Some(segment.sequence.wrapping_add(1)),
                    by_offset: BTreeMap::new(),
                });
            }
            if segment.payload.is_empty() {
                continue;
            }
            let current = of_pair.last_mut().and_then(|pieces| Some((pieces.first?, &mut pieces.by_offset)));
            let (first, by_offset) = current.with_context(|| format!("{} was open before the capture", segment.from))?;
            let offset = segment.sequence.wrapping_sub(first);
            // A probe whether the other is alive repeats the byte before.
            if offset > u32::MAX / 2 {
                continue;
            }
            let known = by_offset.entry(offset).or_default();
            // On the loopback each frame is heard going and coming.
            if known.len() < segment.payload.len() {
                *known = segment.payload.to_vec();
            }
        }
        let mut streams = Vec::new();
        for ((from, to), of_pair) in pieces {
            for pieces in of_pair {
                let mut bytes = Vec::new();
                for (offset, piece) in pieces.by_offset {
                    let offset = offset as usize;
                    ensure!(offset <= bytes.len(), "something that {from} said to {to} was not heard");
                    if offset + piece.len() > bytes.len() {
                        bytes.extend(&piece[bytes.len() - offset..]);
                    }
                }
                streams.push(Stream { from, to, bytes });
            }
        }
        Ok(Self { streams, others })
    }

    /// What was said to a port.
    pub(crate) fn to_port(&self, port: u16) -> Vec<&Stream> {
        self.streams.iter().filter(|stream| stream.to.port() == port).collect()
    }

    /// Whether the other side of this one's connection named a version: only a server does.
    pub(crate) fn answers_have_a_version(&self, stream: &Stream) -> bool {
        self.streams
            .iter()
            .filter(|other| (other.from, other.to) == (stream.to, stream.from))
            .any(|other| crate::tls::look(&other.bytes).is_ok_and(|seen| seen.version.is_some()))
    }
}

struct Segment<'a> {
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    begins: bool,
    payload: &'a [u8],
}

/// A frame of Ethernet with TCP in it, or what it is instead. `None` where it is cut off.
fn segment(frame: &[u8]) -> Option<Result<Segment<'_>, String>> {
    const TCP: u8 = 6;
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let packet = frame.get(14..)?;
    let (protocol, from, to, rest): (u8, IpAddr, IpAddr, &[u8]) = match kind {
        0x0800 => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let length = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            let end = if length == 0 { packet.len() } else { length };
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            (*packet.get(9)?, address(12)?.into(), address(16)?.into(), packet.get(header..end)?)
        }
        0x86dd => {
            let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
            let end = if length == 0 { packet.len() } else { 40 + length };
            let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (*packet.get(6)?, address(8)?.into(), address(24)?.into(), packet.get(40..end)?)
        }
        other => return Some(Err(format!("a frame of type {other:04x}"))),
    };
    if protocol != TCP {
        return Some(Err(format!("protocol {protocol} from {from} to {to}")));
    }
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let header = usize::from(rest.get(12)? >> 4) * 4;
    Some(Ok(Segment {
        from: SocketAddr::new(from, port(0)?),
        to: SocketAddr::new(to, port(2)?),
        sequence: u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?),
        begins: rest.get(13)? & 2 != 0,
        payload: rest.get(header..)?,
    }))
}
