//! `Match` of a route: path, hosts, methods, headers and query parameters.

use http::{HeaderName, Method};

use super::ConfigLocation;
use crate::config::file;
use crate::config::report::ConfigProblem;
use routing::pattern::PathPattern;
use routing::table::{HeaderMatchMode, HeaderMatcher, HostPattern, QueryMatchMode, QueryMatcher, RouteMatch};

pub fn matches(at: &ConfigLocation<'_>, raw: &file::Match) -> Option<RouteMatch> {
    if raw.path.is_none() && raw.hosts.is_empty() {
        at.report(ConfigProblem::new("nothing says which requests").expected("`Path` or `Hosts`"));
        return None;
    }
    let path = raw.path.as_ref().map(|text| {
        let report = |error| at.key("Path").report(ConfigProblem::new(format!("{error}")));
        PathPattern::parse(text).map_err(report).ok()
    });
    let hosts = at.key("Hosts").each(&raw.hosts, |at, text| {
        HostPattern::parse(text).map_err(|error| at.report(ConfigProblem::new(error.to_string()))).ok()
    });
    let methods = at.key("Methods").each(&raw.methods, |at, text| method(at, text));
    let headers = at.key("Headers").each(&raw.headers, header_matcher);
    let query = at.key("QueryParameters").each(&raw.query_parameters, query_matcher);
    Some(RouteMatch {
        path: path.map_or(Some(None), |path| path.map(Some))?,
        hosts: hosts?,
        methods: methods?,
        headers: headers?,
        query: query?,
    })
}

/// Parses a method, in any case.
pub fn method(at: &ConfigLocation<'_>, text: &str) -> Option<Method> {
    const COMMON: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    // Methods are case-sensitive on the wire (RFC 9110 §9.1), but YARP accepts any case in its file.
    let upper = text.to_ascii_uppercase();
    let problem = ConfigProblem::new(format!("`{text}` is not a method")).suggest(text, COMMON);
    // Any token is a method (RFC 9110 §9.1), but one that is nearly a common one is a slip.
    let slip = !COMMON.contains(&upper.as_str()) && problem.has_suggestion();
    let method = Method::from_bytes(upper.as_bytes()).ok().filter(|_| !slip);
    if method.is_none() {
        at.report(problem.expected("a method such as `GET`"));
    }
    method
}

fn header_matcher(at: &ConfigLocation<'_>, raw: &file::HeaderMatch) -> Option<HeaderMatcher> {
    let (mode, wants_values) = match raw.mode {
        file::HeaderMode::ExactHeader => (HeaderMatchMode::Exact, true),
        file::HeaderMode::HeaderPrefix => (HeaderMatchMode::Prefix, true),
        file::HeaderMode::Contains => (HeaderMatchMode::Contains, true),
        file::HeaderMode::NotContains => (HeaderMatchMode::NotContains, true),
        file::HeaderMode::Exists => (HeaderMatchMode::Exists, false),
        file::HeaderMode::NotExists => (HeaderMatchMode::NotExists, false),
    };
    let name = HeaderName::try_from(raw.name.as_str()).ok();
    if name.is_none() {
        at.key("Name").report(ConfigProblem::new(format!("`{}` is not a header's name", raw.name)));
    }
    values(at, &raw.values, wants_values)?;
    Some(HeaderMatcher { name: name?, values: raw.values.clone(), mode, case_sensitive: raw.is_case_sensitive })
}

fn query_matcher(at: &ConfigLocation<'_>, raw: &file::QueryMatch) -> Option<QueryMatcher> {
    let (mode, wants_values) = match raw.mode {
        file::QueryMode::Exact => (QueryMatchMode::Exact, true),
        file::QueryMode::Contains => (QueryMatchMode::Contains, true),
        file::QueryMode::NotContains => (QueryMatchMode::NotContains, true),
        file::QueryMode::Prefix => (QueryMatchMode::Prefix, true),
        file::QueryMode::Exists => (QueryMatchMode::Exists, false),
    };
    values(at, &raw.values, wants_values)?;
    Some(QueryMatcher {
        name: raw.name.clone(),
        values: raw.values.clone(),
        mode,
        case_sensitive: raw.is_case_sensitive,
    })
}

/// Checks that values are given exactly where the mode compares; an empty one would never or always match.
fn values(at: &ConfigLocation<'_>, values: &[String], wanted: bool) -> Option<()> {
    let problem = match (wanted, values) {
        (true, []) => {
            ConfigProblem::new("there is nothing to compare with").expected("`Values` with at least one text")
        }
        (true, values) if values.iter().any(String::is_empty) => {
            ConfigProblem::new("an empty value compares with nothing").help("use `Mode: Exists`")
        }
        (false, [_, ..]) => {
            ConfigProblem::new("this mode compares no values").help("remove `Values`, or choose another `Mode`")
        }
        _ => return Some(()),
    };
    if values.is_empty() {
        at.report(problem)
    } else {
        at.key("Values").report(problem)
    }
    None
}
