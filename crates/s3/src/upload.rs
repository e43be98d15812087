//! Storing an object, whole or in parts, and deleting it: the request of each step, and the meaning of its response. AWS "Uploading and
//! copying objects using multipart upload".

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use rusty_s3::actions::{
    AbortMultipartUpload, CompleteMultipartUpload, CompleteMultipartUploadResponse, CreateMultipartUpload,
    DeleteObject, PutObject, S3Action, UploadPart,
};
use rusty_s3::{Bucket, Credentials};
use url::Url;

/// Least bytes of each part but the last (AWS, "Amazon S3 multipart upload limits").
pub const MIN_PART_BYTES: usize = 5 << 20;

/// A step of storing an object.
#[derive(Clone, Debug)]
pub enum UploadStep<'a> {
    /// Stores the whole object in one request.
    Whole(Bytes),
    /// Begins an upload in parts; [`parse_upload_id`] reads the upload's id from the response.
    Begin,
    /// Stores a part; [`UploadStep::Complete`] needs the entity tag of the response.
    Part {
        /// Id of the upload.
        upload: &'a str,
        /// Number of the part, from 1.
        number: u16,
        /// Bytes of the part.
        bytes: Bytes,
    },
    /// Makes an object of the parts; [`is_completed`] reads the response.
    Complete {
        /// Id of the upload.
        upload: &'a str,
        /// Entity tags of the parts, in order.
        parts: &'a [String],
    },
    /// Drops the parts that were stored.
    Abort {
        /// Id of the upload.
        upload: &'a str,
    },
    /// Deletes the object, which need not be there.
    Delete,
}

/// A signed request. Its URL is a credential.
pub struct UploadRequest {
    /// Method of the request.
    pub method: Method,
    /// URL, which carries the signature.
    pub url: Url,
    /// Body of the request.
    pub body: Bytes,
}

impl UploadStep<'_> {
    /// Returns the signed request of the step, valid from `time` for `expiry`.
    pub(super) fn request(
        &self,
        bucket: &Bucket,
        keys: Option<&Credentials>,
        key: &str,
        expiry: Duration,
        time: &Timestamp,
    ) -> UploadRequest {
        // The signature is in the URL and covers no body (`UNSIGNED-PAYLOAD`), so parts need not be hashed.
        let (method, url, body) = match self {
            UploadStep::Whole(bytes) => {
                (Method::PUT, PutObject::new(bucket, keys, key).sign_with_time(expiry, time), bytes.clone())
            }
            UploadStep::Begin => {
                let action = CreateMultipartUpload::new(bucket, keys, key);
                (Method::POST, action.sign_with_time(expiry, time), Bytes::new())
            }
            UploadStep::Part { upload, number, bytes } => {
                let action = UploadPart::new(bucket, keys, key, *number, upload);
                (Method::PUT, action.sign_with_time(expiry, time), bytes.clone())
            }
            UploadStep::Complete { upload, parts } => {
                let parts = parts.iter().map(String::as_str);
                let action = CompleteMultipartUpload::new(bucket, keys, key, upload, parts);
                (Method::POST, action.sign_with_time(expiry, time), action.body().into())
            }
            UploadStep::Abort { upload } => {
                let action = AbortMultipartUpload::new(bucket, keys, key, upload);
                (Method::DELETE, action.sign_with_time(expiry, time), Bytes::new())
            }
            UploadStep::Delete => {
                (Method::DELETE, DeleteObject::new(bucket, keys, key).sign_with_time(expiry, time), Bytes::new())
            }
        };
        UploadRequest { method, url, body }
    }
}

/// Returns the id of the upload from the response to [`UploadStep::Begin`]; `None` where it has none.
pub fn parse_upload_id(text: &str) -> Option<String> {
    CreateMultipartUpload::parse_response(text).ok().map(|answer| answer.upload_id().to_owned())
}

/// Returns true where the response to [`UploadStep::Complete`] says that the object is there. Its status does not: a
/// store may send 200 first and an error in the body (AWS, "CompleteMultipartUpload").
pub fn is_completed(text: &str) -> bool {
    CompleteMultipartUploadResponse::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_that_failed_under_a_good_status_is_none() {
        let good = r#"<CompleteMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Location>l</Location><Bucket>b</Bucket><Key>k</Key><ETag>"x-2"</ETag></CompleteMultipartUploadResult>"#;
        assert!(is_completed(good));
        assert!(!is_completed(
            "<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"
        ));
        assert!(!is_completed(""));
    }

    #[test]
    fn an_upload_has_a_name() {
        let text = r#"<InitiateMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>b</Bucket><Key>k</Key><UploadId>the-name</UploadId></InitiateMultipartUploadResult>"#;
        assert_eq!(parse_upload_id(text).as_deref(), Some("the-name"));
        assert_eq!(parse_upload_id("<html>"), None);
    }
}
