//! Cross-origin rules of a route (Fetch standard, "CORS protocol"): the headers that a response carries. It must not
//! know routes, statuses or errors.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

/// Either everything, or the items of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList<T> {
    /// `*`.
    Any,
    /// These only; an empty list allows nothing.
    Only(Vec<T>),
}

/// Returns true if a page comes from the visitor's own machine, on any port.
pub fn is_local(origin: &HeaderValue) -> bool {
    let host =
        origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://").or(origin.strip_prefix("https://")));
    let host = host.map(|host| match host.rsplit_once(':') {
        // Only a numeric part after the last colon is a port: `[::1]` without a port has colons of its own.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    });
    matches!(host, Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Cross-origin rules of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    /// Origins whose pages may read responses, written as browsers send them: `https://app.example`, without a path.
    pub origins: AllowList<String>,
    /// Methods allowed beyond GET, HEAD and POST, which browsers allow by themselves.
    pub methods: AllowList<Method>,
    /// Request headers that pages may set, `Authorization` for example.
    pub headers: AllowList<HeaderName>,
    /// Response headers that pages may read beyond the few that browsers show by themselves.
    pub exposed_headers: AllowList<HeaderName>,
    /// Allows cookies and other credentials. Ignored with [`AllowList::Any`]: every page could then act as its visitor.
    pub allow_credentials: bool,
    /// Time for which a browser may cache a preflight's response; the browser's default if `None`.
    pub max_age: Option<Duration>,
}

/// Headers to add to a response.
type CorsHeaders = Vec<(HeaderName, HeaderValue)>;

/// Returns true for a preflight request. It is answered by 204 with [`CorsPolicy::add_preflight_headers`] and never
/// authenticated, since browsers send it without credentials.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl CorsPolicy {
    /// Adds the headers of a preflight's response. Only `Vary` if the origin is not allowed: the browser then refuses by
    /// itself.
    pub fn add_preflight_headers(&self, request: &HeaderMap, response: &mut HeaderMap) {
        add_headers(self.preflight_headers(request), response);
    }

    /// Adds the headers of every response but a preflight's, errors included: without them a page sees only "network
    /// error". Where only some origins are allowed, `Vary` is set for requests without an `Origin` too, so that a shared
    /// cache does not give their responses to a page; where all are, every response has `*`, and needs none.
    pub fn add_response_headers(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        add_headers(self.response_headers(origin), response);
    }

    fn preflight_headers(&self, request: &HeaderMap) -> CorsHeaders {
        let varies = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        let mut answer = vec![(VARY, HeaderValue::from_static(varies))];
        if !self.allow_origin(request.get(ORIGIN), &mut answer) {
            return answer;
        }
        // What was asked for is sent back in place of `*`: with `*` a browser still holds back Authorization (Fetch
        // §"CORS-preflight fetch"), and any method with credentials.
        let asked = |name| request.get(name).cloned();
        let methods = match &self.methods {
            AllowList::Any => asked(ACCESS_CONTROL_REQUEST_METHOD),
            AllowList::Only(methods) => list(methods.iter().map(Method::as_str)),
        };
        let headers = match &self.headers {
            AllowList::Any => asked(ACCESS_CONTROL_REQUEST_HEADERS),
            AllowList::Only(headers) => list(headers.iter().map(HeaderName::as_str)),
        };
        answer.extend(methods.map(|value| (ACCESS_CONTROL_ALLOW_METHODS, value)));
        answer.extend(headers.map(|value| (ACCESS_CONTROL_ALLOW_HEADERS, value)));
        answer.extend(self.max_age.map(|age| (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(age.as_secs()))));
        answer
    }

    fn response_headers(&self, origin: Option<&HeaderValue>) -> CorsHeaders {
        let mut answer = Vec::with_capacity(4);
        // With `*` the response is the same for every origin, so caches need not keep one for each.
        if self.origins != AllowList::Any {
            answer.push((VARY, HeaderValue::from_static("Origin")));
        }
        if self.allow_origin(origin, &mut answer) {
            let exposed = match &self.exposed_headers {
                AllowList::Any => Some(HeaderValue::from_static("*")),
                AllowList::Only(names) => list(names.iter().map(HeaderName::as_str)),
            };
            answer.extend(exposed.map(|value| (ACCESS_CONTROL_EXPOSE_HEADERS, value)));
        }
        answer
    }

    /// Returns true if pages of this origin may read responses.
    pub fn allows(&self, origin: Option<&HeaderValue>) -> bool {
        self.allow_origin(origin, &mut CorsHeaders::new())
    }

    /// Adds the headers that allow an origin; returns false where it is not allowed.
    fn allow_origin(&self, origin: Option<&HeaderValue>, answer: &mut CorsHeaders) -> bool {
        match (&self.origins, origin) {
            (AllowList::Any, _) => answer.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))),
            (AllowList::Only(origins), Some(origin)) if origins.iter().any(|known| origin == known) => {
                // One origin is echoed, since the header takes no list, and `*` is refused by browsers with credentials
                // (Fetch §"CORS check").
                answer.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
                if self.allow_credentials {
                    answer.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
                }
            }
            (AllowList::Only(_), _) => return false,
        }
        true
    }
}

