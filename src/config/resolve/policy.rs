//! Section `Policies`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use super::{ConfigLocation, cache};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::shape::one_of;
use crate::proxy::settings::{TrackAccessSettings, UpstreamTimeouts};
use catalog;
use http_semantics::cors::{self, AllowList};
use object_engine::cache as output_cache;
use routing::template::CaptureTemplate;
use server_kit::auth::claims_policy::{ClaimCondition, ClaimsPolicy, ClaimsRule};
use server_kit::auth::{CERTIFICATE_CLAIM, CERTIFICATE_CLAIM_PARTS};

/// Policies that routes may name. Those that failed are missing here, and are reported already.
pub struct ResolvedPolicies {
    pub authorization: BTreeMap<String, ResolvedAuthorization>,
    pub cors: BTreeMap<String, Arc<cors::CorsPolicy>>,
    pub timeouts: BTreeMap<String, UpstreamTimeouts>,
    pub output_cache: BTreeMap<String, output_cache::CachePolicy>,
}

/// Policy, with the captured path values that it compares claims with.
pub struct ResolvedAuthorization {
    pub policy: Arc<ClaimsPolicy>,
    pub captures: Vec<String>,
    /// Authorities that decide beyond the claims.
    pub track_access: Option<TrackAccessSettings>,
}

pub fn policies(at: &ConfigLocation<'_>, raw: &file::Policies) -> ResolvedPolicies {
    let (own, origins, limits) = (at.key("Authorization"), at.key("Cors"), at.key("Timeout"));
    let named = |(name, policy): (&String, Option<_>)| Some((name.clone(), policy?));
    ResolvedPolicies {
        authorization: raw
            .authorization
            .iter()
            .filter_map(|(name, raw)| Some((name.clone(), authorization(&own.key(name), name, raw)?)))
            .collect(),
        cors: raw
            .cors
            .iter()
            .map(|(name, raw)| (name, cors(&origins.key(name), raw).map(Arc::new)))
            .filter_map(named)
            .collect(),
        timeouts: raw
            .timeout
            .iter()
            .filter_map(|(name, raw)| Some((name.clone(), timeouts(&limits.key(name), raw)?)))
            .collect(),
        output_cache: cache::policies(&at.key("OutputCache"), raw),
    }
}

fn authorization(
    at: &ConfigLocation<'_>,
    name: &str,
    raw: &file::AuthorizationPolicy,
) -> Option<ResolvedAuthorization> {
    if matches!(name, "Default" | "Anonymous") {
        at.report(
            ConfigProblem::new(format!("`{name}` has a meaning of its own")).help("give the policy another name"),
        );
    }
    let access = access(at, raw);
    if raw.require.is_empty() && !raw.grants && raw.http.is_none() {
        at.key("Require").report(
            ConfigProblem::new("no rule")
                .expected("at least one; `AuthorizationPolicy: Default` asks for a valid token only"),
        );
    }
    let rules = at.key("Require").each(&raw.require, rule)?;
    let mut captures = Vec::new();
    rules.iter().for_each(|rule| captured(rule, &mut captures));
    let access = access?;
    if let Some(access) = &access {
        captures.extend(access.track_id.names().map(str::to_owned));
    }
    Some(ResolvedAuthorization {
        policy: Arc::new(ClaimsPolicy { name: name.into(), rules }),
        captures,
        track_access: access,
    })
}

/// Resolves the authorities that decide beyond the rules; `Some(None)` if there are none.
fn access(at: &ConfigLocation<'_>, raw: &file::AuthorizationPolicy) -> Option<Option<TrackAccessSettings>> {
    let service = raw.http.as_ref().map(|raw| service(&at.key("Http"), raw));
    let text = raw.track.as_deref().unwrap_or("{id}");
    let track = CaptureTemplate::parse(text)
        .map_err(|error| at.key("Track").report(ConfigProblem::new(error.to_string())))
        .ok();
    if !raw.grants && raw.http.is_none() {
        if raw.track.is_some() {
            let problem = ConfigProblem::new("nobody is asked about a track");
            at.key("Track").report(problem.help("add `Grants: true` or `Http`, or remove it"));
        }
        return Some(None);
    }
    if raw.grants && at.root("Database").node().is_none() {
        let problem = ConfigProblem::new("grants are in the database, and there is none");
        at.key("Grants").report(problem.help("configure `Database`, or remove `Grants`"));
    }
    let settings = catalog::settings::AccessSettings {
        grants: raw.grants,
        service: service.map_or(Some(None), |it| it.map(Some))?,
    };
    Some(Some(TrackAccessSettings { authorities: Arc::new(settings), track_id: track? }))
}

