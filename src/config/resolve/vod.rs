//! Section `Vod`, and the environment variables of its document.

use std::sync::Arc;
use std::time::Duration;

use super::{ConfigLocation, events, seconds_variable};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use vod::settings::{
    GrantKeySettings, GrantSettings, ManifestNames, Settings, SubscriptionSettings, SubscriptionUrlTemplate,
};

/// Shortest key in bytes: a shorter one can be guessed (RFC 2104 §3: no shorter than the hash).
const LEAST_KEY: usize = 32;
const MOST_KEYS: usize = 4;
/// Longest prefix in bytes: with an id and a file's name it stays below the 1,024 of S3.
const MOST_PREFIX: usize = 500;
/// Path of the subscription at `USER_SERVICE_URL`.
const SUBSCRIPTION_PATH: &str = "/api/v1/users/{user_id}/subscription";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Resolves video on demand; `Some(None)` if it is off. `kept` is true if positions are kept.
pub fn vod(at: &ConfigLocation<'_>, file: &file::ConfigFile, kept: bool) -> Option<Option<Settings>> {
    let has_brokers = file.events.as_ref().is_some_and(|events| events.kafka.is_some());
    let Some(raw) = file.vod.as_ref().filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    if !kept {
        let problem = ConfigProblem::new("there is nothing to keep positions in films in");
        at.report(problem.help(
            "add `Database: { Url: \"sqlite://data/tidegate.db\" }`, or the address of Redis as `State.Url`; `Positions` must not be off",
        ));
    }
    let known = at.key("Store").known(&raw.store, &at.root("ObjectStores"), &[]);
    let bucket = bucket(&at.key("Bucket"), raw.bucket.as_ref());
    let prefix = prefix(&at.key("Prefix"), raw.prefix.as_ref());
    let names = ManifestNames::default();
    let (hls, dash) = (raw.manifests.hls.as_ref(), raw.manifests.dash.as_ref());
    let hls = manifest_name(&at.key("Manifests").key("Hls"), hls, &names.hls);
    let dash = manifest_name(&at.key("Manifests").key("Dash"), dash, &names.dash);
    let grant = grant(&at.key("Grant"), &raw.grant);
    let most = raw.max_streams_per_user.unwrap_or(5);
    if !(1..=1000).contains(&most) {
        at.key("MaxStreamsPerUser").report(ConfigProblem::new(format!("{most} is out of range")).expected("1 to 1000"));
    }
    let report_interval =
        at.key("ReportInterval").span(raw.report_interval, Duration::from_secs(10), SECOND, 10 * MINUTE);
    let subscription = subscription(&at.key("Subscription"), raw.subscription.as_ref(), has_brokers);
    let hosts = at.key("AllowedHosts").each(&raw.allowed_hosts, host);
    kept.then_some(())?;
    Some(Some(Settings {
        store: known.then(|| raw.store.as_str().into())?,
        bucket: bucket?.into(),
        prefix: prefix?.into(),
        manifests: ManifestNames { hls: hls?.into(), dash: dash?.into() },
        grant: grant?,
        max_streams_per_user: (1..=1000).contains(&most).then_some(Some(most))?,
        report_interval: report_interval?,
        subscription: subscription?,
        allowed_hosts: hosts?,
        page: raw.page.is_none_or(|flag| flag.0),
    }))
}

fn bucket(at: &ConfigLocation<'_>, raw: Option<&ConfigText>) -> Option<String> {
    let expected = "3 to 63 of a-z, 0-9, `-` and `.`";
    let parse = |text: &str| s3::is_bucket_name(text).then(|| text.to_owned());
    match raw {
        Some(text) => at.parse(text, expected, parse),
        None => Some(at.variable("S3_BUCKET_NAME", expected, parse)?.unwrap_or_else(|| "vod".to_owned())),
    }
}

/// Resolves the beginning of keys in a bucket.
pub fn prefix(at: &ConfigLocation<'_>, raw: Option<&ConfigText>) -> Option<String> {
    let own = ConfigText("movies/".to_owned());
    let expected = "segments with a slash after each, such as `movies/`, at most 500 bytes";
    at.parse(raw.unwrap_or(&own), expected, |text| {
        let segments = text.strip_suffix('/')?;
        let good = text.len() <= MOST_PREFIX && segments.split('/').all(is_segment);
        good.then(|| text.to_owned())
    })
}

fn manifest_name(at: &ConfigLocation<'_>, raw: Option<&ConfigText>, default: &str) -> Option<String> {
    let Some(text) = raw else { return Some(default.to_owned()) };
    at.parse(text, "the name of a file, such as `master.m3u8`", |text| is_segment(text).then(|| text.to_owned()))
}

/// Returns true if `text` is one segment of a path that needs no escape in a URL (RFC 3986 §2.3).
fn is_segment(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
    !text.is_empty() && !matches!(text, "." | "..") && text.bytes().all(plain)
}

