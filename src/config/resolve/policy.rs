//! `Policies`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use super::{At, cache};
use crate::auth::policy::{Policy, Rule, Test};
use crate::config::file;
use crate::config::report::Problem;
use crate::http::cors::{self, Allowed};
use crate::object::cache as output_cache;
use crate::proxy::settings::Timeouts;
use crate::route::template::Template;

/// What routes may name. What could not be resolved is missing here, and reported already.
pub struct Policies {
    pub authorization: BTreeMap<String, Authorization>,
    pub cors: BTreeMap<String, Arc<cors::Policy>>,
    pub timeouts: BTreeMap<String, Timeouts>,
    pub output_cache: BTreeMap<String, output_cache::Policy>,
}

/// A policy, and the captured path values that it compares claims with.
pub struct Authorization {
    pub policy: Arc<Policy>,
    pub captures: Vec<String>,
}

pub fn policies(at: &At<'_>, raw: &file::Policies) -> Policies {
    let (own, origins, limits) = (at.key("Authorization"), at.key("Cors"), at.key("Timeout"));
    let named = |(name, policy): (&String, Option<_>)| Some((name.clone(), policy?));
    Policies {
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

fn authorization(at: &At<'_>, name: &str, raw: &file::AuthorizationPolicy) -> Option<Authorization> {
    if matches!(name, "Default" | "Anonymous") {
        at.report(Problem::new(format!("`{name}` has a meaning of its own")).help("give the policy another name"));
    }
    if raw.require.is_empty() {
        at.key("Require").report(
            Problem::new("no rule")
                .expected("at least one; `AuthorizationPolicy: Default` asks for a valid token only"),
        );
    }
    let rules = at.key("Require").each(&raw.require, rule)?;
    let mut captures = Vec::new();
    rules.iter().for_each(|rule| captured(rule, &mut captures));
    Some(Authorization { policy: Arc::new(Policy { name: name.into(), rules }), captures })
}

fn rule(at: &At<'_>, raw: &file::Rule) -> Option<Rule> {
    let tests: Vec<(&str, Test)> = [
        raw.equals.as_ref().map(|text| ("Equals", Test::Equals(text.0.clone()))),
        raw.r#in.as_ref().map(|texts| ("In", Test::In(texts.iter().map(|text| text.0.clone()).collect()))),
        raw.contains.as_ref().map(|text| ("Contains", Test::Contains(text.0.clone()))),
        raw.exists.map(|_| ("Exists", Test::Exists)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if raw.exists == Some(false) {
        let problem = Problem::new("a rule says what must be there");
        at.key("Exists").report(problem.expected("`Exists: true`"));
        return None;
    }
    match (&raw.claim, tests.as_slice(), &raw.any_of) {
        (Some(claim), [(key, test)], None) if !claim.is_empty() => {
            let texts: Vec<_> = texts(test).collect();
            if texts.is_empty() && *test != Test::Exists {
                at.key(key).report(Problem::new("no value could satisfy this").expected("at least one value"));
            }
            let bad = texts.into_iter().find_map(|text| Template::parse(text).err());
            if let Some(error) = bad {
                at.key(key).report(Problem::new(error.to_string()));
                return None;
            }
            Some(Rule::Claim { claim: claim.clone(), test: test.clone() })
        }
        (None, [], Some(rules)) if !rules.is_empty() => at.key("AnyOf").each(rules, rule).map(Rule::AnyOf),
        _ => {
            let expected =
                "`Claim` with exactly one of `Equals`, `In`, `Contains` and `Exists`, or `AnyOf` with a list of rules";
            at.report(Problem::new("the rule is not clear").expected(expected));
            None
        }
    }
}

fn texts(test: &Test) -> impl Iterator<Item = &str> {
    let (one, many) = match test {
        Test::Exists => (None, &[][..]),
        Test::Equals(text) | Test::Contains(text) => (Some(text), &[][..]),
        Test::In(texts) => (None, texts.as_slice()),
    };
    one.into_iter().chain(many).map(String::as_str)
}

/// Adds the names of the captured values that `rule` refers to.
fn captured(rule: &Rule, names: &mut Vec<String>) {
    match rule {
        Rule::AnyOf(rules) => rules.iter().for_each(|rule| captured(rule, names)),
        Rule::Claim { test, .. } => {
            for template in texts(test).filter_map(|text| Template::parse(text).ok()) {
                names.extend(template.names().map(str::to_owned));
            }
        }
    }
}

fn cors(at: &At<'_>, raw: &file::CorsPolicy) -> Option<cors::Policy> {
    let origins = allowed(
        &at.key("Origins"),
        Some(&raw.origins),
        "an origin such as https://app.example, without a path",
        origin,
    );
    if raw.allow_credentials && origins == Some(Allowed::Any) {
        let problem = Problem::new("any page could act as its visitor");
        at.key("AllowCredentials").report(problem.help("list the origins, or remove `AllowCredentials`"));
    }
    let header = |text: &str| HeaderName::try_from(text).ok();
    let method = |text: &str| Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok();
    let methods = allowed(&at.key("Methods"), raw.methods.as_deref(), "a method such as GET", method);
    let headers = allowed(&at.key("Headers"), raw.headers.as_deref(), "a header's name", header);
    let exposed = raw.exposed_headers.as_deref().or(Some(&[]));
    let exposed_headers = allowed(&at.key("ExposedHeaders"), exposed, "a header's name", header);
    let max_age =
        at.key("MaxAge").span(raw.max_age, Duration::from_secs(600), Duration::ZERO, Duration::from_secs(86_400));
    Some(cors::Policy {
        origins: origins?,
        methods: methods?,
        headers: headers?,
        exposed_headers: exposed_headers?,
        allow_credentials: raw.allow_credentials,
        max_age: Some(max_age?),
    })
}

/// A list in which `*` alone is everything, as it is where there is no list.
fn allowed<T>(
    at: &At<'_>,
    texts: Option<&[String]>,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<Allowed<T>> {
    let Some(texts) = texts else { return Some(Allowed::Any) };
    if matches!(texts, [only] if only == "*") {
        return Some(Allowed::Any);
    }
    let parsed = at.each(texts, |at, text| {
        let parsed = if text == "*" { None } else { parse(text) };
        if parsed.is_none() {
            let expected = if text == "*" { "`*` alone, or a list without it" } else { expected };
            at.report(Problem::new(format!("`{text}` cannot be read")).expected(expected));
        }
        parsed
    });
    parsed.map(Allowed::Only)
}

/// An origin as browsers send it (RFC 6454 §6.2).
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let sent = url.origin().ascii_serialization();
    (url.origin().is_tuple() && sent.eq_ignore_ascii_case(text)).then_some(sent)
}

fn timeouts(at: &At<'_>, raw: &file::TimeoutPolicy) -> Option<Timeouts> {
    let default = Timeouts::default();
    let (least, most) = (Duration::from_millis(1), Duration::from_secs(86_400));
    let connect = at.key("Connect").span(raw.connect, default.connect, least, most);
    let first_byte = at.key("FirstByte").span(raw.first_byte, default.first_byte, least, most);
    let idle = at.key("Idle").span(raw.idle, default.idle, least, most);
    Some(Timeouts { connect: connect?, first_byte: first_byte?, idle: idle? })
}
