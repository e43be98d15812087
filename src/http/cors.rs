//! Cross-origin rules of a route (Fetch standard, "CORS protocol"). It must not know routes, statuses or errors: it says
//! which headers an answer carries.

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

/// Everything, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed<T> {
    /// `*`.
    Any,
    /// These only; an empty list allows nothing.
    Only(Vec<T>),
}

/// Cross-origin rules of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Origins whose pages may read answers, written as browsers send them: `https://app.example`, without a path.
    pub origins: Allowed<String>,
    /// Methods allowed beyond GET, HEAD and POST, which browsers allow by themselves.
    pub methods: Allowed<Method>,
    /// Request headers that pages may set, `Authorization` for example.
    pub headers: Allowed<HeaderName>,
    /// Response headers that pages may read beyond the few that browsers show by themselves.
    pub exposed_headers: Allowed<HeaderName>,
    /// Whether cookies come along. Never together with any origin: every page could then act as its visitor, so with
    /// [`Allowed::Any`] this is taken as false.
    pub allow_credentials: bool,
    /// How long a browser may remember a preflight's answer; its own default where unset.
    pub max_age: Option<Duration>,
}

/// The headers to add; `Vary` is to be appended to what the answer has, the others replace.
type Additions = Vec<(HeaderName, HeaderValue)>;

/// Whether a request only asks for leave: answered by 204 with [`Policy::preflight`] and never authenticated, since
/// browsers send it without credentials.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Policy {
    /// What a preflight's answer carries. Without leave only `Vary`: the browser then refuses on its own.
    pub fn preflight(&self, request: &HeaderMap) -> Additions {
        let varies = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        let mut answer = vec![(VARY, HeaderValue::from_static(varies))];
        if !self.allow_origin(request.get(ORIGIN), &mut answer) {
            return answer;
        }
        // What was asked for is sent back in place of `*`: with `*` a browser still holds back Authorization (Fetch
        // §"CORS-preflight fetch"), and any method with credentials.
        let asked = |name| request.get(name).cloned();
        let methods = match &self.methods {
            Allowed::Any => asked(ACCESS_CONTROL_REQUEST_METHOD),
            Allowed::Only(methods) => list(methods.iter().map(Method::as_str)),
        };
        let headers = match &self.headers {
            Allowed::Any => asked(ACCESS_CONTROL_REQUEST_HEADERS),
            Allowed::Only(headers) => list(headers.iter().map(HeaderName::as_str)),
        };
        answer.extend(methods.map(|value| (ACCESS_CONTROL_ALLOW_METHODS, value)));
        answer.extend(headers.map(|value| (ACCESS_CONTROL_ALLOW_HEADERS, value)));
        answer.extend(self.max_age.map(|age| (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(age.as_secs()))));
        answer
    }

    /// What every other answer carries, errors too, or a page sees only "network error". `Vary` also goes with answers
    /// to requests without an `Origin`, so that a shared cache does not give them to a page.
    pub fn decorate(&self, origin: Option<&HeaderValue>) -> Additions {
        let mut answer = Vec::with_capacity(4);
        if self.origins != Allowed::Any {
            answer.push((VARY, HeaderValue::from_static("Origin")));
        }
        if self.allow_origin(origin, &mut answer) {
            let exposed = match &self.exposed_headers {
                Allowed::Any => Some(HeaderValue::from_static("*")),
                Allowed::Only(names) => list(names.iter().map(HeaderName::as_str)),
            };
            answer.extend(exposed.map(|value| (ACCESS_CONTROL_EXPOSE_HEADERS, value)));
        }
        answer
    }

    /// Adds what gives an origin leave; false where it has none.
    fn allow_origin(&self, origin: Option<&HeaderValue>, answer: &mut Additions) -> bool {
        match (&self.origins, origin) {
            (Allowed::Any, _) => answer.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))),
            (Allowed::Only(origins), Some(origin)) if origins.iter().any(|known| origin == known) => {
                answer.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
                if self.allow_credentials {
                    answer.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
                }
            }
            (Allowed::Only(_), _) => return false,
        }
        true
    }
}

/// `None` for an empty list.
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
