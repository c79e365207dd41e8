//! Where a zone in a store lies: `https://host[:port]/bucket[/prefix]`.

use crate::name::is_prefix;

/// The place of a zone. Addresses of buckets are those with the bucket in the path, which every store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    bucket: String,
    /// Empty, or whole segments without a slash at either end.
    prefix: String,
}

/// Keys have 1024 characters at most; this leaves enough for every name that is in use.
const LONGEST_PREFIX: usize = 200;

impl Address {
    /// Reads one. Says in words what is wrong with it; never repeats it, somebody may have put a secret there.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let form = "it has the form https://host:port/bucket/prefix";
        let rest = url.strip_prefix("https://").ok_or("it must begin with https://")?;
        if rest.contains(['@', '?', '#', '%']) {
            return Err(form);
        }
        let (authority, path) = rest.split_once('/').ok_or(form)?;
        let authority: http::uri::Authority = authority.parse().map_err(|_| form)?;
        // Not `port()`, for which a number that is none is as good as nothing.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 443,
            Some(port) => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(form)?,
            None => return Err(form),
        };
        let path = path.strip_suffix('/').unwrap_or(path);
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if !is_bucket(bucket) {
            return Err("the name of a bucket has 3 to 63 characters of a-z, 0-9, '-' and '.'");
        }
        if !is_prefix(prefix) || prefix.len() > LONGEST_PREFIX {
            return Err("a prefix has at most 200 characters of a-z, 0-9, '-', '_', '.' and '/', and no segment begins with a dot");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || port == 0 {
            return Err(form);
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// A name or an address, as certificates have it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether one of them lies in the other, so that what is listed in one would show up in both.
    pub fn meets(&self, other: &Self) -> bool {
        let within = |a: &str, b: &str| b.is_empty() || a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (&self.host, self.port, &self.bucket) == (&other.host, other.port, &other.bucket)
            && (within(&self.prefix, &other.prefix) || within(&other.prefix, &self.prefix))
    }

    /// What stands in the header of the same name.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }

    /// The path of the bucket.
    pub(super) fn bucket_path(&self) -> String {
        format!("/{}", self.bucket)
    }

    /// The key of what is called `name` in the zone.
    pub(super) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.prefix)
        }
    }

    /// What `key` is called in the zone, if it lies there.
    pub(super) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(&self.prefix)?.strip_prefix('/')
    }
}

fn is_bucket(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    (3..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_host_port_bucket_and_prefix() {
        let address = Address::parse("https://S3.example.com/events/warehouse/a/").unwrap();
        assert_eq!((address.host(), address.port()), ("s3.example.com", 443));
        assert_eq!(address.key("zone.json"), "warehouse/a/zone.json");
        assert_eq!(address.name("warehouse/a/raw/x"), Some("raw/x"));
        assert_eq!(address.name("warehouse/ab/raw/x"), None);
        assert_eq!((&*address.bucket_path(), &*address.authority()), ("/events", "s3.example.com"));

        let bare = Address::parse("https://[::1]:9000/events").unwrap();
        assert_eq!((bare.host(), &*bare.authority(), &*bare.key("x")), ("::1", "[::1]:9000", "x"));
    }

    #[test]
    fn what_is_no_address_or_not_encrypted_is_refused_and_not_repeated() {
        for bad in [
            "http://localhost:9000/events",
            "s3://events/a",
            "https://host",
            "https://host/",
            "https://host/Ev",
            "https://host:0/events",
            "https://host:99999/events",
            "https://user:secret@host/events",
            "https://host/events/../x",
            "https://host/events//x",
            "https://host/events?x=secret",
            "https:///events",
            "",
        ] {
            let said = Address::parse(bad).unwrap_err();
            assert!(!said.contains("secret"), "{bad}: {said}");
        }
    }

    #[test]
    fn zones_that_lie_in_one_another_meet() {
        let at = |url: &str| Address::parse(url).unwrap();
        let one = at("https://h/events/a");
        for other in ["https://h/events/a", "https://h:443/events", "https://h/events/a/b"] {
            assert!(one.meets(&at(other)) && at(other).meets(&one), "{other}");
        }
        for other in [
            "https://h/events/ab",
            "https://h/other/a",
            "https://h:444/events/a",
            "https://i/events/a",
        ] {
            assert!(!one.meets(&at(other)) && !at(other).meets(&one), "{other}");
        }
    }
}
