//! What a store's refusal means. The code alone does not tell: MinIO says `AccessDenied` for an expired signature, one
//! from the future and a missing permission alike; the message decides. Texts are classified and dropped here: they name
//! bucket, key and host, so none of them goes any further.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

/// Bytes of an error body that are looked at; MinIO's are under 500.
pub const MAX_ERROR_BODY: usize = 4096;

/// Longest `Retry-After` of a store that is passed on.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// A store's refusal, classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The signature is too old, too young, or the session token ran out: sign again.
    Expired,
    /// The signature does not fit: wrong secret, wrong region, or our mistake.
    SignatureMismatch,
    /// The store does not know the access key or session token: read the credentials again.
    UnknownCredentials,
    /// No permission, with a signature that the store accepted.
    Denied,
    /// A refused HEAD without a code: a wrong signature, an expired or denied one and an impossible key look alike.
    RefusedHead,
    /// The object is archived and has to be restored first.
    Archived,
    /// No such key.
    NoSuchKey,
    /// The key's latest version is a delete marker: gone for good.
    DeleteMarker,
    /// No such bucket.
    NoSuchBucket,
    /// A precondition of the request does not hold.
    PreconditionFailed,
    /// The range begins past the object's end.
    RangeNotSatisfiable {
        /// The object's size where the store says it.
        size: Option<u64>,
    },
    /// The store asks for fewer requests.
    Throttled {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The store failed.
    Broken,
    /// An answer that no store should give to this request.
    Unexpected,
}

/// Classifies an answer of 400 and above. `body` is what was read of it, empty for HEAD.
pub fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8], head: bool) -> StoreError {
    let body = String::from_utf8_lossy(&body[..body.len().min(MAX_ERROR_BODY)]);
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = element(&body, "Code").or_else(|| text("x-minio-error-code")).unwrap_or_default();
    let message = element(&body, "Message").or_else(|| text("x-minio-error-desc")).unwrap_or_default();
    match (status.as_u16(), code) {
        (_, "ExpiredToken" | "RequestExpired" | "RequestTimeTooSkewed") => StoreError::Expired,
        (_, "SignatureDoesNotMatch") | (400, "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError") => {
            StoreError::SignatureMismatch
        }
        // The last is versitygw's, with 404.
        (_, "InvalidAccessKeyId" | "InvalidTokenId" | "InvalidToken" | "NotSignedUp" | "XAdminUserNotFound") => {
            StoreError::UnknownCredentials
        }
        (_, "InvalidObjectState") => StoreError::Archived,
        (400, code) if is_invalid_key_code(code) => StoreError::NoSuchKey,
        (_, "NoSuchBucket") => StoreError::NoSuchBucket,
        (_, "SlowDown" | "SlowDownRead" | "ServerBusy" | "ServiceUnavailable" | "XMinioServerNotInitialized")
        | (429, _) => StoreError::Throttled { retry_after: retry_after(headers) },
        (403, _) if says_expired(message) => StoreError::Expired,
        (400 | 401 | 403, "") if head => StoreError::RefusedHead,
        (401 | 403, _) => StoreError::Denied,
        (404 | 405, _) if text("x-amz-delete-marker") == Some("true") => StoreError::DeleteMarker,
        (404, _) => StoreError::NoSuchKey,
        (412, _) => StoreError::PreconditionFailed,
        (416, _) => StoreError::RangeNotSatisfiable { size: object_size(&body, headers) },
        (503, _) => StoreError::Throttled { retry_after: retry_after(headers) },
        (500..=599, _) => StoreError::Broken,
        _ => StoreError::Unexpected,
    }
}

/// Whether a 400 with this code says that no object can have the key; 400 to the store, "no such object" to a player. A
/// request has nothing else of the player's that a store could find wrong: ranges and conditions are Tidegate's own.
fn is_invalid_key_code(code: &str) -> bool {
    let of_aws = ["KeyTooLongError", "InvalidURI", "InvalidArgument"].contains(&code);
    let of_minio = ["XMinioInvalidObjectName", "XMinioInvalidResourceName"].contains(&code);
    // versitygw names the status where its web server refuses a path.
    of_aws || of_minio || code == "400"
}

/// MinIO: "Request has expired", "Request is not valid yet"; AWS: "Request has expired".
fn says_expired(message: &str) -> bool {
    ["expired", "not valid yet"].iter().any(|words| message.contains(words))
}

fn object_size(body: &str, headers: &HeaderMap) -> Option<u64> {
    let in_header = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let in_header = in_header.and_then(|value| value.strip_prefix("bytes */"));
    in_header.or_else(|| element(body, "ActualObjectSize"))?.parse().ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(Duration::from_secs(1), MAX_RETRY_AFTER))
}

