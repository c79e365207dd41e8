//! The one table of all routes, and the router that is built from it.
//!
//! Promise: what is not in the table cannot be reached, and nothing in it is reached without the right that stands beside it.
//!
//! Start at [`ROUTES`]. Does not know what a handler does.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, RawPathParams, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, any, on};
use base::{RequestId, Verb};
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::calls::{App, Call, Visit};
use crate::errors::{ApiError, ok};
use crate::{
    auditing, cors, databases, dropped, erasure, imports, jobs, linger, paths, records, rejected, results, revealing, schemas, tables,
};

/// What a caller needs to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: not even a key.
    Nothing,
    /// A key with this right.
    Verb(Verb),
}

/// One operation of the public interface, for tests that must know all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The HTTP method.
    pub method: &'static str,
    /// The path; `{name}` stands for one segment.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Needs,
}

/// All operations there are.
pub fn operations() -> Vec<Operation> {
    ROUTES
        .iter()
        .map(|route| Operation {
            method: route.method.as_str(),
            path: route.path,
            needs: match route.handler {
                Handler::Open(_) => Needs::Nothing,
                Handler::With(verb, _) => Needs::Verb(verb),
            },
        })
        .collect()
}

type Answer = BoxFuture<'static, Result<Response, ApiError>>;

enum Handler {
    /// For everybody.
    Open(fn(Visit) -> Answer),
    /// For callers with this right.
    With(Verb, fn(Call) -> Answer),
}

struct Route {
    method: Method,
    path: &'static str,
    handler: Handler,
}

macro_rules! routes {
    ($($method:ident $path:literal $right:ident $handler:path;)*) => {
        &[$(Route { method: Method::$method, path: $path, handler: routes!(@ $right $handler) }),*]
    };
    (@ Nothing $handler:path) => { Handler::Open(|visit| Box::pin($handler(visit))) };
    (@ $verb:ident $handler:path) => { Handler::With(Verb::$verb, |call| Box::pin($handler(call))) };
}

static ROUTES: &[Route] = routes! {
    GET  "/health"                                                          Nothing health;
    GET  "/v3/system/server_status"                                         Nothing health;
    GET  "/v1/audit"                                                        Manage  auditing::some;
    GET  "/v1/audit/export"                                                 Manage  auditing::export;
    GET  "/v1/dropped"                                                      Manage  dropped::list;
    POST "/v1/dropped/{database}/restore"                                   Manage  dropped::restore_database;
    POST "/v1/dropped/{database}/{table}/restore"                           Manage  dropped::restore_table;
    POST "/v1/people/erase"                                                 Erase   erasure::erase;
    POST "/v1/people/open"                                                  Reveal  revealing::open;
    POST "/v1/people/show"                                                  Reveal  revealing::show;
    GET  "/v3/database/list"                                                Query   databases::list;
    POST "/v3/database/create/{database}"                                   Manage  databases::create;
    POST "/v3/database/delete/{database}"                                   Manage  databases::delete;
    GET  "/v3/table/list/{database}"                                        Query   tables::list;
    POST "/v3/table/create/{database}/{table}/log"                          Manage  tables::create;
    POST "/v3/table/delete/{database}/{table}"                              Manage  tables::delete;
    POST "/v3/table/update/{database}/{table}"                              Manage  tables::update;
    POST "/v3/table/update-schema/{database}/{table}"                       Manage  schemas::update;
    GET  "/v3/table/tail/{database}/{table}"                                Query   tables::tail;
    PUT  "/v3/table/import/{database}/{table}/{format}"                     Append  imports::import;
    PUT  "/v3/table/import_with_id/{database}/{table}/{unique_id}/{format}" Append  imports::import;
    POST "/v3/job/issue/{engine}/{database}"                                Query   jobs::issue;
    GET  "/v3/job/list"                                                     Query   jobs::list;
    GET  "/v3/job/status/{job}"                                             Query   jobs::status;
    GET  "/v3/job/show/{job}"                                               Query   jobs::show;
    GET  "/v3/job/result/{job}"                                             Query   results::result;
    POST "/v3/job/kill/{job}"                                               Query   jobs::kill;
    GET  "/v1/rejected/{database}/{table}"                                  Manage  rejected::show;
    POST "/v1/rejected/{database}/{table}/replay"                           Manage  rejected::replay;
    OPTIONS "/{database}/{table}"                                           Nothing cors::preflight;
    POST "/{database}/{table}"                                              Append  records::take;
};

