//! Where the endpoint, the CA and the key come from.
//!
//! First what is given (flags, then the environment), then `~/.config/coffer/client.env`, then `demo.env` of `--data` or `./coffer-data`.
//! A file is taken as a whole or not at all: a key is never sent to an endpoint that comes from a place of less trust.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Secret;
use http::Uri;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::cli::ClientArgs;
use crate::environment;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::{Layout, read_private};

/// The certificates that the system trusts, where no CA is given.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Everything needed to call.
pub(crate) struct Access {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) key: Secret,
}

/// Where to call.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: String,
    pub(super) name: ServerName<'static>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

/// The names under which the environment and the files hold things.
pub(crate) mod names {
    pub(crate) const ENDPOINT: &str = "COFFER_ENDPOINT";
    pub(crate) const CA: &str = "COFFER_CA";
    pub(crate) const WRITE_KEY: &str = "COFFER_WRITE_KEY";
    pub(crate) const READ_KEY: &str = "COFFER_READ_KEY";
    pub(crate) const ADMIN_KEY: &str = "COFFER_ADMIN_KEY";
    pub(crate) const REVEAL_KEY: &str = "COFFER_REVEAL_KEY";
}

impl Access {
    /// For asking questions: a read key, or an admin key.
    pub(crate) fn reading(args: &ClientArgs) -> Outcome<Self> {
        let found = Found::look(args, &ASKING)?;
        Self::new(&found.endpoint, found.ca.as_deref(), found.key)
    }

    /// For what needs an admin key.
    pub(crate) fn managing(args: &ClientArgs) -> Outcome<Self> {
        let found = Found::look(args, &MANAGING)?;
        Self::new(&found.endpoint, found.ca.as_deref(), found.key)
    }

    /// For being told who people are: a key made for that.
    pub(crate) fn revealing(args: &ClientArgs) -> Outcome<Self> {
        let found = Found::look(args, &REVEALING)?;
        Self::new(&found.endpoint, found.ca.as_deref(), found.key)
    }

    /// For sending events: a write key, or an admin key. Beside it the admin key from the same place, for making tables, where there is one.
    pub(crate) fn sending(args: &ClientArgs) -> Outcome<(Self, Option<Self>)> {
        let found = Found::look(args, &SENDING)?;
        let access = |key| Self::new(&found.endpoint, found.ca.as_deref(), key);
        Ok((access(found.key)?, found.admin.map(access).transpose()?))
    }

    /// What tells this endpoint and key from others, to be hashed with more: a memory of what was sent belongs to both.
    pub(crate) fn identity(&self) -> [&str; 2] {
        [&self.endpoint.authority, self.key.reveal()]
    }

    /// From its parts.
    pub(crate) fn new(endpoint: &str, ca: Option<&Path>, key: Secret) -> Outcome<Self> {
        Ok(Self {
            endpoint: Endpoint::parse(endpoint)?,
            tls: tls(ca)?,
            key,
        })
    }
}

/// What a key is for, and under which names it is looked for.
struct Purpose {
    verb: &'static str,
    kind: &'static str,
    names: &'static [&'static str],
}

const ASKING: Purpose = Purpose {
    verb: "ask",
    kind: "read",
    names: &[names::READ_KEY, names::ADMIN_KEY],
};
const MANAGING: Purpose = Purpose {
    verb: "manage",
    kind: "admin",
    names: &[names::ADMIN_KEY],
};
const REVEALING: Purpose = Purpose {
    verb: "ask about people",
    kind: "reveal",
    names: &[names::REVEAL_KEY],
};
const SENDING: Purpose = Purpose {
    verb: "send",
    kind: "write",
    names: &[names::WRITE_KEY, names::ADMIN_KEY],
};

struct Found {
    endpoint: String,
    ca: Option<PathBuf>,
    key: Secret,
    /// The admin key that stands in the same place; none when the key is from a file of its own.
    admin: Option<Secret>,
}

