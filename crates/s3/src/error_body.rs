//! Meaning of a store's refusal. The code alone does not decide: MinIO says `AccessDenied` for an expired signature,
//! one from the future and a missing permission alike; the message decides. Texts are classified and dropped here: they
//! name bucket, key and host, so none of them goes any further.

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
        /// Time that the store asks to wait, at least 1 s and at most 120 s.
        retry_after: Option<Duration>,
    },
    /// The store failed.
    Broken,
    /// A gateway in front of the store does not reach it (RFC 9110 §15.6.3, §15.6.5).
    BadGateway,
    /// A response that no store should give to this request.
    Unexpected,
}

/// Classifies a response of status 400 and above. `body` is the part of it that was read, empty for HEAD; `head` says
/// that the request was a HEAD. Never fails: a response that fits nothing is [`StoreError::Unexpected`].
pub fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8], head: bool) -> StoreError {
    let body = String::from_utf8_lossy(&body[..body.len().min(MAX_ERROR_BODY)]);
    // MinIO repeats code and message in headers, because a response to HEAD has no body.
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = element(&body, "Code").or_else(|| text("x-minio-error-code")).unwrap_or_default();
    let message = element(&body, "Message").or_else(|| text("x-minio-error-desc")).unwrap_or_default();
    match (status.as_u16(), code) {
        (_, "RequestExpired" | "RequestTimeTooSkewed") => StoreError::Expired,
        (_, "SignatureDoesNotMatch") | (400, "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError") => {
            StoreError::SignatureMismatch
        }
        // The last code is versitygw's, sent with 404: it must come before the statuses.
        (
            _,
            "InvalidAccessKeyId" | "InvalidTokenId" | "InvalidToken" | "ExpiredToken" | "NotSignedUp"
            | "XAdminUserNotFound",
        ) => StoreError::UnknownCredentials,
        (_, "InvalidObjectState") => StoreError::Archived,
        (400, code) if is_invalid_key_code(code) => StoreError::NoSuchKey,
        (_, "NoSuchBucket") => StoreError::NoSuchBucket,
        (_, "SlowDown" | "SlowDownRead" | "ServerBusy" | "ServiceUnavailable" | "XMinioServerNotInitialized")
        | (429, _) => StoreError::Throttled { retry_after: retry_after(headers) },
        // MinIO has no code of its own for this: `AccessDenied`, as for a missing permission.
        (403, _) if says_expired(message) => StoreError::Expired,
        (400 | 401 | 403, "") if head => StoreError::RefusedHead,
        (401 | 403, _) => StoreError::Denied,
        // AWS sends 404 where the latest version is a delete marker, 405 where the request names that version.
        (404 | 405, _) if text("x-amz-delete-marker") == Some("true") => StoreError::DeleteMarker,
        (404, _) => StoreError::NoSuchKey,
        (412, _) => StoreError::PreconditionFailed,
        (416, _) => StoreError::RangeNotSatisfiable { size: object_size(&body, headers) },
        // A 503 without a code still says that the server is overloaded for a while (RFC 9110 §15.6.4).
        (503, _) => StoreError::Throttled { retry_after: retry_after(headers) },
        (502 | 504, _) => StoreError::BadGateway,
        (500..=599, _) => StoreError::Broken,
        _ => StoreError::Unexpected,
    }
}

/// Returns true where a 400 with this code says that no object can have the key: 400 to the store, "no such object" to
/// the client. Nothing else in the request is the client's: ranges and conditions are Tidegate's own.
fn is_invalid_key_code(code: &str) -> bool {
    let of_aws = ["KeyTooLongError", "InvalidURI", "InvalidArgument"].contains(&code);
    let of_minio = ["XMinioInvalidObjectName", "XMinioInvalidResourceName"].contains(&code);
    // versitygw names the status where its web server refuses a path.
    of_aws || of_minio || code == "400"
}

/// Returns true for the message of an expired or premature signature. MinIO: "Request has expired", "Request is not
/// valid yet"; AWS: "Request has expired".
fn says_expired(message: &str) -> bool {
    ["expired", "not valid yet"].iter().any(|words| message.contains(words))
}

fn object_size(body: &str, headers: &HeaderMap) -> Option<u64> {
    let in_header = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    // `Content-Range: bytes */SIZE` (RFC 9110 §15.5.17); without it, S3's error document may name the size.
    let in_header = in_header.and_then(|value| value.strip_prefix("bytes */"));
    in_header.or_else(|| element(body, "ActualObjectSize"))?.parse().ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    // The form with a date (RFC 9110 §10.2.3) counts as none.
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(Duration::from_secs(1), MAX_RETRY_AFTER))
}

/// Returns the text of the first `<name>` element; S3's error documents are flat, so no parser is needed.
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
            (400, "ExpiredToken", "The provided token has expired.", StoreError::UnknownCredentials),
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
            (502, "", "", StoreError::BadGateway),
            (504, "", "", StoreError::BadGateway),
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
