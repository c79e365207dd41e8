//! What an owner of the data directory can work out while the development root key lies in it. For tests alone: the stored forms are the
//! roles' own business, nothing of the binary does this, and a change of them fails here.

use std::fs;
use std::path::{Path, PathBuf};

use seal::{DataKey, PrivateKey, Purpose, derive};
use testkit::{Installation, Product, python};

/// A product's private key.
pub(crate) async fn private_key(installation: &Installation, product: &Product) -> anyhow::Result<Vec<u8>> {
    let vault = installation.data().join("roles/vault");
    let database = sqlite_in(vault.clone())?;
    let query = format!("SELECT wrapped_private FROM products WHERE product = {}", product.number);
    let wrapped = value(&database, &query).await?;
    let root = hex::decode(fs::read_to_string(vault.join("root.key"))?.trim())?;
    let wrapping: DataKey = derive(&root, Purpose::RootWrapping, b"vault");
    let context = format!("vault/product/{}/private", product.number);
    let secret = seal::unwrap(&wrapping, context.as_bytes(), &wrapped)?;
    PrivateKey::try_from(secret.reveal())?;
    Ok(secret.reveal().to_vec())
}

/// One BLOB of a SQLite database.
pub(crate) async fn value(database: &Path, query: &str) -> anyhow::Result<Vec<u8>> {
    let hex = python("sqlite_value.py", &[("DATABASE", &database.to_string_lossy()), ("QUERY", query)]).await?;
    Ok(hex::decode(hex.stdout.trim())?)
}

fn sqlite_in(directory: PathBuf) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() && fs::read(&path)?.starts_with(b"SQLite format 3") {
            return Ok(path);
        }
    }
    anyhow::bail!("the vault has no view")
}
