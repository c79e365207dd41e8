//! The root key in a hardware token, as an operator meets it: SoftHSM 2 is the token, loaded as any other PKCS #11 module is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use serde_json::{Value, json};
use testkit::{Installation, until};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "2718281828";
const DATABASE: &str = "token";
const COUNT: &str = "SELECT count(*) FROM events";
const SOON: Duration = Duration::from_secs(60);

/// Tokens of an installation, in a directory of its own.
struct Tokens {
    place: PathBuf,
}

impl Tokens {
    async fn make(installation: &Installation) -> anyhow::Result<Self> {
        ensure!(Path::new(MODULE).exists(), "SoftHSM is missing: apt-get install softhsm2");
        let place = installation.aside("tokens");
        fs::create_dir_all(place.join("kept"))?;
        let kept = place.join("kept").display().to_string();
        fs::write(
            place.join("softhsm2.conf"),
            format!("directories.tokendir = {kept}\nobjectstore.backend = file\nlog.level = ERROR\n"),
        )?;
        let tokens = Self { place };
        tokens.pin(PIN)?;
        tokens
            .util(&["--init-token", "--free", "--label", "coffer", "--so-pin", "31415926", "--pin", PIN])
            .await?;
        Ok(tokens)
    }

    async fn util(&self, words: &[&str]) -> anyhow::Result<()> {
        let ran = Command::new("softhsm2-util")
            .args(words)
            .env("SOFTHSM2_CONF", self.place.join("softhsm2.conf"))
            .output()
            .await
            .context("softhsm2-util")?;
        ensure!(ran.status.success(), "{ran:?}");
        Ok(())
    }

    /// Logs in and puts a key there that was made elsewhere, "brought".
    async fn bring_a_key(&self) -> anyhow::Result<()> {
        let bytes = self.place.join("bytes");
        fs::write(&bytes, [7; 32])?;
        let bytes = bytes.display().to_string();
        self.util(&[
            "--import", &bytes, "--aes", "--token", "coffer", "--pin", PIN, "--label", "brought", "--id", "02",
        ])
        .await
    }

    fn pin(&self, pin: &str) -> anyhow::Result<()> {
        fs::write(self.place.join("pin"), format!("{pin}\n"))?;
        Ok(fs::set_permissions(self.place.join("pin"), Permissions::from_mode(0o600))?)
    }

