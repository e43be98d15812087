//! The environment file of nginx-s3-gateway as Tidegate's YAML.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use super::ConvertedConfig;
use super::document::quoted;
use crate::config::report::{ConfigProblem, ProblemReport};

const TRUST: &str = "without a counterpart: the system's certificates are trusted";

/// Every setting of the gateway, and what takes its place here; `docs/migrations/nginx.md` has the same table. A value that is
/// refused or has no counterpart is named in what the conversion writes.
pub const SETTINGS: &[(&str, &str)] = &[
    ("S3_BUCKET_NAME", "`Bucket` of `PresignedUrl`"),
    ("S3_SERVER", "`Endpoint` of the store"),
    ("S3_SERVER_PORT", "`Endpoint` of the store"),
    ("S3_SERVER_PROTO", "`Endpoint` of the store"),
    ("S3_REGION", "`Region` of the store"),
    ("S3_STYLE", "`PathStyle` of the store"),
    ("S3_SERVICE", "`s3`; `s3express` is refused: its sessions are not in this version"),
    ("AWS_SIGS_VERSION", "`4`; `2` is refused: requests are signed by version 4"),
    ("AWS_ACCESS_KEY_ID", "`Credentials.AccessKey`, by its name: `env:AWS_ACCESS_KEY_ID`"),
    ("AWS_SECRET_ACCESS_KEY", "`Credentials.SecretKey`, by its name"),
    ("AWS_SESSION_TOKEN", "`Credentials.SessionToken`, by its name"),
    ("AWS_ROLE_ARN", "`Credentials.RoleArn`, with `Provider: web-identity`"),
    ("AWS_ROLE_SESSION_NAME", "`Credentials.SessionName`"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "`Credentials.TokenFile`"),
    ("AWS_STS_REGIONAL_ENDPOINTS", "without a counterpart: the service of the region is asked"),
    ("STS_ENDPOINT", "`Credentials.StsEndpoint`"),
    ("PROXY_CACHE_MAX_SIZE", "`Cache.Disk.Size`"),
    ("PROXY_CACHE_SLICE_SIZE", "`Cache.SliceSize`, 16 KiB to 4 MiB"),
    ("PROXY_CACHE_VALID_OK", "`Policies.OutputCache.<name>.Ttl`"),
    ("PROXY_CACHE_VALID_NOTFOUND", "`Policies.OutputCache.<name>.NegativeTtl`, a minute at most"),
    ("PROXY_CACHE_VALID_FORBIDDEN", "`Policies.OutputCache.<name>.DeniedTtl`, a minute at most"),
    ("PROXY_CACHE_INACTIVE", "without a counterpart: what is asked for least makes room"),
    ("PROXY_CACHE_USE_STALE", "`Policies.OutputCache.<name>.StaleIfError`; `off` is `0s`"),
    ("PROXY_CACHE_BYPASS_NO_CACHE", "refused: a client cannot make the store work"),
    ("CORS_ENABLED", "`CorsPolicy` of the route"),
    ("CORS_ALLOWED_ORIGIN", "`Policies.Cors.<name>.Origins`"),
    ("CORS_ALLOW_PRIVATE_NETWORK_ACCESS", "refused: browsers have given it up"),
    ("STRIP_LEADING_DIRECTORY_PATH", "the beginning of `Match.Path`"),
    ("PREFIX_LEADING_DIRECTORY_PATH", "the beginning of `Key`"),
    ("PROVIDE_INDEX_PAGE", "`IndexDocument: index.html` of `PresignedUrl`"),
    (
        "APPEND_SLASH_FOR_POSSIBLE_DIRECTORY",
        "`IndexDocument` or `DirectoryListing`: a folder is redirected to its slash",
    ),
    ("ALLOW_DIRECTORY_LIST", "`DirectoryListing: true` of `PresignedUrl`"),
    ("DIRECTORY_LISTING_PATH_PREFIX", "without a counterpart: links of a listing are relative"),
    ("FOUR_O_FOUR_ON_EMPTY_BUCKET", "refused: an empty bucket is an empty list"),
    ("HEADER_PREFIXES_TO_STRIP", "without a counterpart: of the store's headers only those of the object pass"),
    ("HEADER_PREFIXES_ALLOWED", "refused: of the store's headers only those of the object pass"),
    ("DNS_RESOLVERS", "without a counterpart: the system's resolver is asked"),
    ("JS_TRUSTED_CERT_PATH", TRUST),
    ("IPV6_ENABLED", "`Address` of the listener: `[::]:80`, which is IPv4 too"),
    ("DEBUG", "`Telemetry.LogLevel: debug`"),
];

/// Values that ask for nothing where a setting is refused.
const OFF: [&str; 3] = ["", "false", "0"];

