//! Listings of folders as HTML and JSON. They show names in the folder, sizes and times: nothing of the store or the bucket, and no
//! key beyond the folder. Authorized as the objects are, by the same route.

use std::fmt::Write as _;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use url::form_urlencoded;

use super::context::RequestContext;
use super::failure::ProxyFailure;
use super::respond;
use super::tracks::RequestedObject;
use http_server::{Downstream, DownstreamError};
use object_engine::ObjectError;
use object_engine::listing::{FolderQuestion, MAX_ENTRIES, list_folder};
use s3::listing::FolderPage;

/// Parameter of the query with the cursor of a page.
const CURSOR: &str = "cursor";
/// Bytes that are escaped in a link's segment: all but the unreserved ones (RFC 3986 §2.3).
const NOT_IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Nothing on the page runs or is loaded, whatever stands in a name.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");

/// Listing of a folder, as JSON has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    entries: Vec<ListingEntry>,
    /// `cursor` of the next page; `None` on the last one.
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct ListingEntry {
    /// Name in the folder.
    name: String,
    kind: EntryKind,
    /// Size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Time when it was stored (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
}

#[derive(Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum EntryKind {
    Folder,
    File,
}

/// Answers with the names in the folder that the path names.
pub async fn serve(
    downstream: &mut impl Downstream,
    ctx: &mut RequestContext,
    object: &RequestedObject,
) -> Result<(), DownstreamError> {
    let prefix = object.folder().unwrap_or_default();
    let cursor = cursor(downstream.request());
    let listing = tokio::select! {
        biased;
        listing = ask(cursor.as_deref(), ctx, object, prefix) => listing,
        () = downstream.closed() => Err(ProxyFailure::ClientLeft),
    };
    let listing = match listing {
        Ok(listing) => listing,
        Err(failure) => {
            ctx.failed_object = Some(Box::new(object.origin.location(prefix)));
            return respond::failure(downstream, ctx, failure).await;
        }
    };
    let request = downstream.request();
    let (content_type, body) = match wants_json(request) {
        true => ("application/json", serde_json::to_vec(&listing).unwrap_or_default()),
        false => ("text/html; charset=utf-8", html(request.uri.path(), &listing).into_bytes()),
    };
    let head_only = request.method == Method::HEAD;
    let headers = headers(ctx, content_type, body.len());
    respond::head(downstream, ctx, StatusCode::OK, headers, head_only).await?;
    if !head_only {
        downstream.write(&body).await?;
        downstream.end(None).await?;
    }
    Ok(())
}

fn headers(ctx: &RequestContext, content_type: &'static str, length: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    if let Some(route) = &ctx.route {
        route.response_headers.apply(StatusCode::OK, None, &mut headers);
    }
    headers.remove(header::CONTENT_DISPOSITION);
    // What is in a folder changes with every upload, and nothing tells when.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers
}

/// Asks the store for the page that the request wants. Fails with `NotFound` for a folder with nothing in it, which stores do not
/// have; the root is there always.
async fn ask(
    cursor: Option<&str>,
    ctx: &mut RequestContext,
    object: &RequestedObject,
    prefix: &str,
) -> Result<Listing, ProxyFailure> {
    let origin = &object.origin;
    let tokens = origin.signer.page_tokens();
    let from = match cursor {
        Some(cursor) => Some(tokens.open(&origin.bucket, prefix, cursor).ok_or_else(|| {
            ProxyFailure::BadRequest("the cursor is none of this folder: begin with its first page".into())
        })?),
        None => None,
    };
    let question = FolderQuestion { prefix, from: from.as_deref(), most: MAX_ENTRIES };
    let page = list_folder(origin, &question, &mut ctx.attempt_stats).await.map_err(ProxyFailure::Object)?;
    let FolderPage { folders, objects, continuation_token } = page;
    if folders.is_empty() && objects.is_empty() && continuation_token.is_none() && from.is_none() && !prefix.is_empty()
    {
        return Err(ProxyFailure::Object(ObjectError::NotFound));
    }
    let folder = |name| ListingEntry { name, kind: EntryKind::Folder, size: None, modified: None };
    let objects = objects.into_iter().map(|object| ListingEntry {
        name: object.name,
        kind: EntryKind::File,
        size: object.size,
        modified: object.modified.map(|time| time.to_string()),
    });
    let next_cursor = continuation_token.and_then(|token| tokens.seal(&origin.bucket, prefix, &token));
    Ok(Listing { entries: folders.into_iter().map(folder).chain(objects).collect(), next_cursor })
}