/// Also asked without a key, to see whether a server is there at all.
async fn health(_: Visit) -> Result<Response, ApiError> {
    Ok(ok(&json!({ "status": "ok" })))
}

/// The router of the public listener.
pub(crate) fn router(app: Arc<App>) -> Router {
    // Without this, `v3` and a word after it would pass for a database and a table.
    let mut table = Router::new().fallback(unknown).route("/v3/{*rest}", any(unknown));
    for route in ROUTES {
        let filter = MethodFilter::try_from(route.method.clone()).expect("the table names plain methods only");
        let serve = move |State(app): State<Arc<App>>, path: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            answer(route, app, path, request)
        };
        table = table.route(route.path, on(filter, serve));
    }
    // Only routes that are there already get it.
    let table = table.method_not_allowed_fallback(wrong_method).with_state(Arc::clone(&app));
    // The front stands outside of routing, because it changes the path that is routed by.
    Router::new()
        .fallback_service(table)
        .layer(middleware::from_fn_with_state(app, front))
}

/// Gives each request its id and its path one form; gives each answer the id and the headers that every answer has.
async fn front(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::generate(app.clock.now(), &*app.entropy);
    request.extensions_mut().insert(id);
    request = request.map(linger::lingering);
    let mut response = match paths::normal(request.uri()) {
        Ok(normal) => {
            if let Some(uri) = normal {
                *request.uri_mut() = uri;
            }
            next.run(request).await
        }
        Err(error) => error.respond(id),
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert("x-request-id", id);
    }
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

const ALWAYS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("strict-transport-security", "max-age=31536000"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
];

async fn answer(route: &'static Route, app: Arc<App>, path: Result<RawPathParams, RawPathParamsRejection>, request: Request) -> Response {
    let started = Instant::now();
    let (id, seconds) = (request_id(&request), app.answers.clone());
    let origin = cors::origin(route.path, request.headers());
    let outcome = match path {
        Ok(path) => handled(route, visit(app, id, &path, request)).await,
        Err(_) => Err(ApiError::invalid("the path cannot be read")),
    };
    let mut response = outcome.unwrap_or_else(|error| error.respond(id));
    cors::allow(origin, response.headers_mut());
    let status = response.status();
    seconds
        .get_or_create(&vec![("route", route.path.to_owned()), ("status", status.as_str().to_owned())])
        .observe(started.elapsed().as_secs_f64());
    // The route as it is in the table: a path holds names and ids that are the customer's business.
    tracing::debug!(request.id = %id, method = %route.method, route = route.path, status = status.as_u16(),
        duration_ms = started.elapsed().as_millis() as u64, "answered");
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(request.id = %id, method = %route.method, route = route.path, "a request failed by a mistake of ours");
    }
    response
}

async fn handled(route: &'static Route, visit: Visit) -> Result<Response, ApiError> {
    match route.handler {
        Handler::Open(handler) => handler(visit).await,
        Handler::With(verb, handler) => handler(visit.admitted(verb).await?).await,
    }
}

fn visit(app: Arc<App>, id: RequestId, path: &RawPathParams, request: Request) -> Visit {
    let (parts, body) = request.into_parts();
    let from = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    Visit {
        app,
        request: id,
        // Without an address (which only a test does) all share one.
        address: from.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |ConnectInfo(from)| from.ip()),
        path: path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body: Mutex::new(body),
    }
}

async fn unknown(request: Request) -> Response {
    ApiError::not_found("there is nothing at this path").respond(request_id(&request))
}

async fn wrong_method(request: Request) -> Response {
    let error = ApiError::with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path takes another method, the header Allow says which",
    );
    error.respond(request_id(&request))
}

/// The front gave every request one.
fn request_id(request: &Request) -> RequestId {
    request
        .extensions()
        .get()
        .copied()
        .unwrap_or_else(|| RequestId::from_bytes([0; 16]))
}

#[cfg(test)]
mod tests;