/// The text of the first `<name>` element; S3's error documents are flat, so no parser is needed.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(code: &str, message: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><Key>k</Key></Error>"
        )
    }

    #[test]
    fn bodies_of_minio_and_aws_are_told_apart() {
        let none = StoreError::Throttled { retry_after: None };
        for (status, code, message, expected) in [
            (403, "AccessDenied", "Request has expired", StoreError::Expired),
            (403, "AccessDenied", "Request is not valid yet", StoreError::Expired),
            (403, "AccessDenied", "Access Denied.", StoreError::Denied),
            (400, "ExpiredToken", "The provided token has expired.", StoreError::Expired),
            (403, "RequestTimeTooSkewed", "The difference …", StoreError::Expired),
            (403, "SignatureDoesNotMatch", "", StoreError::SignatureMismatch),
            (403, "InvalidAccessKeyId", "", StoreError::UnknownCredentials),
            (403, "InvalidTokenId", "", StoreError::UnknownCredentials),
            (403, "InvalidObjectState", "", StoreError::Archived),
            (404, "NoSuchKey", "", StoreError::NoSuchKey),
            (404, "NoSuchBucket", "", StoreError::NoSuchBucket),
            (412, "PreconditionFailed", "", StoreError::PreconditionFailed),
            (503, "SlowDown", "", none),
            (503, "", "", none),
            (429, "TooManyRequests", "", none),
            (500, "InternalError", "", StoreError::Broken),
            (502, "", "", StoreError::Broken),
            (400, "KeyTooLongError", "", StoreError::NoSuchKey),
            (400, "XMinioInvalidObjectName", "", StoreError::NoSuchKey),
            (400, "InvalidArgument", "", StoreError::NoSuchKey),
            (400, "400", "Bad Request", StoreError::NoSuchKey),
            (400, "InvalidRequest", "", StoreError::Unexpected),
            (400, "", "", StoreError::Unexpected),
            (400, "AuthorizationQueryParametersError", "the region is wrong", StoreError::SignatureMismatch),
            (400, "AuthorizationHeaderMalformed", "", StoreError::SignatureMismatch),
            (404, "XAdminUserNotFound", "", StoreError::UnknownCredentials),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let body = xml(code, message);
            assert_eq!(classify(status, &HeaderMap::new(), body.as_bytes(), false), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_refused_head_is_read_from_the_headers_of_minio() {
        let mut headers = HeaderMap::new();
        for status in [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
            assert_eq!(classify(status, &headers, b"", true), StoreError::RefusedHead);
        }
        assert_eq!(classify(StatusCode::NOT_FOUND, &headers, b"", true), StoreError::NoSuchKey);
        headers.insert("x-minio-error-code", "AccessDenied".parse().expect("a value"));
        headers.insert("x-minio-error-desc", "\"Request has expired\"".parse().expect("a value"));
        assert_eq!(classify(StatusCode::FORBIDDEN, &headers, b"", true), StoreError::Expired);
        headers.insert("x-minio-error-desc", "\"Access Denied.\"".parse().expect("a value"));
        assert_eq!(classify(StatusCode::FORBIDDEN, &headers, b"", true), StoreError::Denied);
    }

    #[test]
    fn sizes_markers_and_waiting_times_are_found() {
        let body = "<Error><Code>InvalidRange</Code><ActualObjectSize>100</ActualObjectSize></Error>";
        let range = classify(StatusCode::RANGE_NOT_SATISFIABLE, &HeaderMap::new(), body.as_bytes(), false);
        assert_eq!(range, StoreError::RangeNotSatisfiable { size: Some(100) });

        let mut headers = HeaderMap::new();
        headers.insert("x-amz-delete-marker", "true".parse().expect("a value"));
        assert_eq!(classify(StatusCode::NOT_FOUND, &headers, b"", true), StoreError::DeleteMarker);

        for (value, seconds) in [("7", 7), ("0", 1), ("99999", 120)] {
            headers.insert(header::RETRY_AFTER, value.parse().expect("a value"));
            let expected = StoreError::Throttled { retry_after: Some(Duration::from_secs(seconds)) };
            assert_eq!(classify(StatusCode::TOO_MANY_REQUESTS, &headers, b"", false), expected);
        }
    }

    #[test]
    fn garbage_is_classified_by_its_status() {
        for body in [&b"\xff\xfe<Code>"[..], b"<Code>AccessDenied", b"", &[b'<'; 9000]] {
            assert_eq!(classify(StatusCode::FORBIDDEN, &HeaderMap::new(), body, false), StoreError::Denied);
        }
    }
}
