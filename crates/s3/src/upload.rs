//! Storing an object, whole or in parts: AWS "Uploading and copying objects using multipart upload". What is asked in each
//! step, and what the answers say.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use rusty_s3::actions::{
    AbortMultipartUpload, CompleteMultipartUpload, CompleteMultipartUploadResponse, CreateMultipartUpload, PutObject,
    S3Action, UploadPart,
};
use rusty_s3::{Bucket, Credentials};
use url::Url;

/// Bytes that each part but the last has at least.
pub const MIN_PART_BYTES: usize = 5 << 20;

/// A step.
#[derive(Clone, Debug)]
pub enum UploadStep<'a> {
    /// Stores all of it.
    Whole(Bytes),
    /// Begins an upload in parts; [`parse_upload_id`] reads its name off the answer.
    Begin,
    /// Stores a part; the answer's entity tag is needed in the end.
    Part {
        /// The upload's name.
        upload: &'a str,
        /// From 1.
        number: u16,
        /// The part.
        bytes: Bytes,
    },
    /// Makes an object of the parts; [`is_completed`] reads the answer.
    Complete {
        /// The upload's name.
        upload: &'a str,
        /// The parts' entity tags, in order.
        parts: &'a [String],
    },
    /// Drops the parts.
    Abort {
        /// The upload's name.
        upload: &'a str,
    },
}

/// A request that is signed.
pub struct UploadRequest {
    /// How.
    pub method: Method,
    /// Where; carries the signature.
    pub url: Url,
    /// What.
    pub body: Bytes,
}

impl UploadStep<'_> {
    /// The request for it.
    pub(super) fn request(
        &self,
        bucket: &Bucket,
        keys: &Credentials,
        key: &str,
        expiry: Duration,
        time: &Timestamp,
    ) -> UploadRequest {
        let keys = Some(keys);
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
        };
        UploadRequest { method, url, body }
    }
}

/// The name of the upload that has begun; `None` where the answer does not say it.
pub fn parse_upload_id(text: &str) -> Option<String> {
    CreateMultipartUpload::parse_response(text).ok().map(|answer| answer.upload_id().to_owned())
}

/// Whether the object is there: the status alone does not say so.
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
