//! What the supervisor hands to a role: one line of JSON on its standard input, which then stays open for as long as the supervisor lives.
//!
//! It holds a single-use enrolment token and, for the gateway, a private key: it goes through a pipe only, never to disk or a log.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use base::{Role, SecretBytes};
use edge::rebuild::Order;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use zones::s3::Known;

use crate::breach::Scene;
use crate::cli::SandboxMode;
use crate::logging::Logging;
use crate::users::Identity;

/// The whole line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Handover {
    pub(crate) role: Role,
    /// The role's own directory.
    pub(crate) directory: PathBuf,
    /// What the role's crate takes as its settings.
    pub(crate) settings: serde_json::Value,
    pub(crate) sandbox: SandboxMode,
    /// Who the role is to be. None: whoever started it.
    #[serde(default)]
    pub(crate) user: Option<Identity>,
    /// Where the other roles listen.
    pub(crate) peers: BTreeMap<Role, SocketAddr>,
    /// How to get a certificate. The vault needs none.
    #[serde(default)]
    pub(crate) enrolment: Option<Enrolment>,
    /// The gateway's public certificate.
    #[serde(default)]
    pub(crate) public: Option<PublicCertificate>,
    /// The addresses of the stores that the role's zones lie in: in its sandbox it cannot ask for names.
    #[serde(default)]
    pub(crate) hosts: Known,
    /// Which inherited listeners there are, after the internal one and the operator's.
    #[serde(default)]
    pub(crate) listeners: Vec<Listening>,
    /// It is not to serve but to rebuild what it owns.
    #[serde(default)]
    pub(crate) rebuild: Option<Order>,
    /// It is not to serve but to attack, for the breach drill.
    #[serde(default)]
    pub(crate) breach: Option<Scene>,
    /// It is not to serve but to prove something of its own files.
    #[serde(default)]
    pub(crate) prove: Option<ToProve>,
    pub(crate) logging: Logging,
}

/// What is to be proven, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToProve {
    /// Who certifies roles.
    pub(crate) installation: Open,
    pub(crate) proof: Proof,
    /// How many files of each kind are tried, if not all.
    pub(crate) sample: Option<u64>,
    /// For the vault: to which process's key each role's keys are to be sealed.
    #[serde(default)]
    pub(crate) sealed_to: BTreeMap<Role, Open>,
    /// For the vault: product keys of customers who keep theirs.
    #[serde(default)]
    pub(crate) shown: Vec<Hidden>,
    /// For the vault: shares of its root key.
    #[serde(default)]
    pub(crate) shares: Vec<Hidden>,
}

/// What is to be proven.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proof {
    /// Files of a product are that product's alone.
    Tenancy,
    /// These two products have nothing in common by which anybody could be told.
    Unlinkable(u64, u64),
    /// Whom this signed receipt is about is gone.
    Erased(Open),
    /// The audit journal is whole, and goes on from these heads, a line each.
    Audit(Vec<String>),
}

impl Proof {
    /// Whether the vault has to hand keys over for it.
    pub(crate) fn takes_keys(&self) -> bool {
        matches!(self, Self::Tenancy | Self::Unlinkable(..))
    }
}

/// What is handed over later, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum News {
    /// The next public certificate.
    Certificate(PublicCertificate),
    /// Other addresses of stores.
    Hosts(Known),
}

/// An inherited listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Listening {
    /// Public, TLS.
    Public,
    /// Plain HTTP.
    Plain,
}

/// A single-use token and whom to trust.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrolment {
    pub(crate) token: Hidden,
    pub(crate) installation_key: Open,
    pub(crate) ca_certificate: Open,
}

/// Certificate chain and private key, DER.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublicCertificate {
    pub(crate) chain: Vec<Open>,
    pub(crate) key: Hidden,
}

/// Bytes that anybody may see, as hexadecimal digits.
#[derive(Clone)]
pub(crate) struct Open(pub(crate) Vec<u8>);

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Open {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Open {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not hexadecimal digits"))
    }
}

/// Bytes that nobody else may see, as hexadecimal digits.
#[derive(Clone, Debug)]
pub(crate) struct Hidden(pub(crate) SecretBytes);

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.reveal()))
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Open::deserialize(deserializer).map(|open| Self(SecretBytes::new(open.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_line_and_never_prints() {
        let enrolment = Enrolment {
            token: Hidden(SecretBytes::new(vec![0xab; 4])),
            installation_key: Open(vec![1]),
            ca_certificate: Open(vec![]),
        };
        assert!(!format!("{enrolment:?}").contains("ab"), "{enrolment:?}");
        let read: Enrolment = serde_json::from_str(&serde_json::to_string(&enrolment).unwrap()).unwrap();
        assert_eq!(read.token.0.reveal(), [0xab; 4]);
    }

    #[test]
    fn news_are_told_apart() {
        let hosts = News::Hosts(Known::from([("store.example".to_owned(), vec!["192.0.2.1".parse().unwrap()])]));
        let read: News = serde_json::from_str(&serde_json::to_string(&hosts).unwrap()).unwrap();
        assert!(matches!(read, News::Hosts(known) if known.contains_key("store.example")));
        let certificate = News::Certificate(PublicCertificate {
            chain: vec![],
            key: Hidden(SecretBytes::new(vec![0xab])),
        });
        assert!(!format!("{certificate:?}").contains("ab"), "{certificate:?}");
        let read: News = serde_json::from_str(&serde_json::to_string(&certificate).unwrap()).unwrap();
        assert!(matches!(read, News::Certificate(read) if read.key.0.reveal() == [0xab]));
    }
}
