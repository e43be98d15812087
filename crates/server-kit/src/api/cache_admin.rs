//! Operator's paths of the cache: purge and refresh. The work is done behind [`CacheOperations`].

use std::io;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::Error;
use super::router::RouterState;

/// Scope of a purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeTarget {
    /// The object of this key, in every store and bucket.
    Key(String),
    /// Objects whose keys begin with this, in every store and bucket.
    Prefix(String),
    /// Objects of the route of this id, on whatever route they are served.
    Route(String),
    /// Everything.
    All,
}

/// Outcome of a refresh, by buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RefreshSummary {
    /// The store has the same version.
    pub same: u32,
    /// The store has another version.
    pub changed: u32,
    /// The store has the object no more.
    pub gone: u32,
    /// The store did not answer.
    pub failed: u32,
}

/// Operations on the cache.
pub trait CacheOperations: Send + Sync {
    /// Returns true if there is a cache; a reload may open the first one.
    fn is_open(&self) -> bool;
    /// Purges; an error means that the purge is in force but would not survive a restart.
    fn purge(&self, scope: PurgeTarget) -> io::Result<()>;
    /// Returns true if there is an object route of this id.
    fn has_route(&self, route: &str) -> bool;
    /// Asks the stores whether the cached versions of this key are still current.
    fn refresh<'a>(&'a self, key: &'a str) -> BoxFuture<'a, RefreshSummary>;
}

/// The body of a purge: exactly one of these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    key: Option<String>,
    prefix: Option<String>,
    route: Option<String>,
    #[serde(default)]
    all: bool,
}

/// The body of a refresh.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    key: String,
}

impl PurgeRequest {
    fn scope(self) -> Option<PurgeTarget> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        match (given(self.key), given(self.prefix), given(self.route), self.all) {
            (Some(key), None, None, false) => Some(PurgeTarget::Key(key)),
            (None, Some(prefix), None, false) => Some(PurgeTarget::Prefix(prefix)),
            (None, None, Some(route), false) => Some(PurgeTarget::Route(route)),
            (None, None, None, true) => Some(PurgeTarget::All),
            _ => None,
        }
    }
}

/// `POST /cache/purge`.
pub async fn purge(
    State(shared): State<RouterState>,
    body: Result<Json<PurgeRequest>, JsonRejection>,
) -> Result<Response, Error> {
    let cache = shared.cache.as_ref().filter(|cache| cache.is_open()).ok_or_else(no_cache)?;
    let expected = r#"send one of {"key": "…"}, {"prefix": "…"}, {"route": "…"} and {"all": true}"#;
    let scope = parse_body(body, expected)?.scope().ok_or_else(|| Error::bad_request(expected))?;
    if let PurgeTarget::Route(route) = &scope
        && !cache.has_route(route)
    {
        return Err(Error::bad_request("there is no object route of this id"));
    }
    let written = cache.purge(scope.clone());
    if let Err(error) = &written {
        tracing::error!(%error, "a purge could not be written: a restart would forget it");
    }
    Ok(Json(json!({ "purged": scope, "durable": written.is_ok() })).into_response())
}

/// `POST /cache/refresh`.
pub async fn refresh(
    State(shared): State<RouterState>,
    body: Result<Json<RefreshRequest>, JsonRejection>,
) -> Result<Response, Error> {
    let cache = shared.cache.as_ref().filter(|cache| cache.is_open()).ok_or_else(no_cache)?;
    let expected = r#"send {"key": "…"}"#;
    let RefreshRequest { key } = parse_body(body, expected)?;
    if key.is_empty() {
        return Err(Error::bad_request(expected));
    }
    Ok(Json(cache.refresh(&key).await).into_response())
}

/// Returns the body, or an error that adds `expected` to the problem.
fn parse_body<T>(body: Result<Json<T>, JsonRejection>, expected: &str) -> Result<T, Error> {
    match body {
        Ok(Json(asked)) => Ok(asked),
        Err(JsonRejection::MissingJsonContentType(_)) => {
            Err(Error::unsupported_media_type(format!("{expected} with the header Content-Type: application/json")))
        }
        Err(rejection) => Err(Error::bad_request(format!("{expected}: {}", rejection.body_text()))),
    }
}

