//! Fuzz targets of what a store says: the body of a refusal, and the page of a listing.

use fuzz_inputs::{FuzzInput, FuzzInputs, check};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::error_body::{StoreError, classify};
use crate::listing::parse_page;
use crate::upload::parse_upload_id;

const MEMBER: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn store_errors() {
    let tokens: &[&[u8]] = &[
        b"<Error>",
        b"</Error>",
        b"<Code>",
        b"</Code>",
        b"<Message>",
        b"</Message>",
        b"AccessDenied",
        b"NoSuchKey",
        b"SignatureDoesNotMatch",
        b"Request has expired",
        b"InvalidAccessKeyId",
        b"SlowDown",
        b"InvalidRange",
        b"<ActualObjectSize>",
        b"99999999999999999999",
        b"<",
        b">",
        b"&amp;",
        b"&",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"]]>",
        b"\0",
        b"\xff",
        b"\n",
    ];
    let inputs = FuzzInputs::new(MEMBER, "store_errors", tokens);
    inputs.each_sample(store_error);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| store_error(input));
}

/// Any text has a meaning, the same each time, and it waits no longer than it may.
fn store_error(input: &[u8]) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(&input[..input.len().min(40)]) {
        headers.insert(http::header::RETRY_AFTER, value.clone());
        headers.insert("x-minio-error-code", value);
    }
    for status in [400, 403, 404, 412, 416, 429, 500, 503] {
        let status = StatusCode::from_u16(status).expect("a status");
        for (headers, head) in [(&HeaderMap::new(), false), (&headers, false), (&headers, true)] {
            let meaning = classify(status, headers, input, head);
            assert_eq!(meaning, classify(status, headers, input, head));
            if let StoreError::Throttled { retry_after: Some(wait) } = meaning {
                assert!((1..=120).contains(&wait.as_secs()), "{wait:?}");
            }
        }
    }
}

#[test]
fn listings() {
    let tokens: &[&[u8]] = &[
        b"<Contents>",
        b"</Contents>",
        b"<Key>",
        b"</Key>",
        b"<Size>",
        b"</Size>",
        b"<NextContinuationToken>",
        b"<UploadId>",
        b"</UploadId>",
        b"<",
        b">",
        b"&lt;",
        b"&#x0;",
        b"&#55296;",
        b"%2F",
        b"%",
        b"<![CDATA[",
        b"]]>",
        b"<!DOCTYPE a [<!ENTITY b \"c\">]>",
        b"&b;",
        b"-1",
        b"18446744073709551616",
        b"\xff",
    ];
    let inputs = FuzzInputs::new(MEMBER, "listings", tokens);
    inputs.each_sample(listing);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| listing(input));
}

/// No page makes the parser panic, and folders are no objects.
fn listing(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(page) = parse_page(&text) {
        assert!(page.objects.iter().all(|object| !object.key.ends_with('/')));
    }
    let _ = parse_upload_id(&text);
}
