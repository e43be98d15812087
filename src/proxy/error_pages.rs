//! Pages and cache times of errors, as the route has them in place of the envelope. An error whose page cannot be had is
//! answered with the envelope: never with a text of the store.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::context::RequestContext;
use super::objects::keep_private;
use super::route::{Route, RouteAuthorization};
use super::settings::ErrorPage;
use super::tracks::ObjectSource;
use object_engine::{self, AttemptStats, ObjectOrigin, RequestPlan};

/// Most bytes of a page: it is held in memory while it is sent.
const MOST_BYTES: usize = 256 << 10;
/// Bytes of it that are read at once.
const PIECE: usize = 16 << 10;
/// Headers of an object that describe a page.
const OF_PAGES: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE];

/// Puts the page that `route` has for `status` in place of the envelope in `body`, and the time for which caches may keep it into
/// `headers`.
pub async fn put_page(
    ctx: &RequestContext,
    route: &Route,
    status: StatusCode,
    headers: &mut HeaderMap,
    body: &mut Vec<u8>,
) {
    let Some(answer) = route.error_answers.iter().find(|answer| answer.status == status) else { return };
    let page = match &answer.page {
        Some(ErrorPage::File { content_type, body }) => {
            Some((HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.clone())]), body.to_vec()))
        }
        Some(ErrorPage::Object(key)) => match ObjectSource::of(&route.handler) {
            Some(ObjectSource::Key(handler)) => read_object(&handler.origin, key).await,
            Some(ObjectSource::Track(_) | ObjectSource::Film(_)) | None => None,
        },
        None => None,
    };
    if let Some((described, page)) = page {
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::CONTENT_LENGTH, page.len().into());
        headers.extend(described);
        *body = page;
    }
    let lifetime = answer.cache_for.and_then(|time| HeaderValue::try_from(format!("max-age={}", time.as_secs())).ok());
    if let Some(lifetime) = lifetime {
        headers.insert(header::CACHE_CONTROL, lifetime);
        if matches!(route.policies.authorization, RouteAuthorization::Policy { .. }) {
            keep_private(ctx, headers);
        }
    }
}

/// Reads an object that is no longer than a page may be; `None` where there is none.
async fn read_object(origin: &Arc<ObjectOrigin>, key: &str) -> Option<(HeaderMap, Vec<u8>)> {
    let plan = RequestPlan::from_request(&Method::GET, &HeaderMap::new(), PIECE);
    let mut effort = AttemptStats::default();
    // Whoever waits for the page has waited for the object.
    let mut answer = object_engine::serve_object_at_once(origin, &plan, key, &mut effort).await.ok()?;
    let (mut object, mut page) = (answer.body.take()?, Vec::new());
    while object.fill(PIECE, false).await.ok()? {
        page.extend_from_slice(object.available());
        if page.len() > MOST_BYTES {
            return None;
        }
    }
    let described = OF_PAGES.iter().filter_map(|name| Some((name.clone(), answer.headers.remove(name)?)));
    Some((described.collect(), page))
}