impl Found {
    fn look(args: &ClientArgs, purpose: &Purpose) -> Outcome<Self> {
        let given_key = match &args.key_file {
            Some(path) => Some(Secret::new(read_private(path)?.trim().to_owned())),
            None => purpose.names.iter().copied().find_map(environment::secret),
        };
        if let (None, Some(directory)) = (&args.key_file, &args.data) {
            return Self::in_directory(directory, purpose);
        }
        if let (Some(key), Some(directory)) = (given_key.clone(), &args.data) {
            return Self::beside(directory, args, key);
        }
        if let Some(key) = given_key {
            let endpoint = args.endpoint.clone().unwrap_or_else(|| "https://localhost:8443".into());
            return Ok(Self {
                endpoint,
                ca: args.ca.clone(),
                key,
                admin: args.key_file.is_none().then(|| environment::secret(names::ADMIN_KEY)).flatten(),
            });
        }
        let home = environment::text("HOME").map(|home| Path::new(&home).join(".config/coffer/client.env"));
        let here = Path::new("coffer-data");
        match home.filter(|file| file.is_file()) {
            _ if args.endpoint.is_some() => {}
            Some(file) => return Self::in_file(&file, purpose),
            None if here.join("demo.env").is_file() => return Self::in_directory(here, purpose),
            None => {}
        }
        let Purpose { verb, kind, names } = purpose;
        Err(Failure::new(Exit::NotAllowed, format!("there is no product key to {verb} with"))
            .why(format!("neither --key-file nor {} is set", names.join(" nor ")))
            .next(format!(
                "`coffer keys create --product NAME --kind {kind}` makes one; `coffer demo` writes its own to demo.env"
            )))
    }

    /// A key of its own for the installation in a directory: what is not given as well is taken from there.
    fn beside(directory: &Path, args: &ClientArgs, key: Secret) -> Outcome<Self> {
        let layout = Layout::at(directory)?;
        let serving: serde_json::Value = fs::read(layout.serving())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let endpoint = args.endpoint.clone().or_else(|| serving["endpoint"].as_str().map(str::to_owned));
        let ca = args.ca.clone().or_else(|| Some(layout.ca()).filter(|ca| ca.is_file()));
        match (endpoint, ca) {
            (Some(endpoint), Some(ca)) => Ok(Self {
                endpoint,
                ca: Some(ca),
                key,
                admin: None,
            }),
            (endpoint, ca) => {
                let missing = match (endpoint.is_none(), ca.is_none()) {
                    (true, true) => "an endpoint and a CA certificate are missing",
                    (true, false) => "an endpoint is missing",
                    _ => "a CA certificate is missing",
                };
                Err(Failure::new(Exit::NotFound, format!("{missing} in {}", directory.display()))
                    .why("no installation has been served from there")
                    .next("start it with `coffer serve --data DIRECTORY`, or give --endpoint and --ca"))
            }
        }
    }

    /// The demo's keys, and the address where the installation listens now: it may have moved since they were written.
    fn in_directory(directory: &Path, purpose: &Purpose) -> Outcome<Self> {
        let layout = Layout::at(directory)?;
        let mut found = Self::in_file(&layout.demo_env(), purpose)?;
        let serving: serde_json::Value = fs::read(layout.serving())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        if let Some(endpoint) = serving["endpoint"].as_str() {
            found.endpoint = endpoint.to_owned();
        }
        Ok(found)
    }

    fn in_file(path: &Path, purpose: &Purpose) -> Outcome<Self> {
        let text = read_private(path)?;
        let lines = EnvFile::parse(&text);
        let missing = |name: &str| Failure::new(Exit::Refused, format!("{} has no {name}", path.display()));
        let mut keys = purpose.names.iter().filter_map(|name| lines.get(name));
        let key = keys.next().ok_or_else(|| missing(purpose.names[0]))?;
        let secret = |key: &str| Secret::new(key.to_owned());
        Ok(Self {
            endpoint: lines.get(names::ENDPOINT).ok_or_else(|| missing(names::ENDPOINT))?.to_owned(),
            ca: lines.get(names::CA).map(PathBuf::from),
            key: secret(key),
            admin: lines.get(names::ADMIN_KEY).map(secret),
        })
    }
}

/// Lines of `NAME=value` that a shell can read as well.
pub(crate) struct EnvFile<'a>(Vec<(&'a str, String)>);