    /// All of it to the user that the vault is.
    fn give(&self, installation: &Installation) -> anyhow::Result<()> {
        let mut left = vec![self.place.clone()];
        while let Some(path) = left.pop() {
            installation.give(Role::Vault, &path)?;
            if path.is_dir() {
                for entry in fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    fn settings(&self, label: &str) -> String {
        let place = self.place.display();
        format!(
            "[vault.pkcs11]\nmodule = \"{MODULE}\"\ntoken = \"{label}\"\npin_file = \"{place}/pin\"\nenvironment = {{ SOFTHSM2_CONF = \"{place}/softhsm2.conf\" }}\n"
        )
    }

    /// What the program that loads the module says to a question.
    async fn asked(&self, question: Value) -> anyhow::Result<Value> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_coffer"))
            .arg("use-token")
            .env("SOFTHSM2_CONF", self.place.join("softhsm2.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut pipe = child.stdin.take().context("no pipe")?;
        pipe.write_all(question.to_string().as_bytes()).await?;
        drop(pipe);
        let ran = child.wait_with_output().await?;
        serde_json::from_slice(&ran.stdout).with_context(|| format!("{ran:?}"))
    }

    fn question(&self, act: &str, value: &str, context: &str) -> Value {
        let settings = json!({"module": MODULE, "token": "coffer", "pin_file": self.place.join("pin")});
        json!({"settings": settings, act: value, "context": context})
    }
}

async fn holder(installation: &Installation) -> anyhow::Result<Value> {
    let shown = installation.operator(&["vault", "status", "-o", "json"]).await?.ok()?;
    let rows: Value = serde_json::from_str(&shown)?;
    Ok(rows[0]["root_key"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_file_goes_into_a_token_and_from_there_to_people() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("held").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    let rows = [json!({"time": 1_700_000_000, "n": 1})];
    admin.import(DATABASE, "events", None, &rows).await?.ok()?;
    installation.stop().await?;
    let file = installation.data().join("roles/vault/root.key");
    let before = fs::read(&file)?;

    let tokens = Tokens::make(&installation).await?;
    tokens.give(&installation)?;
    // Nothing but the token's own mistake is said, and nothing has changed.
    installation.configure(&tokens.settings("another"))?;
    let said = installation.up_in_vain().await?;
    ensure!(
        said.contains("no token with the label \\\"another\\\"") || said.contains("no token with the label \"another\""),
        "{said}"
    );
    ensure!(fs::read(&file)? == before, "the root key file changed");

    installation.configure(&tokens.settings("coffer"))?;
    installation.up().await?;
    ensure!(!file.exists(), "the root key file is still there");
    ensure!(holder(&installation).await? == "token");
    ensure!(admin.number(DATABASE, COUNT).await? == 1, "rows are lost");
    let refused = installation.operator(&["vault", "seal", "--yes"]).await?;
    ensure!(
        refused.code == Some(5) && refused.stderr.contains("coffer vault init"),
        "{refused:?}"
    );
    installation.stop().await?;
    installation.up().await?;
    ensure!(admin.number(DATABASE, COUNT).await? == 1, "rows are lost");
    installation.stop().await?;

    // With a wrong PIN it is shown once, however often the vault starts.
    tokens.pin("1111111111")?;
    tokens.give(&installation)?;
    let said = installation.up_in_vain().await?;
    ensure!(
        said.contains("refuses the PIN") && said.contains("a wrong PIN was shown since the last login"),
        "{said}"
    );
    ensure!(!said.contains(PIN) && !said.contains("1111111111"), "a PIN is in the log");
    tokens.pin(PIN)?;
    tokens.give(&installation)?;
    // Whoever logs in with the right one, by another program, makes it good.
    tokens.bring_a_key().await?;
    tokens.give(&installation)?;
    installation.up().await?;

    let made = installation
        .operator(&["vault", "init", "--shares", "2", "--threshold", "2"])
        .await?;
    ensure!(made.stderr.contains("the token opens nothing any more"), "{made:?}");
    let shares: Vec<_> = made.ok()?.lines().map(str::to_owned).collect();
    installation.stop().await?;
    installation.up_until_said("THE VAULT IS SEALED").await?;
    for share in &shares {
        installation.operator_reading(&["vault", "unseal"], share).await?.ok()?;
    }
    installation.ready().await?;
    until("rows are read", SOON, || async {
        ensure!(admin.number(DATABASE, COUNT).await? == 1);
        Ok(())
    })
    .await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_with_a_token_has_no_root_key_file_and_opens_without_its_token_no_more() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let tokens = Tokens::make(&installation).await?;
    // Nobody can know yet which user the vault will be.
    let settings = format!("[users]\nseparate = \"off\"\n{}", tokens.settings("coffer"));
    installation.configure(&settings)?;
    installation.up().await?;
    let product = installation.product("held").await?;
    let file = installation.data().join("roles/vault/root.key");
    ensure!(!file.exists() && holder(&installation).await? == "token");
    installation.stop().await?;

    installation.configure("[users]\nseparate = \"off\"\n")?;
    let said = installation.up_in_vain().await?;
    ensure!(
        said.contains("opens with a hardware token only") && said.contains("vault.pkcs11"),
        "{said}"
    );
    installation.configure(&settings)?;
    let (kept, away) = (tokens.place.join("kept"), tokens.place.join("away"));
    fs::rename(&kept, &away)?;
    fs::create_dir(&kept)?;
    let said = installation.up_in_vain().await?;
    ensure!(said.contains("no token with the label"), "{said}");
    fs::remove_dir(&kept)?;
    fs::rename(&away, &kept)?;
    ensure!(!file.exists(), "a new root key was made");
    installation.up().await?;
    ensure!(
        installation
            .operator(&["keys", "list", "--product", &product.name])
            .await?
            .ok()?
            .contains("read")
    );
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_only_what_it_wrapped_for_the_same_place_with_a_key_that_cannot_leave_it() -> anyhow::Result<()> {
    let installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let tokens = Tokens::make(&installation).await?;
    let key = "5a".repeat(32);
    let none = tokens.asked(tokens.question("unwrap", &"01".repeat(61), "00")).await?;
    ensure!(none["refused"][1].as_str().is_some_and(|why| why.contains("no AES key")), "{none}");
    let wrapped = tokens.asked(tokens.question("wrap", &key, "00")).await?;
    let wrapped = wrapped["done"].as_str().context("it did not wrap")?.to_owned();
    ensure!(wrapped.len() == 2 * 61 && !wrapped.contains(&key));
    let opened = tokens.asked(tokens.question("unwrap", &wrapped, "00")).await?;
    ensure!(opened == json!({"done": key}), "it does not open");

    let mut places = vec![
        (wrapped.clone(), "01".to_owned()),
        (String::new(), "00".to_owned()),
        (wrapped[2..].to_owned(), "00".to_owned()),
    ];
    for at in [0, 2, 30, 60, wrapped.len() - 1] {
        let mut changed = wrapped.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        places.push((String::from_utf8(changed)?, "00".to_owned()));
    }
    for (wrapped, context) in places {
        let answer = tokens.asked(tokens.question("unwrap", &wrapped, &context)).await?;
        ensure!(
            answer["refused"][1].as_str().is_some_and(|why| why.contains("does not open")),
            "{answer}"
        );
    }
    let mut open = tokens.question("wrap", &key, "00");
    fs::set_permissions(tokens.place.join("pin"), Permissions::from_mode(0o640))?;
    let answer = tokens.asked(open.clone()).await?;
    ensure!(
        answer["refused"][1]
            .as_str()
            .is_some_and(|why| why.contains("readable by its owner only")),
        "{answer}"
    );
    tokens.pin(PIN)?;

    // A key that was made elsewhere is known elsewhere.
    tokens.bring_a_key().await?;
    open["settings"]["key"] = json!("brought");
    let answer = tokens.asked(open).await?;
    ensure!(
        answer["refused"][1].as_str().is_some_and(|why| why.contains("can leave the token")),
        "{answer}"
    );

    for wrong in [
        json!({"module": "relative.so"}),
        json!({"module": "/dev/null"}),
        json!({"token": ""}),
        json!({"token": "x".repeat(33)}),
    ] {
        let mut question = tokens.question("wrap", &key, "00");
        for (name, value) in wrong.as_object().context("an object")? {
            question["settings"][name] = value.clone();
        }
        let answer = tokens.asked(question).await?;
        ensure!(answer["refused"].is_array(), "{answer}");
    }
    Ok(())
}
