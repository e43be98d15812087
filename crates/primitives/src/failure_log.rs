//! Failures of a server that many requests depend on, in few log lines: which failures are news. Must not know the
//! server, and writes no lines itself.

use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time after which the same words are news again.
const REPEAT: Duration = Duration::from_secs(60);
/// Most texts that are remembered, and so most lines in that time: texts that differ each time flood no log.
const TEXTS: usize = 8;
/// Time without a failure after which a success ends an outage: a server that fails now and then does not log each
/// recovery.
const CALM: Duration = Duration::from_secs(1);
/// Longest text of a failure, in bytes.
const LONGEST: usize = 400;

/// Filter for failures of one server that this process calls: the same text is logged once in 60 seconds, and at most
/// 8 texts in that time.
#[derive(Debug, Default)]
pub struct FailureLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: Vec<(String, Instant)>,
    /// The last failure, until an answer has ended the outage.
    failed: Option<Instant>,
}

impl FailureLog {
    /// Notes a failure at `now`; returns true where it should be logged. Returns false for words that were logged in the
    /// last 60 seconds, or when 8 different ones were.
    pub fn is_news(&self, words: &str, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.failed = Some(now);
        state.told.retain(|(_, at)| now.saturating_duration_since(*at) < REPEAT);
        let is_news = state.told.len() < TEXTS && state.told.iter().all(|(told, _)| told != words);
        if is_news {
            state.told.push((words.to_owned(), now));
        }
        is_news
    }

    /// Notes a success at `now`; returns true where it ends an outage, which should be logged.
    pub fn is_over(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let is_over = state.failed.is_some_and(|failed| now.saturating_duration_since(failed) >= CALM);
        if is_over {
            // In the next outage the same words are news again.
            *state = State::default();
        }
        is_over
    }
}

/// Returns an error and its sources, joined by colons; a source that the text before it repeats is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Many libraries repeat the source in their own message.
        if !text.ends_with(&more) {
            // Writing to a string does not fail.
            let _ = write!(text, ": {more}");
        }
        source = error.source();
    }
    text
}

/// Returns the first non-blank line of `text`, trimmed, cut to 400 bytes at a character boundary.
pub fn line(text: &str) -> &str {
    let line = text.trim().lines().next().unwrap_or_default();
    &line[..line.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_now;

    #[test]
    fn the_same_words_are_news_once_a_minute_and_again_after_an_outage_is_over() {
        let (log, start) = (FailureLog::default(), monotonic_now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!log.is_over(start), "nothing has failed");
        assert!(log.is_news("refused", at(0)) && !log.is_news("refused", at(59)) && log.is_news("refused", at(60)));
        assert!(log.is_news("status 500", at(60)), "other words");
        assert!(!log.is_over(at(60)), "it fails now and then");
        assert!(log.is_over(at(61)) && !log.is_over(at(62)));
        assert!(log.is_news("refused", at(62)), "another outage");
    }

    #[test]
    fn words_that_are_new_each_time_flood_no_log() {
        let (log, now) = (FailureLog::default(), monotonic_now());
        let told = (0..1000).filter(|number| log.is_news(&number.to_string(), now)).count();
        assert_eq!(told, TEXTS);
    }

    #[test]
    fn a_text_is_one_line_that_ends() {
        assert_eq!(line("OOM command\r\nnot allowed"), "OOM command");
        assert_eq!(line(&"ä".repeat(1000)).len(), LONGEST);
    }
}