fn grant(at: &ConfigLocation<'_>, raw: &file::VodGrant) -> Option<GrantSettings> {
    let default = GrantSettings::default();
    let limits = (MINUTE, 12 * HOUR);
    let ttl = match raw.ttl {
        Some(_) => at.key("Ttl").span(raw.ttl, default.ttl, limits.0, limits.1),
        None => seconds_variable(&at.key("Ttl"), "SIGNED_URL_EXPIRATION", default.ttl, limits),
    };
    let max_ttl = at.key("MaxTtl").span(raw.max_ttl, default.max_ttl, HOUR, 2 * DAY);
    let given = raw.keys.as_deref().unwrap_or_default();
    let own = at.key("Keys");
    if raw.keys.is_some() && !(1..=MOST_KEYS).contains(&given.len()) {
        let problem = ConfigProblem::new(format!("{} keys", given.len()));
        own.report(problem.expected("one to four; leave `Keys` out for a random one"));
        return None;
    }
    let keys = own.each(given, |at, raw| {
        let key = at.key("Key").secret(&raw.key)?.value;
        let good = key.expose().len() >= LEAST_KEY;
        if !good {
            let problem =
                ConfigProblem::new("the key is too short").expected(format!("at least {LEAST_KEY} characters"));
            at.key("Key").report(problem);
        }
        good.then_some(GrantKeySettings { id: raw.id, key })
    })?;
    let doubled = keys.iter().enumerate().find(|(number, key)| keys[..*number].iter().any(|other| other.id == key.id));
    if let Some((number, key)) = doubled {
        let problem = ConfigProblem::new(format!("two keys have the id {}", key.id)).expected("ids that differ");
        own.item(number).key("Id").report(problem);
        return None;
    }
    let (ttl, max_ttl) = (ttl?, max_ttl?);
    if ttl > max_ttl {
        at.key("MaxTtl")
            .report(ConfigProblem::new("`MaxTtl` is less than `Ttl`").help("a grant would outlive its session"));
        return None;
    }
    Some(GrantSettings { keys, ttl, max_ttl })
}

fn subscription(
    at: &ConfigLocation<'_>,
    raw: Option<&file::VodSubscription>,
    has_brokers: bool,
) -> Option<Option<SubscriptionSettings>> {
    let default_raw = file::VodSubscription::default();
    let is_named = raw.is_some();
    let raw = raw.unwrap_or(&default_raw);
    let url = subscription_url(&at.key("Url"), raw, is_named);
    let timeout = match raw.timeout {
        Some(_) => {
            at.key("Timeout").span(raw.timeout, SubscriptionSettings::TIMEOUT, Duration::from_millis(100), 30 * SECOND)
        }
        None => seconds_variable(
            &at.key("Timeout"),
            "USER_SERVICE_TIMEOUT",
            SubscriptionSettings::TIMEOUT,
            (SECOND, 30 * SECOND),
        ),
    };
    let cache_for = match raw.cache_for {
        Some(_) => at.key("CacheFor").span(raw.cache_for, SubscriptionSettings::CACHE_FOR, Duration::ZERO, HOUR),
        None => {
            let limits = (Duration::ZERO, HOUR);
            seconds_variable(
                &at.key("CacheFor"),
                "REDIS_SUBSCRIPTION_CACHE_TTL",
                SubscriptionSettings::CACHE_FOR,
                limits,
            )
        }
    };
    let deny = at.key("DenyCacheFor").span(
        raw.deny_cache_for,
        SubscriptionSettings::DENY_CACHE_FOR,
        Duration::ZERO,
        5 * MINUTE,
    );
    let grace = at.key("Grace").span(raw.grace, SubscriptionSettings::GRACE, Duration::ZERO, 7 * DAY);
    let recheck =
        at.key("RecheckInterval").span(raw.recheck_interval, SubscriptionSettings::RECHECK_INTERVAL, 10 * SECOND, DAY);
    let purge_topic = purge_topic(&at.key("PurgeTopic"), raw.purge_topic.as_ref(), has_brokers);
    let (timeout, cache_for, deny_cache_for) = (timeout?, cache_for?, deny?);
    let (grace, recheck_interval, purge_topic) = (grace?, recheck?, purge_topic?);
    let settings =
        |url| SubscriptionSettings { url, timeout, cache_for, deny_cache_for, grace, recheck_interval, purge_topic };
    Some(url?.map(settings))
}

/// Resolves the address; the inner `None` is one that nothing names.
fn subscription_url(
    at: &ConfigLocation<'_>,
    raw: &file::VodSubscription,
    is_named: bool,
) -> Option<Option<SubscriptionUrlTemplate>> {
    let expected =
        "an http or https URL with `{user_id}`, such as http://users:8002/api/v1/users/{user_id}/subscription";
    let url = match &raw.url {
        Some(text) => Some(at.parse(text, expected, SubscriptionUrlTemplate::parse)?),
        None => at.variable("USER_SERVICE_URL", "an http or https URL", |text| {
            SubscriptionUrlTemplate::parse(&format!("{}{SUBSCRIPTION_PATH}", text.trim_end_matches('/')))
        })?,
    };
    if is_named && url.is_none() {
        at.report(ConfigProblem::new("nothing says where the service is").expected(expected));
        return None;
    }
    Some(url)
}

fn purge_topic(at: &ConfigLocation<'_>, raw: Option<&ConfigText>, has_brokers: bool) -> Option<Option<Arc<str>>> {
    let Some(text) = raw else { return Some(None) };
    let topic = events::topic(at, text)?;
    if !has_brokers {
        let problem = ConfigProblem::new("nothing says where Kafka is");
        at.report(problem.help("add `Events: { Kafka: { Brokers: [\"HOST:PORT\"] } }`, whose brokers have the topic"));
        return None;
    }
    Some(Some(topic.into()))
}

fn host(at: &ConfigLocation<'_>, text: &String) -> Option<String> {
    let parsed = url::Host::parse(text).ok().map(|host| host.to_string());
    if parsed.is_none() {
        at.report(ConfigProblem::new(format!("`{text}` is not a host")).expected("a host without scheme or port"));
    }
    parsed
}
