//! Fuzz targets of audio as it comes from elsewhere: frames, and the Ogg pages that are made of them.

use std::io::Cursor;

use bytes::Bytes;
use fuzz_inputs::{FuzzInput, FuzzInputs, check};
use ogg::PacketReader;

use super::chunk::AudioChunk;
use super::frame::{self, Codec};
use super::ogg::OggMuxer;
use super::opus::decode_opus_frame;
use primitives::unix_time::UnixMicros;

const MEMBER: &str = env!("CARGO_MANIFEST_DIR");

const TOKENS: &[&[u8]] = &[
    b"\x01",
    b"\x11",
    b"\0\0",
    b"\0\x01",
    b"\0\x03",
    b"\xff\xff",
    b"\xfc\xff\xfe",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\0\0\0\0\0\0\0",
    b"\0\0\0\0",
];

#[test]
fn relay_frames() {
    let inputs = FuzzInputs::new(MEMBER, "relay_frames", TOKENS);
    inputs.each_sample(relay_frame);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| relay_frame(input));
}

/// A frame that is read is written as the same bytes, but for flags that have no meaning.
fn relay_frame(input: &[u8]) {
    let _ = decode_opus_frame(Bytes::copy_from_slice(input), UnixMicros::EPOCH);
    let Ok((head, packets)) = frame::decode(Bytes::copy_from_slice(input)) else { return };
    let again = frame::encode(&head, packets.iter());
    assert_eq!((again[0], &again[2..]), (input[0], &input[2..]));
    assert_eq!(frame::decode(again), Ok((head, packets)));
}

#[test]
fn ogg_pages() {
    let inputs = FuzzInputs::new(MEMBER, "relay_frames", TOKENS);
    inputs.each_sample(ogg_page);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| ogg_page(input));
}

/// Whatever packets a frame has, a reader of Ogg finds each of them, and positions that never go back.
fn ogg_page(input: &[u8]) {
    let Ok((head, packets)) = frame::decode(Bytes::copy_from_slice(input)) else { return };
    if head.codec != Codec::Opus {
        return;
    }
    let mut muxer = OggMuxer::new(&[("TITLE", Some(&String::from_utf8_lossy(input)))]);
    muxer.write_frame(&frame::encode(&head, packets.iter()));
    muxer.finish();
    let mut reader = PacketReader::new(Cursor::new(muxer.take_pages()));
    let (mut found, mut position) = (Vec::new(), 0);
    while let Some(packet) = reader.read_packet().expect("good pages") {
        assert!(packet.absgp_page() >= position, "the position goes back");
        position = packet.absgp_page();
        found.push(Bytes::from(packet.data));
    }
    // Two heads before, the last page behind.
    assert_eq!(found[2..found.len() - 1], packets);
}

#[test]
fn chunks() {
    let tokens: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"null",
        b"-1",
        b"1e999",
        b"0.5",
        b"18446744073709551616",
        b"\"sampleRate\"",
        b"\xff",
    ];
    let inputs = FuzzInputs::new(MEMBER, "chunks", tokens);
    inputs.each_sample(chunk);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| chunk(input));
}

/// A chunk that is taken has a length that can be counted with, and samples to it.
fn chunk(input: &[u8]) {
    let Ok(chunk) = AudioChunk::from_json(input, UnixMicros::EPOCH) else { return };
    let _ = (chunk.len(), chunk.duration());
    assert!(chunk.samples().len() >= chunk.frames());
}
