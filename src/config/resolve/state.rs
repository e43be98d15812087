//! Sections `State` and `Database`.

use url::Url;

use super::ConfigLocation;
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use primitives::secret::Secret;
use server_kit::database;
use server_kit::redis;

const REDIS: [&str; 10] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "valkey",
    "valkeys",
    "redis+unix",
    "valkey+unix",
];

/// Resolves the address of Redis; `Some(None)` if state is kept in memory.
pub fn state(at: &ConfigLocation<'_>, raw: Option<&file::State>) -> Option<Option<redis::settings::Settings>> {
    if raw.is_some_and(|raw| raw.prefix.contains("{}")) {
        // Redis then takes the slot of the whole key, and the two counts of a limit would be on two nodes of a cluster.
        let problem = ConfigProblem::new("the braces are empty");
        at.key("Prefix").report(problem.expected("no braces, or a word in them, such as `{tide}:`"));
        return None;
    }
    let at = at.key("Url");
    let expected = "`memory`, or the address of Redis such as redis://redis:6379";
    let address = |text: &str| {
        let address = Url::parse(text).is_ok_and(|url| REDIS.contains(&url.scheme()));
        (text == "memory" || address).then(|| text.to_owned())
    };
    let url = match raw.and_then(|raw| raw.url.as_ref()) {
        Some(text) => {
            let url = at.parse(text, expected, address)?;
            hides_password(&at, text, &url)?;
            Some(url)
        }
        None => match at.variable("REDIS_URL", expected, address)? {
            Some(url) => Some(url),
            None => at.variable("REDIS_HOST", "HOST or HOST:PORT", redis_host)?,
        },
    };
    let prefix = raw.map(|raw| raw.prefix.clone()).unwrap_or_default();
    let url = url.filter(|url| url != "memory").map(Secret::new);
    Some(url.map(|url| redis::settings::Settings { url, prefix }))
}

/// Resolves the database; `Some(None)` if there is none.
pub fn database(at: &ConfigLocation<'_>, raw: Option<&file::Database>) -> Option<Option<database::settings::Settings>> {
    let Some(raw) = raw else { return Some(None) };
    let connections = raw.connections.unwrap_or(10);
    if !(1..=100).contains(&connections) {
        at.key("Connections").report(ConfigProblem::new(format!("{connections} is out of range")).expected("1 to 100"));
        return None;
    }
    let at = at.key("Url");
    let expected = "sqlite://PATH or postgres://USER@HOST/NAME";
    let url = at.parse(&raw.url, expected, |text| {
        let file = text.strip_prefix("sqlite://").is_some_and(|path| !path.is_empty());
        let server =
            Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "postgres" | "postgresql") && url.has_host());
        (file || server).then(|| text.to_owned())
    })?;
    // A file has neither a password nor connections to count.
    if let Some(path) = url.strip_prefix("sqlite://") {
        return Some(Some(database::settings::Settings::Sqlite(path.into())));
    }
    hides_password(&at, &raw.url, &url)?;
    Some(Some(database::settings::Settings::Postgres { url: Secret::new(url), connections }))
}

/// Returns the address of Redis at a host, as the documents name it.
fn redis_host(text: &str) -> Option<String> {
    let url = format!("redis://{text}");
    let parsed = Url::parse(&url).ok()?;
    let is_plain = parsed.has_host() && parsed.username().is_empty() && matches!(parsed.path(), "" | "/");
    is_plain.then_some(url)
}

/// Reports a password that stands in the file instead of the environment.
fn hides_password(at: &ConfigLocation<'_>, written: &ConfigText, url: &str) -> Option<()> {
    let telling = Url::parse(url).is_ok_and(|url| url.password().is_some());
    if telling && !written.0.starts_with("env:") {
        let problem = ConfigProblem::new("a password stands in the file");
        at.report(problem.help("put the whole address into an environment variable and write `Url: env:NAME`"));
        return None;
    }
    Some(())
}
