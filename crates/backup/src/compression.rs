//! Compression and digests of streams, in threads of their own: they would hold up the tasks of streams else.

use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::failure::StepFailure;
use primitives::hexadecimal::hexadecimal;

/// Level of zstd: its default, which a core does at some hundred MB a second.
const LEVEL: i32 = 3;
/// Pieces that wait between two stages.
const QUEUE: usize = 2;
/// Bytes of a decompressed piece.
const PIECE_BYTES: usize = 256 << 10;

/// Sizes and digests of both sides of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamDigests {
    /// Compressed bytes.
    pub stored_bytes: u64,
    /// SHA-256 of the compressed bytes.
    pub stored_sha256: String,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes.
    pub sha256: String,
}

/// Thread that turns pieces into others.
pub struct StreamThread {
    /// Where pieces go in; dropped at their end.
    pub input: Sender<Bytes>,
    /// Where they come out; ends when the input has.
    pub output: Receiver<Bytes>,
    /// What came of it.
    pub outcome: JoinHandle<io::Result<StreamDigests>>,
}

/// Writer that counts, digests and sends on in pieces of a size.
struct PieceWriter {
    output: Sender<Bytes>,
    piece: Vec<u8>,
    piece_bytes: usize,
    counted: DigestCounter,
    /// Bytes beyond which the stream is refused.
    limit: u64,
}

#[derive(Default)]
struct DigestCounter {
    digest: Sha256,
    bytes: u64,
}

impl DigestCounter {
    fn update(&mut self, piece: &[u8]) {
        self.digest.update(piece);
        self.bytes += piece.len() as u64;
    }

    fn end(self) -> (u64, String) {
        (self.bytes, hexadecimal(&self.digest.finalize()))
    }
}

impl PieceWriter {
    fn new(output: Sender<Bytes>, piece_bytes: usize, limit: u64) -> Self {
        Self { output, piece: Vec::new(), piece_bytes, counted: DigestCounter::default(), limit }
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        self.output.blocking_send(piece.into()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn end(mut self) -> io::Result<DigestCounter> {
        if !self.piece.is_empty() {
            self.send()?;
        }
        Ok(self.counted)
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.piece_bytes - self.piece.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.counted.update(taken);
        if self.counted.bytes > self.limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.piece.extend_from_slice(taken);
        if self.piece.len() == self.piece_bytes {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to compress into pieces of `piece_bytes`, of which only the last is shorter.
pub fn compress(piece_bytes: usize) -> StreamThread {
    let ((input, mut pieces), (parts, output)) = (channel::<Bytes>(QUEUE), channel(1));
    let outcome = tokio::task::spawn_blocking(move || {
        let mut plain = DigestCounter::default();
        let mut encoder = zstd::stream::write::Encoder::new(PieceWriter::new(parts, piece_bytes, u64::MAX), LEVEL)?;
        while let Some(piece) = pieces.blocking_recv() {
            plain.update(&piece);
            encoder.write_all(&piece)?;
        }
        let stored = encoder.finish()?.end()?;
        Ok(digests(stored, plain))
    });
    StreamThread { input, output, outcome }
}

/// Begins to decompress into at most `limit` bytes.
pub fn decompress(limit: u64) -> StreamThread {
    let ((input, mut pieces), (plain_pieces, output)) = (channel::<Bytes>(QUEUE), channel(QUEUE));
    let outcome = tokio::task::spawn_blocking(move || {
        let mut stored = DigestCounter::default();
        let writer = PieceWriter::new(plain_pieces, PIECE_BYTES, limit);
        let mut decoder = zstd::stream::write::Decoder::new(writer)?;
        while let Some(piece) = pieces.blocking_recv() {
            stored.update(&piece);
            decoder.write_all(&piece)?;
        }
        decoder.flush()?;
        let plain = decoder.into_inner().end()?;
        Ok(digests(stored, plain))
    });
    StreamThread { input, output, outcome }
}

fn digests(stored: DigestCounter, plain: DigestCounter) -> StreamDigests {
    let ((stored_bytes, stored_sha256), (bytes, sha256)) = (stored.end(), plain.end());
    StreamDigests { stored_bytes, stored_sha256, bytes, sha256 }
}

/// Waits for a thread's outcome; `Ok(None)` where the stream could not be turned.
pub async fn outcome_of(outcome: JoinHandle<io::Result<StreamDigests>>) -> Result<Option<StreamDigests>, StepFailure> {
    Ok(outcome.await.map_err(|_| StepFailure::Panicked)?.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `input` through a thread; returns the pieces and the outcome.
    async fn run(thread: StreamThread, input: Vec<Bytes>) -> (Vec<Bytes>, io::Result<StreamDigests>) {
        let StreamThread { input: sender, mut output, outcome } = thread;
        let send = async move {
            for piece in input {
                // Refused: the outcome says why.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
        };
        let receive = async {
            let mut pieces = Vec::new();
            while let Some(piece) = output.recv().await {
                pieces.push(piece);
            }
            pieces
        };
        let ((), pieces) = tokio::join!(send, receive);
        (pieces, outcome.await.expect("no panic"))
    }

    #[tokio::test]
    async fn a_stream_comes_back_as_it_was_and_both_sides_are_counted_alike() {
        let text: Vec<u8> =
            (0..2_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let pieces = text.chunks(100_000).map(Bytes::copy_from_slice).collect();
        let (parts, stored) = run(compress(1 << 20), pieces).await;
        let stored = stored.expect("it is compressed");
        assert!(parts.len() > 2 && parts[..parts.len() - 1].iter().all(|part| part.len() == 1 << 20));
        let (plain, restored) = run(decompress(8_000_000), parts.clone()).await;
        assert_eq!(restored.expect("it is decompressed"), stored);
        assert!(plain.concat() == text);
        let (_, too_long) = run(decompress(7_999_999), parts.clone()).await;
        assert_eq!(too_long.expect_err("it is longer").kind(), io::ErrorKind::FileTooLarge);
        let (_, garbage) = run(decompress(100), vec![Bytes::from_static(b"this is not zstd")]).await;
        assert!(garbage.is_err());
        let (_, cut) = run(decompress(8_000_000), parts[..1].to_vec()).await;
        assert!(cut.is_err() || cut.is_ok_and(|cut| cut != stored), "half of it is another stream");
    }
}
