//! What stores answer in XML: the pages of a listing, the code of a refusal.
//!
//! A store is somebody else's, and may answer anything: no more is read than there is room for, and what is not understood is no
//! answer.

use percent_encoding::percent_decode_str;
use quick_xml::Reader;
use quick_xml::events::Event;

/// How deep elements of an answer lie in one another, at most.
const DEEPEST: usize = 8;

/// One page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of the store. A key that is no text is left out: it is nobody's object.
    pub keys: Vec<String>,
    /// What to ask for the next page with, if there is one.
    pub next: Option<String>,
}

/// Reads a page: an answer to `ListObjectsV2` with `encoding-type=url`. Nothing where it is not understood.
pub fn page(xml: &[u8]) -> Option<Page> {
    let (mut page, mut truncated, mut token) = (Page::default(), None, None);
    texts(xml, |path, text| match path {
        ["ListBucketResult", "Contents", "Key"] => {
            page.keys
                .extend(percent_decode_str(&text).decode_utf8().ok().map(|key| key.into_owned()));
        }
        ["ListBucketResult", "IsTruncated"] => truncated = text.parse::<bool>().ok(),
        ["ListBucketResult", "NextContinuationToken"] => token = Some(text),
        _ => {}
    })?;
    page.next = match (truncated?, token) {
        (true, Some(token)) if !token.is_empty() => Some(token),
        (true, _) => return None,
        (false, _) => None,
    };
    Some(page)
}

/// The code of a refusal: a word.
pub(super) fn code(xml: &[u8]) -> Option<String> {
    let mut code = None;
    texts(xml, |path, text| {
        if path == ["Error", "Code"] {
            code = Some(text);
        }
    })?;
    code.filter(|code| (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether an answer to `GetBucketVersioning` says that old versions are kept.
pub(super) fn keeps_versions(xml: &[u8]) -> Option<bool> {
    let mut status = String::new();
    texts(xml, |path, text| {
        if path == ["VersioningConfiguration", "Status"] {
            status = text;
        }
    })?;
    Some(!status.is_empty() && status != "Suspended")
}

/// Calls `each` with the path and the text of every element, as it ends. `None` where it is not XML of the plain kind.
fn texts(xml: &[u8], mut each: impl FnMut(&[&str], String)) -> Option<()> {
    let mut reader = Reader::from_str(std::str::from_utf8(xml).ok()?);
    let mut path: Vec<String> = Vec::new();
    let (mut text, mut rooted) = (String::new(), false);
    let mut end = |path: &mut Vec<String>, text: &mut String| {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        each(&names, std::mem::take(text));
        path.pop();
    };
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                rooted = true;
                path.push(start.local_name().as_ref().to_owned());
                text.clear();
                if path.len() > DEEPEST {
                    return None;
                }
            }
            Event::Empty(empty) => {
                path.push(empty.local_name().as_ref().to_owned());
                text.clear();
                end(&mut path, &mut text);
            }
            Event::End(_) => end(&mut path, &mut text),
            Event::Text(more) => text.push_str(&more.xml10_content()),
            Event::CData(more) => text.push_str(&more.xml10_content()),
            Event::GeneralRef(reference) => text.push(character(&reference)?),
            Event::Decl(_) => {}
            Event::Eof if path.is_empty() && rooted => return Some(()),
            Event::Eof | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => return None,
        }
    }
}

fn character(reference: &quick_xml::events::BytesRef<'_>) -> Option<char> {
    if let Some(character) = reference.resolve_char_ref().ok()? {
        return Some(character);
    }
    match &*reference.xml10_content() {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_its_keys_and_whether_there_is_more() {
        let xml = br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>events</Name><KeyCount>3</KeyCount>
            <IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b&#61;</NextContinuationToken>
            <Contents><Key>raw/7/x.0a</Key><Owner><ID>me</ID></Owner></Contents><Contents><Key>raw%2F8%2By</Key></Contents>
            <Contents><Key>%ff</Key></Contents><Contents/></ListBucketResult>"#;
        let expected = Page {
            keys: vec!["raw/7/x.0a".into(), "raw/8+y".into()],
            next: Some("a&b=".into()),
        };
        assert_eq!(page(xml), Some(expected));
        let last = b"<ListBucketResult><IsTruncated>false</IsTruncated><NextContinuationToken/></ListBucketResult>";
        assert_eq!(page(last), Some(Page::default()));
    }

    #[test]
    fn what_is_cut_short_or_odd_is_no_answer() {
        for bad in [
            &b"<ListBucketResult><IsTruncated>false</IsTruncated>"[..],
            b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            b"<ListBucketResult></ListBucketResult>",
            b"<!DOCTYPE x [<!ENTITY a \"aaaa\">]><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
            b"<ListBucketResult><IsTruncated>&b;</IsTruncated></ListBucketResult>",
            b"<ListBucketResult><IsTruncated>false</IsTruncated></Error>",
            b"\xff",
            b"",
            &b"<a>".repeat(100_000),
        ] {
            assert_eq!(page(bad), None, "{}", String::from_utf8_lossy(&bad[..bad.len().min(80)]));
        }
    }

    #[test]
    fn a_code_is_a_word() {
        assert_eq!(
            code(b"<Error><Code>NoSuchKey</Code><Message>x</Message></Error>"),
            Some("NoSuchKey".into())
        );
        for bad in [
            &b"<Error><Code>two words</Code></Error>"[..],
            b"<Error><Code/></Error>",
            b"NoSuchKey",
            b"",
        ] {
            assert_eq!(code(bad), None);
        }
    }

    #[test]
    fn versions_are_kept_when_it_says_so() {
        let says = |status: &str| keeps_versions(format!("<VersioningConfiguration>{status}</VersioningConfiguration>").as_bytes());
        assert_eq!(says(""), Some(false));
        assert_eq!(says("<Status>Suspended</Status>"), Some(false));
        assert_eq!(says("<Status>Enabled</Status>"), Some(true));
        assert_eq!(keeps_versions(b"no"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>, text in "(<ListBucketResult>|<Contents>|<Key>|</Key>|&#[0-9]{1,9};|%[0-9a-f]{2}|</Contents>|[a-z/]){0,40}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = (page(bytes), code(bytes), keeps_versions(bytes));
            }
        }
    }
}
