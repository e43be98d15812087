//! Revisions of what users keep, as entity tags: a change names the one that it was made from (RFC 9110 §13.1.1).

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;

use super::error::Error;
use http_semantics::etag::{ETag, ETagCondition};

/// Condition of a change: the header `If-Match`, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IfMatch(pub Option<ETagCondition>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Ok(Self(ETagCondition::parse(parts.headers.get_all(header::IF_MATCH))))
    }
}

/// Returns the entity tag of a revision.
pub fn revision_tag(revision: i64) -> ETag {
    ETag::parse(format!("\"{revision}\"").as_bytes()).expect("digits in quotes are a tag")
}

/// Returns true where there is no condition, or a revision meets it.
pub fn is_revision(condition: Option<&ETagCondition>, revision: i64) -> bool {
    condition.is_none_or(|condition| condition.matches_strong(Some(&revision_tag(revision))))
}
