//! `ReverseProxy.Routes`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use super::policy::Policies;
use super::{At, cache, limit, transform};
use crate::config::file::{self, File, Named, PresignedUrl};
use crate::config::report::Problem;
use crate::config::value::ByteSize;
use crate::proxy::settings::{Authorization, Kind, ObjectRoute, PlainRoute, Route, Source, UpstreamTimeouts};
use http_semantics::cors;
use object_engine::cache as output_cache;
use routing::pattern::PathPattern;
use routing::table::{
    HeaderMatchMode, HeaderMatcher, HostPattern, QueryMatchMode, QueryMatcher, RouteEntry, RouteMatch, RouteTable,
};
use routing::template::CaptureTemplate;
use s3;
use server_kit::auth::claims_policy::ClaimsPolicy;

/// What Kestrel, the host of YARP, allows.
const MOST_BODY: u64 = 30_000_000;
/// `TimeoutPolicy: Disable`: longer than anybody waits, and short enough to add to any clock.
const NO_LIMIT: Duration = Duration::from_secs(86_400);

/// The table of the routes that are enabled; the others are checked all the same.
pub fn routes(at: &At<'_>, file: &File, policies: &Policies) -> Option<RouteTable<Arc<Route>>> {
    let entries = at.all(&file.reverse_proxy.routes, |at, id, raw| route(at, id, raw, file, policies));
    let shares = file.share.as_ref().is_some_and(|share| share.enabled.is_none_or(|flag| flag.0));
    // A relay needs none.
    if at.names().is_empty() && !shares {
        at.report(Problem::new("there is no route").expected("at least one, or every request is answered by 404"));
    }
    let enabled =
        |entry: &RouteEntry<_>| file.reverse_proxy.routes.get(&*entry.id).is_none_or(|raw| raw.enabled != Some(false));
    let table = RouteTable::build(entries?.into_iter().filter(enabled).collect());
    let ambiguities = match table {
        Ok(table) => return Some(table),
        Err(ambiguities) => ambiguities,
    };
    for ambiguity in ambiguities {
        let message =
            format!("this route and `{}` match the same requests, and neither is more specific", ambiguity.first);
        let help = "make one of them narrower, or give the one to be tried first a lower `Order`";
        at.key(&ambiguity.second).key("Match").report(Problem::new(message).help(help));
    }
    None
}

