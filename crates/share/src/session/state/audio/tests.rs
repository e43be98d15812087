use bytes::Bytes;

use super::*;
use crate::audio::chunk::ChunkHeader;
use crate::audio::frame;
use crate::refusal::Refusal;
use crate::session::event::SessionEvent;
use primitives::unix_time::UnixMicros;

fn at(millis: i64) -> UnixMillis {
    UnixMillis::new(millis)
}

fn chunk(sequence: i64, sample_rate: u32) -> Arc<AudioChunk> {
    let header = ChunkHeader { sequence, sample_rate, channels: 2, timestamp: at(sequence) };
    let samples = vec![u8::try_from(sequence % 256).expect("a byte"); 4096 * 8];
    Arc::new(AudioChunk::from_samples(header, samples.into(), at(sequence * 93).to_micros()).expect("a good chunk"))
}

fn packets(numbers: std::ops::Range<u32>) -> Vec<AudioPacket> {
    let packet = |number: u32| AudioPacket {
        bytes: Bytes::copy_from_slice(&number.to_be_bytes()),
        frames: 960,
        server_time: at(i64::from(number) * 20).to_micros(),
    };
    numbers.map(packet).collect()
}

fn header(sequence: u32, discontinuity: bool) -> FrameHeader {
    FrameHeader {
        codec: Codec::Opus,
        discontinuity,
        ends_epoch: false,
        sequence,
        server_time: UnixMicros::EPOCH,
        sample_time: 0,
    }
}

fn audio() -> AudioState {
    let mut audio = AudioState::new(Duration::from_secs(5));
    audio.set_cadence(Duration::from_millis(100));
    audio
}

/// Effects in short: `frame`, `start`, `stop`, `input`.
fn words(effects: Effects) -> Vec<&'static str> {
    let word = |effect| match effect {
        Effect::Notify(SessionEvent::Frame(_)) => "frame",
        Effect::StartTranscoder { .. } => "start",
        Effect::StopTranscoder => "stop",
        Effect::Transcode(_) => "input",
        other => panic!("{other:?}"),
    };
    effects.into_iter().map(word).collect()
}

/// Numbers in the packets of all frames.
fn heard(effects: Effects) -> Vec<u32> {
    let frames = effects.into_iter().filter_map(|effect| match effect {
        Effect::Notify(SessionEvent::Frame(frame)) => Some(frame),
        _ => None,
    });
    let packets = frames.flat_map(|frame| frame::decode(frame.bytes.clone()).expect("a frame").1);
    packets.map(|packet| u32::from_be_bytes(packet[..4].try_into().expect("four bytes"))).collect()
}

#[test]
fn a_transcoder_runs_while_somebody_listens_to_the_other_codec() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    audio.require(Codec::Opus, &mut effects);
    assert!(words(effects).is_empty(), "there is no audio yet");
    assert_eq!(audio.check_available(Codec::Opus), Ok(()));
    audio.add_listener(Codec::Opus);
    let mut effects = Effects::default();
    audio.receive_chunk(chunk(0, 44_100), at(0), &mut effects);
    assert_eq!(words(effects), ["start", "input"]);
    audio.set_transcoding(true);
    let mut effects = Effects::default();
    audio.update_transcoder(false, &mut effects);
    audio.receive_chunk(chunk(1, 44_100), at(93), &mut effects);
    assert_eq!(words(effects), ["input"], "it goes on");
    audio.remove_listener(Codec::Opus);
    let mut effects = Effects::default();
    audio.update_transcoder(true, &mut effects);
    assert_eq!(words(effects), ["stop"], "who polls floats of a host of floats needs none");
}

#[test]
fn a_transcoder_that_is_refused_leaves_its_codec_unavailable_until_one_is_free() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    audio.receive_chunk(chunk(0, 44_100), at(0), &mut effects);
    audio.require(Codec::Opus, &mut effects);
    audio.set_transcoding(false);
    assert_eq!(audio.check_available(Codec::Opus), Err(Refusal::TooManyTranscodes));
    assert_eq!(audio.check_available(Codec::F32), Ok(()));
    audio.add_listener(Codec::Opus);
    let mut effects = Effects::default();
    audio.update_transcoder(false, &mut effects);
    assert_eq!(words(effects), ["start"], "it is tried again");
}

#[test]
fn a_transcoder_begins_with_the_last_of_what_came_and_one_before_it_is_not_listened_to() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    for sequence in 0..20 {
        audio.receive_chunk(chunk(sequence, 44_100), at(sequence * 93), &mut effects);
    }
    let mut effects = Effects::default();
    audio.require(Codec::Opus, &mut effects);
    let mut started = effects.into_iter();
    let Some(Effect::StartTranscoder { transcoder, codec: Codec::Opus, backlog }) = started.next() else {
        panic!("a transcoder is asked for")
    };
    let numbers: Vec<i64> = backlog
        .iter()
        .map(|input| match input {
            TranscodeInput::Chunk(chunk) => chunk.header.sequence,
            TranscodeInput::Packets(_) => panic!("floats are made Opus"),
        })
        .collect();
    assert_eq!(numbers, (10..20).collect::<Vec<_>>());
    assert!(audio.accepts_transcoded(transcoder));
    let mut effects = Effects::default();
    audio.update_transcoder(false, &mut effects);
    audio.require(Codec::Opus, &mut effects);
    assert_eq!(words(effects), ["stop", "start"]);
    assert!(!audio.accepts_transcoded(transcoder));
}

