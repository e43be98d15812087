//! Rule for items that are worth continuing; pure.

use super::settings::Settings;
use super::{ItemKind, PositionRecord};

/// Returns true if an item is listed as one that can be continued. If its length is unknown, any position above 0 is
/// enough; an audiobook is listed until its end, since a twentieth of it is an evening.
pub fn can_continue(entry: &PositionRecord, settings: &Settings) -> bool {
    let Some(position) = entry.position.filter(|position| *position > 0) else { return false };
    let Some(duration) = entry.duration else { return true };
    if entry.key.kind == ItemKind::Audiobook {
        return position < duration;
    }
    // 128 bits: a position may be any 64-bit number, and is multiplied by 100.
    let percent = |share: u8| i128::from(duration) * i128::from(share);
    let heard = i128::from(position) * 100;
    i128::from(duration) >= i128::try_from(settings.min_duration.as_millis()).unwrap_or(i128::MAX)
        && (percent(settings.min_resume_percent)..=percent(settings.max_resume_percent)).contains(&heard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::PositionKey;
    use primitives::ids::{TrackId, UserId};
    use primitives::unix_time::UnixMillis;

    #[test]
    fn what_was_tried_or_finished_or_is_short_is_not_continued() {
        const HOUR: Option<i64> = Some(3_600_000);
        for (kind, position, duration, expected) in [
            (ItemKind::Audio, Some(1_800_000), HOUR, true),
            (ItemKind::Audio, Some(180_000), HOUR, true),
            (ItemKind::Audio, Some(179_999), HOUR, false),
            (ItemKind::Audio, Some(3_240_000), HOUR, true),
            (ItemKind::Audio, Some(3_240_001), HOUR, false),
            (ItemKind::Audio, Some(150_000), Some(299_999), false),
            (ItemKind::Audio, Some(150_000), Some(300_000), true),
            (ItemKind::Audio, Some(1), None, true),
            (ItemKind::Audio, Some(0), None, false),
            (ItemKind::Audio, None, HOUR, false),
            (ItemKind::Audiobook, Some(1), HOUR, true),
            (ItemKind::Audiobook, Some(3_599_999), HOUR, true),
            (ItemKind::Audiobook, Some(3_600_000), HOUR, false),
            (ItemKind::Film, Some(i64::MAX), Some(i64::MAX), false),
        ] {
            let user = UserId::parse("u").expect("an id");
            let item = TrackId::parse("i").expect("an id");
            let key = PositionKey { user, kind, item };
            let entry = PositionRecord {
                key,
                position,
                duration,
                updated_at: UnixMillis::EPOCH,
                reported_at: UnixMillis::EPOCH,
            };
            assert_eq!(can_continue(&entry, &Settings::default()), expected, "{entry:?}");
        }
    }
}
