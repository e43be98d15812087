//! Redis: an RDB file of everything in it, as a replica gets it, and whether such a file is whole.

use std::path::Path;

use percent_encoding::percent_decode_str;
use tokio::process::ChildStdout;
use url::Url;

use super::Counts;
use crate::component::BackupComponent;
use crate::failure::StepFailure;
use crate::tool::{RunningTool, ToolCommand};
use primitives::secret::Secret;

/// Bytes of the checker's report that are kept.
const MAX_REPORT_BYTES: usize = 256 << 10;
/// Name under which keys are counted.
const KEYS: &str = "keys";

/// Server of Redis.
#[derive(Debug, PartialEq, Eq)]
pub struct RedisServer {
    arguments: Vec<String>,
    password: Option<String>,
}

impl RedisServer {
    /// Reads an address.
    pub fn new(url: &Secret) -> Result<Self, StepFailure> {
        parse(url.expose())
            .ok_or_else(|| StepFailure::Tool("redis-cli", "State.Url is not that of one server".to_owned()))
    }

    /// Begins to dump.
    pub fn dump(&self, search_path: &str) -> Result<(RunningTool, ChildStdout), StepFailure> {
        let password = self.password.clone().map(|password| ("REDISCLI_AUTH", password));
        let tool = ToolCommand::new("redis-cli", search_path).args(&self.arguments).args(["--rdb", "-"]);
        tool.envs(password.as_slice()).start_reading()
    }
}

/// Returns true for the address of one server of Redis: of a cluster no single file has everything.
pub fn is_single_redis(url: &str) -> bool {
    parse(url).is_some()
}

/// Checks an RDB file; returns the number of its keys.
pub async fn check(path: &Path, search_path: &str) -> Result<Counts, StepFailure> {
    let damaged = StepFailure::Damaged(BackupComponent::Redis, "the RDB file is not whole");
    let report = match ToolCommand::new("redis-check-rdb", search_path).args([path]).run(MAX_REPORT_BYTES).await {
        Ok(report) => report,
        // Its report is on standard output.
        Err(StepFailure::Tool(..)) => return Err(damaged),
        Err(failure) => return Err(failure),
    };
    let keys = keys_of(&String::from_utf8_lossy(&report)).ok_or(damaged)?;
    Ok(Counts::from([(KEYS.to_owned(), keys)]))
}

/// Returns the number of keys in a report that finds no fault.
fn keys_of(report: &str) -> Option<u64> {
    let is_good = report.lines().any(|line| line.contains("looks OK"));
    let count = |line: &str| line.split_once("[info]")?.1.trim().strip_suffix(" keys read")?.parse().ok();
    report.lines().find_map(count).filter(|_| is_good)
}

fn parse(url: &str) -> Option<RedisServer> {
    let url = Url::parse(url).ok()?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).ok();
    let mut arguments = Vec::new();
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    match url.scheme() {
        "redis" | "rediss" | "valkey" | "valkeys" => {
            add("-h", decoded(url.host_str()?.trim_matches(['[', ']']))?);
            add("-p", url.port().unwrap_or(6379).to_string());
        }
        "redis+unix" | "valkey+unix" => add("-s", decoded(url.path())?),
        _ => return None,
    }
    if !url.username().is_empty() && url.username() != "default" {
        add("--user", decoded(url.username())?);
    }
    if matches!(url.scheme(), "rediss" | "valkeys") {
        arguments.push("--tls".to_owned());
    }
    let password = url.password().map(decoded);
    Some(RedisServer { arguments, password: password.map_or(Some(None), |password| password.map(Some))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_arguments_without_its_password() {
        for (url, arguments, password) in [
            ("redis://h:1", "-h h -p 1", None),
            ("redis://:p%40ss@h", "-h h -p 6379", Some("p@ss")),
            ("rediss://u:p@h", "-h h -p 6379 --user u --tls", Some("p")),
            ("redis+unix:///run/redis.sock", "-s /run/redis.sock", None),
        ] {
            let found = parse(url).expect(url);
            assert_eq!((found.arguments.join(" ").as_str(), found.password.as_deref()), (arguments, password), "{url}");
        }
        for url in ["redis-cluster://h", "redis-sentinel://h?sentinelServiceName=x", "nothing"] {
            assert!(!is_single_redis(url), "{url}");
        }
    }

    #[test]
    fn keys_are_read_from_a_good_report_alone() {
        let report = "[offset 9] AUX FIELD redis-ver = '7.0.15'\n[offset 128] \\o/ RDB looks OK! \\o/\n[info] 12 keys read\n[info] 0 expires";
        assert_eq!(keys_of(report), Some(12));
        assert_eq!(keys_of("--- RDB ERROR DETECTED ---\n[info] 12 keys read"), None);
        assert_eq!(keys_of(""), None);
    }
}
