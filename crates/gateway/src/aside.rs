//! What of a body cannot be rows: sealed here, before it leaves for the warehouse, as it was sent.
//!
//! Promise: nothing of it leaves here in clear but to whoever may read and manage the product. It may hold identities, so the key is the
//! identity role's: made for one body, handed out once, and kept by nobody but wrapped. What was sealed opens in its own place only.
//!
//! Start at [`all`] and [`sealed`]; [`open`] is the way back. Does not know how it is stored.

use base::{DatabaseName, ErrorKind, ProductId, SecretBytes, TableName, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use events::{Address, Records, Rejected, RowFault, Syntax};
use seal::DataKey;
use wire::v1::{Aside, AsideBatch, AsideKeyRequest, AsideName, AsideReason, AsideRow, OpenAsideRequest};

use crate::calls::Call;
use crate::errors::ApiError;
use crate::intake::with_a_core;

/// What one takes besides its bytes and what is in its fields: twice what sealing adds, and what its message has around it.
const FRAME: usize = 128;

/// Something that cannot be a row.
#[derive(Debug)]
pub(crate) struct SetAside {
    /// Its number in the body, from 1.
    pub(crate) row: u64,
    pub(crate) fault: RowFault,
    /// As it was sent.
    pub(crate) content: SecretBytes,
}

/// What those of one body have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) syntax: Syntax,
    pub(crate) received_at: Timestamp,
}

/// What of `body` cannot be rows.
pub(crate) fn all(rejected: &[Rejected], body: &[u8]) -> Vec<SetAside> {
    let set_aside = |rejected: &Rejected| SetAside {
        row: rejected.row as u64,
        fault: rejected.fault,
        content: SecretBytes::new(body.get(rejected.sent.clone()).unwrap_or_default().to_vec()),
    };
    rejected.iter().map(set_aside).collect()
}

/// About how much memory these will take until they are stored: as they were sent, and sealed, and once more in a message.
pub(crate) fn memory(rejected: &[Rejected]) -> usize {
    const EACH: usize = size_of::<Rejected>() + size_of::<SetAside>() + size_of::<AsideRow>() + FRAME;
    let one = |rejected: &Rejected| EACH + 4 * rejected.sent.len();
    rejected.iter().map(one).sum()
}

/// Where something was set aside. What is sealed opens nowhere else.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) product: ProductId,
    pub(crate) database: DatabaseName,
    pub(crate) table: TableName,
}

impl Place {
    fn context(&self, request: &str, row: u64) -> Vec<u8> {
        let Self { product, database, table } = self;
        format!("aside/{product}/{database}/{table}/{request}/{row}").into_bytes()
    }

    fn seal(&self, key: &DataKey, (request, row): (&str, u64), content: &SecretBytes, entropy: &dyn base::Entropy) -> String {
        STANDARD.encode(seal::wrap(key, &self.context(request, row), content.reveal(), entropy))
    }

    /// What was sealed so, in this place.
    pub(crate) fn open(&self, key: &DataKey, aside: &Aside) -> Option<SecretBytes> {
        let sealed = STANDARD.decode(&aside.sealed).ok()?;
        let AsideName { request, row } = aside.name.as_ref()?;
        seal::unwrap(key, &self.context(request, *row), &sealed).ok()
    }
}

/// Seals what cannot be rows, to be sent to the warehouse. Asks for a key if there is something to seal.
pub(crate) async fn sealed(
    call: &Call,
    (database, table): (&DatabaseName, &TableName),
    origin: Origin,
    all: Vec<SetAside>,
) -> Result<Option<AsideBatch>, ApiError> {
    if all.is_empty() {
        return Ok(None);
    }
    let made = call
        .identity(AsideKeyRequest {}, |mut to, ask| async move { to.aside_key(ask).await })
        .await?;
    let data_key = SecretBytes::new(made.data_key);
    let key = DataKey::try_from(data_key.reveal()).map_err(|_| ApiError::of(ErrorKind::Internal))?;
    let place = Place {
        product: call.caller.product,
        database: database.clone(),
        table: table.clone(),
    };
    let mut batch = AsideBatch {
        request: call.request().to_string(),
        time: origin.received_at.as_secs(),
        syntax: word(origin.syntax).to_owned(),
        credential: call.caller.credential.to_string(),
        sealed_key: STANDARD.encode(made.wrapped),
        ..AsideBatch::default()
    };
    let entropy = std::sync::Arc::clone(&call.app().entropy);
    let work = move || {
        let mut faults: Vec<RowFault> = Vec::new();
        batch.rows.reserve_exact(all.len());
        for SetAside { row, fault, content } in all {
            let reason = faults.iter().position(|known| *known == fault).unwrap_or_else(|| {
                faults.push(fault);
                faults.len() - 1
            });
            batch.rows.push(AsideRow {
                row,
                // There are about ten.
                reason: reason as u32,
                size: content.reveal().len() as u64,
                sealed: place.seal(&key, (&batch.request, row), &content, &*entropy),
            });
        }
        let reason = |fault: &RowFault| AsideReason {
            reason: fault.code().to_owned(),
            message: fault.to_string(),
        };
        batch.reasons = faults.iter().map(reason).collect();
        batch
    };
    with_a_core(call.app(), work).await.map(Some)
}

