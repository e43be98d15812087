//! Audio over sockets and streams.

use super::*;
use primitives::clock::monotonic_now;
use primitives::unix_time::UnixMicros;

const OPUS_HEADER: FrameHeader = FrameHeader {
    codec: Codec::Opus,
    discontinuity: false,
    ends_epoch: false,
    sequence: 0,
    server_time: UnixMicros::EPOCH,
    sample_time: 0,
};

#[tokio::test]
async fn bare_floats_are_taken_and_pushed_bit_by_bit() {
    let server = server(|_| {});
    server.start().await;
    let mut expected = Vec::new();
    let send = async |sequence: i64| {
        let (body, bytes) = chunk(sequence);
        let number = sequence.to_string();
        let headers = [
            ("authorization", "Bearer Token"),
            ("content-type", "application/octet-stream"),
            ("x-sample-rate", "44100"),
            ("x-channels", "2"),
            ("x-timestamp", "5"),
            ("x-sequence-number", &number),
        ];
        let reply = match sequence % 2 {
            0 => server.send("POST", "/api/share/123456/audio", &headers, bytes.clone()).await,
            _ => server.post("/api/share/123456/audio", body).await,
        };
        assert_eq!(reply.status, 200);
        bytes
    };
    for sequence in 0..8 {
        expected.extend(send(sequence).await);
    }
    let mut socket = server.socket("?codec=f32").await;
    let hello = text(&mut socket, "hello").await;
    assert_eq!((&hello["codec"], &hello["rate"], &hello["channels"]), (&json!("f32"), &json!(44100), &json!(2)));
    let (head, packets) = audio(&mut socket).await;
    assert!(head.discontinuity && head.codec == Codec::F32);
    let mut heard = packets.concat();
    let late = expected.len() - heard.len();
    assert!(heard.len() >= 4 * 32_768, "at least 400 ms from before");
    for sequence in 8..20 {
        server.advance(93);
        expected.extend(send(sequence).await);
    }
    while heard.len() < expected.len() - late {
        heard.extend(audio(&mut socket).await.1.concat());
    }
    assert!(heard == expected[late..], "every bit is as it was sent");
    server.post("/api/share/123456/stop", json!(null)).await;
    assert_eq!(text(&mut socket, "ended").await["reason"], "stopped");
    assert!(matches!(message(&mut socket).await, Message::Close(Some(frame)) if u16::from(frame.code) == 1000));
}

#[tokio::test]
async fn floats_are_heard_as_opus_and_as_ogg() {
    let server = server(|_| {});
    server.start().await;
    server.post("/api/share/123456/metadata", json!({"title": "Song"})).await;
    let mut socket = server.socket("").await;
    let hello = text(&mut socket, "hello").await;
    assert_eq!((&hello["codec"], &hello["meta"]["title"]), (&json!("opus"), &json!("Song")));
    let address = server.listen().await;
    for sequence in 0..20 {
        server.advance(93);
        assert_eq!(server.post("/api/share/123456/audio", chunk(sequence).0).await.status, 200);
    }
    let mut decoder =
        opusic_c::Decoder::new(opusic_c::Channels::Stereo, opusic_c::SampleRate::Hz48000).expect("libopus");
    let (mut loud, mut next) = (0.0_f32, None);
    for _ in 0..8 {
        let (head, packets) = audio(&mut socket).await;
        assert!(next.is_none_or(|next| next == head.sequence), "no packet is missing");
        next = Some(head.sequence + u32::try_from(packets.len()).expect("few"));
        for packet in packets {
            let mut samples = vec![0.0; 11_520];
            let frames = decoder.decode_float_to_slice(&packet, &mut samples, false).expect("Opus");
            assert_eq!(frames, 960);
            loud = samples[..1920].iter().fold(loud, |loud, sample| loud.max(sample.abs()));
        }
    }
    assert!((0.3..0.6).contains(&loud), "the tone is there: {loud}");
    let mut stream = TcpStream::connect(address).await.expect("it connects");
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = "GET /api/v1/share/123456/stream.ogg HTTP/1.1\r\nhost: x\r\nauthorization: Bearer Token\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut said = Vec::new();
    let first = tokio::time::timeout(LIMIT, async {
        // Two heads and a page of what was played last.
        while said.windows(4).filter(|at| at == b"OggS").count() < 3 {
            assert!(stream.read_buf(&mut said).await.expect("it can be read") > 0, "it ended");
        }
    });
    first.await.expect("sound comes at once");
    assert!(String::from_utf8_lossy(&said).contains("content-type: audio/ogg"));
}

