//! A chunk of float audio as the document has it: checked, kept as it came, shown in the other form only when somebody
//! asks for that. Samples are 32-bit IEEE 754, little-endian, interleaved; nothing here changes a bit of them.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::OnceLock;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;

/// Bytes of the samples of one chunk at most.
pub const MAX_BYTES: usize = 1 << 20;
/// Bytes of a sample.
const SAMPLE: usize = size_of::<f32>();
/// What a chunk's text begins with; the comma joins it to the one before.
const START: &str = ",{\"data\":\"";
/// Text in Base64 that was let in decodes, whatever its last character's unused bits are.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What is wrong with a chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// Not the JSON that it should be.
    #[error("expected JSON with data (Base64 of floats), sampleRate, channels, timestamp and sequenceNumber: {0}")]
    Json(String),
    /// Not Base64.
    #[error("data is not Base64 with its padding")]
    Base64,
    /// Half a sample, or none.
    #[error("data must hold whole frames: channels × 4 bytes each, at least one")]
    Length,
    /// More than fits.
    #[error("a chunk has at most 1 MiB of samples")]
    TooLong,
    /// Not a sample rate.
    #[error("sampleRate must be 8000 to 192000")]
    Rate,
    /// Neither mono nor stereo.
    #[error("channels must be 1 or 2")]
    Channels,
    /// Not a sequence number.
    #[error("sequenceNumber must be 0 or more")]
    Sequence,
}

/// What a chunk says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The host's number of it.
    pub sequence: i64,
    /// Frames per second.
    pub rate: u32,
    /// Samples per frame.
    pub channels: u16,
    /// The host's time of it, in milliseconds.
    pub timestamp: i64,
}

/// A chunk.
#[derive(Debug)]
pub struct Chunk {
    /// What it says of itself.
    pub label: Label,
    /// When it came, in microseconds since the Unix epoch.
    pub arrived: i64,
    bytes: usize,
    json: OnceLock<Bytes>,
    raw: OnceLock<Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    // .NET writes `+` as \u002B, so this may have to be unescaped.
    #[serde(borrow)]
    data: Cow<'a, str>,
    sample_rate: u32,
    channels: u16,
    timestamp: i64,
    sequence_number: i64,
}

impl Chunk {
    /// Reads the document's JSON.
    pub fn from_json(body: &[u8], arrived: i64) -> Result<Self, BadChunk> {
        let sent: Sent<'_> = serde_json::from_slice(body).map_err(|error| BadChunk::Json(error.to_string()))?;
        let Sent { data, sample_rate: rate, channels, timestamp, sequence_number: sequence } = sent;
        let label = Label { sequence, rate, channels, timestamp };
        let bytes = decoded_length(data.as_bytes()).ok_or(BadChunk::Base64)?;
        check(label, bytes)?;
        Ok(Self { label, arrived, bytes, json: OnceLock::from(text(label, &data)), raw: OnceLock::new() })
    }

    /// Takes samples as they are.
    pub fn from_samples(label: Label, samples: Bytes, arrived: i64) -> Result<Self, BadChunk> {
        check(label, samples.len())?;
        Ok(Self { label, arrived, bytes: samples.len(), json: OnceLock::new(), raw: OnceLock::from(samples) })
    }

    /// The document's JSON, with a comma before it.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            let raw = self.raw.get().expect("a chunk without text was made from its samples");
            text(self.label, &BASE64.encode(raw))
        })
    }

    /// The samples.
    pub fn samples(&self) -> &Bytes {
        self.raw.get_or_init(|| {
            let json = self.json.get().expect("a chunk without samples was made from its text");
            let data = &json[START.len()..][..self.bytes.div_ceil(3) * 4];
            BASE64.decode(data).expect("its characters and its length were checked when it came").into()
        })
    }

    /// Bytes of its samples.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Frames, that is samples per channel.
    pub fn frames(&self) -> usize {
        self.bytes / (SAMPLE * usize::from(self.label.channels))
    }

    /// How long it plays, in microseconds.
    pub fn micros(&self) -> i64 {
        micros(self.frames(), self.label.rate)
    }
}

/// How long so many frames play, in microseconds.
pub fn micros(frames: usize, rate: u32) -> i64 {
    i64::try_from(frames as u64 * 1_000_000 / u64::from(rate.max(1))).unwrap_or(i64::MAX)
}