/// Adds `headers` to those of a response; other rules may have made it vary already.
fn add_headers(headers: CorsHeaders, response: &mut HeaderMap) {
    for (name, value) in headers {
        if name == VARY {
            response.append(name, value);
        } else {
            response.insert(name, value);
        }
    }
}

/// Joins names by commas; `None` for an empty list.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let mut text = String::new();
    for name in names {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(name);
    }
    if text.is_empty() { None } else { HeaderValue::try_from(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://app.example";

    fn policy() -> CorsPolicy {
        CorsPolicy {
            origins: AllowList::Only(vec![PAGE.to_owned(), "https://other.example".to_owned()]),
            methods: AllowList::Only(vec![Method::GET, Method::PUT]),
            headers: AllowList::Only(vec![http::header::AUTHORIZATION, http::header::RANGE]),
            exposed_headers: AllowList::Only(vec![http::header::CONTENT_RANGE, http::header::ACCEPT_RANGES]),
            allow_credentials: false,
            max_age: Some(Duration::from_secs(600)),
        }
    }

    fn any_origin() -> CorsPolicy {
        CorsPolicy { origins: AllowList::Any, methods: AllowList::Any, headers: AllowList::Any, ..policy() }
    }

    fn request(origin: &str) -> HeaderMap {
        let lines = [
            (ORIGIN, origin),
            (ACCESS_CONTROL_REQUEST_METHOD, "DELETE"),
            (ACCESS_CONTROL_REQUEST_HEADERS, "authorization,x-own"),
        ];
        lines.into_iter().map(|(name, value)| (name, HeaderValue::from_str(value).expect(value))).collect()
    }

    fn lines(answer: &CorsHeaders) -> Vec<String> {
        answer.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII"))).collect()
    }

    fn decorated(policy: &CorsPolicy, origin: Option<&str>) -> Vec<String> {
        let origin = origin.map(|origin| HeaderValue::from_str(origin).expect(origin));
        lines(&policy.response_headers(origin.as_ref()))
    }

    #[test]
    fn a_preflight_is_options_with_origin_and_the_method_asked_for() {
        let mut headers = request(PAGE);
        assert!(is_preflight(&Method::OPTIONS, &headers));
        assert!(!is_preflight(&Method::GET, &headers));
        headers.remove(ACCESS_CONTROL_REQUEST_METHOD);
        assert!(!is_preflight(&Method::OPTIONS, &headers));
        let mut headers = request(PAGE);
        headers.remove(ORIGIN);
        assert!(!is_preflight(&Method::OPTIONS, &headers));
    }

    #[test]
    fn a_known_origin_may_read_and_the_answer_varies() {
        let exposed = "access-control-expose-headers: content-range, accept-ranges";
        let allowed = "access-control-allow-origin: https://app.example";
        assert_eq!(decorated(&policy(), Some(PAGE)), ["vary: Origin", allowed, exposed]);
        let with_credentials = CorsPolicy { allow_credentials: true, ..policy() };
        let credentials = "access-control-allow-credentials: true";
        assert_eq!(decorated(&with_credentials, Some(PAGE)), ["vary: Origin", allowed, credentials, exposed]);
    }

    #[test]
    fn an_unknown_origin_gets_nothing_but_vary() {
        let origins = ["https://evil.example", "https://app.example.evil", "http://app.example", "null", ""];
        for origin in origins {
            assert_eq!(decorated(&policy(), Some(origin)), ["vary: Origin"], "{origin}");
            assert_eq!(policy().preflight_headers(&request(origin)).len(), 1, "{origin}");
        }
        assert_eq!(decorated(&policy(), None), ["vary: Origin"]);
    }

    #[test]
    fn any_origin_is_a_star_that_never_carries_credentials() {
        let reckless = CorsPolicy { allow_credentials: true, exposed_headers: AllowList::Any, ..any_origin() };
        for origin in [None, Some(PAGE)] {
            let expected = ["access-control-allow-origin: *", "access-control-expose-headers: *"];
            assert_eq!(decorated(&reckless, origin), expected);
        }
    }

    #[test]
    fn a_preflight_tells_what_is_allowed() {
        let vary = "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        let listed = [
            vary,
            "access-control-allow-origin: https://app.example",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: authorization, range",
            "access-control-max-age: 600",
        ];
        assert_eq!(lines(&policy().preflight_headers(&request(PAGE))), listed);
        let asked = [
            vary,
            "access-control-allow-origin: *",
            "access-control-allow-methods: DELETE",
            "access-control-allow-headers: authorization,x-own",
            "access-control-max-age: 600",
        ];
        assert_eq!(lines(&any_origin().preflight_headers(&request(PAGE))), asked);
        let nothing = CorsPolicy { methods: AllowList::Only(Vec::new()), max_age: None, ..policy() };
        assert_eq!(lines(&nothing.preflight_headers(&request(PAGE))), [listed[0], listed[1], listed[3]]);
    }
}
