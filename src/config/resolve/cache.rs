//! Sections `Cache` and `Policies.OutputCache`, and the cache policy of a route.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ConfigLocation;
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ByteSize;
use object_engine::cache::settings::DiskCacheSettings;
use object_engine::cache::{CachePolicy, Settings};

/// Smallest disk cache in bytes: it is cut into blocks, and fewer would be of no use.
const LEAST_DISK: u64 = 64 << 20;
/// Upper bound in bytes, more than any machine has.
const MOST: u64 = 1 << 50;

pub fn cache(at: &ConfigLocation<'_>, raw: Option<&file::Cache>) -> Option<Settings> {
    let default = Settings::default();
    let Some(raw) = raw else { return Some(default) };
    let own = at.key("SliceSize");
    let slice_size = size(&own, raw.slice_size, u64::from(default.slice_size), 16 << 10, 4 << 20)?;
    if !slice_size.is_multiple_of(4096) {
        own.report(ConfigProblem::new("a slice is whole pages of memory").expected("a multiple of `4KiB`"));
        return None;
    }
    let memory = size(&at.key("Memory"), raw.memory, default.memory, 16 * slice_size, MOST);
    let disk = raw.disk.as_ref().map(|raw| {
        let at = at.key("Disk");
        let path = at.key("Path").text(&raw.path);
        let size = size(&at.key("Size"), Some(raw.size), LEAST_DISK, LEAST_DISK.max(64 * slice_size), MOST);
        Some(DiskCacheSettings { path: path?.into(), size: size? })
    });
    let slice_size = u32::try_from(slice_size).ok()?;
    Some(Settings { slice_size, memory: memory?, disk: disk.map_or(Some(None), |disk| disk.map(Some))? })
}

pub fn policies(at: &ConfigLocation<'_>, raw: &file::Policies) -> BTreeMap<String, CachePolicy> {
    let resolved =
        raw.output_cache.iter().filter_map(|(name, raw)| Some((name.clone(), policy(&at.key(name), name, raw)?)));
    resolved.collect()
}

fn policy(at: &ConfigLocation<'_>, name: &str, raw: &file::OutputCachePolicy) -> Option<CachePolicy> {
    if matches!(name, "Default" | "Disable") {
        at.report(
            ConfigProblem::new(format!("`{name}` has a meaning of its own")).help("give the policy another name"),
        );
    }
    let default = CachePolicy::default();
    let year = Duration::from_secs(365 * 86_400);
    let span = |key: &str, raw, default, most| at.key(key).span(raw, default, Duration::ZERO, most);
    let ttl = span("Ttl", raw.ttl, default.ttl, year);
    let meanwhile = span("StaleWhileRevalidate", raw.stale_while_revalidate, default.stale_while_revalidate, year);
    let on_error = span("StaleIfError", raw.stale_if_error, default.stale_if_error, year);
    let negative = span("NegativeTtl", raw.negative_ttl, default.negative_ttl, Duration::from_secs(60));
    let denied = span("DeniedTtl", raw.denied_ttl, default.denied_ttl, Duration::from_secs(60));
    Some(CachePolicy {
        ttl: ttl?,
        honour_cache_control: raw.honour_cache_control,
        stale_while_revalidate: meanwhile?,
        stale_if_error: on_error?,
        negative_ttl: negative?,
        denied_ttl: denied?,
    })
}

/// Resolves the cache policy of a route; `signed` is true for an object route. `Some(None)` is no cache.
pub fn of_route(
    at: &ConfigLocation<'_>,
    raw: &file::Route,
    signed: bool,
    policies: &BTreeMap<String, CachePolicy>,
) -> Option<Option<CachePolicy>> {
    let own = at.key("OutputCachePolicy");
    let policy = match raw.output_cache_policy.as_deref() {
        None | Some("Disable") => return Some(None),
        Some("Default") => Some(CachePolicy::default()),
        Some(name) => {
            let defined = at.root("Policies").key("OutputCache");
            own.known(name, &defined, &["Default", "Disable"]).then(|| policies.get(name).copied()).flatten()
        }
    };
    // After the name: an unknown policy is reported also on a route that could not use it.
    if !signed {
        let problem =
            ConfigProblem::new("only objects are cached").help("remove it, or add a transform `PresignedUrl`");
        own.report(problem);
        return None;
    }
    policy.map(Some)
}

/// Returns a number of bytes between two limits, or the default.
pub fn size(at: &ConfigLocation<'_>, raw: Option<ByteSize>, default: u64, least: u64, most: u64) -> Option<u64> {
    let Some(ByteSize(size)) = raw else { return Some(default.max(least)) };
    let good = size.filter(|size| (least..=most).contains(size));
    if good.is_none() {
        let what = size.map_or("no limit".to_owned(), |size| format!("{} is out of range", bytes(size)));
        at.report(ConfigProblem::new(what).expected(format!("{} to {}", bytes(least), bytes(most))));
    }
    good
}

/// Formats a number of bytes as the file writes it.
fn bytes(count: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| count > 0 && count.is_multiple_of(1 << shift));
    unit.map_or(count.to_string(), |(shift, name)| format!("{}{name}", count >> shift))
}
