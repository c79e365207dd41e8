use std::time::Duration;

use events::LineFormat;
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn inflate(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

async fn opened(stored: &[u8], size: usize) -> Stored {
    let pieces: Vec<_> = stored
        .chunks(size)
        .map(|piece| {
            Ok(Chunk {
                bytes: Bytes::copy_from_slice(piece),
            })
        })
        .collect();
    Stored::open(stream::iter(pieces), || true, Duration::from_secs(1)).await.unwrap()
}

async fn all(body: impl Into<Body>) -> Result<Vec<u8>, axum::Error> {
    body.into().collect().await.map(|collected| collected.to_bytes().to_vec())
}

/// How long all of it is, and the longest piece.
async fn measured(mut content: Content) -> (usize, usize) {
    let (mut total, mut longest) = (0, 0);
    while let Some(piece) = content.0.next().await {
        let length = piece.unwrap().len();
        (total, longest) = (total + length, longest.max(length));
    }
    (total, longest)
}

fn arrays() -> Lines {
    Lines::new(LineFormat::Arrays, &["n", "text"])
}

// [n, "row "] for each n, as msgpack.
fn rows(count: u8) -> Vec<u8> {
    (0..count)
        .flat_map(|n| [&[0x92, n % 100, 0xa4][..], b"row ".as_slice()].concat())
        .collect()
}

#[tokio::test]
async fn every_form_says_the_same_however_it_is_cut() {
    let plain = rows(200);
    let stored = [gzip(&plain[..700]), gzip(&plain[700..])].concat();
    let numbers = || (0..200).map(|n| n % 100);
    let texts: [(LineFormat, &str, String); 4] = [
        (
            LineFormat::Arrays,
            "[\"n\",\"text\"]\n",
            numbers().map(|n| format!("[{n},\"row \"]\n")).collect(),
        ),
        (
            LineFormat::Objects,
            "",
            numbers().map(|n| format!("{{\"n\":{n},\"text\":\"row \"}}\n")).collect(),
        ),
        (LineFormat::Csv, "n,text\n", numbers().map(|n| format!("{n},row \n")).collect()),
        (LineFormat::Tsv, "n\ttext\n", numbers().map(|n| format!("{n}\trow \n")).collect()),
    ];
    for size in [1, 7, 100, 10_000] {
        assert_eq!(all(opened(&stored, size).await.exactly(stored.len() as u64)).await.unwrap(), stored);
        assert_eq!(
            all(opened(&stored, size).await.inflated()).await.unwrap(),
            plain,
            "pieces of {size}"
        );
        for (format, header, expected) in &texts {
            let lines = || Lines::new(*format, &["n", "text"]);
            let text = opened(&stored, size).await.lines(lines(), true, 1000);
            assert_eq!(
                String::from_utf8(all(text).await.unwrap()).unwrap(),
                format!("{header}{expected}"),
                "{format:?} in pieces of {size}"
            );
            let packed = opened(&stored, size).await.lines(lines(), false, 1000).gzipped();
            assert_eq!(inflate(&all(packed).await.unwrap()), *expected, "{format:?} in pieces of {size}");
        }
    }
}

#[tokio::test]
async fn a_large_result_is_sent_in_small_pieces() {
    let zeros = gzip(&vec![0; 8 << 20]);
    assert_eq!(measured(opened(&zeros, 1000).await.inflated()).await, (8 << 20, PIECE));

    // A hundred columns with long names, all of them NULL: each stored byte becomes a hundred.
    let names: Vec<String> = (0..100).map(|n| format!("{n:0>100}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let row = [&[0xdc, 0, 100][..], &[0xc0; 100]].concat();
    let stored = gzip(&row.repeat(2000));
    let line = names.iter().map(|name| name.len() + 8).sum::<usize>() + 2;
    let objects = || Lines::new(LineFormat::Objects, &names);
    let (total, longest) = measured(opened(&stored, 1000).await.lines(objects(), false, 1000)).await;
    assert_eq!(total, 2000 * line);
    assert!(longest <= PIECE + line, "{longest}");
    let (packed, longest) = measured(opened(&stored, 1000).await.lines(objects(), false, 1000).gzipped()).await;
    assert!(packed < total / 10 && longest <= 2 * PIECE, "{packed} {longest}");
}

#[tokio::test]
async fn a_row_may_be_long_but_not_longer_than_the_limit() {
    let text = "x".repeat(300_000);
    let row = [&[0x91, 0xdb][..], &300_000_u32.to_be_bytes(), text.as_bytes()].concat();
    let stored = gzip(&row.repeat(3));
    let csv = || Lines::new(LineFormat::Csv, &["v"]);
    let written = all(opened(&stored, 5000).await.lines(csv(), false, 1 << 20)).await.unwrap();
    assert!(written == format!("{text}\n").repeat(3).into_bytes());
    assert!(all(opened(&stored, 5000).await.lines(csv(), false, 100_000)).await.is_err());
}

#[tokio::test]
async fn what_is_cut_short_or_too_long_breaks_off() {
    let stored = gzip(&rows(100));
    let cut = &stored[..stored.len() - 9];
    assert!(all(opened(cut, 50).await.inflated()).await.is_err());
    assert!(all(opened(cut, 50).await.lines(arrays(), false, 1000)).await.is_err());
    assert!(all(opened(cut, 50).await.lines(arrays(), false, 1000).gzipped()).await.is_err());
    assert!(all(opened(cut, 50).await.exactly(stored.len() as u64)).await.is_err());
    assert!(all(opened(&stored, 50).await.exactly(10)).await.is_err());
    let half_a_row = gzip(&[0x92, 1]);
    assert!(all(opened(&half_a_row, 50).await.lines(arrays(), false, 1000)).await.is_err());
    let another_width = gzip(&[0x91, 1]);
    assert!(all(opened(&another_width, 50).await.lines(arrays(), false, 1000)).await.is_err());
}

#[tokio::test]
async fn an_empty_result_is_empty() {
    let stored = gzip(b"");
    assert_eq!(all(opened(&stored, 3).await.inflated()).await.unwrap(), b"");
    assert_eq!(all(opened(&stored, 3).await.lines(arrays(), false, 10)).await.unwrap(), b"");
    assert_eq!(
        all(opened(&stored, 3).await.lines(arrays(), true, 10)).await.unwrap(),
        b"[\"n\",\"text\"]\n"
    );
    assert_eq!(
        inflate(&all(opened(&stored, 3).await.lines(arrays(), false, 10).gzipped()).await.unwrap()),
        ""
    );
    assert_eq!(all(opened(b"", 3).await.exactly(0)).await.unwrap(), b"");
}

#[tokio::test]
async fn a_refusal_comes_before_the_first_piece_and_a_revocation_between_pieces() {
    let gone = stream::iter([Err::<Chunk, _>(Status::not_found("gone"))]);
    assert!(Stored::open(gone, || true, Duration::from_secs(1)).await.is_err());

    let mut asked = 0;
    let asked = move || {
        asked += 1;
        asked < 3
    };
    let asked = std::sync::Mutex::new(asked);
    let pieces = stream::iter((0..5).map(|_| {
        Ok(Chunk {
            bytes: Bytes::from_static(b"x"),
        })
    }));
    let stored = Stored::open(pieces, move || (asked.lock().unwrap())(), Duration::from_secs(1))
        .await
        .unwrap();
    assert!(all(stored.exactly(5)).await.is_err());
}
