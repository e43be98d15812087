//! `Credentials` of an object store: keys, or the provider that gives them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::store::bare_url;
use super::{ConfigLocation, require_feature};
use crate::config::file::{self, CredentialProviderName as Name};
use crate::config::report::ConfigProblem;
use crate::config::shape::one_of;
use crate::config::value::{ConfigText, SecretRef};
use s3::settings::{AssumedRole, CredentialProvider, ProviderKind, StoreCredentials, StoreKeys};

/// Shortest and longest life of a role's keys (AWS STS, "AssumeRole", `DurationSeconds`).
const DURATIONS: (Duration, Duration) = (Duration::from_secs(900), Duration::from_secs(43_200));
/// Name of sessions, unless another is given.
const SESSION_NAME: &str = "tidegate";

/// Keys that name keys.
const KEYS: [&str; 3] = ["AccessKey", "SecretKey", "SessionToken"];

/// Resolves the credentials of a store in `region`, where that could be read.
pub fn credentials(
    at: &ConfigLocation<'_>,
    raw: &file::Credentials,
    region: Option<&str>,
    is_embedded: bool,
) -> Option<StoreCredentials> {
    let Some(name) = raw.provider else {
        let taken = refuse_others(at, "without `Provider`", &KEYS);
        let keys = keys(at, raw);
        taken?;
        return keys.map(StoreCredentials::Keys);
    };
    if is_embedded {
        let problem = ConfigProblem::new("the embedded store makes its keys itself");
        at.key("Provider").report(problem.help("remove `Credentials`"));
        return None;
    }
    let taken = refuse_others(at, &format!("with the provider `{}`", name_of(name)), keys_of(name));
    let kind = match name {
        Name::Anonymous => return taken.map(|()| StoreCredentials::Anonymous),
        Name::Environment => {
            let keys = environment(at);
            taken?;
            return keys.map(StoreCredentials::Keys);
        }
        Name::Default => Some(ProviderKind::DefaultChain),
        Name::Container => Some(ProviderKind::Container),
        Name::Profile => optional(raw.profile.as_ref(), |text| at.key("Profile").parse(text, "a name", plain_text))
            .map(ProviderKind::Profile),
        Name::Instance => optional(raw.metadata_endpoint.as_ref(), |text| address(&at.key("MetadataEndpoint"), text))
            .map(ProviderKind::Instance),
        Name::WebIdentity => web_identity(at, raw),
        Name::AssumeRole => assume_role(at, raw),
    };
    let built = require_feature(&at.key("Provider"), cfg!(feature = "aws-credentials"), "aws-credentials");
    taken.and(built)?;
    let provider = CredentialProvider { kind: kind?, region: region?.to_owned() };
    Some(StoreCredentials::Temporary(Arc::new(provider)))
}

/// Returns the keys that a provider takes beside `Provider`.
fn keys_of(name: Name) -> &'static [&'static str] {
    match name {
        Name::Default | Name::Environment | Name::Container | Name::Anonymous => &["Provider"],
        Name::Profile => &["Provider", "Profile"],
        Name::WebIdentity => &["Provider", "RoleArn", "SessionName", "Duration", "TokenFile", "StsEndpoint"],
        Name::Instance => &["Provider", "MetadataEndpoint"],
        Name::AssumeRole => &[
            "Provider",
            "RoleArn",
            "SessionName",
            "Duration",
            "ExternalId",
            "StsEndpoint",
            "AccessKey",
            "SecretKey",
            "SessionToken",
        ],
    }
}

fn name_of(name: Name) -> &'static str {
    match name {
        Name::Default => "default",
        Name::Environment => "environment",
        Name::Profile => "profile",
        Name::Container => "container",
        Name::WebIdentity => "web-identity",
        Name::Instance => "instance",
        Name::AssumeRole => "assume-role",
        Name::Anonymous => "anonymous",
    }
}

/// Reports keys that mean nothing here; `None` where there are some.
fn refuse_others(at: &ConfigLocation<'_>, place: &str, taken: &[&str]) -> Option<()> {
    let others: Vec<&str> = at.names().into_iter().filter(|key| !taken.contains(key)).collect();
    for key in &others {
        let problem = ConfigProblem::new(format!("`{key}` means nothing {place}"));
        let taken: Vec<&str> = taken.iter().copied().filter(|key| *key != "Provider").collect();
        at.key(key).report(if taken.is_empty() { problem.help("remove it") } else { problem.expected(one_of(taken)) });
    }
    others.is_empty().then_some(())
}

/// Resolves a value that may be left out; `None` where it is wrong.
fn optional<R, T>(raw: Option<R>, resolve: impl FnOnce(R) -> Option<T>) -> Option<Option<T>> {
    raw.map_or(Some(None), |raw| resolve(raw).map(Some))
}