impl<'a> EnvFile<'a> {
    /// Comments and what is no such line are left out.
    pub(crate) fn parse(text: &'a str) -> Self {
        let line = |line: &'a str| {
            let (name, value) = line.trim().split_once('=')?;
            let value = value
                .strip_prefix('\'')
                .and_then(|v| v.strip_suffix('\''))
                .map_or(value.to_owned(), |v| v.replace("'\\''", "'"));
            (!name.starts_with('#')).then_some((name, value))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// A value as a shell reads it back, whatever it contains.
    pub(crate) fn quoted(value: &str) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._:-".contains(&b);
        if !value.is_empty() && value.bytes().all(plain) {
            value.to_owned()
        } else {
            format!("'{}'", value.replace('\'', "'\\''"))
        }
    }
}

impl Endpoint {
    fn parse(text: &str) -> Outcome<Self> {
        let wrong = |why: &str| {
            Failure::new(Exit::Usage, format!("{text:?} is not an endpoint"))
                .why(why)
                .next("give one such as https://localhost:8443")
        };
        let uri: Uri = text.parse().map_err(|_| wrong("it is not an address"))?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong("a key is sent over https only"));
        }
        if uri.path().len() > 1 || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        let authority = uri
            .authority()
            .filter(|a| !a.as_str().contains('@'))
            .ok_or_else(|| wrong("it names no host"))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = match host.parse::<IpAddr>() {
            Ok(ip) => ServerName::IpAddress(ip.into()),
            Err(_) => ServerName::try_from(host.clone()).map_err(|_| wrong("its host cannot be a name"))?,
        };
        Ok(Self {
            port: authority.port_u16().unwrap_or(443),
            authority: authority.as_str().to_owned(),
            host,
            name,
        })
    }
}

fn tls(ca: Option<&Path>) -> Outcome<Arc<ClientConfig>> {
    let path = ca.unwrap_or(Path::new(SYSTEM));
    let what = || format!("could not read the CA certificate {}", path.display());
    let text = fs::read(path).map_err(|error| {
        Failure::new(Exit::NotFound, what())
            .why(error)
            .next("give it with --ca or COFFER_CA")
    })?;
    let mut roots = RootCertStore::empty();
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().during(what())?;
    let (good, _) = roots.add_parsable_certificates(found);
    if good == 0 {
        return Err(Failure::new(Exit::Refused, what()).why("it holds no certificate in PEM"));
    }
    Ok(Arc::new(
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_https_endpoints_only() {
        for wrong in [
            "http://localhost:1",
            "localhost:8443",
            "https://",
            "https://a@b",
            "https://h/path",
            "ftp://x",
        ] {
            assert_eq!(Endpoint::parse(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
        let six = Endpoint::parse("https://[::1]:8443").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 8443));
        assert_eq!(Endpoint::parse("https://coffer.example/").unwrap().port, 443);
    }

    #[test]
    fn a_key_of_its_own_goes_with_what_the_data_directory_says() {
        use std::os::unix::fs::OpenOptionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::at(home.path()).unwrap();
        let key_file = home.path().join("key");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&key_file).unwrap();
        std::io::Write::write_all(&mut file, b"1/key\n").unwrap();
        let args = |endpoint: Option<&str>| ClientArgs {
            endpoint: endpoint.map(str::to_owned),
            ca: None,
            key_file: Some(key_file.clone()),
            data: Some(home.path().to_owned()),
        };
        let refused = Found::look(&args(None), &ASKING).err().unwrap();
        assert_eq!(refused.exit, Exit::NotFound);

        fs::write(layout.ca(), "").unwrap();
        fs::create_dir_all(layout.serving().parent().unwrap()).unwrap();
        fs::write(layout.serving(), r#"{"endpoint":"https://localhost:7"}"#).unwrap();
        let found = Found::look(&args(None), &ASKING).ok().unwrap();
        assert_eq!((found.endpoint.as_str(), found.key.reveal()), ("https://localhost:7", "1/key"));
        assert_eq!(found.ca, Some(layout.ca()));
        let found = Found::look(&args(Some("https://other.example")), &ASKING).ok().unwrap();
        assert_eq!(found.endpoint, "https://other.example");
    }

    #[test]
    fn what_is_written_for_a_shell_reads_back() {
        for value in ["/a/b.pem", "with space", "it's", "$(x) `y`"] {
            let text = format!("# note\nCOFFER_CA={}\n", EnvFile::quoted(value));
            assert_eq!(EnvFile::parse(&text).get("COFFER_CA"), Some(value));
        }
    }
}
