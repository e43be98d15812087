//! Description of the API (OpenAPI 3.1): the modules' descriptions of their paths, and the common parts.

use serde_json::json;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, Content, OpenApi, Ref, RefOr, Response, Responses};
use utoipa::{Modify, OpenApi as _};

use super::health::{ComponentStatus, HealthReport};
use super::router;
use http_semantics::error_codes::ErrorCode;
use http_semantics::problem::{self, Problem};

/// Name of the response for every error that an operation does not name.
const ERROR: &str = "Error";

/// Beginning of every description.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Tidegate", description = "A reverse proxy for object storage and the services beside it. Errors have one form (RFC 9457) and stable codes; lists come in pages of `limit` entries, the next one by `nextCursor`.", license(name = "Apache-2.0")),
    servers((url = "/", description = "This server")),
    paths(router::health, stream, openapi, docs),
    components(schemas(HealthReport, ComponentStatus, Problem)),
    modifiers(&CommonComponents),
    tags((name = "streaming", description = "Objects through the proxy"), (name = "positions", description = "Where users stopped, and what they can continue"), (name = "playback", description = "What listeners do"), (name = "operations", description = "State of the process"))
)]
struct ApiDescription;

/// Components to which the paths refer.
struct CommonComponents;

impl Modify for CommonComponents {
    fn modify(&self, description: &mut OpenApi) {
        let components = description.components.get_or_insert_with(Components::default);
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.bearer_format = Some("JWT".to_owned());
        bearer.description = Some("A user's token, from an issuer that the operator trusts".to_owned());
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let mut error = Response::new("Any other error");
        error.content.insert(problem::CONTENT_TYPE.to_owned(), RefOr::T(problem_content()));
        components.responses.insert(ERROR.to_owned(), RefOr::T(error));
    }
}

/// Returns the description without the modules.
pub fn base() -> OpenApi {
    ApiDescription::openapi()
}

/// Returns `description` with the form of every error: of those that operations name without a content, and of any
/// other.
pub fn complete(mut description: OpenApi) -> OpenApi {
    for item in description.paths.paths.values_mut() {
        let PathItem { get, put, post, delete, options, head, patch, .. } = item;
        for operation in [get, put, post, delete, options, head, patch].into_iter().flatten() {
            add_errors(&mut operation.responses);
        }
    }
    description
}

fn add_errors(responses: &mut Responses) {
    for (status, response) in &mut responses.responses {
        if let (RefOr::T(response), true) = (response, status.starts_with(['4', '5']))
            && response.content.is_empty()
        {
            response.content.insert(problem::CONTENT_TYPE.to_owned(), RefOr::T(problem_content()));
        }
    }
    let any = || RefOr::Ref(Ref::from_response_name(ERROR));
    responses.responses.entry("default".to_owned()).or_insert_with(any);
}

fn problem_content() -> Content {
    let schema = Ref::from_schema_name("Problem");
    let code = ErrorCode::NotFound;
    let example = Problem::new(code.status(), code.as_str(), code.detail(), "9f86d081884c7d65", 1_760_000_000_000);
    let mut content = Content::new(Some(schema));
    content.example = Some(json!(example));
    content
}

/// Streams a track. Range, If-Range and the other conditionals of RFC 9110 are honoured whatever the store does.
#[utoipa::path(get, path = "/api/v1/tracks/{id}/stream", tag = "streaming", security((), ("bearer" = [])),
    params(("id" = String, Path, description = "The track"), ("Range" = Option<String>, Header, description = "One byte range, such as `bytes=0-1023`")),
    responses(
        (status = 200, description = "The whole track", body = Vec<u8>, content_type = "*/*"),
        (status = 206, description = "The range asked for", body = Vec<u8>, content_type = "*/*"),
        (status = 304, description = "Not modified"), (status = 401, description = "No valid token"),
        (status = 403, description = "The token does not allow it"), (status = 404, description = "No such track"),
        (status = 410, description = "Removed for good"), (status = 412, description = "A precondition does not hold"),
        (status = 416, description = "The range begins past the end"),
        (status = 503, description = "Not available at the moment; see Retry-After and X-Retry-Url")))]
#[expect(dead_code, reason = "answered by the proxy; stands here for its description")]
fn stream() {}

/// The page that shows this description, with its parts beside it.
#[utoipa::path(get, path = "/docs/", tag = "operations",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The client has it already")))]
#[expect(dead_code, reason = "answered by the router; stands here for its description")]
fn docs() {}

/// This description as JSON.
#[utoipa::path(get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "This description", body = Object, content_type = "application/json")))]
#[expect(dead_code, reason = "answered by the router; stands here for its description")]
fn openapi() {}
