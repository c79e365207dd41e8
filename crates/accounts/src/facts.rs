//! What the journal holds: facts, never commands. Stored form, frozen: fields may be added, none may change its meaning.

use prost::Message;

/// One entry of the journal.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Fact {
    #[prost(oneof = "What", tags = "1, 2, 3")]
    pub(crate) what: Option<What>,
}

/// What is so from now on.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum What {
    /// A product exists.
    #[prost(message, tag = "1")]
    Product(ProductMade),
    /// A credential may do something.
    #[prost(message, tag = "2")]
    Grant(CredentialGranted),
    /// A product says something else about its columns.
    #[prost(message, tag = "3")]
    Columns(ColumnsSet),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProductMade {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Microseconds since the epoch.
    #[prost(int64, tag = "3")]
    pub(crate) created_at: i64,
    #[prost(string, repeated, tag = "4")]
    pub(crate) identity_columns: Vec<String>,
    /// Encoded `base::PersonalColumn`.
    #[prost(string, repeated, tag = "5")]
    pub(crate) personal_columns: Vec<String>,
    #[prost(bool, tag = "6")]
    pub(crate) link_identities: bool,
}

/// All that a product says about its columns, from now on.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ColumnsSet {
    #[prost(uint64, tag = "1")]
    pub(crate) product: u64,
    #[prost(string, repeated, tag = "2")]
    pub(crate) identity_columns: Vec<String>,
    /// Encoded `base::PersonalColumn`.
    #[prost(string, repeated, tag = "3")]
    pub(crate) personal_columns: Vec<String>,
    /// Microseconds since the epoch.
    #[prost(int64, tag = "4")]
    pub(crate) set_at: i64,
    #[prost(bool, tag = "5")]
    pub(crate) link_identities: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CredentialGranted {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) credential: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) product: u64,
    /// `base::Verbs::bits`.
    #[prost(uint32, tag = "3")]
    pub(crate) verbs: u32,
    /// Microseconds since the epoch.
    #[prost(int64, tag = "4")]
    pub(crate) granted_at: i64,
}

impl From<What> for Fact {
    fn from(what: What) -> Self {
        Self { what: Some(what) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_bytes_do_not_change() {
        let product = ProductMade {
            number: 7,
            name: "demo".into(),
            created_at: 1_000_000,
            identity_columns: vec!["email".into()],
            personal_columns: Vec::new(),
            link_identities: false,
        };
        let set = ColumnsSet {
            product: 7,
            identity_columns: vec!["id".into()],
            personal_columns: vec!["name".into()],
            set_at: 5,
            link_identities: false,
        };
        let linking = ColumnsSet {
            link_identities: true,
            ..set.clone()
        };
        let grant = CredentialGranted {
            credential: vec![1; 16],
            product: 7,
            verbs: 2,
            granted_at: 5,
        };
        let hex = |fact: Fact| fact.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(What::Product(product).into()), "0a130807120464656d6f18c0843d2205656d61696c");
        assert_eq!(hex(What::Columns(set).into()), "1a0e080712026964".to_owned() + "1a046e616d652005");
        assert_eq!(
            hex(What::Columns(linking).into()),
            "1a10080712026964".to_owned() + "1a046e616d6520052801"
        );
        assert_eq!(
            hex(What::Grant(grant).into()),
            "12180a100101010101010101010101010101010110071802200 5".replace(' ', "")
        );
    }
}
