//! The files of tables.

use base::{ProductId, TableId};
use bytes::Bytes;
use columns::catalog::{Catalog, FileRecord};
use columns::{DigestKey, Part, read_back};
use edge::proving::{Told, read, walk};
use journal::proof::{cuts, places};
use seal::{PrivateKey, open_key};
use zones::ObjectName;

use super::{AT_ONCE, LARGEST, Proof, ProveError, nobodys};
use crate::known::TABLES;

impl Proof<'_> {
    /// Every file that the catalog names, and how many others there are.
    pub(super) async fn tables(&self, catalog: &Catalog, told: &mut Told<'_>) -> Result<(), ProveError> {
        told.begin(self.keys.product, "tables");
        let mut last = String::new();
        loop {
            let files = catalog.files_after(&last, AT_ONCE).await?;
            let Some(end) = files.last() else { break };
            end.object.as_str().clone_into(&mut last);
            for file in &files {
                if !told.wants(file.object.as_str())? {
                    continue;
                }
                match self.found(file, told)? {
                    Some(bytes) => self.file(file, &bytes, told)?,
                    // Merged into others since it was listed.
                    None if !catalog.has_file(&file.object).await? => told.gone(),
                    None if self.parts.stores => {
                        told.note(format!("{}: it is in stores only, which are not looked at", file.object))?;
                    }
                    None => told.wrong(format!("{}: no zone has it", file.object))?,
                }
            }
        }
        told.end()?;
        self.unnamed(catalog, told).await
    }

    /// A whole copy of a file. Others have to be the same bytes.
    fn found(&self, file: &FileRecord, told: &mut Told<'_>) -> Result<Option<Bytes>, ProveError> {
        let mut found = None;
        for zone in &self.parts.zones {
            let path = zone.join(file.object.as_str());
            match read(&path, LARGEST) {
                Ok(Some(bytes)) if file.object.is_name_of(&bytes) => found = Some(bytes),
                Ok(Some(_)) => told.wrong(format!("{}: its bytes are not those of its name", path.display()))?,
                Ok(None) => {}
                Err(error) => told.wrong(format!("{}: {error}", path.display()))?,
            }
        }
        Ok(found)
    }

    fn file(&self, file: &FileRecord, bytes: &Bytes, told: &mut Told<'_>) -> Result<(), ProveError> {
        let shown = file.object.as_str();
        let (product, binding, entropy) = (self.keys.product, self.parts.files.binding(), self.parts.entropy);
        let own = binding.key_context(product, file.table, &file.file);
        for (whose, key) in self.wrong {
            told.tried(shown, whose, open_key(key, &file.sealed_key, &own).is_err())?;
        }
        let nobody = PrivateKey::generate(entropy);
        told.tried(shown, "no key", open_key(&nobody, &file.sealed_key, &own).is_err())?;
        let sums = DigestKey::new(nobodys(entropy));
        let in_place = binding.aad_prefix(product, file.table, &file.file);
        told.tried(shown, "no key", read_back(bytes, &nobodys(entropy), &in_place, &sums).is_err())?;
        let Some(right) = &self.keys.private else { return Ok(()) };
        let key = match open_key(right, &file.sealed_key, &own) {
            Ok(key) => key,
            Err(error) => return Ok(told.wrong(format!("{shown}: its key does not open with the right key: {error}"))?),
        };
        let rows = match read_back(bytes, &key, &in_place, &sums) {
            Ok(rows) if rows.rows == file.rows => rows,
            Ok(rows) => {
                return Ok(told.wrong(format!("{shown}: it has {} rows, and its catalog says {}", rows.rows, file.rows))?);
            }
            Err(error) => return Ok(told.wrong(format!("{shown}: it does not open with the right key: {error}"))?),
        };
        told.opened();
        for (what, (product, table, name)) in elsewhere(product, file) {
            let context = binding.key_context(product, table, &name);
            told.tried(shown, what, open_key(right, &file.sealed_key, &context).is_err())?;
            let place = binding.aad_prefix(product, table, &name);
            told.tried(shown, what, read_back(bytes, &key, &place, &sums).is_err())?;
        }
        // What anybody who knows the public key can make for this place: the key that is kept does not open it, and it is not what the name says.
        let other = nobodys(entropy);
        told.tried(shown, "forged", read_back(bytes, &other, &in_place, &sums).is_err())?;
        // Under the name that it was stored under, changed bytes are no object at all; what encryption by itself makes of them is seen too.
        let refused = |bytes: &Bytes| !file.object.is_name_of(bytes) && is_refused(read_back(bytes, &key, &in_place, &sums).ok(), rows);
        for length in cuts(bytes.len()) {
            told.tried(shown, "truncated", refused(&bytes.slice(..length)))?;
        }
        for place in places(bytes.len(), entropy) {
            let mut changed = bytes.to_vec();
            changed[place] ^= 1 << (place % 8);
            told.tried(shown, "bit-flipped", refused(&changed.into()))?;
        }
        Ok(())
    }

    /// Files that lie beside: on their way in or out. No catalog has a key for them, so nothing opens them.
    async fn unnamed(&self, catalog: &Catalog, told: &mut Told<'_>) -> Result<(), ProveError> {
        let below = format!("{TABLES}/{}", self.keys.product);
        let mut count = 0_u64;
        for zone in &self.parts.zones {
            let mut names = Vec::new();
            walk::<ProveError>(&zone.join(&below), &mut |path| {
                names.push(format!("{below}/{}", path.display()));
                Ok(())
            })?;
            for name in names {
                match ObjectName::parse(&name) {
                    Ok(object) if catalog.has_file(&object).await? => {}
                    Ok(_) => count += 1,
                    Err(_) => told.wrong(format!("{}: its name is not that of an object", zone.join(&name).display()))?,
                }
            }
        }
        if count > 0 {
            told.note(format!(
                "product {}: {count} copies of files that no catalog names (being written, or to be deleted): no key is kept that would open them",
                self.keys.product
            ))?;
        }
        Ok(())
    }
}

fn is_refused(read: Option<Part>, rows: Part) -> bool {
    // A bit that says nothing may be turned; not a row may be another.
    read.is_none_or(|read| read == rows)
}

/// Where else a file could be put.
fn elsewhere(product: ProductId, file: &FileRecord) -> [(&'static str, (ProductId, TableId, String)); 3] {
    let next = ProductId::new(product.get() + 1).unwrap_or(product);
    let mut table = file.table.to_bytes();
    table[15] ^= 1;
    let table = TableId::try_from(&table[..]).unwrap_or(file.table);
    [
        ("moved to another product", (next, file.table, file.file.clone())),
        ("moved to another table", (product, table, file.file.clone())),
        ("renamed", (product, file.table, format!("{}x", file.file))),
    ]
}
