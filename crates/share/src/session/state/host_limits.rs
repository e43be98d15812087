//! Rate limits of a host. A real one sends 10.77 chunks a second, and metadata twice a second.

use std::time::Duration;

use crate::refusal::Refusal;
use crate::token_bucket::TokenBucket;
use primitives::unix_time::UnixMillis;

/// Token buckets for everything that a host sends.
pub struct HostLimits {
    chunks: TokenBucket,
    frames: TokenBucket,
    bytes: TokenBucket,
    audio_seconds: TokenBucket,
    metadata: TokenBucket,
    texts: TokenBucket,
    large_texts: TokenBucket,
    refused_texts: TokenBucket,
    switches: TokenBucket,
}

/// Bytes of a text of a host at most, metadata excepted: a line of the chat has 500 characters, each of up to 12 bytes.
pub const MAX_SMALL_TEXT: usize = 16 << 10;

impl HostLimits {
    /// Creates full buckets.
    pub fn new(now: UnixMillis) -> Self {
        const MEBIBYTE: f64 = 1_048_576.0;
        Self {
            chunks: TokenBucket::new(25.0, 50.0, now),
            frames: TokenBucket::new(100.0, 200.0, now),
            bytes: TokenBucket::new(MEBIBYTE, 4.0 * MEBIBYTE, now),
            // 1.5 times as fast as it plays, for good; twice as fast for 15 seconds.
            audio_seconds: TokenBucket::new(1.5, 7.5, now),
            metadata: TokenBucket::new(2.0, 4.0, now),
            texts: TokenBucket::new(10.0, 40.0, now),
            large_texts: TokenBucket::new(2.0, 4.0, now),
            refused_texts: TokenBucket::new(1.0, 20.0, now),
            switches: TokenBucket::new(1.0, 5.0, now),
        }
    }

    /// Takes a chunk that plays for `audio`, in a body of `bytes`.
    pub fn take_chunk(&mut self, bytes: usize, audio: Duration, now: UnixMillis) -> Result<(), Refusal> {
        take(&mut self.chunks, 1.0, now, "a host may send 25 chunks a second")?;
        self.take_audio(bytes, audio, now)
    }

    /// Takes a frame of `bytes` that plays for `audio`.
    pub fn take_frame(&mut self, bytes: usize, audio: Duration, now: UnixMillis) -> Result<(), Refusal> {
        take(&mut self.frames, 1.0, now, "a host may send 100 frames a second")?;
        self.take_audio(bytes, audio, now)
    }

    /// Takes a text of `bytes`, before it is read: to read five megabytes costs more than what they ask for. Fails with
    /// [`Refusal::TextFlood`] where many were refused already.
    pub fn take_text(&mut self, bytes: usize, now: UnixMillis) -> Result<(), Refusal> {
        let taken = if bytes > MAX_SMALL_TEXT {
            take(&mut self.large_texts, 1.0, now, "a host may send metadata twice a second")
        } else {
            take(&mut self.texts, 1.0, now, "a host may send 10 texts a second")
        };
        taken.map_err(|refused| match self.refused_texts.take(1.0, now) {
            Ok(()) => refused,
            Err(_) => Refusal::TextFlood,
        })
    }

    /// Takes a switch of the chat, or the beginning of a recording: all nodes are told, and all who listen.
    pub fn take_switch(&mut self, now: UnixMillis) -> Result<(), Refusal> {
        take(&mut self.switches, 1.0, now, "a host may switch the chat or a recording once a second")
    }

    /// Takes a change of the metadata.
    pub fn take_metadata(&mut self, now: UnixMillis) -> Result<(), Refusal> {
        take(&mut self.metadata, 1.0, now, "a host may send metadata twice a second")
    }

    #[expect(clippy::cast_precision_loss, reason = "a body's length is a small number")]
    fn take_audio(&mut self, bytes: usize, audio: Duration, now: UnixMillis) -> Result<(), Refusal> {
        take(&mut self.bytes, bytes as f64, now, "a host may send 1 MiB a second")?;
        take(&mut self.audio_seconds, audio.as_secs_f64(), now, "a host may send audio 1.5 times as fast as it plays")
    }
}

fn take(bucket: &mut TokenBucket, amount: f64, now: UnixMillis, what: &'static str) -> Result<(), Refusal> {
    // A wait of nothing would be answered by `Retry-After: 0`.
    bucket.take(amount, now).map_err(|wait| Refusal::RateLimited { what, wait: wait.max(Duration::from_millis(1)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn texts_are_limited_and_a_host_that_goes_on_floods() {
        let mut limits = HostLimits::new(at(0));
        assert!((0..40).all(|_| limits.take_text(20, at(0)).is_ok()));
        assert!((0..20).all(|_| what(limits.take_text(20, at(0))) == Some("a host may send 10 texts a second")));
        assert_eq!(limits.take_text(20, at(0)), Err(Refusal::TextFlood));
        assert_eq!(limits.take_text(20, at(100)), Ok(()), "a tenth of a second later there is one more");
        let mut limits = HostLimits::new(at(0));
        assert!((0..4).all(|_| limits.take_text(5 << 20, at(0)).is_ok()));
        assert_eq!(what(limits.take_text(5 << 20, at(0))), Some("a host may send metadata twice a second"));
        assert!(limits.take_text(MAX_SMALL_TEXT, at(0)).is_ok(), "small ones have their own limit");
    }

    #[test]
    fn switches_are_limited() {
        let mut limits = HostLimits::new(at(0));
        assert!((0..5).all(|_| limits.take_switch(at(0)).is_ok()));
        assert_eq!(what(limits.take_switch(at(0))), Some("a host may switch the chat or a recording once a second"));
        assert!(limits.take_switch(at(1_000)).is_ok());
    }

    fn what(result: Result<(), Refusal>) -> Option<&'static str> {
        match result {
            Err(Refusal::RateLimited { what, .. }) => Some(what),
            _ => None,
        }
    }

    #[test]
    fn each_limit_is_reached_on_its_own() {
        let chunk = |limits: &mut HostLimits, bytes, micros| {
            what(limits.take_chunk(bytes, Duration::from_micros(micros), at(0)))
        };
        for (count, bytes, micros, expected) in [
            (50, 0, 0, "a host may send 25 chunks a second"),
            (4, 1 << 20, 0, "a host may send 1 MiB a second"),
            (15, 0, 500_000, "a host may send audio 1.5 times as fast as it plays"),
        ] {
            let mut limits = HostLimits::new(at(0));
            assert!((0..count).all(|_| chunk(&mut limits, bytes, micros).is_none()), "{expected}");
            assert_eq!(chunk(&mut limits, bytes, micros), Some(expected));
        }
        let mut limits = HostLimits::new(at(0));
        assert!((0..200).all(|_| limits.take_frame(0, Duration::ZERO, at(0)).is_ok()));
        assert_eq!(what(limits.take_frame(0, Duration::ZERO, at(0))), Some("a host may send 100 frames a second"));
        assert!((0..4).all(|_| limits.take_metadata(at(0)).is_ok()));
        assert_eq!(what(limits.take_metadata(at(0))), Some("a host may send metadata twice a second"));
        assert!(limits.take_metadata(at(500)).is_ok(), "half a second later there is one more");
    }
}
