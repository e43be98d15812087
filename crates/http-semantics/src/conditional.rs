//! Preconditions of GET and HEAD (RFC 9110 §13): reads them, and evaluates them against an object's validators in the
//! order of §13.2.2. It must not know where the validators come from, nor how a response is written.

use std::time::{Duration, SystemTime};

use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderValue};

use super::etag::{ETag, ETagCondition};

/// Longest entity tag of an `If-Range`, in bytes. It is sent on to the store, which limits the size of a head; no
/// object has a longer tag.
const LONGEST_TAG: usize = 1024;

/// Validators that tell one version of an object from another (RFC 9110 §8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The object's entity tag.
    pub etag: Option<ETag>,
    /// Time of the last modification.
    pub last_modified: Option<SystemTime>,
}

/// Conditions of a request. A date that cannot be parsed is ignored (§13.1.3, §13.1.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    if_match: Option<ETagCondition>,
    if_unmodified_since: Option<SystemTime>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<SystemTime>,
    if_range: Option<IfRange>,
}

/// Version for which the ranges of a request are meant; any other version gets the whole object (§13.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfRange {
    /// The version with this tag; a weak one matches nothing.
    Tag(ETag),
    /// The version changed at this time.
    Date(SystemTime),
    /// Neither, more than one, or a tag of more than 1,024 bytes: matches nothing.
    Invalid,
}

/// Outcome of evaluating the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreconditionOutcome {
    /// Answer as if there were no conditions.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

impl Preconditions {
    /// Reads all conditional headers of a request.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self {
            if_match: ETagCondition::parse(headers.get_all(IF_MATCH)),
            if_unmodified_since: single(headers, &IF_UNMODIFIED_SINCE).and_then(date),
            if_none_match: ETagCondition::parse(headers.get_all(IF_NONE_MATCH)),
            if_modified_since: single(headers, &IF_MODIFIED_SINCE).and_then(date),
            if_range: headers
                .contains_key(IF_RANGE)
                .then(|| single(headers, &IF_RANGE).map_or(IfRange::Invalid, IfRange::parse)),
        }
    }

    /// Returns true if there is no condition to [`evaluate`](Self::evaluate); an `If-Range` may still be there.
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_unmodified_since.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
    }

    /// Returns the request's `If-Range`; it means nothing without a `Range`.
    pub fn if_range(&self) -> Option<&IfRange> {
        self.if_range.as_ref()
    }

    /// Evaluates the conditions of a GET or HEAD for an existing object, in the order of §13.2.2.
    pub fn evaluate(&self, object: &Validators) -> PreconditionOutcome {
        let etag = object.etag.as_ref();
        // A date is weighed only where no tag condition is (§13.1.3, §13.1.4), and only against a date.
        let changed_since = |date: Option<SystemTime>| Some(seconds(object.last_modified?) > seconds(date?));
        let failed = match &self.if_match {
            // §13.1.1: If-Match compares strongly, since the client acts on exactly these bytes.
            Some(tags) => !tags.matches_strong(etag),
            None => changed_since(self.if_unmodified_since) == Some(true),
        };
        if failed {
            return PreconditionOutcome::PreconditionFailed;
        }
        let unchanged = match &self.if_none_match {
            // §13.1.2: for a cache's revalidation an equivalent version is as good as the same one.
            Some(tags) => tags.matches_weak(etag),
            None => changed_since(self.if_modified_since) == Some(false),
        };
        if unchanged { PreconditionOutcome::NotModified } else { PreconditionOutcome::Proceed }
    }

    /// Returns true if a range may be taken from this version: there is no `If-Range`, or it names this version by a
    /// strong validator. A date is strong only if `response_date`, the `Date` that the validators came with, is at
    /// least one second later (§8.8.2.2): within that second the object may have changed twice.
    pub fn if_range_holds(&self, object: &Validators, response_date: Option<SystemTime>) -> bool {
        match &self.if_range {
            None => true,
            Some(IfRange::Tag(tag)) => object.etag.as_ref().is_some_and(|etag| etag.strong_eq(tag)),
            Some(IfRange::Date(date)) => match (object.last_modified, response_date) {
                (Some(changed), Some(answered)) => {
                    // §13.1.5 asks for an exact match: a date later than ours does not mean the same version.
                    seconds(changed) == seconds(*date) && seconds(changed) < seconds(answered)
                }
                _ => false,
            },
            Some(IfRange::Invalid) => false,
        }
    }
}