/// What was set aside, opened, each with its bytes; without them where it does not open: it is none of this place's.
pub(crate) async fn opened(call: &Call, place: &Place, all: Vec<Aside>) -> Result<Vec<(Aside, Option<SecretBytes>)>, ApiError> {
    // Those of one body have one key.
    let mut keys: Vec<&str> = all.iter().map(|aside| aside.sealed_key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let asked = OpenAsideRequest {
        wrapped: keys.iter().map(|key| STANDARD.decode(key).unwrap_or_default()).collect(),
    };
    let found = call.identity(asked, |mut to, ask| async move { to.open_aside(ask).await }).await?;
    let data_keys: Vec<SecretBytes> = found.data_keys.into_iter().map(SecretBytes::new).collect();
    if data_keys.len() != keys.len() {
        return Err(ApiError::of(ErrorKind::Internal));
    }
    let opened = |aside: &Aside| {
        let at = keys.binary_search(&aside.sealed_key.as_str()).ok()?;
        let key = DataKey::try_from(data_keys.get(at)?.reveal()).ok()?;
        place.open(&key, aside)
    };
    let contents: Vec<Option<SecretBytes>> = all.iter().map(opened).collect();
    Ok(all.into_iter().zip(contents).collect())
}

/// About how many bytes these are in a message.
pub(crate) fn weight(batch: &AsideBatch) -> usize {
    let one = |row: &AsideRow| row.sealed.len() + size_of::<AsideRow>();
    batch.rows.iter().map(one).sum()
}

/// The answer to an import of which too much cannot be rows.
pub(crate) fn too_large() -> ApiError {
    ApiError::new(
        ErrorKind::TooLarge,
        "too much of the import cannot be rows; nothing of it was stored, send the events in smaller parts",
    )
}

const fn word(syntax: Syntax) -> &'static str {
    match syntax {
        Syntax::Msgpack => "msgpack",
        Syntax::Json => "json",
        Syntax::Records(_) => "record",
    }
}

/// The syntax of that name.
pub(crate) fn syntax(word: &str) -> Option<Syntax> {
    match word {
        "msgpack" => Some(Syntax::Msgpack),
        "json" => Some(Syntax::Json),
        // By itself, out of the envelope that it came in, and with an id if it has one. Where it came from nobody knows any more.
        "record" => Some(Syntax::Records(Records {
            single: true,
            address: Address::Untold,
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_own_place_only() {
        let entropy = SeededEntropy::new(1);
        let (key, other) = (DataKey::generate(&entropy), DataKey::generate(&entropy));
        let place = |product, table: &str| Place {
            product: ProductId::new(product).unwrap(),
            database: "web".parse().unwrap(),
            table: table.parse().unwrap(),
        };
        let content = SecretBytes::new(b"ada@example.com".to_vec());
        let aside = |row| Aside {
            sealed: place(1, "events").seal(&key, ("r", 7), &content, &entropy),
            name: Some(AsideName { request: "r".into(), row }),
            ..Aside::default()
        };
        assert_eq!(place(1, "events").open(&key, &aside(7)).unwrap().reveal(), content.reveal());
        assert!(place(1, "events").open(&other, &aside(7)).is_none());
        assert!(place(1, "events").open(&key, &aside(8)).is_none());
        assert!(place(1, "others").open(&key, &aside(7)).is_none());
        assert!(place(2, "events").open(&key, &aside(7)).is_none());
        assert!(!aside(7).sealed.contains("ada"));
    }

    #[test]
    fn a_syntax_has_one_name() {
        for known in [Syntax::Msgpack, Syntax::Json] {
            assert_eq!(syntax(word(known)), Some(known));
        }
        let records = |single| {
            Syntax::Records(Records {
                single,
                address: Address::Untold,
            })
        };
        assert_eq!(syntax(word(records(false))), Some(records(true)));
        assert_eq!(syntax("csv"), None);
    }
}
