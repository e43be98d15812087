//! Chunks of float audio in the document's form: checked, kept as they came, and written in the other form only when
//! somebody asks for that. Samples are 32-bit IEEE 754, little-endian, interleaved; nothing here changes a bit of them.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;

use primitives::unix_time::{UnixMicros, UnixMillis};

/// Bytes of the samples of one chunk at most.
pub const MAX_BYTES: usize = 1 << 20;
/// Bytes of a sample.
const SAMPLE_BYTES: usize = size_of::<f32>();
/// Beginning of a chunk's text; the comma joins it to the one before.
const JSON_START: &str = ",{\"data\":\"";
/// Base64 whose last character may have unused bits of any value: some encoders leave them so, and decoders take it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Error in a chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The body is not the JSON of a chunk.
    #[error("expected JSON with data (Base64 of floats), sampleRate, channels, timestamp and sequenceNumber: {0}")]
    Json(String),
    /// The data is not Base64.
    #[error("data is not Base64 with its padding")]
    Base64,
    /// The data holds half a frame, or none.
    #[error("data must hold whole frames: channels × 4 bytes each, at least one")]
    Length,
    /// The data has more than [`MAX_BYTES`].
    #[error("a chunk has at most 1 MiB of samples")]
    TooLong,
    /// The sample rate is out of range.
    #[error("sampleRate must be 8000 to 192000")]
    Rate,
    /// The audio is neither mono nor stereo.
    #[error("channels must be 1 or 2")]
    Channels,
    /// The number is below zero.
    #[error("sequenceNumber must be 0 or more")]
    Sequence,
}

/// Header of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Sequence number, given by the host.
    pub sequence: i64,
    /// Sample rate in hertz.
    pub sample_rate: u32,
    /// Channels: 1 or 2.
    pub channels: u16,
    /// Time by the clock of the host.
    pub timestamp: UnixMillis,
}

/// Chunk of float audio. Its text and its samples are made from each other when the other form is first asked for.
#[derive(Debug)]
pub struct AudioChunk {
    /// Header of the samples.
    pub header: ChunkHeader,
    /// Time at which it came.
    pub arrived_at: UnixMicros,
    bytes: usize,
    json: OnceLock<Bytes>,
    raw: OnceLock<Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChunkJson<'a> {
    // .NET writes `+` as \u002B, so this may have to be unescaped.
    #[serde(borrow)]
    data: Cow<'a, str>,
    sample_rate: u32,
    channels: u16,
    timestamp: UnixMillis,
    sequence_number: i64,
}

impl AudioChunk {
    /// Reads a chunk in the document's JSON that came at `arrived`.
    pub fn from_json(body: &[u8], arrived: UnixMicros) -> Result<Self, ChunkError> {
        let sent: ChunkJson<'_> = serde_json::from_slice(body).map_err(|error| ChunkError::Json(error.to_string()))?;
        let ChunkJson { data, sample_rate: rate, channels, timestamp, sequence_number: sequence } = sent;
        let label = ChunkHeader { sequence, sample_rate: rate, channels, timestamp };
        let bytes = decoded_length(data.as_bytes()).ok_or(ChunkError::Base64)?;
        validate(label, bytes)?;
        Ok(Self {
            header: label,
            arrived_at: arrived,
            bytes,
            // Kept as it came: a receiver of the document gets the very same text.
            json: OnceLock::from(write_json(label, &data)),
            raw: OnceLock::new(),
        })
    }

    /// Makes a chunk of bare samples that came at `arrived`.
    pub fn from_samples(label: ChunkHeader, samples: Bytes, arrived: UnixMicros) -> Result<Self, ChunkError> {
        validate(label, samples.len())?;
        Ok(Self {
            header: label,
            arrived_at: arrived,
            bytes: samples.len(),
            json: OnceLock::new(),
            raw: OnceLock::from(samples),
        })
    }

    /// Returns the chunk in the document's JSON, with a comma before it.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            let raw = self.raw.get().expect("a chunk without text was made from its samples");
            write_json(self.header, &BASE64.encode(raw))
        })
    }

    /// Returns the samples.
    pub fn samples(&self) -> &Bytes {
        self.raw.get_or_init(|| {
            let json = self.json.get().expect("a chunk without samples was made from its text");
            let data = &json[JSON_START.len()..][..self.bytes.div_ceil(3) * 4];
            BASE64.decode(data).expect("its characters and its length were checked when it came").into()
        })
    }

    /// Returns the bytes of the samples.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Returns the number of frames: samples per channel.
    pub fn frames(&self) -> usize {
        self.bytes / (SAMPLE_BYTES * usize::from(self.header.channels))
    }

    /// Returns how long the chunk plays, in whole microseconds.
    pub fn duration(&self) -> Duration {
        play_duration(self.frames(), self.header.sample_rate)
    }
}

/// Returns how long so many frames play, in whole microseconds.
pub fn play_duration(frames: usize, rate: u32) -> Duration {
    Duration::from_micros(frames as u64 * 1_000_000 / u64::from(rate.max(1)))
}

fn validate(label: ChunkHeader, bytes: usize) -> Result<(), ChunkError> {
    if label.sequence < 0 {
        return Err(ChunkError::Sequence);
    }
    if !(8_000..=192_000).contains(&label.sample_rate) {
        return Err(ChunkError::Rate);
    }
    if !(1..=2).contains(&label.channels) {
        return Err(ChunkError::Channels);
    }
    if bytes > MAX_BYTES {
        return Err(ChunkError::TooLong);
    }
    if bytes == 0 || !bytes.is_multiple_of(SAMPLE_BYTES * usize::from(label.channels)) {
        return Err(ChunkError::Length);
    }
    Ok(())
}

