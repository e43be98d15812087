//! Times in texts, in milliseconds.

/// Latest time: a day.
pub const MAX_MILLIS: u32 = 24 * 60 * 60 * 1000;

/// Parses `mm:ss`, `mm:ss.xx`, `mm:ss:xx` and `hh:mm:ss.xxx`, with one to three digits of a fraction; further ones are
/// ignored. `None` where it is none of these, or later than a day.
pub fn parse_lrc(text: &str) -> Option<u32> {
    let (clock, fraction) = match text.split_once(['.', ',']) {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let parts: Vec<&str> = clock.splitn(4, ':').collect();
    let (hours, minutes, seconds, fraction) = match (&parts[..], fraction) {
        ([minutes, seconds], fraction) => (0, number(minutes, 4)?, number(seconds, 2)?, fraction),
        ([hours, minutes, seconds], Some(fraction)) => {
            (number(hours, 2)?, number(minutes, 2)?, number(seconds, 2)?, Some(fraction))
        }
        ([minutes, seconds, hundredths], None) => (0, number(minutes, 4)?, number(seconds, 2)?, Some(*hundredths)),
        _ => return None,
    };
    within(((hours * 60 + minutes) * 60 + seconds) * 1000 + fraction.map_or(Some(0), millis)?)
}

/// Parses the times of SubRip and the clock times and offsets of TTML: `hh:mm:ss.xxx`, `mm:ss.xxx`, `ss.xxx`, `12.5s`, `500ms`,
/// `2m`, `1h`. Frames and ticks are none.
pub fn parse_clock(text: &str) -> Option<u32> {
    let text = text.trim();
    for (unit, factor) in [("ms", 1.0), ("h", 3_600_000.0), ("m", 60_000.0), ("s", 1000.0)] {
        if let Some(count) = text.strip_suffix(unit) {
            let is_number = count.len() <= 16 && count.bytes().all(|c| c.is_ascii_digit() || c == b'.');
            let millis = is_number.then(|| count.parse::<f64>().ok())?? * factor;
            return (millis <= f64::from(MAX_MILLIS)).then_some(millis.round() as u32);
        }
    }
    let (clock, fraction) = match text.split_once(['.', ',']) {
        Some((clock, fraction)) => (clock, millis(fraction)?),
        None => (text, 0),
    };
    let seconds = clock.split(':').try_fold((0_u64, 0), |(sum, count), part| {
        (count < 3).then_some(())?;
        Some((sum * 60 + number(part, 5)?, count + 1))
    })?;
    within(seconds.0 * 1000 + fraction)
}

fn within(millis: u64) -> Option<u32> {
    u32::try_from(millis).ok().filter(|millis| *millis <= MAX_MILLIS)
}

/// A number of one to `most` digits.
fn number(text: &str, most: usize) -> Option<u64> {
    let is_number = (1..=most).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Milliseconds of the digits of a fraction.
fn millis(digits: &str) -> Option<u64> {
    let is_number = (1..=9).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit());
    let digit = |place: usize| digits.as_bytes().get(place).map_or(0, |c| u64::from(c - b'0'));
    is_number.then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
}

/// Returns a time as LRC has it, `mm:ss.xx`.
pub fn to_lrc(millis: u32) -> String {
    let hundredths = millis / 10;
    format!("{:02}:{:02}.{:02}", hundredths / 6000, hundredths / 100 % 60, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_forms_that_are_in_use() {
        for (text, expected) in [
            ("00:12.50", Some(12_500)),
            ("00:12.5", Some(12_500)),
            ("00:12.500", Some(12_500)),
            ("0:12", Some(12_000)),
            ("00:12:50", Some(12_500)),
            ("01:00:12.500", Some(3_612_500)),
            ("100:00.00", Some(6_000_000)),
            ("00:12.123456", Some(12_123)),
            ("-0:12", None),
            ("00:1x", None),
            ("9999:99.99", None),
            ("ar:Ada", None),
            ("00:12.", None),
            ("", None),
        ] {
            assert_eq!(parse_lrc(text), expected, "{text}");
        }
        for (text, expected) in [
            ("00:00:12,500", Some(12_500)),
            ("01:02.25", Some(62_250)),
            ("7.5", Some(7_500)),
            ("12.5s", Some(12_500)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("10f", None),
            ("1e9s", None),
            ("NaNs", None),
            ("99999999999h", None),
            ("1:2:3:4", None),
            ("", None),
        ] {
            assert_eq!(parse_clock(text), expected, "{text}");
        }
        assert_eq!(to_lrc(12_505), "00:12.50");
    }
}
