//! TLS as a listener sees it: records, and what of the handshake is in clear.

/// The version of a connection that all of ours must have.
pub(crate) const TLS_1_3: u16 = 0x0304;

const CHANGE_CIPHER: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SEALED: u8 = 23;

/// What one side of a connection said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The version that it chose, where it is the server.
    pub(crate) version: Option<u16>,
    /// How many records were sealed.
    pub(crate) sealed: usize,
}

/// Reads a stream as TLS, and says where it is anything else. What of the last record was not sent is not missed.
pub(crate) fn look(mut rest: &[u8]) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut hellos = 0;
    while !rest.is_empty() {
        let is_record = (CHANGE_CIPHER..=SEALED).contains(&rest[0])
            && rest.get(1).is_none_or(|major| *major == 3)
            && rest.get(2).is_none_or(|minor| matches!(minor, 1 | 3));
        if !is_record {
            return Err(format!("a record begins with {:02x?}", &rest[..rest.len().min(5)]));
        }
        let Some(length) = rest.get(3..5).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]]))) else {
            break;
        };
        if length > (16 << 10) + 256 {
            return Err(format!("a record of {length} bytes"));
        }
        let Some(body) = rest.get(5..5 + length) else { break };
        match rest[0] {
            SEALED => seen.sealed += 1,
            CHANGE_CIPHER if body == [1] => {}
            // In TLS 1.3 nothing of the handshake is in clear but the two greetings.
            HANDSHAKE if seen.sealed == 0 && hellos < 2 && matches!(body.first(), Some(1 | 2)) => {
                hellos += 1;
                if body[0] == 2 {
                    seen.version = Some(chosen(body).unwrap_or(u16::from_be_bytes([body[4], body[5]])));
                }
            }
            ALERT if seen.sealed == 0 && length == 2 => {}
            kind => return Err(format!("a record of kind {kind} with {length} bytes in clear")),
        }
        rest = &rest[5 + length..];
    }
    Ok(seen)
}

/// The version in the extension of a server's greeting.
fn chosen(hello: &[u8]) -> Option<u16> {
    const SUPPORTED_VERSIONS: u16 = 43;
    let number = |at: usize| Some(u16::from_be_bytes([*hello.get(at)?, *hello.get(at + 1)?]));
    // Type and length, version, random, session, suite, compression, length of all extensions.
    let session = usize::from(*hello.get(38)?);
    let mut at = 39 + session + 2 + 1 + 2;
    while let (Some(kind), Some(length)) = (number(at), number(at + 2)) {
        if kind == SUPPORTED_VERSIONS {
            return number(at + 4);
        }
        at += 4 + usize::from(length);
    }
    None
}

#[test]
fn what_is_not_tls_1_3_is_told_apart() {
    assert_eq!(look(b""), Ok(Seen::default()));
    assert!(look(b"GET / HTTP/1.1\r\n").is_err());
    assert!(look(b"PRI * HTTP/2.0\r\n").is_err());
    let record = |kind: u8, body: &[u8]| [&[kind, 3, 3, 0, body.len() as u8], body].concat();
    let sealed = record(SEALED, &[9; 40]);
    assert_eq!(look(&sealed).unwrap().sealed, 1);
    assert_eq!(look(&sealed[..20]).unwrap().sealed, 0, "it is cut off");
    // A certificate in clear is of an older version.
    assert!(look(&record(HANDSHAKE, &[11, 0, 0, 1, 0])).is_err());
    assert!(look(&[sealed.clone(), record(HANDSHAKE, &[2, 0, 0, 1, 0])].concat()).is_err());
    assert!(look(&[sealed, b"in clear".to_vec()].concat()).is_err());
    let mut hello = vec![2, 0, 0, 0, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
    assert_eq!(look(&record(HANDSHAKE, &hello)).unwrap().version, Some(TLS_1_3));
    hello.truncate(41);
    assert_eq!(look(&record(HANDSHAKE, &hello)).unwrap().version, Some(0x0303));
}