/// Converts `text`, lines of `NAME=value`, which reports call `name`. Fails where a setting is missing that the gateway needs too.
pub fn convert_nginx_s3_gateway(name: &str, text: &str) -> Result<ConvertedConfig, ProblemReport> {
    let settings = GatewaySettings { values: variables(text) };
    let missing: Vec<&str> =
        ["S3_BUCKET_NAME", "S3_SERVER"].into_iter().filter(|key| settings.get(key).is_none()).collect();
    if !missing.is_empty() {
        let problem =
            |key: &&str| ConfigProblem::new(format!("`{key}` is not set")).help(format!("add a line `{key}=…`"));
        return Err(ProblemReport::new(name, text, &[], missing.iter().map(problem).collect()));
    }
    let refused = settings.refused();
    let mut yaml = format!("# Made of {name} by `tidegate migrate nginx-s3-gateway`.\n");
    for line in &refused {
        let _ = writeln!(yaml, "# {line}");
    }
    settings.write(&mut yaml);
    Ok(ConvertedConfig { yaml, refused })
}

/// Reads lines of `NAME=value`, as Docker's `--env-file` and a shell's `export` have them.
fn variables(text: &str) -> BTreeMap<String, String> {
    let variable = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let value = value.trim();
        let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        (!line.starts_with('#')).then(|| (name.trim().to_owned(), unquoted.unwrap_or(value).to_owned()))
    };
    text.lines().filter_map(variable).collect()
}

struct GatewaySettings {
    values: BTreeMap<String, String>,
}