fn no_cache() -> Error {
    Error::not_found("no route uses the cache: see OutputCachePolicy")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use parking_lot::Mutex;
    use tower::ServiceExt;

    use super::*;
    use crate::api::health::{ComponentHealth, ComponentStatus, HealthService};
    use crate::api::router;
    use crate::api::status_admin::{ClusterReport, RouteReport, RuntimeStatus};
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::recent_failures::FailureRecord;
    use primitives::clock::Clock;
    use primitives::secret::Secret;

    #[derive(Default)]
    struct Fake(Mutex<Vec<PurgeTarget>>);

    impl CacheOperations for Fake {
        fn is_open(&self) -> bool {
            true
        }

        fn purge(&self, scope: PurgeTarget) -> io::Result<()> {
            self.0.lock().push(scope);
            Ok(())
        }

        fn has_route(&self, route: &str) -> bool {
            route == "songs"
        }

        fn refresh<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, RefreshSummary> {
            Box::pin(async { RefreshSummary { same: 1, ..RefreshSummary::default() } })
        }
    }

    struct Fine;

    impl ComponentHealth for Fine {
        fn stores(&self) -> ComponentStatus {
            ComponentStatus::Ok
        }
    }

    struct Idle;

    impl RuntimeStatus for Idle {
        fn clusters(&self) -> Vec<ClusterReport> {
            Vec::new()
        }

        fn store_faults(&self) -> Vec<String> {
            Vec::new()
        }

        fn routes(&self) -> Vec<RouteReport> {
            Vec::new()
        }

        fn failures(&self) -> Vec<FailureRecord> {
            Vec::new()
        }

        fn error_page(&self) -> &'static str {
            ""
        }
    }

    async fn post(
        path: &str,
        token: &str,
        body: &'static str,
        cache: Option<Arc<dyn CacheOperations>>,
    ) -> (u16, String) {
        let shared = RouterState {
            health: HealthService::new(Arc::new(Fine)),
            metrics: Arc::new(Metrics::new().expect("they register")),
            clock: Clock::system(),
            admin_token: Arc::new(|| Some(Secret::new("right"))),
            cache,
            configuration: None,
            explain: std::sync::Arc::new(|_, _, _| Box::pin(std::future::ready(Err(String::new())))),
            streams: Arc::default(),
            status: Arc::new(Idle),
            description: router::modules([]).description,
        };
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body))
            .expect("a request");
        let response = router::admin(shared, axum::Router::new()).oneshot(request).await.expect("it answers");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn the_operator_purges_and_nobody_else() {
        let fake = Arc::new(Fake::default());
        let cache = || Some(Arc::clone(&fake) as Arc<dyn CacheOperations>);
        let (status, _) = post("/cache/purge", "wrong", r#"{"all": true}"#, cache()).await;
        assert_eq!((status, fake.0.lock().len()), (StatusCode::UNAUTHORIZED.as_u16(), 0));
        let (status, said) = post("/cache/purge", "right", r#"{"prefix": "a/"}"#, cache()).await;
        assert_eq!((status, said.as_str()), (200, r#"{"durable":true,"purged":{"prefix":"a/"}}"#));
        assert_eq!(*fake.0.lock(), [PurgeTarget::Prefix("a/".into())]);
        for body in [r#"{"route": "nope"}"#, r#"{}"#, "not JSON"] {
            assert_eq!(post("/cache/purge", "right", body, cache()).await.0, 400, "{body}");
        }
        assert_eq!(post("/cache/purge", "right", r#"{"route": "songs"}"#, cache()).await.0, 200);
        let (status, said) = post("/cache/refresh", "right", r#"{"key": "a"}"#, cache()).await;
        assert_eq!((status, said.as_str()), (200, r#"{"same":1,"changed":0,"gone":0,"failed":0}"#));
        assert_eq!(post("/cache/purge", "right", r#"{"all": true}"#, None).await.0, 404);
    }

    #[test]
    fn a_purge_says_exactly_one_scope() {
        let table = [
            (r#"{"key": "a"}"#, Some(PurgeTarget::Key("a".into()))),
            (r#"{"prefix": "a/"}"#, Some(PurgeTarget::Prefix("a/".into()))),
            (r#"{"route": "r", "all": false}"#, Some(PurgeTarget::Route("r".into()))),
            (r#"{"all": true}"#, Some(PurgeTarget::All)),
            (r#"{}"#, None),
            (r#"{"all": false}"#, None),
            (r#"{"prefix": ""}"#, None),
            (r#"{"key": "a", "all": true}"#, None),
            (r#"{"key": "a", "prefix": "a"}"#, None),
        ];
        for (text, expected) in table {
            let asked: PurgeRequest = serde_json::from_str(text).expect(text);
            assert_eq!(asked.scope(), expected, "{text}");
        }
        assert!(serde_json::from_str::<PurgeRequest>(r#"{"keys": "a"}"#).is_err());
    }
}