fn keys(at: &ConfigLocation<'_>, raw: &file::Credentials) -> Option<StoreKeys> {
    let secret = |key: &str, reference: &Option<SecretRef>| match reference {
        Some(reference) => at.key(key).secret(reference),
        None => {
            let problem = ConfigProblem::new(format!("the key `{key}` is missing"));
            at.report(problem.expected("`AccessKey` and `SecretKey`, or a `Provider` that gives them"));
            None
        }
    };
    let access_key = secret("AccessKey", &raw.access_key);
    let secret_key = secret("SecretKey", &raw.secret_key);
    let session_token = optional(raw.session_token.as_ref(), |token| at.key("SessionToken").secret(token));
    Some(StoreKeys { access_key: access_key?, secret_key: secret_key?, session_token: session_token? })
}

/// Reads the keys by the names that Amazon's tools have for them.
fn environment(at: &ConfigLocation<'_>) -> Option<StoreKeys> {
    let at = at.key("Provider");
    let secret = |name: &str| at.secret(&SecretRef::Env(name.to_owned()));
    let (access_key, secret_key) = (secret("AWS_ACCESS_KEY_ID"), secret("AWS_SECRET_ACCESS_KEY"));
    let has_token = at.variable("AWS_SESSION_TOKEN", "a session token", |_| Some(()))?.is_some();
    let session_token = optional(has_token.then_some("AWS_SESSION_TOKEN"), secret);
    Some(StoreKeys { access_key: access_key?, secret_key: secret_key?, session_token: session_token? })
}

fn web_identity(at: &ConfigLocation<'_>, raw: &file::Credentials) -> Option<ProviderKind> {
    let role = role(at, raw);
    let variable = "AWS_WEB_IDENTITY_TOKEN_FILE";
    let file = needed(at, ("TokenFile", raw.token_file.as_ref()), variable, ("the path of a file", plain_text));
    Some(ProviderKind::WebIdentity { role: role?, token_file: file.map(PathBuf::from)? })
}

fn assume_role(at: &ConfigLocation<'_>, raw: &file::Credentials) -> Option<ProviderKind> {
    let role = role(at, raw);
    let is_keyed = at.names().iter().any(|key| KEYS.contains(key));
    let keys = optional(is_keyed.then_some(()), |()| keys(at, raw));
    let expected = "2 to 1224 letters, digits and `+=,.@:/-_`";
    let id = optional(raw.external_id.as_ref(), |text| at.key("ExternalId").parse(text, expected, external_id));
    Some(ProviderKind::AssumeRole { role: role?, keys: keys?, external_id: id? })
}

fn role(at: &ConfigLocation<'_>, raw: &file::Credentials) -> Option<AssumedRole> {
    let expected = "an Amazon resource name such as arn:aws:iam::123456789012:role/media-reader";
    let arn = needed(at, ("RoleArn", raw.role_arn.as_ref()), "AWS_ROLE_ARN", (expected, role_arn));
    let expected = "2 to 64 letters, digits and `+=,.@-_`";
    let session_name = match &raw.session_name {
        Some(text) => at.key("SessionName").parse(text, expected, session_name),
        None => at
            .variable("AWS_ROLE_SESSION_NAME", expected, session_name)
            .map(|name| name.unwrap_or_else(|| SESSION_NAME.to_owned())),
    };
    let (least, most) = DURATIONS;
    let duration = optional(raw.duration, |span| at.key("Duration").span(Some(span), least, least, most));
    let endpoint = optional(raw.sts_endpoint.as_ref(), |text| address(&at.key("StsEndpoint"), text));
    Some(AssumedRole { arn: arn?, session_name: session_name?, duration: duration?, endpoint: endpoint? })
}

/// Resolves a text that stands in the file or in a variable of the environment, and is needed.
fn needed(
    at: &ConfigLocation<'_>,
    (key, text): (&str, Option<&ConfigText>),
    variable: &str,
    (expected, parse): (&str, fn(&str) -> Option<String>),
) -> Option<String> {
    let found = match text {
        Some(text) => at.key(key).parse(text, expected, parse).map(Some),
        None => at.variable(variable, expected, parse),
    };
    if matches!(found, Some(None)) {
        let problem = ConfigProblem::new(format!("the key `{key}` is missing, and `{variable}` is not set"));
        at.report(problem.expected(expected));
    }
    found?
}

fn address(at: &ConfigLocation<'_>, text: &ConfigText) -> Option<url::Url> {
    at.parse(text, "scheme, host and port, without user, path or query, such as http://minio:9000", bare_url)
}

fn plain_text(text: &str) -> Option<String> {
    (!text.trim().is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn role_arn(text: &str) -> Option<String> {
    // `arn:partition:service:region:account:resource`; other stores than Amazon's leave parts empty.
    let is_arn = text.starts_with("arn:") && text.splitn(6, ':').count() == 6;
    (is_arn && (20..=2048).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())).then(|| text.to_owned())
}

fn session_name(text: &str) -> Option<String> {
    let is_good = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_+=,.@-".contains(&c));
    (is_good && (2..=64).contains(&text.len())).then(|| text.to_owned())
}

fn external_id(text: &str) -> Option<String> {
    let is_good = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&c));
    (is_good && (2..=1224).contains(&text.len())).then(|| text.to_owned())
}