fn route(at: &At<'_>, id: &str, raw: &file::Route, file: &File, policies: &Policies) -> Option<RouteEntry<Arc<Route>>> {
    let matches = matches(&at.key("Match"), &raw.r#match);
    let path = matches.as_ref().and_then(|matches| matches.path.as_ref());
    let names: Vec<&str> = path.into_iter().flat_map(PathPattern::names).collect();
    // Without the path nobody knows what is captured: only what does not need it is judged then.
    let captured = (matches.is_some()).then_some(names.as_slice());
    let cluster = cluster(at, raw);
    let kind = kind(at, raw, captured, cluster.as_ref().and_then(Clone::clone));
    let signed = raw.transforms.iter().any(|transform| transform.presigned_url.is_some());
    let cache = cache::of_route(at, raw, signed, &policies.output_cache);
    let authorization = authorization(at, raw, captured, policies);
    let rate_limiter = limit::of_route(at, raw, &file.policies.rate_limiter);
    let named = raw.authorization_policy.as_ref().and_then(|name| policies.authorization.get(name));
    let access = named.and_then(|policy| policy.access.clone());
    let cors = cors(at, raw.cors_policy.as_deref(), policies);
    let default =
        if matches!(kind, Some(Kind::Plain(_))) { UpstreamTimeouts::YARP } else { UpstreamTimeouts::default() };
    let timeouts = timeouts(at, raw, file, policies, default);
    let route = Route {
        id: id.into(),
        hosts: raw.r#match.hosts.clone(),
        kind: cached(kind?, cache?),
        authorization: authorization?,
        access,
        hide_existence: raw.hide_existence,
        rate_limiter: rate_limiter?,
        cors: cors?,
        timeouts: timeouts?,
        max_request_body: raw.max_request_body_size.map_or(Some(MOST_BODY), |ByteSize(size)| size),
    };
    cluster?;
    Some(RouteEntry { id: id.into(), order: raw.order.unwrap_or(0), matches: matches?, value: Arc::new(route) })
}

/// The kind, with what the route says of the cache.
fn cached(kind: Kind, cache: Option<output_cache::CachePolicy>) -> Kind {
    match kind {
        Kind::Object(object) => Kind::Object(ObjectRoute { cache, ..object }),
        Kind::Plain(plain) => Kind::Plain(plain),
    }
}

fn matches(at: &At<'_>, raw: &file::Match) -> Option<RouteMatch> {
    if raw.path.is_none() && raw.hosts.is_empty() {
        at.report(Problem::new("nothing says which requests").expected("`Path` or `Hosts`"));
        return None;
    }
    let path = raw.path.as_ref().map(|text| {
        let report = |error| at.key("Path").report(Problem::new(format!("{error}")));
        PathPattern::parse(text).map_err(report).ok()
    });
    let hosts = at.key("Hosts").each(&raw.hosts, |at, text| {
        HostPattern::parse(text).map_err(|error| at.report(Problem::new(error.to_string()))).ok()
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

/// A method, in any case.
pub fn method(at: &At<'_>, text: &str) -> Option<Method> {
    const COMMON: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    let upper = text.to_ascii_uppercase();
    let problem = Problem::new(format!("`{text}` is not a method")).suggest(text, COMMON);
    // Any token is a method (RFC 9110 §9.1), but one that is nearly a common one is a slip.
    let slip = !COMMON.contains(&upper.as_str()) && problem.has_suggestion();
    let method = Method::from_bytes(upper.as_bytes()).ok().filter(|_| !slip);
    if method.is_none() {
        at.report(problem.expected("a method such as `GET`"));
    }
    method
}

fn header_matcher(at: &At<'_>, raw: &file::HeaderMatch) -> Option<HeaderMatcher> {
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
        at.key("Name").report(Problem::new(format!("`{}` is not a header's name", raw.name)));
    }
    values(at, &raw.values, wants_values)?;
    Some(HeaderMatcher { name: name?, values: raw.values.clone(), mode, case_sensitive: raw.is_case_sensitive })
}

fn query_matcher(at: &At<'_>, raw: &file::QueryMatch) -> Option<QueryMatcher> {
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

/// Values where the mode compares, and only there; an empty one would never or always match.
fn values(at: &At<'_>, values: &[String], wanted: bool) -> Option<()> {
    let problem = match (wanted, values) {
        (true, []) => Problem::new("there is nothing to compare with").expected("`Values` with at least one text"),
        (true, values) if values.iter().any(String::is_empty) => {
            Problem::new("an empty value compares with nothing").help("use `Mode: Exists`")
        }
        (false, [_, ..]) => {
            Problem::new("this mode compares no values").help("remove `Values`, or choose another `Mode`")
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

/// Whether object routes use the cluster.
pub fn is_store(routes: &Named<file::Route>, cluster: &str) -> bool {
    let is_object = |route: &file::Route| route.transforms.iter().any(|transform| transform.presigned_url.is_some());
    routes.values().any(|route| route.cluster_id.as_deref() == Some(cluster) && is_object(route))
}

/// The cluster's id; `None` where it names one that is not there.
fn cluster(at: &At<'_>, raw: &file::Route) -> Option<Option<Arc<str>>> {
    let Some(id) = &raw.cluster_id else { return Some(None) };
    let clusters = at.root("ReverseProxy").key("Clusters");
    at.key("ClusterId").known(id, &clusters, &[]).then(|| Some(id.as_str().into()))
}

fn kind(at: &At<'_>, raw: &file::Route, captured: Option<&[&str]>, cluster: Option<Arc<str>>) -> Option<Kind> {
    let transforms = at.key("Transforms");
    let signed: Vec<_> = raw
        .transforms
        .iter()
        .enumerate()
        .filter_map(|(number, raw)| Some((number, raw.presigned_url.as_ref()?)))
        .collect();
    let Some((number, presigned)) = signed.first() else {
        let transforms = transforms.each(&raw.transforms, |at, raw| transform::transform(at, raw, captured));
        if raw.cluster_id.is_none() {
            let problem = Problem::new("nothing says where requests go");
            at.report(problem.expected("`ClusterId`, or a transform `PresignedUrl` for an object of a store"));
        }
        return Some(Kind::Plain(PlainRoute { cluster: cluster?, transforms: transforms? }));
    };
    if let Some((second, _)) = signed.get(1) {
        transforms.item(*second).report(Problem::new("a route has one object").help("keep one `PresignedUrl`"));
    }
    let others = transforms.each(&raw.transforms, |at, raw| transform::beside_presigned_url(at, raw, captured));
    let object = object(&transforms.item(*number).key("PresignedUrl"), presigned, captured, cluster);
    others.and(object).map(Kind::Object)
}

fn object(
    at: &At<'_>,
    raw: &PresignedUrl,
    captured: Option<&[&str]>,
    cluster: Option<Arc<str>>,
) -> Option<ObjectRoute> {
    let source = source(at, raw, captured);
    if raw.track.is_some() && cluster.is_some() {
        let problem = Problem::new("the tracks of a catalogue may lie in any store, not behind one cluster");
        at.key("Track").report(problem.help("remove `ClusterId`"));
    }
    let content_type = raw.content_type.as_deref().map(|text| {
        let good = text.contains('/') && http::HeaderValue::from_str(text).is_ok();
        if !good {
            at.key("ContentType")
                .report(Problem::new(format!("`{text}` cannot be read")).expected("a media type such as audio/mpeg"));
        }
        good.then(|| text.into())
    });
    Some(ObjectRoute {
        source: source?,
        content_type: content_type.map_or(Some(None), |text| text.map(Some))?,
        cluster,
        cache: None,
    })
}

fn source(at: &At<'_>, raw: &PresignedUrl, captured: Option<&[&str]>) -> Option<Source> {
    if let Some(track) = &raw.track {
        let at = at.key("Track");
        if raw.store.is_some() || raw.bucket.is_some() || raw.key.is_some() {
            let problem = Problem::new("the catalogue says where a track's object is");
            at.report(problem.help("remove `Store`, `Bucket` and `Key`, or remove `Track`"));
        }
        if at.root("Database").node().is_none() {
            let problem = Problem::new("the catalogue is in the database, and there is none");
            at.report(problem.help("configure `Database`, or give `Store`, `Bucket` and `Key`"));
        }
        return template(&at, track, captured).map(Source::Track);
    }
    let (Some(store), Some(bucket), Some(key)) = (&raw.store, &raw.bucket, &raw.key) else {
        let problem = Problem::new("nothing says which object");
        at.report(problem.expected("`Store`, `Bucket` and `Key`; or `Track`, for a track of the catalogue"));
        return None;
    };
    let known = at.key("Store").known(store, &at.root("ObjectStores"), &[]);
    // AWS, "General purpose buckets naming rules"; MinIO takes the same.
    let bucket = at
        .key("Bucket")
        .parse(bucket, "3 to 63 of a-z, 0-9, `-` and `.`", |text| s3::is_bucket_name(text).then(|| text.into()));
    let key = template(&at.key("Key"), key, captured);
    Some(Source::Key { store: known.then(|| store.as_str().into())?, bucket: bucket?, key: key? })
}

/// A text with captured values, all of which the route's path captures.
fn template(at: &At<'_>, text: &str, captured: Option<&[&str]>) -> Option<CaptureTemplate> {
    let template = CaptureTemplate::parse(text).map_err(|error| at.report(Problem::new(error.to_string()))).ok()?;
    let good = template.names().all(|name| transform::is_captured(at, name, captured));
    good.then_some(template)
}

fn authorization(
    at: &At<'_>,
    raw: &file::Route,
    captured: Option<&[&str]>,
    policies: &Policies,
) -> Option<Authorization> {
    let jwt = at.root("Auth").names().contains(&"Jwt");
    let own = at.key("AuthorizationPolicy");
    let Some(name) = raw.authorization_policy.as_deref().or(jwt.then_some("Default")) else {
        let problem = Problem::new("nothing says who may use this route").expected("`AuthorizationPolicy`");
        at.report(
            problem.help("write `AuthorizationPolicy: Anonymous` to open it to everybody, or configure `Auth.Jwt`"),
        );
        return None;
    };
    if name == "Anonymous" {
        return Some(Authorization::Anonymous);
    }
    let defined = at.root("Policies").key("Authorization");
    if name != "Default" && !own.known(name, &defined, &["Default", "Anonymous"]) {
        return None;
    }
    if !jwt {
        let problem = Problem::new(format!("`{name}` asks for a token, and no issuer of tokens is configured"));
        own.report(problem.help("configure `Auth.Jwt`, or write `Anonymous`"));
        return None;
    }
    if name == "Default" {
        return Some(Authorization::Policy(Arc::new(ClaimsPolicy { name: name.into(), rules: Vec::new() })));
    }
    let policy = policies.authorization.get(name)?;
    let missing =
        policy.captures.iter().find(|capture| captured.is_some_and(|names| !names.contains(&capture.as_str())));
    if let Some(missing) = missing {
        let problem =
            Problem::new(format!("`{name}` compares with `{{{missing}}}`, which this route's `Path` does not capture"));
        own.report(problem.help(format!("put `{{{missing}}}` into `Match.Path`, or use another policy")));
        return None;
    }
    Some(Authorization::Policy(Arc::clone(&policy.policy)))
}

/// The policy that `CorsPolicy` names at `at`.
pub fn cors(at: &At<'_>, name: Option<&str>, policies: &Policies) -> Option<Option<Arc<cors::CorsPolicy>>> {
    match name {
        None | Some("Disable") => Some(None),
        Some(name) => {
            let defined = at.root("Policies").key("Cors");
            at.key("CorsPolicy")
                .known(name, &defined, &["Disable"])
                .then(|| policies.cors.get(name).cloned())
                .flatten()
                .map(Some)
        }
    }
}

fn timeouts(
    at: &At<'_>,
    raw: &file::Route,
    file: &File,
    policies: &Policies,
    default: UpstreamTimeouts,
) -> Option<UpstreamTimeouts> {
    let both =
        |limit: Duration| UpstreamTimeouts { connect: default.connect.min(limit), first_byte: limit, idle: limit };
    let least = Duration::from_millis(1);
    match (raw.timeout_policy.as_deref(), raw.timeout) {
        (Some(_), Some(_)) => {
            at.key("Timeout").report(Problem::new("`TimeoutPolicy` is there too").help("remove one of the two"));
            None
        }
        (None, timeout @ Some(_)) => at.key("Timeout").span(timeout, least, least, NO_LIMIT).map(both),
        (Some("Disable"), None) => Some(UpstreamTimeouts { first_byte: NO_LIMIT, idle: NO_LIMIT, ..default }),
        (Some(name), None) => {
            let defined = at.root("Policies").key("Timeout");
            at.key("TimeoutPolicy")
                .known(name, &defined, &["Disable"])
                .then(|| policies.timeouts.get(name).copied())
                .flatten()
        }
        (None, None) => {
            let clusters = at.root("ReverseProxy").key("Clusters");
            let cluster = raw.cluster_id.as_ref().and_then(|id| Some((id, file.reverse_proxy.clusters.get(id)?)));
            let Some((id, cluster)) = cluster.filter(|(_, cluster)| cluster.http_request.activity_timeout.is_some())
            else {
                return Some(default);
            };
            let at = clusters.key(id).key("HttpRequest").key("ActivityTimeout");
            at.span(cluster.http_request.activity_timeout, least, least, NO_LIMIT).map(both)
        }
    }
}