impl GatewaySettings {
    /// Returns a setting that is not empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes"))
    }

    /// Returns a line for each setting that is not taken over. Values are not repeated: one may be a secret.
    fn refused(&self) -> Vec<String> {
        let line = |(name, value): (&String, &String)| {
            let Some((_, ours)) = SETTINGS.iter().find(|(known, _)| known == name) else {
                return Some(format!("{name}: unknown, and left out"));
            };
            let is_partly = match (name.as_str(), value.as_str()) {
                ("S3_SERVICE", value) => value == "s3express",
                ("AWS_SIGS_VERSION", value) => value == "2",
                ("APPEND_SLASH_FOR_POSSIBLE_DIRECTORY", _) => {
                    self.is_on(name) && !self.is_on("PROVIDE_INDEX_PAGE") && !self.is_on("ALLOW_DIRECTORY_LIST")
                }
                _ => false,
            };
            let is_refused = ours.starts_with("refused") || ours.starts_with("without");
            let is_said = is_refused && !OFF.contains(&value.to_ascii_lowercase().as_str());
            (is_said || is_partly).then(|| format!("{name}: {ours}"))
        };
        self.values.iter().filter_map(line).collect()
    }

    fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(out, "Server:\n  Listeners:\n    - Address: {}\n", self.listener());
        if self.is_on("DEBUG") {
            out.push_str("Telemetry: { LogLevel: debug }  # DEBUG\n");
        }
        self.write_store(out);
        self.write_cache(out);
        out.push_str("ReverseProxy:\n  Routes:\n");
        let bucket = quoted(self.get("S3_BUCKET_NAME").unwrap_or_default());
        let strip = folder(self.get("STRIP_LEADING_DIRECTORY_PATH"));
        let prefix = folder(self.get("PREFIX_LEADING_DIRECTORY_PATH"));
        let key = format!("{prefix}/{{**key}}").trim_start_matches('/').to_owned();
        self.write_route(out, &format!("{strip}/{{**key}}"), &bucket, &key);
    }

    fn listener(&self) -> &'static str {
        if self.is_on("IPV6_ENABLED") { "\"[::]:80\"  # IPV6_ENABLED: IPv4 too" } else { "0.0.0.0:80" }
    }

    fn write_store(&self, out: &mut String) {
        let (server, proto) =
            (self.get("S3_SERVER").unwrap_or_default(), self.get("S3_SERVER_PROTO").unwrap_or("https"));
        let port = self.get("S3_SERVER_PORT").map(|port| format!(":{port}")).unwrap_or_default();
        let endpoint = quoted(&format!("{proto}://{server}{port}"));
        // A bucket cannot stand before the digits of an address.
        let in_path = self.get("S3_STYLE") == Some("path") || server.parse::<IpAddr>().is_ok();
        let credentials = self.credentials();
        let _ = write!(
            out,
            "ObjectStores:\n  s3:\n    Endpoint: {endpoint}  # S3_SERVER_PROTO, S3_SERVER, S3_SERVER_PORT\n    Region: {}  # S3_REGION\n    \
             PathStyle: {in_path}  # S3_STYLE\n    Credentials: {{ {credentials} }}\n",
            quoted(self.get("S3_REGION").unwrap_or("us-east-1")),
        );
    }

    /// Writes where the keys are from, as the gateway decides it: variables, a role's token, else whatever the machine or
    /// the container gives.
    fn credentials(&self) -> String {
        if self.get("AWS_ACCESS_KEY_ID").is_some() {
            let token = self.get("AWS_SESSION_TOKEN").map_or("", |_| ", SessionToken: \"env:AWS_SESSION_TOKEN\"");
            return format!("AccessKey: \"env:AWS_ACCESS_KEY_ID\", SecretKey: \"env:AWS_SECRET_ACCESS_KEY\"{token}");
        }
        let (Some(role), Some(file)) = (self.get("AWS_ROLE_ARN"), self.get("AWS_WEB_IDENTITY_TOKEN_FILE")) else {
            return "Provider: default".to_owned();
        };
        let mut text = format!("Provider: web-identity, RoleArn: {}, TokenFile: {}", quoted(role), quoted(file));
        for (name, key) in [("AWS_ROLE_SESSION_NAME", "SessionName"), ("STS_ENDPOINT", "StsEndpoint")] {
            if let Some(value) = self.get(name) {
                let _ = write!(text, ", {key}: {}", quoted(value));
            }
        }
        text
    }

    fn write_cache(&self, out: &mut String) {
        let slice =
            self.get("PROXY_CACHE_SLICE_SIZE").and_then(bytes).unwrap_or(1 << 20).clamp(16 << 10, 4 << 20) >> 12 << 12;
        let _ = writeln!(out, "Cache:\n  SliceSize: {}KiB  # PROXY_CACHE_SLICE_SIZE", slice >> 10);
        if let Some(size) = self.get("PROXY_CACHE_MAX_SIZE").and_then(bytes) {
            // Least that a disk takes: 64 MiB and 64 slices.
            let size = size.max(64 << 20).max(64 * slice) >> 20;
            let _ = writeln!(
                out,
                "  Disk: {{ Path: ./data/cache, Size: {size}MiB }}  # PROXY_CACHE_MAX_SIZE; taken at the start"
            );
        }
        let ttl = self.get("PROXY_CACHE_VALID_OK").and_then(time).unwrap_or(Duration::from_secs(3600));
        let negative = self.get("PROXY_CACHE_VALID_NOTFOUND").and_then(time).unwrap_or(Duration::from_secs(60));
        let denied = self.get("PROXY_CACHE_VALID_FORBIDDEN").and_then(time).unwrap_or(Duration::from_secs(30));
        let stale = if self.get("PROXY_CACHE_USE_STALE") == Some("off") { "0s" } else { "1d" };
        let _ = write!(
            out,
            "Policies:\n  OutputCache:\n    objects:\n      Ttl: {}s  # PROXY_CACHE_VALID_OK\n      NegativeTtl: {}s  # \
             PROXY_CACHE_VALID_NOTFOUND\n      DeniedTtl: {}s  # PROXY_CACHE_VALID_FORBIDDEN\n      StaleIfError: {stale}  # PROXY_CACHE_USE_STALE\n",
            ttl.as_secs(),
            negative.as_secs().min(60),
            denied.as_secs().min(60),
        );
        if self.is_on("CORS_ENABLED") {
            let origin = quoted(self.get("CORS_ALLOWED_ORIGIN").unwrap_or("*").trim_end_matches('/'));
            let _ = writeln!(
                out,
                "  Cors:\n    pages: {{ Origins: [{origin}], Methods: [GET, HEAD] }}  # CORS_ALLOWED_ORIGIN"
            );
        }
    }

    fn write_route(&self, out: &mut String, path: &str, bucket: &str, key: &str) {
        let index = if self.is_on("PROVIDE_INDEX_PAGE") { ", IndexDocument: index.html" } else { "" };
        let listing = if self.is_on("ALLOW_DIRECTORY_LIST") { ", DirectoryListing: true" } else { "" };
        let cors = if self.is_on("CORS_ENABLED") { "      CorsPolicy: pages  # CORS_ENABLED\n" } else { "" };
        let _ = write!(
            out,
            "    objects:\n      Match: {{ Path: {}, Methods: [GET] }}  # HEAD too\n      AuthorizationPolicy: Anonymous  # the gateway asks \
             nobody who they are\n      OutputCachePolicy: objects\n{cors}      Transforms:\n        - PresignedUrl: {{ Store: s3, Bucket: \
             {bucket}, Key: {}{index}{listing} }}\n",
            quoted(path),
            quoted(key),
        );
    }
}

/// Returns a folder with a slash before and none behind it; empty for the root.
fn folder(text: Option<&str>) -> String {
    let name = text.unwrap_or_default().trim_matches('/');
    if name.is_empty() { String::new() } else { format!("/{name}") }
}

/// Reads nginx's sizes: `10g`, `1m`, `512k`, `4096`.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let shift = match text.chars().last()? {
        'k' => 10,
        'm' => 20,
        'g' => 30,
        _ => 0,
    };
    text.trim_end_matches(['k', 'm', 'g']).parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Reads nginx's times: `1h`, `60m`, `30s`, `1h 30m`, and seconds without a unit. Its `M` and `y` are a month and a year.
fn time(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    }
}