/// Returns the bytes that the Base64 `text` stands for; `None` where it is none.
fn decoded_length(text: &[u8]) -> Option<usize> {
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let data = &text[..text.len() - padding];
    // Without branches: all of it is looked at with every chunk.
    let good = data.iter().fold(true, |good, byte| good & (byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/')));
    (good && text.len().is_multiple_of(4)).then(|| text.len() / 4 * 3 - padding)
}

fn write_json(label: ChunkHeader, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 128);
    text.push_str(JSON_START);
    text.push_str(data);
    let ChunkHeader { sequence, sample_rate: rate, channels, timestamp } = label;
    // Writing into a String does not fail.
    let _ = write!(
        text,
        "\",\"sampleRate\":{rate},\"channels\":{channels},\"timestamp\":{timestamp},\"sequenceNumber\":{sequence}}}"
    );
    text.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LABEL: ChunkHeader =
        ChunkHeader { sequence: 42, sample_rate: 44_100, channels: 2, timestamp: UnixMillis::new(1_234_567_890_123) };

    const NOW: UnixMicros = UnixMicros::new(7);

    fn sent(data: &str) -> Value {
        json!({"data": data, "sampleRate": 44100, "channels": 2, "timestamp": 1_234_567_890_123_i64, "sequenceNumber": 42})
    }

    fn samples() -> Bytes {
        let values = [0.0_f32, -0.0, 1.0, f32::MIN_POSITIVE, f32::NAN, f32::INFINITY, -1.5e-42, 0.1];
        values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    #[test]
    fn text_in_gives_the_same_text_and_the_same_bits_out() {
        let data = BASE64.encode(samples());
        let chunk = AudioChunk::from_json(sent(&data).to_string().as_bytes(), NOW).expect("a good chunk");
        assert_eq!((chunk.header, chunk.len(), chunk.frames()), (LABEL, 32, 4));
        let shown: Value = serde_json::from_slice(&chunk.json()[1..]).expect("it is JSON");
        assert_eq!(shown, sent(&data));
        assert_eq!(chunk.samples(), &samples());
    }

    #[test]
    fn samples_in_give_the_documents_text_out() {
        let chunk = AudioChunk::from_samples(LABEL, samples(), NOW).expect("a good chunk");
        let shown: Value = serde_json::from_slice(&chunk.json()[1..]).expect("it is JSON");
        assert_eq!(shown, sent(&BASE64.encode(samples())));
    }

    #[test]
    fn base64_may_be_written_with_escapes_as_dotnet_does() {
        let body =
            r#"{"data":"\u002B\u002B\/\/AAA=","sampleRate":44100,"channels":1,"timestamp":1,"sequenceNumber":0}"#;
        assert_eq!(
            AudioChunk::from_json(body.as_bytes(), NOW).err(),
            Some(ChunkError::Length),
            "five bytes are no whole floats"
        );
        let body = body.replace("AAA=", "AA==");
        let chunk = AudioChunk::from_json(body.as_bytes(), NOW).expect("a good chunk");
        assert_eq!(&chunk.samples()[..], &[0xfb, 0xef, 0xff, 0x00]);
        assert!(chunk.json().starts_with(b",{\"data\":\"++//AA==\""));
    }

    #[test]
    fn what_is_not_a_chunk_is_refused() {
        let good = BASE64.encode(samples());
        let with = |key: &str, value: Value| {
            let mut body = sent(&good);
            body[key] = value;
            AudioChunk::from_json(body.to_string().as_bytes(), NOW).err()
        };
        assert_eq!(with("data", json!("AAA")), Some(ChunkError::Base64));
        assert_eq!(with("data", json!("AA=A")), Some(ChunkError::Base64));
        assert_eq!(with("data", json!("A===")), Some(ChunkError::Base64));
        assert_eq!(with("data", json!("AA\n=")), Some(ChunkError::Base64));
        assert_eq!(with("data", json!("")), Some(ChunkError::Length));
        assert_eq!(with("data", json!("AAAAAA==")), Some(ChunkError::Length), "half a stereo frame");
        assert_eq!(with("data", json!(BASE64.encode(vec![0; MAX_BYTES + 8]))), Some(ChunkError::TooLong));
        assert_eq!(with("sampleRate", json!(0)), Some(ChunkError::Rate));
        assert_eq!(with("channels", json!(3)), Some(ChunkError::Channels));
        assert_eq!(with("sequenceNumber", json!(-1)), Some(ChunkError::Sequence));
        for (key, value) in [("data", json!(7)), ("sampleRate", json!("x")), ("timestamp", json!(null))] {
            assert!(matches!(with(key, value), Some(ChunkError::Json(_))), "{key}");
        }
        assert!(matches!(AudioChunk::from_json(b"not JSON", NOW), Err(ChunkError::Json(_))));
    }

    #[test]
    fn the_documents_chunk_plays_93_milliseconds() {
        let chunk = AudioChunk::from_samples(LABEL, vec![0; 4096 * 8].into(), NOW).expect("a good chunk");
        assert_eq!((chunk.frames(), chunk.duration()), (4096, Duration::from_micros(92_879)));
    }
}
