//! Claims policies: rules over the claims of a token and the values captured from the path. Pure.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Claims;
use http_semantics::placeholders::{self, TemplatePart};

/// Named set of rules.
#[derive(Clone, Debug, Default)]
pub struct ClaimsPolicy {
    /// Its name in the YAML.
    pub name: Arc<str>,
    /// All must hold.
    pub rules: Vec<ClaimsRule>,
}

/// One rule over the claims of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimsRule {
    /// The claim named `claim` satisfies `test`.
    Claim {
        /// A claim's name; dots reach into objects (`realm_access.roles`).
        claim: String,
        /// Condition that it must satisfy; if the claim is an array, one element must.
        test: ClaimCondition,
    },
    /// At least one of these holds.
    AnyOf(Vec<ClaimsRule>),
}

/// Condition on a claim. Strings may name captured path values as `{name}`, compared decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimCondition {
    /// Present and not null, false or empty.
    Exists,
    /// Equal to this text (numbers and booleans by their JSON text).
    Equals(String),
    /// Equal to one of these.
    In(Vec<String>),
    /// A text of words parted by blanks, as `scope` is, or an array, that has this word.
    Contains(String),
}

impl ClaimsPolicy {
    /// Returns true if all rules hold. `captured` gives the decoded value that the path has for a name.
    pub fn permits(&self, claims: &Claims, captured: &dyn Fn(&str) -> Option<String>) -> bool {
        self.rules.iter().all(|rule| rule.holds(&claims.map, captured))
    }

    /// Returns the names of the captured values that the rules refer to: a route must capture all of them.
    pub fn captured_names(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.rules.iter().for_each(|rule| rule.add_names(&mut names));
        names
    }
}

impl ClaimsRule {
    fn holds(&self, claims: &Map<String, Value>, captured: &dyn Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Claim { claim, test } => lookup(claims, claim).is_some_and(|value| test.holds(value, captured)),
            Self::AnyOf(rules) => rules.iter().any(|rule| rule.holds(claims, captured)),
        }
    }

    fn add_names<'a>(&'a self, names: &mut BTreeSet<&'a str>) {
        match self {
            Self::Claim { test, .. } => {
                names.extend(test.texts().iter().flat_map(|text| placeholders::parts(text)).filter_map(
                    |part| match part {
                        TemplatePart::Name(name) => Some(captured_name(name)),
                        TemplatePart::Literal(_) => None,
                    },
                ));
            }
            Self::AnyOf(rules) => rules.iter().for_each(|rule| rule.add_names(names)),
        }
    }
}

impl ClaimCondition {
    fn texts(&self) -> &[String] {
        match self {
            Self::Exists => &[],
            Self::Equals(text) | Self::Contains(text) => std::slice::from_ref(text),
            Self::In(texts) => texts,
        }
    }

    fn holds(&self, value: &Value, captured: &dyn Fn(&str) -> Option<String>) -> bool {
        if let Value::Array(elements) = value {
            return elements.iter().any(|element| self.holds(element, captured));
        }
        if let Self::Exists = self {
            return !is_empty(value);
        }
        let Some(found) = scalar_text(value) else { return false };
        self.texts().iter().filter_map(|text| expand(text, captured)).any(|wanted| match self {
            // RFC 8693 §4.2: `scope` is one string of words separated by blanks.
            Self::Contains(_) => found.split_ascii_whitespace().any(|word| word == wanted),
            Self::Exists | Self::Equals(_) | Self::In(_) => found == wanted,
        })
    }
}

/// Returns the claim of that name. Names may contain dots themselves (`https://example.com/roles`), so every way to
/// split them counts, the whole name first.
fn lookup<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| match claims.get(&name[..dot]) {
            Some(Value::Object(inner)) => lookup(inner, &name[dot + 1..]),
            _ => None,
        })
    })
}

