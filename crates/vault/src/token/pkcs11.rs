//! The calls to a PKCS #11 module.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base::{Entropy, ErrorKind};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use seal::DataKey;
use zeroize::{Zeroize, Zeroizing};

use super::{Act, TokenError, TokenSettings};

/// Of what is wrapped: this byte, the nonce, then the key and its tag.
const FORM: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;
const KEY: usize = 32;
const LONGEST_PIN: u64 = 256;

pub(super) fn use_once(
    settings: &TokenSettings,
    act: &Act<'_>,
    context: &[u8],
    entropy: &dyn Entropy,
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let pin = pin(&settings.pin_file)?;
    let module = Pkcs11::new(&settings.module).map_err(|error| {
        let path = settings.module.display();
        TokenError::new(ErrorKind::Invalid, format!("the module {path} cannot be loaded: {error}"))
    })?;
    let flags = CInitializeFlags::OS_LOCKING_OK;
    module
        .initialize(CInitializeArgs::new(flags))
        .map_err(failed("the module did not start"))?;
    let slot = slot(&module, &settings.token)?;
    let done = with_session(&module, slot, &pin, settings, act, context, entropy);
    // What is wrong with the end of it does not change what was done.
    drop(module.finalize());
    done
}

fn with_session(
    module: &Pkcs11,
    slot: Slot,
    pin: &AuthPin,
    settings: &TokenSettings,
    act: &Act<'_>,
    context: &[u8],
    entropy: &dyn Entropy,
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let about = module.get_token_info(slot).map_err(failed("the token says nothing of itself"))?;
    if about.user_pin_locked() {
        return Err(TokenError::new(
            ErrorKind::Forbidden,
            "its user PIN is locked: unlock it with the token's own program",
        ));
    }
    if about.user_pin_count_low() || about.user_pin_final_try() {
        return Err(TokenError::new(
            ErrorKind::Forbidden,
            "a wrong PIN was shown since the last login, and another one may lock the token: put the right one into vault.pkcs11.pin_file, and log in once with the token's own program",
        ));
    }
    let opened = match act {
        Act::Wrap(_) => module.open_rw_session(slot),
        Act::Unwrap(_) => module.open_ro_session(slot),
    };
    let session = opened.map_err(failed("no session could be opened"))?;
    session.login(UserType::User, Some(pin)).map_err(|error| match error {
        Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinLocked, _) => TokenError::new(
            ErrorKind::Forbidden,
            "it refuses the PIN in vault.pkcs11.pin_file; put the right one there before the next start",
        ),
        other => failed("nobody could log in")(other),
    })?;
    let found = find(&session, &settings.key)?;
    match act {
        Act::Wrap(key) => {
            let handle = match found {
                Some(handle) => handle,
                None => make(&session, &settings.key, entropy)?,
            };
            stays(&session, handle, &settings.key)?;
            wrap(&session, handle, key, context, entropy)
        }
        Act::Unwrap(wrapped) => {
            let handle = found.ok_or_else(|| {
                let why = format!(
                    "it has no AES key with the label {:?}: without the one that wrapped the root key nothing opens",
                    settings.key
                );
                TokenError::new(ErrorKind::NotFound, why)
            })?;
            stays(&session, handle, &settings.key)?;
            unwrap(&session, handle, wrapped, context)
        }
    }
}

fn failed(what: &'static str) -> impl Fn(Error) -> TokenError {
    move |error| TokenError::new(ErrorKind::Unavailable, format!("{what}: {error}"))
}

/// Of a file that nobody but its owner reads.
fn pin(path: &Path) -> Result<AuthPin, TokenError> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            ErrorKind::NotFound
        } else {
            ErrorKind::Forbidden
        };
        TokenError::new(
            kind,
            format!("the file with its PIN, {shown}, cannot be read by the vault: {error}"),
        )
    })?;
    let unreadable = |error| {
        TokenError::new(
            ErrorKind::Unavailable,
            format!("the file with its PIN, {shown}, cannot be read: {error}"),
        )
    };
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() || about.mode() & 0o077 != 0 {
        let why = format!(
            "the file with its PIN, {shown}, must be readable by its owner only: chmod 600 {shown}, and change the PIN if others had access"
        );
        return Err(TokenError::new(ErrorKind::Forbidden, why));
    }
    // As large as it can become, so that no part of it is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(512));
    file.take(LONGEST_PIN + 1).read_to_string(&mut text).map_err(unreadable)?;
    let pin = text.trim_end_matches(['\r', '\n']);
    if pin.is_empty() || text.len() as u64 > LONGEST_PIN {
        return Err(TokenError::new(
            ErrorKind::Invalid,
            format!("the file with its PIN, {shown}, must hold 1 to {LONGEST_PIN} bytes in one line"),
        ));
    }
    Ok(AuthPin::from(pin))
}