#[test]
fn a_transcoder_of_a_new_epoch_gets_nothing_from_before_it() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    audio.add_listener(Codec::Opus);
    for sequence in [0, 1, 2, 50, 51] {
        audio.receive_chunk(chunk(sequence, 44_100), at(sequence * 93), &mut effects);
    }
    let inputs: Vec<i64> = effects
        .into_iter()
        .flat_map(|effect| match effect {
            Effect::StartTranscoder { backlog, .. } => backlog,
            Effect::Transcode(input) => vec![input],
            _ => Vec::new(),
        })
        .map(|input| match input {
            TranscodeInput::Chunk(chunk) => chunk.header.sequence,
            TranscodeInput::Packets(_) => panic!("floats are made Opus"),
        })
        .collect();
    assert_eq!(inputs, [0, 1, 2, 50, 51], "each chunk once");
}

#[test]
fn packets_that_come_again_go_and_a_small_hole_stays_open() {
    for (what, header, count, expected_epoch, expected) in [
        ("the next ones", header(5, false), 5, 1, (5..10).collect::<Vec<u32>>()),
        ("some again", header(3, false), 7, 1, (5..10).collect()),
        ("all again", header(0, false), 5, 1, vec![]),
        ("two are missing", header(7, false), 5, 1, (7..12).collect()),
        ("a jump ahead", header(200, false), 5, 2, (200..205).collect()),
        ("a new beginning", header(0, true), 5, 2, (0..5).collect()),
    ] {
        let (mut audio, mut effects) = (audio(), Effects::default());
        audio.receive_packets(&self::header(0, true), packets(0..5), &mut effects);
        assert_eq!(heard(effects), [0, 1, 2, 3, 4], "{what}");
        let mut effects = Effects::default();
        let end = header.sequence + count;
        audio.receive_packets(&header, packets(header.sequence..end), &mut effects);
        assert_eq!((audio.epoch, heard(effects)), (expected_epoch, expected), "{what}");
    }
}

#[test]
fn another_format_begins_an_epoch_and_a_host_that_begins_anew_empties_the_ring() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    for (sequence, rate) in [(0, 44_100), (1, 44_100), (2, 48_000), (3, 48_000)] {
        audio.receive_chunk(chunk(sequence, rate), at(0), &mut effects);
    }
    assert_eq!((audio.epoch, audio.newest_chunks().count()), (2, 4));
    let anew = ChunkHeader { sequence: 0, sample_rate: 48_000, channels: 2, timestamp: at(7_777) };
    let anew = AudioChunk::from_samples(anew, vec![0; 4096 * 8].into(), UnixMicros::EPOCH).expect("a good chunk");
    audio.receive_chunk(Arc::new(anew), at(0), &mut effects);
    assert_eq!((audio.epoch, audio.newest_chunk(), audio.newest_chunks().count()), (3, Some(0), 1));
}

#[test]
fn floats_become_packets_only_for_listeners_and_the_first_of_them_gets_the_last_second() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    for sequence in 0..20 {
        audio.receive_chunk(chunk(sequence, 44_100), at(sequence * 93), &mut effects);
    }
    assert!(words(effects).is_empty());
    audio.add_listener(Codec::F32);
    let (epoch, _, snapshot) = audio.snapshot(Codec::F32, Duration::from_secs(5));
    let snapshot = snapshot.expect("there is audio");
    let (_, packets) = frame::decode(snapshot.bytes.clone()).expect("a frame");
    assert_eq!((epoch.number, packets.len()), (1, 10));
    let mut effects = Effects::default();
    audio.receive_chunk(chunk(20, 44_100), at(20 * 93), &mut effects);
    assert_eq!(words(effects), ["frame"]);
}

#[test]
fn audio_that_waits_too_long_for_more_is_sent_all_the_same() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    audio.receive_packets(&header(0, true), packets(0..2), &mut effects);
    assert!(words(effects).is_empty());
    for (now, expected) in [(199, vec![]), (201, vec![0, 1]), (400, vec![])] {
        let mut effects = Effects::default();
        audio.tick(at(now), &mut effects);
        assert_eq!(heard(effects), expected, "{now}");
    }
}

#[test]
fn another_codec_of_the_host_drops_what_was_on_its_way() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    audio.add_listener(Codec::Opus);
    audio.receive_chunk(chunk(0, 44_100), at(0), &mut effects);
    audio.receive_chunk(chunk(2, 44_100), at(0), &mut effects);
    let mut effects = Effects::default();
    audio.receive_packets(&header(0, false), packets(0..5), &mut effects);
    assert_eq!(words(effects), ["stop", "frame"]);
    let mut effects = Effects::default();
    audio.tick(at(1_000), &mut effects);
    assert!(words(effects).is_empty(), "the chunk that waited is gone");
}

#[test]
fn the_ring_is_bounded_by_time_and_bytes() {
    let (mut audio, mut effects) = (audio(), Effects::default());
    for sequence in 0..200 {
        audio.receive_chunk(chunk(sequence, 44_100), at(sequence * 93), &mut effects);
    }
    let held: Duration = audio.newest_chunks().map(|chunk| chunk.duration()).sum();
    assert!((Duration::from_millis(4_900)..=Duration::from_secs(5)).contains(&held), "{held:?}");
    assert_eq!(max_ring_bytes(Duration::from_secs(5)), 10 << 20);
    assert_eq!(max_ring_bytes(Duration::MAX), usize::MAX);
}
