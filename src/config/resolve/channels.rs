//! Section `Channels`.

use std::time::Duration;

use super::{ConfigLocation, cache};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use channels::channel::ChannelId;
use channels::settings::{QueueLimits, QueueSettings, Settings};
use server_kit::api::user::UserRole;

/// Most channels.
const MAX_CHANNELS: usize = 100;
/// Most items of a queue: a list reads them all.
const MAX_ITEMS: u32 = 10_000;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Resolves channels; `Some(None)` if there are none. `has_database` is true if there is something that knows tracks.
pub fn channels(at: &ConfigLocation<'_>, raw: Option<&file::Channels>, has_database: bool) -> Option<Option<Settings>> {
    let Some(raw) = raw.filter(|raw| raw.enabled.is_none_or(|flag| flag.0)) else { return Some(None) };
    let (default, sound) = (QueueSettings::default(), Settings::default());
    let names = names(at, raw.names.as_deref());
    let scheduled_by = match &raw.scheduled_by {
        None => Some(sound.scheduled_by),
        Some(roles) => at
            .key("ScheduledBy")
            .each(roles, |at, text| at.parse(text, "a role: `user`, `vip` or `admin`", UserRole::from_name)),
    };
    let vip = at.key("VipHeadStart").span(raw.vip_head_start, default.vip_head_start, Duration::ZERO, DAY);
    let admin = at.key("AdminHeadStart").span(raw.admin_head_start, default.admin_head_start, Duration::ZERO, DAY);
    let (of_channel, of_user) = (default.channel_limits, default.user_limits);
    let items = number(at, "MaxItems", raw.max_items, of_channel.items);
    let user_items = number(at, "MaxItemsPerUser", raw.max_items_per_user, of_user.items);
    let bytes = cache::size(&at.key("MaxSize"), raw.max_size, of_channel.bytes, 1 << 10, 16 << 20);
    let user_bytes = cache::size(&at.key("MaxSizePerUser"), raw.max_size_per_user, of_user.bytes, 1 << 10, 16 << 20);
    let typical = at.key("TypicalDuration").span(raw.typical_duration, default.typical_duration, SECOND, DAY);
    let lease = at.key("ClaimLease").span(raw.claim_lease, default.claim_lease, 3 * SECOND, 600 * SECOND);
    let crossfade = at.key("Crossfade").span(raw.crossfade, sound.crossfade, Duration::ZERO, 12 * SECOND);
    let idle_timeout = at.key("IdleTimeout").span(raw.idle_timeout, sound.idle_timeout, SECOND, DAY);
    if !has_database {
        let problem = ConfigProblem::new("there is no catalogue whose tracks could be queued");
        at.report(problem.help("add `Database: { Url: \"sqlite://data/tidegate.db\" }`"));
        return None;
    }
    let queue = QueueSettings {
        vip_head_start: vip?,
        admin_head_start: admin?,
        channel_limits: QueueLimits { items: items?, bytes: bytes? },
        user_limits: QueueLimits { items: user_items?, bytes: user_bytes? },
        typical_duration: typical?,
        claim_lease: lease?,
    };
    let (crossfade, idle_timeout) = (crossfade?, idle_timeout?);
    Some(Some(Settings { channels: names?, scheduled_by: scheduled_by?, queue, crossfade, idle_timeout }))
}

fn names(at: &ConfigLocation<'_>, raw: Option<&[ConfigText]>) -> Option<Vec<ChannelId>> {
    let Some(raw) = raw else { return Some(vec![ChannelId::main()]) };
    let at = at.key("Names");
    let expected = "1 to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or a digit";
    let names = at.each(raw, |at, text| at.parse(text, expected, ChannelId::parse))?;
    let is_twice = names.iter().enumerate().any(|(number, name)| names[..number].contains(name));
    if names.is_empty() || names.len() > MAX_CHANNELS || is_twice {
        let problem = ConfigProblem::new("these cannot be the channels");
        at.report(problem.expected(format!("1 to {MAX_CHANNELS} names, each once")));
        return None;
    }
    Some(names)
}

fn number(at: &ConfigLocation<'_>, key: &str, raw: Option<u32>, default: u32) -> Option<u32> {
    let value = raw.unwrap_or(default);
    if !(1..=MAX_ITEMS).contains(&value) {
        let problem = ConfigProblem::new(format!("{value} is out of range"));
        at.key(key).report(problem.expected(format!("1 to {MAX_ITEMS}")));
        return None;
    }
    Some(value)
}