fn service(
    at: &ConfigLocation<'_>,
    raw: &file::AccessService,
) -> Option<catalog::settings::AuthorizationServiceSettings> {
    let (second, millisecond) = (Duration::from_secs(1), Duration::from_millis(1));
    let expected =
        "an http or https URL with `{userId}` and `{trackId}`, such as http://users:8000/access/{userId}/{trackId}";
    let url = at.key("Url").parse(&raw.url, expected, catalog::settings::AccessUrlTemplate::parse);
    let timeout = at.key("Timeout").span(raw.timeout, second, 10 * millisecond, 30 * second);
    let cache_for = at.key("CacheFor").span(raw.cache_for, 30 * second, Duration::ZERO, 3600 * second);
    Some(catalog::settings::AuthorizationServiceSettings {
        url: url?,
        timeout: timeout?,
        cache_ttl: cache_for?,
        allow_on_failure: raw.on_failure == file::OnFailure::Allow,
        forward_token: raw.forward_token,
    })
}

fn rule(at: &ConfigLocation<'_>, raw: &file::Rule) -> Option<ClaimsRule> {
    let tests: Vec<(&str, ClaimCondition)> = [
        raw.equals.as_ref().map(|text| ("Equals", ClaimCondition::Equals(text.0.clone()))),
        raw.r#in.as_ref().map(|texts| ("In", ClaimCondition::In(texts.iter().map(|text| text.0.clone()).collect()))),
        raw.contains.as_ref().map(|text| ("Contains", ClaimCondition::Contains(text.0.clone()))),
        raw.exists.map(|_| ("Exists", ClaimCondition::Exists)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if raw.exists == Some(false) {
        let problem = ConfigProblem::new("a rule says what must be there");
        at.key("Exists").report(problem.expected("`Exists: true`"));
        return None;
    }
    match (&raw.claim, tests.as_slice(), &raw.any_of) {
        (Some(claim), [(key, test)], None) if !claim.is_empty() => {
            check_certificate_claim(&at.key("Claim"), claim)?;
            let texts: Vec<_> = texts(test).collect();
            if texts.is_empty() && *test != ClaimCondition::Exists {
                at.key(key).report(ConfigProblem::new("no value could satisfy this").expected("at least one value"));
            }
            let bad = texts.into_iter().find_map(|text| CaptureTemplate::parse(text).err());
            if let Some(error) = bad {
                at.key(key).report(ConfigProblem::new(error.to_string()));
                return None;
            }
            Some(ClaimsRule::Claim { claim: claim.clone(), test: test.clone() })
        }
        (None, [], Some(rules)) if !rules.is_empty() => at.key("AnyOf").each(rules, rule).map(ClaimsRule::AnyOf),
        _ => {
            let expected =
                "`Claim` with exactly one of `Equals`, `In`, `Contains` and `Exists`, or `AnyOf` with a list of rules";
            at.report(ConfigProblem::new("the rule is not clear").expected(expected));
            None
        }
    }
}

/// Reports a claim of a client's certificate that no certificate has: the rule would permit nobody.
fn check_certificate_claim(at: &ConfigLocation<'_>, claim: &str) -> Option<()> {
    let Some(part) = claim.strip_prefix(CERTIFICATE_CLAIM).and_then(|rest| rest.strip_prefix('.')) else {
        return Some(());
    };
    if CERTIFICATE_CLAIM_PARTS.contains(&part) {
        return Some(());
    }
    let all = CERTIFICATE_CLAIM_PARTS.map(|part| format!("{CERTIFICATE_CLAIM}.{part}"));
    let problem = ConfigProblem::new(format!("a certificate has no claim `{claim}`"));
    at.report(problem.expected(one_of(all.iter().map(String::as_str))));
    None
}

fn texts(test: &ClaimCondition) -> impl Iterator<Item = &str> {
    let (one, many) = match test {
        ClaimCondition::Exists => (None, &[][..]),
        ClaimCondition::Equals(text) | ClaimCondition::Contains(text) => (Some(text), &[][..]),
        ClaimCondition::In(texts) => (None, texts.as_slice()),
    };
    one.into_iter().chain(many).map(String::as_str)
}

/// Adds the names of the captured values that `rule` refers to.
fn captured(rule: &ClaimsRule, names: &mut Vec<String>) {
    match rule {
        ClaimsRule::AnyOf(rules) => rules.iter().for_each(|rule| captured(rule, names)),
        ClaimsRule::Claim { test, .. } => {
            for template in texts(test).filter_map(|text| CaptureTemplate::parse(text).ok()) {
                names.extend(template.names().map(str::to_owned));
            }
        }
    }
}

fn cors(at: &ConfigLocation<'_>, raw: &file::CorsPolicy) -> Option<cors::CorsPolicy> {
    let origins = allowed(
        &at.key("Origins"),
        Some(&raw.origins),
        "an origin such as https://app.example, without a path",
        origin,
    );
    // The Fetch standard forbids the combination, and echoing every origin in its place would defeat the check.
    if raw.allow_credentials && origins == Some(AllowList::Any) {
        let problem = ConfigProblem::new("any page could act as its visitor");
        at.key("AllowCredentials").report(problem.help("list the origins, or remove `AllowCredentials`"));
    }
    let header = |text: &str| HeaderName::try_from(text).ok();
    // Upper-cased, since methods are case-sensitive (RFC 9110 §9.1) and browsers send these in capitals.
    let method = |text: &str| Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok();
    let methods = allowed(&at.key("Methods"), raw.methods.as_deref(), "a method such as GET", method);
    let headers = allowed(&at.key("Headers"), raw.headers.as_deref(), "a header's name", header);
    // Absent means none here, and not all: browsers show the common headers by themselves.
    let exposed = raw.exposed_headers.as_deref().or(Some(&[]));
    let exposed_headers = allowed(&at.key("ExposedHeaders"), exposed, "a header's name", header);
    let max_age =
        at.key("MaxAge").span(raw.max_age, Duration::from_secs(600), Duration::ZERO, Duration::from_secs(86_400));
    Some(cors::CorsPolicy {
        origins: origins?,
        methods: methods?,
        headers: headers?,
        exposed_headers: exposed_headers?,
        allow_credentials: raw.allow_credentials,
        max_age: Some(max_age?),
    })
}

/// Resolves a list in which `*` alone is everything, as is an absent list.
fn allowed<T>(
    at: &ConfigLocation<'_>,
    texts: Option<&[String]>,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<AllowList<T>> {
    let Some(texts) = texts else { return Some(AllowList::Any) };
    if matches!(texts, [only] if only == "*") {
        return Some(AllowList::Any);
    }
    let parsed = at.each(texts, |at, text| {
        // `*` would parse as a header name or method, and then mean only itself.
        let parsed = if text == "*" { None } else { parse(text) };
        if parsed.is_none() {
            let expected = if text == "*" { "`*` alone, or a list without it" } else { expected };
            at.report(ConfigProblem::new(format!("`{text}` cannot be read")).expected(expected));
        }
        parsed
    });
    parsed.map(AllowList::Only)
}

/// Parses an origin as browsers send it (RFC 6454 §6.2).
pub(super) fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let sent = url.origin().ascii_serialization();
    (url.origin().is_tuple() && sent.eq_ignore_ascii_case(text)).then_some(sent)
}

/// Longest time for which requests may wait for a store that is away.
const LONGEST_ABSENCE: Duration = Duration::from_secs(300);

fn timeouts(at: &ConfigLocation<'_>, raw: &file::TimeoutPolicy) -> Option<UpstreamTimeouts> {
    let default = UpstreamTimeouts::default();
    let (least, most) = (Duration::from_millis(1), Duration::from_secs(86_400));
    let connect = at.key("Connect").span(raw.connect, default.connect, least, most);
    let first_byte = at.key("FirstByte").span(raw.first_byte, default.first_byte, least, most);
    let idle = at.key("Idle").span(raw.idle, default.idle, least, most);
    let unavailable = at.key("Unavailable").span(raw.unavailable, default.unavailable, Duration::ZERO, LONGEST_ABSENCE);
    Some(UpstreamTimeouts { connect: connect?, first_byte: first_byte?, idle: idle?, unavailable: unavailable? })
}