fn slot(module: &Pkcs11, label: &str) -> Result<Slot, TokenError> {
    let slots = module.get_slots_with_token().map_err(failed("the module shows no tokens"))?;
    let mut found = Vec::new();
    for slot in slots {
        if module.get_token_info(slot).is_ok_and(|about| about.label().trim_end() == label) {
            found.push(slot);
        }
    }
    match found[..] {
        [slot] => Ok(slot),
        [] => Err(TokenError::new(
            ErrorKind::NotFound,
            format!("the module shows no token with the label {label:?}: is it plugged in, and may the vault's user reach it?"),
        )),
        _ => Err(TokenError::new(
            ErrorKind::Conflict,
            format!("the module shows several tokens with the label {label:?}: give them labels of their own"),
        )),
    }
}

fn find(session: &Session, label: &str) -> Result<Option<ObjectHandle>, TokenError> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let found = session.find_objects(&template).map_err(failed("its keys could not be listed"))?;
    match found[..] {
        [] => Ok(None),
        [handle] => Ok(Some(handle)),
        _ => Err(TokenError::new(
            ErrorKind::Conflict,
            format!("it has several AES keys with the label {label:?}: nobody can tell which one wraps the root key"),
        )),
    }
}

fn make(session: &Session, label: &str, entropy: &dyn Entropy) -> Result<ObjectHandle, TokenError> {
    let mut id = vec![0; 16];
    entropy.fill(&mut id);
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id),
    ];
    session
        .generate_key(&Mechanism::AesKeyGen, &template)
        .map_err(failed("it could not make an AES key"))
}

/// Refuses a key that can leave the token, or could once.
fn stays(session: &Session, handle: ObjectHandle, label: &str) -> Result<(), TokenError> {
    let asked = [
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::Extractable,
        AttributeType::NeverExtractable,
        AttributeType::ValueLen,
    ];
    let told = session
        .get_attributes(handle, &asked)
        .map_err(failed("it does not say what may be done with its key"))?;
    let stays = [
        told.contains(&Attribute::Sensitive(true)),
        told.contains(&Attribute::AlwaysSensitive(true)),
        told.contains(&Attribute::Extractable(false)),
        told.contains(&Attribute::NeverExtractable(true)),
    ];
    if stays.contains(&false) {
        let why = format!(
            "its key {label:?} can leave the token, or could once: name another one in vault.pkcs11.key, which the vault makes in the token itself"
        );
        return Err(TokenError::new(ErrorKind::Forbidden, why));
    }
    if !told.contains(&Attribute::ValueLen(32.into())) {
        return Err(TokenError::new(
            ErrorKind::Invalid,
            format!("its key {label:?} is not an AES key of 256 bits"),
        ));
    }
    Ok(())
}

fn wrap(
    session: &Session,
    handle: ObjectHandle,
    key: &DataKey,
    context: &[u8],
    entropy: &dyn Entropy,
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let mut nonce = [0; NONCE];
    entropy.fill(&mut nonce);
    let mut shown = nonce;
    let mechanism = gcm(&mut shown, context)?;
    let sealed = session
        .encrypt(&Mechanism::AesGcm(mechanism), handle, key.reveal())
        .map_err(failed("it could not encrypt"))?;
    if sealed.len() != KEY + TAG {
        return Err(TokenError::new(
            ErrorKind::Corrupt,
            "what it encrypted is not as long as AES-GCM makes it",
        ));
    }
    let mut wrapped = Vec::with_capacity(1 + NONCE + sealed.len());
    wrapped.push(FORM);
    wrapped.extend_from_slice(&nonce);
    wrapped.extend_from_slice(&sealed);
    Ok(Zeroizing::new(wrapped))
}

fn unwrap(session: &Session, handle: ObjectHandle, wrapped: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let another = || {
        TokenError::new(
            ErrorKind::Corrupt,
            "its key does not open the root key: it is another key than the one that wrapped it, or root.sealed was changed",
        )
    };
    let (form, rest) = wrapped.split_first().ok_or_else(another)?;
    if *form != FORM || rest.len() != NONCE + KEY + TAG {
        return Err(another());
    }
    let (nonce, sealed) = rest.split_at(NONCE);
    let mut shown = [0; NONCE];
    shown.copy_from_slice(nonce);
    let mechanism = gcm(&mut shown, context)?;
    let mut opened = match session.decrypt(&Mechanism::AesGcm(mechanism), handle, sealed) {
        Ok(opened) => Zeroizing::new(opened),
        // What modules answer to a tag that does not fit.
        Err(Error::Pkcs11(
            RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange | RvError::GeneralError | RvError::FunctionFailed,
            _,
        )) => {
            return Err(another());
        }
        Err(error) => return Err(failed("it could not decrypt")(error)),
    };
    if opened.len() != KEY {
        opened.zeroize();
        return Err(another());
    }
    Ok(opened)
}

fn gcm<'a>(nonce: &'a mut [u8; NONCE], context: &'a [u8]) -> Result<GcmParams<'a>, TokenError> {
    GcmParams::new(nonce, context, (TAG as u64 * 8).into()).map_err(failed("AES-GCM cannot be asked for"))
}
