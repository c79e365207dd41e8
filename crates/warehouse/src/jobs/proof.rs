//! What is kept of one job, opened with what has to open it and tried with everything that has to be refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use base::{Entropy, JobId, ProductId};
use journal::proof::{cuts, places};
use seal::{DataKey, FRAME_LEN, PrivateKey, SEALED_KEY_LEN, open_frames, open_key, open_span, open_with, seal_frames, sealed_len};

use super::result::{WHOLE, context as result_context};
use super::{StoredJob, context};

/// How many frames are opened at once.
const FRAMES: u64 = 64;

/// With what a job is tried.
pub(crate) struct Trial<'a> {
    pub(crate) product: ProductId,
    pub(crate) right: Option<&'a PrivateKey>,
    pub(crate) wrong: &'a [(String, PrivateKey)],
    pub(crate) entropy: &'a dyn Entropy,
}

impl Trial<'_> {
    fn next(&self) -> ProductId {
        ProductId::new(self.product.get() + 1).unwrap_or(self.product)
    }

    /// Nobody else's key opens what is sealed, nor does it open elsewhere.
    fn sealed(&self, sealed: &[u8], own: &[u8], elsewhere: &[(&str, Vec<u8>)], tried: &mut dyn FnMut(&str, bool)) {
        let Some(sealed_key) = sealed.get(..SEALED_KEY_LEN) else {
            return tried("cut down to nothing", false);
        };
        for (whose, key) in self.wrong {
            tried(whose, open_key(key, sealed_key, own).is_err());
        }
        let nobodys = PrivateKey::generate(self.entropy);
        tried("no key", open_key(&nobodys, sealed_key, own).is_err());
        let Some(right) = self.right else { return };
        for (what, context) in elsewhere {
            tried(what, open_key(right, sealed_key, context).is_err());
        }
    }
}

/// The texts and messages of a job. False where the key is not at hand.
pub(crate) fn texts(trial: &Trial<'_>, job: &StoredJob, tried: &mut dyn FnMut(&str, bool)) -> Result<bool, String> {
    let parts = [
        ("query", Some(&job.sealed_query)),
        ("columns", job.sealed_columns.as_ref()),
        ("error", job.sealed_error.as_ref()),
    ];
    for (part, sealed) in parts {
        let Some(sealed) = sealed else { continue };
        let own = context(trial.product, job.id, part);
        let elsewhere = [
            ("moved to another product", context(trial.next(), job.id, part)),
            ("moved to another job", context(trial.product, JobId(job.id.0 + 1), part)),
            ("moved to another part of the job", context(trial.product, job.id, "another")),
        ];
        trial.sealed(sealed, &own, &elsewhere, tried);
        let Some(right) = trial.right else { continue };
        open_with(right, &own, sealed).map_err(|error| format!("its {part} does not open with the right key: {error}"))?;
        for length in cuts(sealed.len()) {
            tried("truncated", open_with(right, &own, &sealed[..length]).is_err());
        }
        for place in places(sealed.len(), trial.entropy) {
            let mut changed = sealed.clone();
            changed[place] ^= 1 << (place % 8);
            tried("bit-flipped", open_with(right, &own, &changed).is_err());
        }
    }
    Ok(trial.right.is_some())
}

/// A job's result, where it has one. False where the key is not at hand; `None` where there is none any more.
pub(crate) fn result(
    trial: &Trial<'_>,
    job: &StoredJob,
    directory: &Path,
    tried: &mut dyn FnMut(&str, bool),
) -> Result<Option<bool>, String> {
    let Some(sealed_key) = &job.sealed_key else { return Ok(None) };
    let own = result_context(trial.product, job.id);
    let elsewhere = [
        ("moved to another product", result_context(trial.next(), job.id)),
        ("moved to another job", result_context(trial.product, JobId(job.id.0 + 1))),
    ];
    trial.sealed(sealed_key, &own, &elsewhere, tried);
    let Some(right) = trial.right else { return Ok(Some(false)) };
    let key = open_key(right, sealed_key, &own).map_err(|error| format!("its key does not open with the right key: {error}"))?;
    let failed = |error: io::Error| format!("its file cannot be read: {error}");
    let mut file = match File::open(directory.join(format!("{}.{WHOLE}", job.id))) {
        // Kept long enough, since the job was looked at.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let (total, frame) = (job.result_bytes, sealed_len(FRAME_LEN));
    let length = file.metadata().map_err(failed)?.len();
    if length != sealed_len(total) {
        return Err(format!("its file has {length} bytes, and should have {}", sealed_len(total)));
    }
    let frames = length.div_ceil(frame).max(1);
    for from in (0..frames).step_by(usize::try_from(FRAMES).unwrap_or(1)) {
        let sealed = span(&mut file, from * frame, (from + FRAMES) * frame, length).map_err(failed)?;
        let opened = open_span(&key, &own, &sealed, from, total);
        opened.map_err(|error| format!("it does not open with the right key: {error}"))?;
        if from > 0 {
            tried("frames swapped", open_span(&key, &own, &sealed, 0, total).is_err());
        }
    }
    // Each attempt on the frame that it is about: no other one has a part in it.
    let of_place = |place: u64, file: &mut File| {
        let number = place / frame;
        span(file, number * frame, (number + 1) * frame, length).map(|sealed| (number, sealed))
    };
    let (_, first) = of_place(0, &mut file).map_err(failed)?;
    for (what, context) in &elsewhere {
        tried(what, open_span(&key, context, &first, 0, total).is_err());
    }
    let other = DataKey::generate(trial.entropy);
    tried("another file's key", open_span(&other, &own, &first, 0, total).is_err());
    for length in cuts(first.len()) {
        tried("truncated", open_frames(&key, &own, &first[..length]).is_err());
    }
    if frames > 1 {
        tried("truncated", open_frames(&key, &own, &first).is_err());
    }
    for place in places(usize::try_from(length).unwrap_or(usize::MAX), trial.entropy) {
        let (number, mut sealed) = of_place(place as u64, &mut file).map_err(failed)?;
        let at = usize::try_from(place as u64 - number * frame).unwrap_or(0);
        sealed[at] ^= 1 << (place % 8);
        tried("bit-flipped", open_span(&key, &own, &sealed, number, total).is_err());
    }
    // Whoever may write the file may seal another result under a key of their own: the one that is kept with the job does not open it.
    let forged = seal_frames(&other, &own, b"forged");
    tried("forged", open_frames(&key, &own, &forged).is_err());
    Ok(Some(true))
}

fn span(file: &mut File, from: u64, to: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.by_ref().take(to.min(length) - from).read_to_end(&mut bytes)?;
    Ok(bytes)
}