fn cursor(request: &Parts) -> Option<String> {
    let mut pairs = form_urlencoded::parse(request.uri.query()?.as_bytes());
    pairs.find(|(name, _)| name == CURSOR).map(|(_, value)| value.into_owned())
}

/// Returns true for a client that names JSON and not HTML in `Accept`.
fn wants_json(request: &Parts) -> bool {
    let accepted = request.headers.get_all(header::ACCEPT);
    let accepts = |media_type: &str| {
        let mut ranges = accepted.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        ranges.any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type))
    };
    accepts("application/json") && !accepts("text/html")
}

/// Writes the page of the folder at `path`, the request's own. Links are relative, so that they hold wherever the folder is seen.
fn html(path: &str, listing: &Listing) -> String {
    let shown = escaped(&percent_decode_str(path).decode_utf8_lossy());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{shown}</title></head>\n<body>\n<h1>{shown}</h1>\n<table>\n"
    );
    for entry in &listing.entries {
        let slash = if entry.kind == EntryKind::Folder { "/" } else { "" };
        let (link, name) = (utf8_percent_encode(&entry.name, NOT_IN_SEGMENT), escaped(&entry.name));
        let size = entry.size.map(|size| size.to_string()).unwrap_or_default();
        let modified = entry.modified.as_deref().unwrap_or_default();
        // Writing to a String cannot fail. The dot: else a name such as `a:b` would be a scheme.
        let _ = writeln!(
            page,
            "<tr><td><a href=\"./{link}{slash}\">{name}{slash}</a></td><td>{size}</td><td>{modified}</td></tr>"
        );
    }
    page.push_str("</table>\n");
    if let Some(cursor) = &listing.next_cursor {
        let _ = writeln!(page, "<p><a rel=\"next\" href=\"?{CURSOR}={cursor}\">more</a></p>");
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// Escapes a text for HTML, in elements and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_gets_out_of_its_place_on_the_page() {
        let entry = |name: &str, kind| ListingEntry { name: name.to_owned(), kind, size: Some(5), modified: None };
        let entries = vec![
            entry("<script>alert(1)</script>", EntryKind::File),
            entry("\"onmouseover='x'", EntryKind::File),
            entry("javascript:alert(1)", EntryKind::File),
            entry("a&b \u{202e}?#%", EntryKind::Folder),
        ];
        let page = html("/%3Cb%3E/", &Listing { entries, next_cursor: Some("abc-_".to_owned()) });
        for line in [
            "<h1>/&lt;b&gt;/</h1>",
            "<a href=\"./%3Cscript%3Ealert%281%29%3C%2Fscript%3E\">&lt;script&gt;alert(1)&lt;/script&gt;</a>",
            "<a href=\"./%22onmouseover%3D%27x%27\">&quot;onmouseover=&#39;x&#39;</a>",
            "<a href=\"./javascript%3Aalert%281%29\">javascript:alert(1)</a>",
            "<a href=\"./a%26b%20%E2%80%AE%3F%23%25/\">a&amp;b \u{202e}?#%/</a>",
            "<a rel=\"next\" href=\"?cursor=abc-_\">more</a>",
        ] {
            assert!(page.contains(line), "no {line} in {page}");
        }
        assert!(!page.contains("<script"));
    }
}
