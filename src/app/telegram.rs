//! The Telegram bot, where it is switched on: its service over the database, its paths, and the API of this server as it calls it for
//! users.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::{Extension, Router};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Map, Value};
use tower::ServiceExt;
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::ModuleDependencies;
use super::stores::store_client;
use crate::config::Settings;
use crate::proxy::runtime::Runtime;
use ::telegram::{
    ApiAnswer, ApiBody, ApiRequest, LinkedUser, TelegramService, TelegramServiceParts, UserApi, routes, webhook_routes,
};
use primitives::clock::Clock;
use s3::signer::authority;
use server_kit::api::error::Error;
use server_kit::api::rate_limit_layer::{RateLimitClass, limit_routes};
use server_kit::api::user::{User, insert_user};
use server_kit::auth::Claims;
use server_kit::auth::token_right::MAX_RIGHT_TIME;

/// Class of updates that the Bot API sends: it has no user's token, so requests are counted by address.
const WEBHOOK_CLASS: RateLimitClass = RateLimitClass::without_users("telegram");
/// Time limit of a connection to the Bot API. Each call has one of its own for the rest.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer of the API that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Boundary of a form: no file has it by chance.
const BOUNDARY: &str = "tidegate-5b1f7a0c9d3e4f62";

/// Starts the bot, which asks `modules` for what users want; returns its paths.
pub fn start(
    all: &Settings,
    dependencies: &ModuleDependencies<'_>,
    runtime: &Arc<ArcSwap<Runtime>>,
    modules: &[OpenApiRouter],
) -> Result<Vec<OpenApiRouter>, StartError> {
    let ModuleDependencies { storage, clock, services, metrics, limiters, revocations, .. } = dependencies;
    // The settings name both where there is a bot.
    let (Some(settings), Some(database)) = (&all.telegram, &storage.database) else { return Ok(Vec::new()) };
    let api = modules.iter().cloned().fold(OpenApiRouter::new(), OpenApiRouter::merge).split_for_parts().0;
    let users = OwnApi {
        router: api.layer(Extension(Arc::clone(limiters))),
        runtime: Arc::clone(runtime),
        host: all.server.public_url.as_deref().and_then(host_of),
        clock: (*clock).clone(),
    };
    let parts = TelegramServiceParts {
        settings: settings.clone(),
        database: database.clone(),
        // No proxy of the environment sees the token, and no redirect carries it elsewhere.
        client: store_client().connect_timeout(CONNECT_TIMEOUT).user_agent("tidegate").build()?,
        users: Arc::new(users),
        revocations: revocations.cloned(),
        tasks: (*services).clone(),
        clock: (*clock).clone(),
    };
    let telegram = TelegramService::start(parts, metrics.registry())?;
    let webhook = webhook_routes(telegram.clone()).map(|webhook| limit_routes(webhook, limiters, WEBHOOK_CLASS));
    Ok([limit_routes(routes(telegram), limiters, RateLimitClass::STANDARD)].into_iter().chain(webhook).collect())
}

/// The API of this process, without a connection.
struct OwnApi {
    router: Router,
    runtime: Arc<ArcSwap<Runtime>>,
    /// Host of `Server.PublicUrl`, by which routes are found.
    host: Option<HeaderValue>,
    clock: Clock,
}

impl UserApi for OwnApi {
    fn send<'a>(&'a self, user: &'a LinkedUser, request: ApiRequest) -> BoxFuture<'a, ApiAnswer> {
        Box::pin(async move {
            let Some(request) = self.request(user, request) else { return unanswered(StatusCode::NOT_FOUND) };
            match self.router.clone().oneshot(request).await {
                Ok(response) => read(response).await,
                Err(never) => match never {},
            }
        })
    }
}

impl OwnApi {
    /// Returns the request as a module would see it with a token of the user; `None` for a path that cannot be.
    fn request(&self, user: &LinkedUser, request: ApiRequest) -> Option<Request<Body>> {
        let ApiRequest { method, path, body } = request;
        let (content_type, body) = match body {
            ApiBody::Empty => (None, Body::empty()),
            ApiBody::Json(value) => (Some("application/json".to_owned()), Body::from(value.to_string())),
            ApiBody::File(file) => (Some(format!("multipart/form-data; boundary={BOUNDARY}")), Body::from(form(&file))),
        };
        let mut head = Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            head = head.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(host) = &self.host {
            head = head.header(header::HOST, host);
        }
        let mut request = head.body(body).ok()?;
        insert_user(request.extensions_mut(), User { claims: Arc::new(claims_of(user, &self.clock)) });
        request.extensions_mut().insert(Arc::clone(&self.runtime.load().authenticator));
        Some(request)
    }
}

/// Returns the claims of a linked user: who it is, and the role. What the user begins may go on for as long as with any token.
fn claims_of(user: &LinkedUser, clock: &Clock) -> Claims {
    let claims = [
        ("sub", Value::from(user.id.as_str())),
        ("role", Value::from(user.role.name())),
        ("exp", Value::from(clock.unix().saturating_add(MAX_RIGHT_TIME.as_secs()))),
    ];
    let map = Map::from_iter(claims.map(|(name, value)| (name.to_owned(), value)));
    Claims { subject: user.id.clone(), map }
}

/// Returns a form with one file (RFC 7578).
fn form(file: &Bytes) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"clip\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    [head.as_bytes(), file, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat()
}

async fn read(response: Response<Body>) -> ApiAnswer {
    let (parts, body) = response.into_parts();
    let error = parts.extensions.get::<Error>();
    let retry_after = error.and_then(Error::retry_after);
    let detail = error.map(|error| error.detail().to_owned());
    match axum::body::to_bytes(body, MAX_ANSWER_BYTES).await {
        Ok(body) => ApiAnswer { status: parts.status, body, detail, retry_after },
        Err(_) => unanswered(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn unanswered(status: StatusCode) -> ApiAnswer {
    ApiAnswer { status, body: Bytes::new(), detail: None, retry_after: None }
}

fn host_of(public_url: &str) -> Option<HeaderValue> {
    let url = url::Url::parse(public_url).ok()?;
    url.host_str()?;
    HeaderValue::from_str(&authority(&url)).ok()
}
