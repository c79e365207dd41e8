//! The public listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use axum::routing::get;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::world::{DAY, World};
use crate::public::{PublicCertificate, serve, serve_plain_redirect};
use crate::{TlsKey, tls};

fn app() -> axum::Router {
    axum::Router::new()
        .route(
            "/",
            get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { format!("hello {}", from.ip()) }),
        )
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "done"
            }),
        )
}

fn public(world: &World, cancel: &CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<std::io::Result<()>>) {
    let key = TlsKey::generate().unwrap();
    let chain = world.certify(&key.certificate_request(&["localhost".to_owned()]).unwrap(), DAY);
    let config = PublicCertificate::of_key(chain, &key).unwrap().server_config().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve(listener, config, app(), cancel.clone())))
}

async fn connect(
    world: &World,
    address: SocketAddr,
    version: &'static SupportedProtocolVersion,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(world.ca.clone()).unwrap();
    let config = ClientConfig::builder_with_details(tls::provider(), Arc::new(Noon))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

/// The moment at which the test world stands.
#[derive(Debug)]
struct Noon;

impl rustls::time_provider::TimeProvider for Noon {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_100)))
    }
}

async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(closed.is_ok(), "the connection stays open after {answer:?}");
    answer
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_served_and_1_1_is_not() {
    let (world, cancel) = (World::new(), CancellationToken::new());
    let (address, _) = public(&world, &cancel);

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = connect(&world, address, version).await;
        let answer = exchange(stream, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello 127.0.0.1"),
            "{answer}"
        );
    }

    assert_eq!(
        say_hello(address, 3).await.first(),
        Some(&22),
        "TLS 1.2 by hand is answered with a handshake"
    );
    let refused = say_hello(address, 2).await;
    assert_eq!(refused.first(), Some(&21), "TLS 1.1 with an alert: {refused:?}");
    assert_eq!(refused.get(5..7), Some(&[2, 70][..]), "fatal, protocol version");
    assert_eq!(refused.len(), 7, "and nothing else");
}

/// What a server answers to a ClientHello of TLS 1.`minor - 1`.
async fn say_hello(address: SocketAddr, minor: u8) -> Vec<u8> {
    // Version, 32 bytes of chance, no session, two suites (one of each age), no compression.
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x09, 1, 0]);
    // P-256 as group and for signatures; uncompressed points; extended master secret.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3, 0, 11, 0, 2, 1, 0, 0, 23, 0, 0];
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    answer.truncate(length);
    answer
}

#[tokio::test]
async fn a_header_without_end_is_cut_off() {
    let (world, cancel) = (World::new(), CancellationToken::new());
    let (address, _) = public(&world, &cancel);
    let stream = connect(&world, address, &rustls::version::TLS13).await;
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(80 * 1024));

    let answer = exchange(stream, request.as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_request_in_flight_finishes_when_the_process_ends() {
    let (world, cancel) = (World::new(), CancellationToken::new());
    let (address, done) = public(&world, &cancel);
    let mut stream = connect(&world, address, &rustls::version::TLS13).await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;

    cancel.cancel();

    let started = Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(String::from_utf8_lossy(&answer).ends_with("done"));
    done.await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn plain_http_is_redirected_or_refused_without_reading_the_body() {
    let cancel = CancellationToken::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve_plain_redirect(listener, 8443, cancel.clone()));

    let page = exchange(
        TcpStream::connect(address).await.unwrap(),
        b"GET /console?a=b HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    )
    .await;
    assert!(page.starts_with("HTTP/1.1 308"), "{page}");
    assert!(
        page.to_ascii_lowercase()
            .contains("location: https://shop.example:8443/console?a=b\r\n"),
        "{page}"
    );

    // The body is promised and never sent: who waits for it does not answer.
    let import =
        b"PUT /v3/table/import/a/b/msgpack.gz HTTP/1.1\r\nHost: a\r\nAuthorization: TD1 1/x\r\nContent-Length: 1000000\r\n\r\nstart";
    let started = Instant::now();
    let refused = exchange(TcpStream::connect(address).await.unwrap(), import).await;
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains("\"severity\":\"error\""),
        "{refused}"
    );
    assert!(refused.to_ascii_lowercase().contains("connection: close"), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(3));

    cancel.cancel();
    server.await.unwrap().unwrap();
}
