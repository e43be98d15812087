//! Static sites: the index document that answers for a folder, and the address with a slash at its end that a folder has.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::respond;
use super::route::ObjectHandler;
use super::tracks::RequestedObject;
use http_server::{Downstream, DownstreamError};
use object_engine::listing::{self, FolderQuestion};
use object_engine::{self, AttemptStats, ObjectError, RequestPlan};

/// Returns true for the key of a folder.
pub fn is_folder(key: &str) -> bool {
    key.is_empty() || key.ends_with('/')
}

/// Returns true where the path of `request` ends with a slash, so that links in a page are relative to the folder. An escaped
/// slash is one, as it is in a key.
pub fn names_folder(request: &Parts) -> bool {
    let path = request.uri.path();
    path.ends_with('/') || path.ends_with("%2F") || path.ends_with("%2f")
}

/// Returns true where an object that cannot be served may be a folder without its slash. AWS says 403 of a key that is not
/// there to who may not list the bucket.
pub fn may_be_folder(failure: &ProxyFailure) -> bool {
    matches!(failure, ProxyFailure::Object(ObjectError::NotFound | ObjectError::Denied { .. }))
}

/// Asks whether there is a folder that has the name of `object`: one with an index document, or where folders are listed, with
/// anything in it.
/// Fails where the store cannot tell: that is no absence.
pub async fn is_folder_there(
    object: &RequestedObject,
    site: &ObjectHandler,
    tally: &mut AttemptStats,
) -> Result<bool, ObjectError> {
    if object.folder().is_some() {
        return Ok(false);
    }
    let prefix = format!("{}/", object.key());
    if let Some(index) = &site.index {
        let plan = RequestPlan::from_request(&Method::HEAD, &HeaderMap::new(), 0);
        let key = format!("{prefix}{index}");
        match object_engine::serve_object(&object.origin, &plan, &key, tally).await {
            Ok(_) => return Ok(true),
            Err(error) if error.is_absence() => {}
            Err(error) => return Err(error),
        }
    }
    if !site.lists_folders {
        return Ok(false);
    }
    // Two: the first may be the object that consoles put in a folder to have it there.
    let question = FolderQuestion { prefix: &prefix, from: None, most: 2 };
    match listing::list_folder(&object.origin, &question, tally).await {
        Ok(page) => Ok(!page.folders.is_empty() || !page.objects.is_empty()),
        Err(error) if error.is_absence() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends the client to the same path with a slash at its end. 302, as stores do: there may be an object of that name later.
pub async fn redirect_to_folder(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
) -> Result<(), DownstreamError> {
    let Some(location) = location(&downstream.request().uri) else {
        let refused = ProxyFailure::BadRequest("the path cannot be written into a header".into());
        return respond::failure(downstream, ctx, refused).await;
    };
    let mut headers = HeaderMap::new();
    if let Some(route) = &ctx.route {
        route.response_headers.apply(StatusCode::FOUND, None, &mut headers);
    }
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    respond::head(downstream, ctx, StatusCode::FOUND, headers, true).await
}

/// Returns the path of `uri` with a slash at its end, relative to itself (RFC 3986 §4.2): so it holds behind whatever changes
/// the beginning of paths, shows no token that stood there, and a path such as `//other.example` cannot name another host.
fn location(uri: &Uri) -> Option<HeaderValue> {
    let segment = uri.path().rsplit('/').next()?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // Without the dot, what stands before a colon would be a scheme.
    HeaderValue::try_from(format!("./{segment}/{query}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leaves_the_site() {
        for (target, expected) in [
            ("/docs", "./docs/"),
            ("/a/b?x=1&y", "./b/?x=1&y"),
            ("//other.example", "./other.example/"),
            ("/https:", "./https:/"),
            ("/a/%5Cother.example", "./%5Cother.example/"),
            ("/site//", ".//"),
        ] {
            let location = location(&target.parse().expect("a target"));
            assert_eq!(location.expect("a location"), expected, "{target}");
        }
    }
}