impl IfRange {
    fn parse(value: &HeaderValue) -> Self {
        let tag = Some(value.as_bytes()).filter(|text| text.len() <= LONGEST_TAG);
        // Tag first: a quoted text is never a date, and a date has no quotes.
        tag.and_then(ETag::parse).map(Self::Tag).or_else(|| date(value).map(Self::Date)).unwrap_or(Self::Invalid)
    }
}

/// Returns the value of a header that may be given once; a repeated header counts as unreadable.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// Rounds down to whole seconds: HTTP dates have no fractions, a store's times may have.
fn seconds(time: SystemTime) -> u64 {
    // No object is older than 1970; an earlier time is a store's mistake, and zero keeps comparisons defined.
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const BEFORE: &str = "Sat, 29 Oct 1994 19:43:30 GMT";
    const CHANGED: &str = "Sat, 29 Oct 1994 19:43:31 GMT";
    const AFTER: &str = "Sat, 29 Oct 1994 19:43:32 GMT";

    fn at(text: &str) -> SystemTime {
        httpdate::parse_http_date(text).expect(text)
    }

    fn conditions(headers: &[(HeaderName, &str)]) -> Preconditions {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).expect(value));
        }
        Preconditions::from_headers(&map)
    }

    fn object(etag: &str) -> Validators {
        Validators { etag: ETag::parse(etag.as_bytes()), last_modified: Some(at(CHANGED)) }
    }

    #[test]
    fn conditions_are_weighed_in_the_order_of_the_rfc() {
        use PreconditionOutcome::{NotModified, PreconditionFailed, Proceed};
        let table: &[(&[(HeaderName, &str)], PreconditionOutcome)] = &[
            (&[], Proceed),
            (&[(IF_MATCH, "\"a\"")], Proceed),
            (&[(IF_MATCH, "\"b\", \"a\"")], Proceed),
            (&[(IF_MATCH, "*")], Proceed),
            (&[(IF_MATCH, "W/\"a\"")], PreconditionFailed),
            (&[(IF_MATCH, "\"b\"")], PreconditionFailed),
            (&[(IF_MATCH, "a")], PreconditionFailed),
            (&[(IF_UNMODIFIED_SINCE, CHANGED)], Proceed),
            (&[(IF_UNMODIFIED_SINCE, AFTER)], Proceed),
            (&[(IF_UNMODIFIED_SINCE, BEFORE)], PreconditionFailed),
            (&[(IF_UNMODIFIED_SINCE, "yesterday")], Proceed),
            (&[(IF_UNMODIFIED_SINCE, BEFORE), (IF_UNMODIFIED_SINCE, BEFORE)], Proceed),
            (&[(IF_MATCH, "\"a\""), (IF_UNMODIFIED_SINCE, BEFORE)], Proceed),
            (&[(IF_NONE_MATCH, "\"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "W/\"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "\"b\", \"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "*")], NotModified),
            (&[(IF_NONE_MATCH, "\"b\"")], Proceed),
            (&[(IF_NONE_MATCH, "a")], Proceed),
            (&[(IF_MODIFIED_SINCE, CHANGED)], NotModified),
            (&[(IF_MODIFIED_SINCE, AFTER)], NotModified),
            (&[(IF_MODIFIED_SINCE, BEFORE)], Proceed),
            (&[(IF_MODIFIED_SINCE, "0")], Proceed),
            (&[(IF_MODIFIED_SINCE, "Saturday, 29-Oct-94 19:43:31 GMT")], NotModified),
            (&[(IF_MODIFIED_SINCE, "Sat Oct 29 19:43:31 1994")], NotModified),
            (&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, AFTER)], Proceed),
            (&[(IF_NONE_MATCH, "\"a\""), (IF_MODIFIED_SINCE, BEFORE)], NotModified),
            (&[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")], PreconditionFailed),
            (&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, "\"a\"")], NotModified),
            (&[(IF_UNMODIFIED_SINCE, BEFORE), (IF_MODIFIED_SINCE, AFTER)], PreconditionFailed),
        ];
        for (headers, expected) in table {
            let conditions = conditions(headers);
            assert_eq!(conditions.evaluate(&object("\"a\"")), *expected, "{headers:?}");
            assert!(!conditions.is_empty() || *expected == Proceed, "{headers:?}");
        }
    }

    #[test]
    fn a_weak_or_missing_tag_never_passes_if_match_but_a_star_does() {
        let listed = conditions(&[(IF_MATCH, "\"a\", W/\"a\"")]);
        let star = conditions(&[(IF_MATCH, "*")]);
        for current in ["W/\"a\"", "none"] {
            assert_eq!(listed.evaluate(&object(current)), PreconditionOutcome::PreconditionFailed, "{current}");
            assert_eq!(star.evaluate(&object(current)), PreconditionOutcome::Proceed, "{current}");
        }
    }

    #[test]
    fn dates_are_nothing_to_an_object_without_one_and_parts_of_a_second_do_not_count() {
        let both = conditions(&[(IF_UNMODIFIED_SINCE, BEFORE)]);
        assert_eq!(both.evaluate(&Validators::default()), PreconditionOutcome::Proceed);
        let since = conditions(&[(IF_MODIFIED_SINCE, CHANGED)]);
        assert_eq!(since.evaluate(&Validators::default()), PreconditionOutcome::Proceed);
        let part = Validators { etag: None, last_modified: Some(at(CHANGED) + Duration::from_millis(900)) };
        assert_eq!(since.evaluate(&part), PreconditionOutcome::NotModified);
    }

    #[test]
    fn if_range_holds_only_for_a_strong_validator_of_this_version() {
        let long_after = Some(at("Sun, 06 Nov 1994 08:49:37 GMT"));
        let table = [
            ("\"a\"", "\"a\"", None, true),
            ("\"b\"", "\"a\"", long_after, false),
            ("W/\"a\"", "\"a\"", long_after, false),
            ("\"a\"", "W/\"a\"", long_after, false),
            ("W/\"a\"", "W/\"a\"", long_after, false),
            ("\"a\"", "none", long_after, false),
            ("\"a\", \"b\"", "\"a\"", long_after, false),
            (CHANGED, "\"a\"", long_after, true),
            (CHANGED, "\"a\"", Some(at(AFTER)), true),
            (CHANGED, "\"a\"", Some(at(CHANGED)), false),
            (CHANGED, "\"a\"", None, false),
            (BEFORE, "\"a\"", long_after, false),
            (AFTER, "\"a\"", long_after, false),
            ("rubbish", "\"a\"", long_after, false),
            ("*", "\"a\"", long_after, false),
        ];
        for (value, current, response_date, expected) in table {
            let conditions = conditions(&[(IF_RANGE, value)]);
            assert!(conditions.is_empty() && conditions.if_range().is_some());
            assert_eq!(conditions.if_range_holds(&object(current), response_date), expected, "{value} {current}");
        }
        assert!(conditions(&[]).if_range_holds(&object("\"a\""), None));
        let twice = conditions(&[(IF_RANGE, "\"a\""), (IF_RANGE, "\"a\"")]);
        assert_eq!(twice.if_range(), Some(&IfRange::Invalid));
        assert!(!conditions(&[(IF_RANGE, CHANGED)]).if_range_holds(&Validators::default(), long_after));
    }

    proptest! {
        #[test]
        fn any_value_is_weighed_without_panic(value in any::<Vec<u8>>(), text in "[A-Za-z0-9:, -]{0,40}") {
            for bytes in [value.as_slice(), text.as_bytes()] {
                let Ok(value) = HeaderValue::from_bytes(bytes) else { continue };
                let names = [IF_MATCH, IF_UNMODIFIED_SINCE, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE];
                let headers: HeaderMap = names.into_iter().map(|name| (name, value.clone())).collect();
                let conditions = Preconditions::from_headers(&headers);
                let _ = conditions.evaluate(&object("\"a\""));
                let _ = conditions.if_range_holds(&object("\"a\""), Some(at(AFTER)));
            }
        }
    }
}