#[tokio::test]
async fn opus_of_a_host_is_pushed_as_it_is_and_polled_as_floats() {
    let server = server(|_| {});
    server.start().await;
    let mut host = server.socket("?role=host").await;
    text(&mut host, "welcome").await;
    let mut listener = server.socket("").await;
    text(&mut listener, "hello").await;
    let mut encoder =
        opusic_c::Encoder::new(opusic_c::Channels::Stereo, opusic_c::SampleRate::Hz48000, opusic_c::Application::Audio)
            .expect("libopus");
    let mut sent = Vec::new();
    assert_eq!(server.get("/api/share/123456/audio").await.status, 204);
    for number in 0..50_u32 {
        let samples: Vec<f32> =
            (0..960).flat_map(|at| [((number * 960 + at) as f32 * 0.0576).sin() * 0.4; 2]).collect();
        let mut packet = vec![0; 1500];
        let length = encoder.encode_float_to_slice(&samples, &mut packet).expect("Opus");
        packet.truncate(length);
        sent.push(Bytes::from(packet));
        let header = FrameHeader { sequence: number, ..OPUS_HEADER };
        let frame = frame::encode(&header, [sent[number as usize].clone()].iter());
        host.send(Message::Binary(frame)).await.expect("it is sent");
        server.advance(20);
    }
    let meta = json!({"type": "meta", "title": "From the host"});
    host.send(Message::Text(meta.to_string().into())).await.expect("it is sent");
    let mut heard = Vec::new();
    while heard.len() < 50 {
        heard.extend(audio(&mut listener).await.1);
    }
    assert_eq!(heard, sent);
    assert_eq!(text(&mut listener, "meta").await["title"], "From the host");
    let started = monotonic_now();
    let chunks = loop {
        let reply = server.get("/api/share/123456/audio?since=-1").await;
        if reply.status == 200 && reply.json().as_array().map_or(0, Vec::len) >= 5 {
            break reply.json();
        }
        server.advance(100);
        assert!(started.elapsed() < LIMIT, "no floats come: {}", reply.status);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((&chunks[0]["sampleRate"], &chunks[0]["channels"]), (&json!(48000), &json!(2)));
    let samples = STANDARD.decode(chunks[4]["data"].as_str().expect("text")).expect("Base64");
    let loud =
        samples.as_chunks::<4>().0.iter().fold(0.0_f32, |loud, bytes| loud.max(f32::from_le_bytes(*bytes).abs()));
    assert!((0.3..0.6).contains(&loud), "the tone is there: {loud}");
    host.send(Message::Binary(Bytes::from_static(b"no frame"))).await.expect("it is sent");
    loop {
        if let Message::Close(frame) = message(&mut host).await {
            assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1008));
            break;
        }
    }
    assert_eq!(server.relay.active_sessions(), 1, "the session outlives its host's socket");
}

#[tokio::test]
async fn who_falls_behind_goes_on_at_the_live_edge_and_nobody_else_notices() {
    let server = server(|_| {});
    server.start().await;
    // Before anybody listens: who takes nothing for ten real seconds is cut.
    let chunks: Vec<(i64, Value)> = (0..400).map(|sequence| (sequence, chunk(sequence).0)).collect();
    let (mut slow, mut quick) = (server.socket("?codec=f32").await, server.socket("?codec=f32").await);
    text(&mut slow, "hello").await;
    text(&mut quick, "hello").await;
    let mut heard = 0;
    for (sequence, chunk) in chunks {
        server.advance(93);
        assert_eq!(server.post("/api/share/123456/audio", chunk).await.status, 200);
        while heard + 2 <= sequence {
            let (head, packets) = audio(&mut quick).await;
            assert_eq!(i64::from(head.sequence), heard, "the quick one misses nothing");
            heard += i64::try_from(packets.len()).expect("few");
        }
    }
    let gap = text(&mut slow, "gap").await;
    assert!(gap["to"].as_i64() > gap["from"].as_i64(), "{gap}");
    let (head, _) = audio(&mut slow).await;
    assert!(head.discontinuity);
    assert_eq!(Some(i64::from(head.sequence)), gap["to"].as_i64());
    assert_eq!(server.relay.metrics.gaps.get(), 1);
}

/// Time for bytes on loopback to be seen, in each second that passes: a pong has 40 of them.
const SOCKET_TURN: Duration = Duration::from_millis(3);

/// Seconds pass: those of the session's clock and Tokio's.
async fn pass(server: &Server, seconds: u64) {
    for _ in 0..seconds {
        server.advance(1000);
        tokio::time::advance(Duration::from_secs(1)).await;
        // Sockets are real: while a blocking task runs, a paused clock stands still, and the runtime looks at them.
        let turn = tokio::task::spawn_blocking(|| std::thread::sleep(SOCKET_TURN));
        turn.await.expect("it ends");
    }
}

#[tokio::test]
async fn a_host_that_says_nothing_is_taken_for_gone_whatever_it_is_told_meanwhile() {
    let server = server(|_| {});
    server.start().await;
    let mut silent = server.socket("?role=host").await;
    text(&mut silent, "welcome").await;
    let session = server.relay.open_session("123456".parse().expect("an id")).await.expect("it is there");
    tokio::time::pause();
    // It is told every 15 seconds how many listen, and reads none of it, so it answers no ping either.
    pass(&server, 50).await;
    assert!(session.has_host(), "it may be a short gap");
    pass(&server, 15).await;
    assert!(!session.has_host(), "nothing was heard of it for 65 seconds");
}

#[tokio::test]
async fn a_host_that_sends_nothing_but_is_there_stays() {
    let server = server(|_| {});
    server.start().await;
    let mut host = server.socket("?role=host").await;
    text(&mut host, "welcome").await;
    let session = server.relay.open_session("123456".parse().expect("an id")).await.expect("it is there");
    tokio::time::pause();
    // Reading is all that it does: its library answers pings.
    tokio::select! {
        () = pass(&server, 200) => {}
        () = async { while let Some(Ok(_)) = host.next().await {} } => panic!("it was closed"),
    }
    assert!(session.has_host());
}