/// Returns the claim of that name, in which a dot may lead to a member of an object, as a string; `None` if it is absent,
/// an empty string, null, a list or an object. Numbers and booleans are written out.
pub fn claim_text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    scalar_text(lookup(claims, name)?).filter(|text| !text.is_empty()).map(Cow::into_owned)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Returns a single value as a string; `None` for null, arrays and objects.
fn scalar_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(set) => Some(Cow::Borrowed(if *set { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns the name of a captured value as a policy writes it: with or without the `*` of a pattern.
fn captured_name(name: &str) -> &str {
    name.trim_start_matches('*')
}

/// Inserts captured values. A value that is absent or empty satisfies nothing: an empty path segment must not match an
/// empty claim.
fn expand<'a>(text: &'a str, captured: &dyn Fn(&str) -> Option<String>) -> Option<Cow<'a, str>> {
    if !text.contains('{') {
        return Some(Cow::Borrowed(text));
    }
    let mut expanded = String::with_capacity(text.len());
    for part in placeholders::parts(text) {
        match part {
            TemplatePart::Literal(literal) => expanded.push_str(literal),
            TemplatePart::Name(name) => {
                expanded.push_str(&captured(captured_name(name)).filter(|value| !value.is_empty())?);
            }
        }
    }
    Some(Cow::Owned(expanded))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use primitives::ids::UserId;

    fn claims() -> Claims {
        let Value::Object(map) = json!({
            "sub": "user-1", "role": "vip", "level": 3, "ratio": 1.5, "admin": true, "banned": false, "none": null,
            "blank": "", "empty": [], "nulls": [null], "groups": ["listeners", "staff"], "scope": "stream:read profile",
            "scopes": ["stream:read", "write all"], "realm_access": {"roles": ["editor"], "deep": {"x.y": 1}},
            "https://example.com/plan": "gold", "paths": ["user-1/music"],
        }) else {
            unreachable!("an object literal")
        };
        Claims { subject: UserId::parse("user-1").expect("an id"), map }
    }

    fn captured(name: &str) -> Option<String> {
        match name {
            "userId" => Some("user-1".into()),
            "other" => Some("user-2".into()),
            "folder" => Some("music".into()),
            "braces" => Some("{userId}".into()),
            "empty" => Some(String::new()),
            _ => None,
        }
    }

    fn permits(rules: Vec<ClaimsRule>) -> bool {
        ClaimsPolicy { name: "policy".into(), rules }.permits(&claims(), &captured)
    }

    fn rule(claim: &str, test: ClaimCondition) -> ClaimsRule {
        ClaimsRule::Claim { claim: claim.into(), test }
    }

    fn equals(text: &str) -> ClaimCondition {
        ClaimCondition::Equals(text.into())
    }

    fn contains(text: &str) -> ClaimCondition {
        ClaimCondition::Contains(text.into())
    }

    #[test]
    fn a_policy_without_rules_permits_whoever_has_a_token() {
        assert!(permits(vec![]));
    }

    #[test]
    fn each_test_holds_for_what_it_says_and_nothing_else() {
        let table = [
            ("sub", equals("user-1"), true),
            ("sub", equals("USER-1"), false),
            ("sub", equals("user"), false),
            ("missing", equals(""), false),
            ("level", equals("3"), true),
            ("ratio", equals("1.5"), true),
            ("admin", equals("true"), true),
            ("banned", equals("false"), true),
            ("none", equals("null"), false),
            ("groups", equals("staff"), true),
            ("groups", equals("guests"), false),
            ("realm_access", equals("editor"), false),
            ("role", ClaimCondition::In(vec!["admin".into(), "vip".into()]), true),
            ("role", ClaimCondition::In(vec!["admin".into()]), false),
            ("role", ClaimCondition::In(vec![]), false),
            ("groups", ClaimCondition::In(vec!["x".into(), "staff".into()]), true),
            ("scope", contains("stream:read"), true),
            ("scope", contains("stream"), false),
            ("scope", contains("stream:read profile"), false),
            ("scopes", contains("stream:read"), true),
            ("scopes", contains("all"), true),
            ("scopes", contains("stream"), false),
            ("level", contains("3"), true),
            ("sub", ClaimCondition::Exists, true),
            ("level", ClaimCondition::Exists, true),
            ("admin", ClaimCondition::Exists, true),
            ("realm_access", ClaimCondition::Exists, true),
            ("banned", ClaimCondition::Exists, false),
            ("none", ClaimCondition::Exists, false),
            ("blank", ClaimCondition::Exists, false),
            ("empty", ClaimCondition::Exists, false),
            ("nulls", ClaimCondition::Exists, false),
            ("missing", ClaimCondition::Exists, false),
        ];
        for (claim, test, expected) in table {
            assert_eq!(permits(vec![rule(claim, test.clone())]), expected, "{claim} {test:?}");
        }
    }

    #[test]
    fn dots_reach_into_objects_and_may_be_part_of_a_name() {
        for (claim, text, expected) in [
            ("realm_access.roles", "editor", true),
            ("realm_access.deep.x.y", "1", true),
            ("realm_access.missing", "editor", false),
            ("sub.length", "6", false),
            ("https://example.com/plan", "gold", true),
            (".", "x", false),
        ] {
            assert_eq!(permits(vec![rule(claim, equals(text))]), expected, "{claim}");
        }
    }

    #[test]
    fn captured_values_are_put_into_texts_once() {
        for (claim, test, expected) in [
            ("sub", equals("{userId}"), true),
            ("sub", equals("{**userId}"), true),
            ("sub", equals("{other}"), false),
            ("sub", equals("{unknown}"), false),
            ("sub", equals("{braces}"), false),
            ("sub", equals("{"), false),
            ("blank", equals("{empty}"), false),
            ("paths", equals("{userId}/{folder}"), true),
            ("sub", ClaimCondition::In(vec!["{unknown}".into(), "{userId}".into()]), true),
            ("scope", contains("{folder}"), false),
        ] {
            assert_eq!(permits(vec![rule(claim, test.clone())]), expected, "{claim} {test:?}");
        }
    }

    #[test]
    fn all_rules_must_hold_and_one_of_any_of() {
        let yes = || rule("role", equals("vip"));
        let no = || rule("role", equals("admin"));
        assert!(permits(vec![yes(), ClaimsRule::AnyOf(vec![no(), yes()])]));
        assert!(!permits(vec![yes(), no()]));
        assert!(!permits(vec![ClaimsRule::AnyOf(vec![no(), ClaimsRule::AnyOf(vec![no()])])]));
        assert!(!permits(vec![ClaimsRule::AnyOf(vec![])]));
    }

    #[test]
    fn a_policy_tells_which_captured_values_it_needs() {
        let policy = ClaimsPolicy {
            name: "owner".into(),
            rules: vec![
                rule("sub", equals("{userId}")),
                ClaimsRule::AnyOf(vec![
                    rule("a", ClaimCondition::In(vec!["{**rest}".into(), "x{y}{".into()])),
                    rule("b", ClaimCondition::Exists),
                ]),
            ],
        };
        assert_eq!(policy.captured_names().into_iter().collect::<Vec<_>>(), ["rest", "userId", "y"]);
    }
}
