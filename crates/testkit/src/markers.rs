//! Markers: values planted where they must not be found again, and the search for them in every byte.
//!
//! A marker is looked for as it is, in hexadecimal and in base64, in the bytes themselves and in whatever gzip or zstd begins
//! anywhere in them.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use memchr::memmem;

/// What is inflated of one compressed stretch, at most.
const MOST_INFLATED: u64 = 256 << 20;
/// Compressed inside compressed inside compressed: no deeper.
const MOST_DEPTH: usize = 3;

/// Values that were planted, each under a name.
#[derive(Debug, Default)]
pub struct Markers(Vec<Marker>);

#[derive(Debug)]
struct Marker {
    name: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

/// A marker where one was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file, or what else was searched.
    pub place: PathBuf,
    /// The marker's name.
    pub marker: String,
    /// How it was written and wrapped there.
    pub form: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} ({})", self.marker, self.place.display(), self.form)
    }
}

impl Markers {
    /// Adds a value to look for. Values shorter than 8 bytes would be found by chance.
    pub fn plant(&mut self, name: &str, value: &str) {
        self.plant_bytes(name, value.as_bytes());
    }

    /// The same for what is not text.
    pub fn plant_bytes(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 8, "the marker {name} is too short to mean anything when it is found");
        let mut forms = vec![
            ("as it is", bytes.to_vec()),
            ("in hex", hex::encode(bytes).into_bytes()),
            ("in HEX", hex::encode_upper(bytes).into_bytes()),
        ];
        // In base64 three bytes share four characters: there are three ways to write what stands in the middle of something.
        for before in 0..3 {
            forms.push(("in base64", base64_inside(bytes, before, b"+/")));
            forms.push(("in base64url", base64_inside(bytes, before, b"-_")));
        }
        self.0.push(Marker {
            name: name.to_owned(),
            forms,
        });
    }

    /// Every marker in these bytes.
    pub fn in_bytes(&self, place: &Path, bytes: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        self.search(place, bytes, "", 0, &mut found);
        found.dedup();
        found
    }

    /// Every marker in every file under `directory`, in the files' names too.
    pub fn in_tree(&self, directory: &Path) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut waiting = vec![directory.to_owned()];
        while let Some(path) = waiting.pop() {
            found.extend(self.in_bytes(&path, path.as_os_str().as_encoded_bytes()));
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            if about.is_dir() {
                for entry in fs::read_dir(&path)? {
                    waiting.push(entry?.path());
                }
            } else if about.is_file() {
                // A file may be merged away between the listing and the look.
                if let Ok(bytes) = fs::read(&path) {
                    found.extend(self.in_bytes(&path, &bytes));
                }
            }
        }
        Ok(found)
    }

    fn search(&self, place: &Path, bytes: &[u8], wrapped: &str, depth: usize, found: &mut Vec<Found>) {
        for Marker { name, forms } in &self.0 {
            for (form, needle) in forms {
                if memmem::find(bytes, needle).is_some() {
                    found.push(Found {
                        place: place.to_owned(),
                        marker: name.clone(),
                        form: format!("{form}{wrapped}"),
                    });
                }
            }
        }
        if depth == MOST_DEPTH {
            return;
        }
        for at in memmem::find_iter(bytes, b"\x1f\x8b\x08") {
            let inside = inflated(GzDecoder::new(&bytes[at..]));
            self.search(place, &inside, &format!("{wrapped}, in gzip"), depth + 1, found);
        }
        for at in memmem::find_iter(bytes, b"\x28\xb5\x2f\xfd") {
            if let Ok(decoder) = zstd::Decoder::new(&bytes[at..]) {
                let inside = inflated(decoder.single_frame());
                self.search(place, &inside, &format!("{wrapped}, in zstd"), depth + 1, found);
            }
        }
    }
}

/// Whether `wanted` stands anywhere in `bytes`.
pub fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    memmem::find(bytes, wanted).is_some()
}

/// `plain` in zstd, for controls: what the search must find.
pub fn zstd(plain: &[u8]) -> anyhow::Result<Vec<u8>> {
    Ok(zstd::encode_all(plain, 1)?)
}

/// As much as can be inflated; chance makes beginnings that soon end in an error.
fn inflated(decoder: impl std::io::Read) -> Vec<u8> {
    let mut inside = Vec::new();
    let mut limited = decoder.take(MOST_INFLATED);
    let mut chunk = [0; 64 << 10];
    while let Ok(read @ 1..) = limited.read(&mut chunk) {
        inside.extend_from_slice(&chunk[..read]);
    }
    inside
}

/// The characters that are the same whatever stands around `bytes`, when `before` bytes precede it in its group of three.
fn base64_inside(bytes: &[u8], before: usize, last_two: &[u8; 2]) -> Vec<u8> {
    let digit = |six: u32| match six & 63 {
        six @ 0..=25 => b'A' + six as u8,
        six @ 26..=51 => b'a' + (six - 26) as u8,
        six @ 52..=61 => b'0' + (six - 52) as u8,
        six => last_two[(six - 62) as usize],
    };
    let skip = (3 - before) % 3;
    bytes[skip..]
        .chunks_exact(3)
        .flat_map(|three| {
            let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
            [digit(bits >> 18), digit(bits >> 12), digit(bits >> 6), digit(bits)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted() -> Markers {
        let mut markers = Markers::default();
        markers.plant("ada", "ada.lovelace@example.com");
        markers
    }

    fn found(bytes: &[u8]) -> bool {
        !planted().in_bytes(Path::new("x"), bytes).is_empty()
    }

    #[test]
    fn a_marker_is_found_in_every_form_and_wrapping() {
        let plain = b"xx ada.lovelace@example.com yy".to_vec();
        let gzip = crate::gzip(&plain);
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        let behind = |bytes: &[u8]| [b"header\x1f\x8b\x08\x28\xb5\x2f\xfd", bytes, b"tail"].concat();
        assert!(found(&plain));
        assert!(found(hex::encode(&plain).as_bytes()));
        assert!(found(&behind(&gzip)));
        assert!(found(&behind(&zstd)));
        assert!(found(&behind(&crate::gzip(&behind(&zstd)))));
        // "xx ada.lovelace@example.com yy", and with one and two characters fewer in front.
        for text in [
            "eHggYWRhLmxvdmVsYWNlQGV4YW1wbGUuY29tIHl5",
            "eCBhZGEubG92ZWxhY2VAZXhhbXBsZS5jb20geXk=",
            "IGFkYS5sb3ZlbGFjZUBleGFtcGxlLmNvbSB5eQ==",
        ] {
            assert!(found(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert!(!found(b"ada.lovelace at example.com"));
        assert!(!found(&crate::gzip(b"nobody")));
    }

    #[test]
    fn files_are_searched_with_their_names() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("deep")).unwrap();
        fs::write(tree.path().join("deep/ada.lovelace@example.com"), "").unwrap();
        assert_eq!(planted().in_tree(tree.path()).unwrap().len(), 1);
    }
}
