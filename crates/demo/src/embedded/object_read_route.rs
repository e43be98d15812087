//! GET and HEAD of an object: conditions, ranges and the body (RFC 9110 §13–14), after `s3s` verified the signature.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, stream};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use s3s::dto::StreamingBlob;
use s3s::path::S3Path;
use s3s::route::S3Route;
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use http_semantics::conditional::{PreconditionOutcome, Preconditions, Validators};
use http_semantics::etag;
use http_semantics::media_type;
use http_semantics::range::{self, ByteRange, ContentRange};
use primitives::clock::Clock;

use super::folder::{FileIdentity, OpenedObject, StoreFolder, run_blocking};

/// Most bytes of a file that are read at once.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Query parameters that may stand in a request for an object itself. Any other asks for something else of it (its
/// tags, a version, another content type), which `s3s` refuses by name.
const SIGNATURE_PARAMETERS: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
    "x-id",
];

/// The route of `s3s` that reads objects.
pub(super) struct ObjectReadRoute {
    folder: StoreFolder,
    clock: Clock,
}

/// The object that a request's path names.
#[derive(Clone)]
struct ObjectPath {
    bucket: Box<str>,
    key: Box<str>,
}

impl ObjectReadRoute {
    pub fn new(folder: StoreFolder, clock: Clock) -> Self {
        Self { folder, clock }
    }

    fn respond(
        &self,
        method: &Method,
        asked: &HeaderMap,
        key: &str,
        object: OpenedObject,
    ) -> S3Result<S3Response<Body>> {
        let OpenedObject { file, identity } = object;
        let now = self.clock.now();
        let tag = format!("\"{}\"", identity.entity_tag());
        let mut headers = HeaderMap::new();
        put(&mut headers, ETAG, &tag)?;
        put(&mut headers, LAST_MODIFIED, &httpdate::fmt_http_date(identity.modified()))?;
        put(&mut headers, DATE, &httpdate::fmt_http_date(now))?;
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));

        let validators =
            Validators { etag: etag::ETag::parse(tag.as_bytes()), last_modified: Some(identity.modified()) };
        let conditions = Preconditions::from_headers(asked);
        match conditions.evaluate(&validators) {
            PreconditionOutcome::Proceed => {}
            PreconditionOutcome::NotModified => return Ok(response(StatusCode::NOT_MODIFIED, headers, Body::empty())),
            PreconditionOutcome::PreconditionFailed => {
                return Err(error_with_headers(
                    S3ErrorCode::PreconditionFailed,
                    "A precondition does not hold.",
                    headers,
                ));
            }
        }

        let content_type = media_type::from_key_extension(key).unwrap_or("application/octet-stream");
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let whole = ByteRange { first: 0, last: identity.size.saturating_sub(1) };
        // Ranges are for GET only (RFC 9110 §14.2), and only for the version that `If-Range` names (§13.1.5).
        let ranged = *method == Method::GET && conditions.if_range_holds(&validators, Some(now));
        let (status, span) = match range::from_headers(asked).filter(|_| ranged) {
            None => (StatusCode::OK, whole),
            Some(spec) => {
                let Ok(span) = spec.resolve(identity.size) else {
                    headers.insert(CONTENT_RANGE, range::unsatisfied_range(identity.size));
                    return Err(error_with_headers(
                        S3ErrorCode::InvalidRange,
                        "No byte of the object is in the range.",
                        headers,
                    ));
                };
                let content_range = ContentRange { span, total: Some(identity.size) };
                headers.insert(CONTENT_RANGE, content_range.to_header());
                (StatusCode::PARTIAL_CONTENT, span)
            }
        };
        // A `ByteRange` holds one byte at least, so `whole` does not fit an empty file.
        let length = if identity.size == 0 { 0 } else { span.len() };
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        let body = if *method == Method::HEAD || length == 0 {
            Body::empty()
        } else {
            Body::from(StreamingBlob::wrap(chunks(file, identity, span.first, length)))
        };
        Ok(response(status, headers, body))
    }
}

#[async_trait::async_trait]
impl S3Route for ObjectReadRoute {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, extensions: &mut Extensions) -> bool {
        if *method != Method::GET && *method != Method::HEAD {
            return false;
        }
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        if !query.into_iter().all(|(name, _)| SIGNATURE_PARAMETERS.contains(&&*name)) {
            return false;
        }
        let Ok(path) = percent_decode_str(uri.path()).decode_utf8() else { return false };
        let Ok(S3Path::Object { bucket, key }) = s3s::path::parse_path_style(&path) else { return false };
        extensions.insert(ObjectPath { bucket, key });
        true
    }

    async fn call(&self, mut request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let Some(ObjectPath { bucket, key }) = request.extensions.remove() else {
            return Err(s3_error!(InternalError, "The route was called without its match."));
        };
        let folder = self.folder.clone();
        let (object, key) = run_blocking(move || folder.object(&bucket, &key).map(|object| (object, key))).await?;
        self.respond(&request.method, &request.headers, &key, object)
    }
}

/// `length` bytes of `file` from `first` on, read as they are asked for. A file that is changed in place while it is
/// read ends as an error, which breaks the connection off, so that no reader takes two contents for one.
fn chunks(
    file: File,
    identity: FileIdentity,
    first: u64,
    length: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
    let file = Arc::new(file);
    stream::try_unfold((first, length), move |(position, left)| {
        let file = file.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let size = left.min(CHUNK_BYTES);
            let read = move || {
                let mut chunk = vec![0; usize::try_from(size).map_err(io::Error::other)?];
                file.read_exact_at(&mut chunk, position)?;
                // After the read: a change before it or during it is seen.
                if FileIdentity::from_metadata(&file.metadata()?) != identity {
                    return Err(io::Error::other("the file was changed while it was read"));
                }
                Ok(Bytes::from(chunk))
            };
            let chunk = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
            Ok(Some((chunk, (position + size, left - size))))
        }
    })
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> S3Response<Body> {
    let mut response = S3Response::with_headers(body, headers);
    response.status = Some(status);
    response
}

/// An error that keeps what was learned of the object; the length and type are those of the error's own XML.
fn error_with_headers(code: S3ErrorCode, message: &'static str, mut headers: HeaderMap) -> S3Error {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    let mut error = S3Error::with_message(code, message);
    error.set_headers(headers);
    error
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) -> S3Result<()> {
    headers.insert(name, HeaderValue::from_str(value).map_err(S3Error::internal_error)?);
    Ok(())
}
