//! AWS Signature Version 4, for requests whose whole body is at hand.
//!
//! Every header that is sent is signed, and so is the digest of the body: what arrives changed is refused by the store.

use base::Timestamp;
use seal::{hmac_sha256, sha256};

use super::credentials::Credentials;

/// What is signed. Header names are in lower case; path and query are encoded as they are sent, the query sorted.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a [(String, String)],
    /// SHA-256 of the body in hexadecimal digits.
    pub(super) digest: &'a str,
}

/// `YYYYMMDDThhmmssZ`: the form of the header `x-amz-date`.
pub(super) fn date(now: Timestamp) -> String {
    now.to_string().replace(['-', ':'], "")
}

/// The header `authorization` of a request at `now`, of which the header `x-amz-date` must be among those given.
pub(super) fn authorization(request: &Request<'_>, region: &str, credentials: &Credentials, now: Timestamp) -> String {
    let mut headers: Vec<_> = request.headers.iter().collect();
    headers.sort();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method, request.path, request.query, request.digest
    );
    let scope = format!("{}/{region}/s3/aws4_request", now.day());
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        date(now),
        hex::encode(sha256(canonical.as_bytes()))
    );
    let secret = base::SecretBytes::new([b"AWS4", credentials.secret_access_key.reveal().as_bytes()].concat());
    let mut key = base::SecretBytes::new(hmac_sha256(secret.reveal(), now.day().as_bytes()).to_vec());
    for part in [region, "s3", "aws4_request"] {
        key = base::SecretBytes::new(hmac_sha256(key.reveal(), part.as_bytes()).to_vec());
    }
    let signature = hex::encode(hmac_sha256(key.reveal(), text.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
        credentials.access_key_id.reveal()
    )
}

#[cfg(test)]
mod tests {
    use base::Secret;

    use super::*;

    /// The examples of "Authenticating Requests: Using the Authorization Header" in the manual of Amazon S3.
    fn check(method: &str, path: &str, query: &str, more: &[(&str, &str)], body: &[u8], expected: &str) {
        let credentials = Credentials {
            access_key_id: Secret::new("AKIAIOSFODNN7EXAMPLE".into()),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
        };
        let now = Timestamp::from_micros(1_369_353_600_000_000);
        let digest = hex::encode(sha256(body));
        let mut headers = vec![
            ("host".to_owned(), "examplebucket.s3.amazonaws.com".to_owned()),
            ("x-amz-content-sha256".to_owned(), digest.clone()),
            ("x-amz-date".to_owned(), date(now)),
        ];
        headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let request = Request {
            method,
            path,
            query,
            headers: &headers,
            digest: &digest,
        };
        let signed = authorization(&request, "us-east-1", &credentials, now);
        assert!(signed.ends_with(&format!("Signature={expected}")), "{method} {path}: {signed}");
        assert!(!signed.contains("wJalr"));
    }

    #[test]
    fn requests_are_signed_as_the_manual_says() {
        assert_eq!(date(Timestamp::from_micros(1_369_353_600_000_000)), "20130524T000000Z");
        check(
            "GET",
            "/test.txt",
            "",
            &[("range", "bytes=0-9")],
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        );
        check(
            "PUT",
            "/test%24file.text",
            "",
            &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        );
        check(
            "GET",
            "/",
            "max-keys=2&prefix=J",
            &[],
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        );
    }
}