fn check(label: Label, bytes: usize) -> Result<(), BadChunk> {
    if label.sequence < 0 {
        return Err(BadChunk::Sequence);
    }
    if !(8_000..=192_000).contains(&label.rate) {
        return Err(BadChunk::Rate);
    }
    if !(1..=2).contains(&label.channels) {
        return Err(BadChunk::Channels);
    }
    if bytes > MAX_BYTES {
        return Err(BadChunk::TooLong);
    }
    if bytes == 0 || !bytes.is_multiple_of(SAMPLE * usize::from(label.channels)) {
        return Err(BadChunk::Length);
    }
    Ok(())
}

/// Bytes that the Base64 `text` stands for; `None` where it is none.
fn decoded_length(text: &[u8]) -> Option<usize> {
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let data = &text[..text.len() - padding];
    let good = data.iter().fold(true, |good, byte| good & (byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/')));
    (good && text.len().is_multiple_of(4)).then(|| text.len() / 4 * 3 - padding)
}

fn text(label: Label, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 128);
    text.push_str(START);
    text.push_str(data);
    let Label { sequence, rate, channels, timestamp } = label;
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

    const LABEL: Label = Label { sequence: 42, rate: 44_100, channels: 2, timestamp: 1_234_567_890_123 };

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
        let chunk = Chunk::from_json(sent(&data).to_string().as_bytes(), 7).expect("a good chunk");
        assert_eq!((chunk.label, chunk.len(), chunk.frames()), (LABEL, 32, 4));
        let shown: Value = serde_json::from_slice(&chunk.json()[1..]).expect("it is JSON");
        assert_eq!(shown, sent(&data));
        assert_eq!(chunk.samples(), &samples());
    }

    #[test]
    fn samples_in_give_the_documents_text_out() {
        let chunk = Chunk::from_samples(LABEL, samples(), 7).expect("a good chunk");
        let shown: Value = serde_json::from_slice(&chunk.json()[1..]).expect("it is JSON");
        assert_eq!(shown, sent(&BASE64.encode(samples())));
    }

    #[test]
    fn base64_may_be_written_with_escapes_as_dotnet_does() {
        let body =
            r#"{"data":"\u002B\u002B\/\/AAA=","sampleRate":44100,"channels":1,"timestamp":1,"sequenceNumber":0}"#;
        assert_eq!(
            Chunk::from_json(body.as_bytes(), 0).err(),
            Some(BadChunk::Length),
            "five bytes are no whole floats"
        );
        let body = body.replace("AAA=", "AA==");
        let chunk = Chunk::from_json(body.as_bytes(), 0).expect("a good chunk");
        assert_eq!(&chunk.samples()[..], &[0xfb, 0xef, 0xff, 0x00]);
        assert!(chunk.json().starts_with(b",{\"data\":\"++//AA==\""));
    }

    #[test]
    fn what_is_not_a_chunk_is_refused() {
        let good = BASE64.encode(samples());
        let with = |key: &str, value: Value| {
            let mut body = sent(&good);
            body[key] = value;
            Chunk::from_json(body.to_string().as_bytes(), 0).err()
        };
        assert_eq!(with("data", json!("AAA")), Some(BadChunk::Base64));
        assert_eq!(with("data", json!("AA=A")), Some(BadChunk::Base64));
        assert_eq!(with("data", json!("A===")), Some(BadChunk::Base64));
        assert_eq!(with("data", json!("AA\n=")), Some(BadChunk::Base64));
        assert_eq!(with("data", json!("")), Some(BadChunk::Length));
        assert_eq!(with("data", json!("AAAAAA==")), Some(BadChunk::Length), "half a stereo frame");
        assert_eq!(with("data", json!(BASE64.encode(vec![0; MAX_BYTES + 8]))), Some(BadChunk::TooLong));
        assert_eq!(with("sampleRate", json!(0)), Some(BadChunk::Rate));
        assert_eq!(with("channels", json!(3)), Some(BadChunk::Channels));
        assert_eq!(with("sequenceNumber", json!(-1)), Some(BadChunk::Sequence));
        for (key, value) in [("data", json!(7)), ("sampleRate", json!("x")), ("timestamp", json!(null))] {
            assert!(matches!(with(key, value), Some(BadChunk::Json(_))), "{key}");
        }
        assert!(matches!(Chunk::from_json(b"not JSON", 0), Err(BadChunk::Json(_))));
    }

    #[test]
    fn the_documents_chunk_plays_93_milliseconds() {
        let chunk = Chunk::from_samples(LABEL, vec![0; 4096 * 8].into(), 0).expect("a good chunk");
        assert_eq!((chunk.frames(), chunk.micros()), (4096, 92_879));
    }
}
