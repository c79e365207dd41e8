//! What of a body cannot be rows: sealed here, before it leaves for the warehouse, as it was sent.
//!
//! Promise: nothing of it leaves here in clear but to whoever may read and manage the product. It may hold identities, so the key is the
//! identity role's: made for one body, handed out once, and kept by nobody but wrapped. What was sealed opens in its own place only.
//!
//! Start at [`all`] and [`sealed`]; [`open`] is the way back. Does not know how it is stored.

use base::{DatabaseName, ErrorKind, ProductId, SecretBytes, TableName, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use events::{Rejected, RowFault, Syntax};
use seal::DataKey;
use wire::v1::{Aside, AsideKeyRequest, AsideName, OpenAsideRequest};

use crate::calls::Call;
use crate::errors::ApiError;
use crate::intake::with_a_core;

/// What one message takes besides its texts.
const FRAME: usize = 128;

/// Something that cannot be a row.
#[derive(Debug)]
pub(crate) struct SetAside {
    /// Its number in the body, from 1.
    pub(crate) row: u64,
    pub(crate) fault: RowFault,
    pub(crate) syntax: Syntax,
    /// As it was sent.
    pub(crate) content: SecretBytes,
    pub(crate) received_at: Timestamp,
}

/// What of `body` cannot be rows.
pub(crate) fn all(rejected: &[Rejected], syntax: Syntax, body: &[u8], now: Timestamp) -> Vec<SetAside> {
    let set_aside = |rejected: &Rejected| SetAside {
        row: rejected.row as u64,
        fault: rejected.fault,
        syntax,
        content: SecretBytes::new(body.get(rejected.sent.clone()).unwrap_or_default().to_vec()),
        received_at: now,
    };
    rejected.iter().map(set_aside).collect()
}

/// About how much memory these take until they are stored, and sealed.
pub(crate) fn memory(all: &[SetAside]) -> usize {
    let one = |set_aside: &SetAside| size_of::<SetAside>() + size_of::<Aside>() + FRAME + 4 * set_aside.content.reveal().len();
    all.iter().map(one).sum()
}

/// Where something was set aside. What is sealed opens nowhere else.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) product: ProductId,
    pub(crate) database: DatabaseName,
    pub(crate) table: TableName,
}

impl Place {
    fn context(&self, name: &AsideName) -> Vec<u8> {
        let Self { product, database, table } = self;
        format!("aside/{product}/{database}/{table}/{}/{}", name.request, name.row).into_bytes()
    }

    fn seal(&self, key: &DataKey, name: &AsideName, content: &SecretBytes, entropy: &dyn base::Entropy) -> String {
        STANDARD.encode(seal::wrap(key, &self.context(name), content.reveal(), entropy))
    }

    /// What was sealed so, in this place.
    pub(crate) fn open(&self, key: &DataKey, aside: &Aside) -> Option<SecretBytes> {
        let sealed = STANDARD.decode(&aside.sealed).ok()?;
        seal::unwrap(key, &self.context(aside.name.as_ref()?), &sealed).ok()
    }
}

/// Seals what cannot be rows, to be sent to the warehouse. Asks for a key if there is something to seal.
pub(crate) async fn sealed(
    call: &Call,
    (database, table): (&DatabaseName, &TableName),
    import_id: &str,
    all: Vec<SetAside>,
) -> Result<Vec<Aside>, ApiError> {
    if all.is_empty() {
        return Ok(Vec::new());
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
    let (request, credential) = (call.request().to_string(), call.caller.credential.to_string());
    let (sealed_key, import_id) = (STANDARD.encode(made.wrapped), import_id.to_owned());
    let entropy = std::sync::Arc::clone(&call.app().entropy);
    let work = move || {
        let one = |set_aside: SetAside| {
            let name = AsideName {
                request: request.clone(),
                row: set_aside.row,
            };
            Aside {
                time: set_aside.received_at.as_secs(),
                sealed: place.seal(&key, &name, &set_aside.content, &*entropy),
                name: Some(name),
                reason: set_aside.fault.code().to_owned(),
                message: set_aside.fault.to_string(),
                syntax: word(set_aside.syntax).to_owned(),
                size: set_aside.content.reveal().len() as u64,
                credential: credential.clone(),
                import_id: import_id.clone(),
                sealed_key: sealed_key.clone(),
            }
        };
        all.into_iter().map(one).collect()
    };
    with_a_core(call.app(), work).await
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
pub(crate) fn weight(all: &[Aside]) -> usize {
    let one = |aside: &Aside| {
        let texts = [&aside.sealed, &aside.sealed_key, &aside.message, &aside.import_id];
        texts.into_iter().map(String::len).sum::<usize>() + FRAME
    };
    all.iter().map(one).sum()
}

const fn word(syntax: Syntax) -> &'static str {
    match syntax {
        Syntax::Msgpack => "msgpack",
        // A record by itself, out of the envelope that it came in.
        Syntax::Json | Syntax::Records(_) => "json",
    }
}

/// The syntax of that name.
pub(crate) fn syntax(word: &str) -> Option<Syntax> {
    match word {
        "msgpack" => Some(Syntax::Msgpack),
        "json" => Some(Syntax::Json),
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
        let name = |row| AsideName { request: "r".into(), row };
        let content = SecretBytes::new(b"ada@example.com".to_vec());
        let aside = |row| Aside {
            sealed: place(1, "events").seal(&key, &name(7), &content, &entropy),
            name: Some(name(row)),
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
        assert_eq!(syntax("csv"), None);
    }
}
