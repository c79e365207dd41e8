use axum::body::Body;
use base::KeyKind;
use futures::stream;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::testing::{World, key};

struct Sent {
    status: u16,
    headers: http::HeaderMap,
    body: serde_json::Value,
}

async fn send(world: &World, request: http::request::Builder, body: Body) -> Sent {
    let request = request.body(body).unwrap();
    let response = router(Arc::clone(&world.app)).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Sent {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}

fn request(method: &str, path: &str, kind: Option<KeyKind>) -> http::request::Builder {
    let request = http::Request::builder().method(method).uri(path);
    match kind {
        Some(kind) => request.header("authorization", format!("TD1 {}", key(kind))),
        None => request,
    }
}

/// A path that fits the pattern.
fn example(path: &str) -> String {
    let filled = [
        ("{database}", "web"),
        ("{table}", "events"),
        ("{format}", "msgpack.gz"),
        ("{unique_id}", "x1"),
        ("{engine}", "trino"),
        ("{job}", "7"),
    ];
    filled.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
}

#[test]
fn every_operation_stands_once_in_the_list() {
    let all = operations();
    let mut paths: Vec<_> = all.iter().map(|operation| (operation.method, operation.path)).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), all.len());
    let open: Vec<_> = all
        .iter()
        .filter(|operation| operation.needs == Needs::Nothing)
        .map(|operation| operation.path)
        .collect();
    assert_eq!(open, ["/health", "/v3/system/server_status", "/{database}/{table}"]);
}

#[tokio::test]
async fn nobody_is_let_in_without_a_key_that_has_the_right() {
    let world = World::new();
    for operation in operations() {
        let path = example(operation.path);
        let Needs::Verb(verb) = operation.needs else {
            let sent = send(&world, request(operation.method, &path, None), Body::empty()).await;
            assert_eq!(sent.status, 200, "{path}");
            if operation.method == "GET" {
                assert_eq!(sent.body["status"], "ok", "{path}");
            }
            continue;
        };
        let nobody = send(&world, request(operation.method, &path, None), Body::empty()).await;
        assert_eq!(nobody.status, 401, "{path}");
        assert_eq!(nobody.headers["www-authenticate"], "TD1");
        for kind in KeyKind::ALL {
            let sent = send(&world, request(operation.method, &path, Some(kind)), Body::empty()).await;
            if kind.verbs().contains(verb) {
                assert!(
                    ![401, 403, 404, 405].contains(&sent.status),
                    "{path} with a {kind} key: {}",
                    sent.status
                );
            } else {
                assert_eq!(sent.status, 403, "{path} with a {kind} key");
                assert!(sent.body["message"].as_str().unwrap().contains("not authorized"));
            }
        }
    }
}

