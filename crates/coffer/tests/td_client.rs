//! Proof 1: an unmodified td client for Python does what its users do, against the real server over TLS.

use std::time::Duration;

use anyhow::ensure;
use testkit::{Installation, python};

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_td_client_creates_imports_queries_and_kills() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("journey").await?;

    let journey = python(
        "td_client_journey.py",
        &[
            ("COFFER_ENDPOINT", &installation.endpoint()),
            ("COFFER_CA", &installation.ca().to_string_lossy()),
            ("COFFER_WRITE_KEY", &product.write_key),
            ("COFFER_READ_KEY", &product.read_key),
            ("COFFER_ADMIN_KEY", &product.admin_key),
        ],
    )
    .await?;

    eprintln!("{}", journey.stdout);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_which_td_client_sends_rows_meets_every_error_as_its_own_exception() -> anyhow::Result<()> {
    const MAX_BODY: usize = 60_000;
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    // So many wrong keys in a minute are meant here.
    installation.configure(&format!(
        "[gateway]\nfailed_keys_per_minute = 1000\n[gateway.limits]\nmax_body = {MAX_BODY}\n"
    ))?;
    installation.up().await?;
    let product = installation.product("matrix").await?;

    let matrix = python(
        "td_client_matrix.py",
        &[
            ("COFFER_ENDPOINT", &installation.endpoint()),
            ("COFFER_CA", &installation.ca().to_string_lossy()),
            ("COFFER_WRITE_KEY", &product.write_key),
            ("COFFER_READ_KEY", &product.read_key),
            ("COFFER_ADMIN_KEY", &product.admin_key),
            ("COFFER_MAX_BODY", &MAX_BODY.to_string()),
        ],
    )
    .await?;

    eprintln!("{}", matrix.stdout);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_answered_without_reading_a_key() -> anyhow::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;

    let key = "Authorization: TD1 1/00\r\n";
    for (request, headers, expected) in [
        ("GET /", "", "308"),
        ("GET /", key, "403"),
        ("GET /v3/database/list", key, "403"),
        ("PUT /v3/table/import/web/events/msgpack.gz", key, "403"),
    ] {
        let mut plain = tokio::net::TcpStream::connect(("127.0.0.1", installation.plain_port())).await?;
        // A body is announced and never sent: the answer must not wait for it.
        let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 1000000\r\n\r\n");
        plain.write_all(head.as_bytes()).await?;
        let mut answer = vec![0; 64];
        let read = tokio::time::timeout(Duration::from_secs(10), plain.read(&mut answer)).await??;
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        ensure!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{request}: {answer}");
    }

    // And on the TLS port, what is not TLS gets no answer that could be taken for one.
    let endpoint = installation.endpoint();
    let port: u16 = endpoint.rsplit(':').next().unwrap_or_default().parse()?;
    let mut plain = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    plain
        .write_all(b"GET /v3/database/list HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    let _closed = tokio::time::timeout(Duration::from_secs(30), plain.read_to_end(&mut answer)).await?;
    ensure!(!answer.starts_with(b"HTTP/"), "plain HTTP was answered on the TLS port");
    installation.finish().await
}