#[tokio::test]
async fn every_answer_has_an_id_and_the_headers_of_a_safe_page() {
    let world = World::new();
    for (method, path) in [
        ("GET", "/health"),
        ("GET", "/nothing"),
        ("GET", "/v3/../x"),
        ("DELETE", "/health"),
        ("GET", "/v3/job/list"),
    ] {
        let sent = send(&world, request(method, path, None), Body::empty()).await;
        for (name, value) in ALWAYS {
            assert_eq!(sent.headers[name], value, "{path}");
        }
        let id = sent.headers["x-request-id"].to_str().unwrap();
        assert_eq!(id.len(), 26);
        if sent.status != 200 {
            assert_eq!(sent.body["request_id"], id, "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_not_in_the_table_is_not_found_and_says_so_in_json() {
    let world = World::new();
    for path in [
        "/",
        "/v3",
        "/v3/",
        "/ready",
        "/metrics",
        "/v3/database",
        "/v3/table/create/web/events/item",
        "/v3/job/result",
        "/web",
        "/web/events/more",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let sent = send(&world, request(method, path, Some(KeyKind::Admin)), Body::empty()).await;
            assert_eq!((sent.status, &sent.body["severity"]), (404, &json!("error")), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn another_method_is_told_which_one_is_right() {
    let world = World::new();
    for (method, path, allowed) in [
        ("DELETE", "/v3/database/list", "GET,HEAD"),
        ("QUERY", "/v3/job/list", "GET,HEAD"),
        ("GET", "/v3/database/create/web", "POST"),
        ("POST", "/v3/table/import/web/events/msgpack.gz", "PUT"),
    ] {
        let sent = send(&world, request(method, path, None), Body::empty()).await;
        assert_eq!(
            (sent.status, sent.headers["allow"].to_str().unwrap()),
            (405, allowed),
            "{method} {path}"
        );
        assert_eq!(sent.body["severity"], "error");
    }
    assert_eq!(send(&world, request("HEAD", "/health", None), Body::empty()).await.status, 200);
}

#[tokio::test]
async fn doubled_slashes_and_json_suffixes_lead_to_the_same_route() {
    let world = World::new();
    for path in [
        "//v3/system/server_status",
        "/v3//system///server_status",
        "/v3/system/server_status.json",
    ] {
        assert_eq!(send(&world, request("GET", path, None), Body::empty()).await.status, 200, "{path}");
    }
    // Ruby writes a dot as a percent code.
    let ruby = request(
        "PUT",
        "/v3/table/import_with_id/web/events/0f%0a/msgpack%2Egz",
        Some(KeyKind::Write),
    );
    assert_eq!(send(&world, ruby, Body::empty()).await.status, 400, "a line feed is in no id");
    let ruby = request(
        "PUT",
        "/v3/table/import_with_id/web/events/0f%2F%20/msgpack%2Egz",
        Some(KeyKind::Write),
    );
    let ruby = send(&world, ruby, Body::from(include_bytes!("empty.gz").as_slice())).await;
    assert_eq!(ruby.status, 503, "decoded, and the warehouse asked");
    // 503: the route was found, its caller let in, and the warehouse is not there.
    for path in ["//v3/job/list.json?from=0", "//v3//database/list"] {
        assert_eq!(
            send(&world, request("GET", path, Some(KeyKind::Read)), Body::empty()).await.status,
            503,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_role_that_is_away_is_a_reason_to_try_again() {
    let world = World::new();
    let sent = send(
        &world,
        request("POST", "/v3/database/create/web", Some(KeyKind::Admin)),
        Body::empty(),
    )
    .await;
    assert_eq!(sent.status, 503);
    assert!(sent.headers.contains_key("retry-after"));
    assert!(sent.body["message"].as_str().unwrap().contains("try again"));
    assert!(!sent.body.to_string().contains("refused"), "nothing of the connection itself");
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_where_made_and_not_found_elsewhere() {
    let world = World::new();
    for (method, path, status) in [
        ("POST", "/v3/database/create/Web", 400),
        ("POST", "/v3/database/create/a%2Fb", 400),
        ("POST", "/v3/database/delete/Web", 404),
        ("POST", "/v3/table/create/web/x/log", 400),
        ("POST", "/v3/table/create/W/events/log", 404),
        ("GET", "/v3/table/tail/web/%27%20OR%201%3D1", 404),
        ("GET", "/v3/job/show/-1", 404),
        ("GET", "/v3/job/show/99999999999999999999", 404),
        ("POST", "/v3/job/issue/trino/None", 404),
        ("POST", "/v3/job/issue/bulkload/web", 400),
    ] {
        let sent = send(&world, request(method, path, Some(KeyKind::Admin)), Body::empty()).await;
        assert_eq!(sent.status, status, "{method} {path}");
    }
}

#[tokio::test]
async fn bodies_that_are_too_large_or_of_another_kind_are_refused() {
    let world = World::with(|settings| {
        settings.limits.max_body = 1000;
        settings.max_parameters = 1000;
    });
    let put = || request("PUT", "/v3/table/import/web/events/msgpack.gz", Some(KeyKind::Write));
    let unread = || Body::from_stream(stream::pending::<Result<bytes::Bytes, std::io::Error>>());

    let announced = send(&world, put().header("content-length", "1001"), unread()).await;
    assert_eq!(announced.status, 413);
    assert!(announced.body["message"].as_str().unwrap().contains("smaller parts"));
    let chunks = stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[0; 100]))));
    assert_eq!(send(&world, put(), Body::from_stream(chunks)).await.status, 413);
    assert_eq!(send(&world, put(), Body::from("not gzip")).await.status, 400);
    assert_eq!(
        send(&world, put().header("content-type", "text/html"), Body::from("x"))
            .await
            .status,
        415
    );
    let csv = request("PUT", "/v3/table/import/web/events/csv.gz", Some(KeyKind::Write));
    assert_eq!(send(&world, csv, Body::from("x")).await.status, 415);
    let post = || request("POST", "/v3/job/issue/trino/web", Some(KeyKind::Read));
    assert_eq!(
        send(&world, post().header("content-type", "text/plain"), Body::from("query=x"))
            .await
            .status,
        415
    );
    assert_eq!(send(&world, post(), Body::from("x".repeat(1001))).await.status, 413);
}

#[tokio::test]
async fn a_query_that_asks_for_people_wrongly_is_refused_before_anyone_sees_it() {
    let world = World::new();
    let post = || request("POST", "/v3/job/issue/trino/web", Some(KeyKind::Read)).header("content-type", "application/json");
    let wrong = send(&world, post(), Body::from(r#"{"query":"SELECT person_id(email) FROM t"}"#)).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body["message"].as_str().unwrap().contains("person_id('ada@example.com')"));
    // The identity role is away: the query must not go on without it.
    let right = send(&world, post(), Body::from(r#"{"query":"SELECT person_id('ada') FROM t"}"#)).await;
    assert_eq!(right.status, 503);
    assert!(!right.body.to_string().contains("ada"));
}

fn records(kind: Option<KeyKind>) -> http::request::Builder {
    request("POST", "/web/events?modified=1", kind).header("content-type", "application/vnd.treasuredata.v1+json")
}

#[tokio::test]
async fn records_are_judged_before_the_warehouse_is_asked() {
    let world = World::new();
    let sent = async |body: String| send(&world, records(Some(KeyKind::Write)), Body::from(body)).await;
    let many = |count: usize| format!("{{\"events\":[{}]}}", vec!["{}"; count].join(","));
    let large = |bytes: usize| format!("{{\"records\":[{{\"a\":\"{}\"}}]}}", "x".repeat(bytes));
    // 503: all was well, and the warehouse is not there.
    for (body, status) in [
        (many(1), 503),
        (many(500), 503),
        (many(501), 413),
        (many(0), 400),
        (large(1 << 20), 503),
        (large(5 << 20), 413),
        (String::new(), 400),
        ("[{}]".into(), 400),
        ("{\"a\":1}".into(), 400),
        ("{\"events\":[{}}".into(), 400),
    ] {
        let shown: String = body.chars().take(30).collect();
        assert_eq!(sent(body).await.status, status, "{shown}");
    }
    let refused = sent("{\"a\":\"secret\"}".into()).await;
    let said = refused.body["message"].as_str().unwrap();
    assert!(said.contains("\"events\"") && !said.contains("secret"), "{said}");

    let gzip = records(Some(KeyKind::Write)).header("content-encoding", "gzip");
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, large(6 << 20).as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    assert!(bomb.len() < 100_000);
    assert_eq!(send(&world, gzip, Body::from(bomb)).await.status, 413);
    let typed = request("POST", "/web/events", Some(KeyKind::Write)).header("content-type", "text/plain");
    let refused = send(&world, typed, Body::from(many(1))).await;
    assert_eq!(refused.status, 415);
    assert!(
        refused.body["message"]
            .as_str()
            .unwrap()
            .contains("application/vnd.treasuredata.v1+json")
    );
    assert_eq!(send(&world, records(None), Body::from(many(1))).await.status, 401);
    assert_eq!(send(&world, records(Some(KeyKind::Read)), Body::from(many(1))).await.status, 403);
    for path in ["/Web/events", "/v3/events", "/web/e"] {
        let elsewhere = request("POST", path, Some(KeyKind::Admin)).header("content-type", "application/json");
        assert_eq!(send(&world, elsewhere, Body::from(many(1))).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_page_of_any_origin_may_send_records_and_read_the_answer_and_nothing_else() {
    let world = World::new();
    let origin = "https://shop.example";
    let asked = request("OPTIONS", "/web/events?modified=1", None)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    let asked = send(&world, asked, Body::empty()).await;
    assert_eq!(asked.status, 200);
    assert_eq!(asked.headers["access-control-allow-origin"], origin);
    assert_eq!(asked.headers["access-control-allow-credentials"], "true");
    assert_eq!(asked.headers["access-control-allow-methods"], "POST");
    let allowed = asked.headers["access-control-allow-headers"].to_str().unwrap();
    for header in [
        "authorization",
        "content-type",
        "user-agent",
        "x-td-write-key",
        "x-td-fetch-api",
        "accept",
        "wp13n-token",
    ] {
        assert!(allowed.split(", ").any(|known| known == header), "{header}");
    }
    assert_eq!(asked.headers["vary"], "origin");
    assert_eq!(world.times_asked(), 0, "before anybody is asked who it is");

    let refused = send(&world, records(None).header("origin", origin), Body::empty()).await;
    assert_eq!(
        (refused.status, refused.headers["access-control-allow-origin"].to_str().unwrap()),
        (401, origin)
    );
    for (method, path) in [
        ("GET", "/v3/database/list"),
        ("POST", "/v3/job/issue/trino/web"),
        ("GET", "/health"),
    ] {
        let sent = send(&world, request(method, path, None).header("origin", origin), Body::empty()).await;
        assert!(!sent.headers.contains_key("access-control-allow-origin"), "{path}");
    }
    let elsewhere = send(&world, records(None), Body::empty()).await;
    assert!(!elsewhere.headers.contains_key("access-control-allow-origin"));
}
