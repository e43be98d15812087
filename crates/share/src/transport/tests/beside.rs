//! What is beside the audio: chat, statistics, recording where there is no store, covers; and the streams' ends.

use image::{DynamicImage, ImageFormat, RgbImage};

use super::*;

/// Says it, and gives what everybody is told.
async fn said(from: &mut Socket, to: &mut Socket, line: Value) -> Value {
    from.send(Message::Text(line.to_string().into())).await.expect("it is sent");
    text(to, "chat").await
}

#[tokio::test]
async fn everybody_reads_what_somebody_writes() {
    let server = server(|_| {});
    server.start().await;
    let mut host = server.socket("?role=host").await;
    let welcome = text(&mut host, "welcome").await;
    assert_eq!(welcome["chat"], json!({"on": true, "last": []}));
    assert!(welcome.get("recording").is_none(), "this server cannot record");
    let (mut ann, mut ben) = (server.socket("").await, server.socket("").await);
    text(&mut ann, "hello").await;
    text(&mut ben, "hello").await;
    let line = said(&mut ann, &mut ben, json!({"type": "chat", "name": "Ann", "text": "hi", "host": true})).await;
    let now = server.relay.now();
    let id = |millis: i64| (now.as_millis() + millis) * 2048;
    assert_eq!(
        line,
        json!({"type": "chat", "id": id(0), "at": now, "name": "Ann", "text": "hi"}),
        "she is not the host"
    );
    assert_eq!((&text(&mut ann, "chat").await, &text(&mut host, "chat").await), (&line, &line), "she reads it too");
    let answer = said(&mut host, &mut ann, json!({"type": "chat", "name": "Me", "text": "welcome"})).await;
    assert_eq!((&answer["host"], &answer["id"]), (&json!(true), &json!(id(1))));
    let posted = server.post("/api/v1/share/123456/chat", json!({"name": "Poll", "text": "me too"})).await;
    assert_eq!(posted.json(), json!({"success": true, "id": id(2)}));
    let mut late = server.socket("").await;
    let hello = text(&mut late, "hello").await;
    let texts: Vec<_> = hello["chat"]["last"].as_array().expect("lines").iter().map(|line| &line["text"]).collect();
    assert_eq!(texts, [&json!("hi"), &json!("welcome"), &json!("me too")]);

    host.send(Message::Text(json!({"type": "chat", "on": false}).to_string().into())).await.expect("it is sent");
    assert_eq!(text(&mut late, "chat").await, json!({"type": "chat", "on": false}));
    late.send(Message::Text(json!({"type": "chat", "text": "hello?"}).to_string().into())).await.expect("it is sent");
    assert_eq!(text(&mut late, "error").await, json!({"type": "error", "error": "the chat is off"}));
    assert_eq!(server.post("/api/v1/share/123456/chat", json!({"text": "hello?"})).await.status, 409);
}

#[tokio::test]
async fn a_line_is_refused_to_its_sender_alone() {
    let server = server(|_| {});
    server.start().await;
    let mut socket = server.socket("").await;
    for (line, error) in [
        (json!({"type": "chat", "text": ""}), "text has 1 to 500 characters"),
        (json!({"type": "chat", "name": "Ann"}), "expected JSON with text, and name where the sender has one"),
        (json!({"type": "chat", "text": "a\u{7}"}), "name and text have no control characters"),
    ] {
        socket.send(Message::Text(line.to_string().into())).await.expect("it is sent");
        assert_eq!(text(&mut socket, "error").await["error"], error);
    }
    for _ in 0..6 {
        let line = json!({"type": "chat", "text": "flood"});
        socket.send(Message::Text(line.to_string().into())).await.expect("it is sent");
    }
    assert_eq!(text(&mut socket, "error").await["error"], "one may write a line a second");
    let path = "/api/v1/share/123456/chat";
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(server.post(path, json!({"text": "flood"})).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    let lines = |result: &str| server.relay.metrics.chat_lines.with_label_values(&[result]).get();
    assert!(lines("said") >= 5 && lines("refused") >= 2, "{} {}", lines("said"), lines("refused"));
    assert_eq!(server.post(path, json!({"text": 5})).await.status, 400);
    assert_eq!(server.send("POST", path, &[], "{}").await.status, 401);
    assert_eq!(server.post("/api/v1/share/000001/chat", json!({"text": "hi"})).await.status, 404);
    let ticket = server.post("/api/v1/share/123456/tickets", json!({})).await.json();
    let with = |ticket: &str| format!("{path}?ticket={ticket}");
    server.advance(1_000);
    let line = json!({"text": "hi"}).to_string();
    let good = with(ticket["ticket"].as_str().expect("a ticket"));
    assert_eq!(server.send("POST", &good, &[], line.clone()).await.status, 200);
    assert_eq!(server.send("POST", &with("made-up"), &[], line).await.status, 401);
}

#[tokio::test]
async fn listening_is_counted_and_can_be_read_after_the_end() {
    let server = server(|_| {});
    server.start().await;
    let path = "/api/v1/share/123456/statistics";
    let mut socket = server.socket("").await;
    text(&mut socket, "hello").await;
    server.get("/api/share/123456/audio?since=-1").await;
    for second in 0..90 {
        server.advance(1_000);
        server.relay.sessions.tick(server.relay.now());
        assert_eq!(server.post("/api/share/123456/audio", chunk(second).0).await.status, 200);
    }
    server.post("/api/share/123456/stop", json!(null)).await;
    let told = server.get(path).await.json();
    let by = json!({"websocket": 1, "events": 0, "ogg": 0, "wav": 0, "poll": 1});
    assert_eq!((&told["joined"], &told["most"], &told["byTransport"]), (&json!(2), &json!(2), &by), "{told}");
    assert_eq!((&told["startTime"], &told["listeners"]), (&json!(1_700_000_000_000_i64), &json!(0)));
    assert!((90..96).contains(&told["listenedSeconds"].as_i64().expect("a number")), "{told}");
    let minutes =
        [json!({"at": 1_700_000_000_000_i64, "listeners": 2}), json!({"at": 1_700_000_060_000_i64, "listeners": 1})];
    assert_eq!(told["minutes"], json!(minutes));
    assert_eq!(server.send("GET", path, &[], "").await.status, 401);
    server.advance(300_000);
    server.relay.sessions.tick(server.relay.now());
    assert_eq!(server.get(path).await.status, 404);
}

#[tokio::test]
async fn without_a_store_nothing_is_recorded() {
    let server = server(|_| {});
    server.start().await;
    let path = "/api/v1/share/123456/recording";
    let reply = server.post(path, json!({"on": true})).await;
    assert_eq!((reply.status, &reply.json()["code"]), (409, &json!("conflict")));
    let nothing = json!({"on": false, "since": null, "bytes": 0, "object": null, "stored": false, "error": null});
    assert_eq!(server.get(path).await.json(), nothing);
    assert_eq!(server.post(path, json!({"on": 1})).await.status, 400);
    assert_eq!(server.send("POST", path, &[], "{}").await.status, 401);
}

#[tokio::test]
async fn a_large_cover_is_shown_small_and_polled_as_it_came() {
    let server = server(|_| {});
    server.start().await;
    let noise = |x: u32, y: u32| x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519);
    let picture = RgbImage::from_fn(700, 700, |x, y| image::Rgb([0, 1, 2].map(|at| noise(x, y).to_be_bytes()[at])));
    let mut png = std::io::Cursor::new(Vec::new());
    DynamicImage::from(picture).write_to(&mut png, ImageFormat::Png).expect("it is written");
    let cover = STANDARD.encode(png.into_inner());
    assert!(cover.len() > 400_000);
    let song = json!({"title": "x", "thumbnailData": cover});
    assert_eq!(server.post("/api/share/123456/metadata", song).await.status, 200);
    let shown = server.get("/api/v1/share/123456/thumb").await;
    assert_eq!((shown.status, &shown.headers["content-type"]), (200, &http::HeaderValue::from_static("image/jpeg")));
    assert!(shown.body.len() <= 200_000, "{}", shown.body.len());
    assert_eq!(server.get("/api/v1/share/123456/thumb").await.body, shown.body);
    assert_eq!(server.get("/api/share/123456/metadata").await.json()["thumbnailData"], cover);

    let broken = STANDARD.encode([&[0xff, 0xd8, 0xff][..], &[7; 300_000]].concat());
    server.advance(1_000);
    let song = json!({"title": "y", "thumbnailData": broken});
    assert_eq!(server.post("/api/share/123456/metadata", song).await.status, 200);
    assert_eq!(server.get("/api/v1/share/123456/thumb").await.status, 404, "nobody could show it");
    assert_eq!(server.get("/api/share/123456/metadata").await.json()["title"], "y");
}

/// Asks for a stream; what is sent until `stop` is done and the stream has ended.
async fn stream(server: &Server, path: &str, meanwhile: impl Future<Output = ()>) -> (Bytes, http::HeaderMap) {
    let request = Request::get(path).header("authorization", "Bearer Token").body(Body::empty()).expect("a request");
    let answer = server.router.clone().oneshot(request).await.expect("an answer");
    let headers = answer.headers().clone();
    let (body, ()) = tokio::join!(tokio::time::timeout(LIMIT, answer.into_body().collect()), meanwhile);
    (body.expect("it ends").expect("a body").to_bytes(), headers)
}

#[tokio::test]
async fn floats_come_as_wave_bit_by_bit_until_their_format_changes() {
    let server = server(|_| {});
    server.start().await;
    let mut expected = Vec::new();
    let meanwhile = async {
        for sequence in 0..10 {
            let (body, bytes) = chunk(sequence);
            assert_eq!(server.post("/api/share/123456/audio", body).await.status, 200);
            expected.extend(bytes);
            server.advance(93);
            tokio::task::yield_now().await;
        }
        let mut other = chunk(10).0;
        other["sampleRate"] = json!(48_000);
        assert_eq!(server.post("/api/share/123456/audio", other).await.status, 200);
        server.advance(500);
    };
    let (wave, headers) = stream(&server, "/api/v1/share/123456/stream.wav", meanwhile).await;
    assert_eq!(headers["content-type"], "audio/wav");
    let head =
        crate::audio::wav::wav_header(crate::audio::packet_queue::AudioFormat { sample_rate: 44_100, channels: 2 });
    assert!(wave.starts_with(&head));
    assert!(wave[head.len()..] == expected, "{} bytes of {}", wave.len() - head.len(), expected.len());
}

#[tokio::test]
async fn ogg_ends_as_it_should() {
    let server = server(|_| {});
    server.start().await;
    let meanwhile = async {
        for sequence in 0..10 {
            assert_eq!(server.post("/api/share/123456/audio", chunk(sequence).0).await.status, 200);
            server.advance(93);
        }
        server.post("/api/share/123456/stop", json!(null)).await;
    };
    let (pages, _) = stream(&server, "/api/v1/share/123456/stream.ogg", meanwhile).await;
    let mut reader = ogg::PacketReader::new(std::io::Cursor::new(pages));
    let mut last = None;
    while let Some(packet) = reader.read_packet().expect("good pages") {
        last = Some((packet.last_in_stream(), packet.first_in_stream()));
    }
    assert_eq!(last, Some((true, false)));
}

/// Sends chunks of so many stereo frames at this rate at one moment; returns how many are taken.
async fn taken_at_once(frames: usize, rate: &str) -> usize {
    let server = server(|_| {});
    server.start().await;
    for sequence in 0..100 {
        let number = sequence.to_string();
        let headers = [
            ("authorization", "Bearer Token"),
            ("content-type", "application/octet-stream"),
            ("x-sample-rate", rate),
            ("x-channels", "2"),
            ("x-timestamp", "5"),
            ("x-sequence-number", &number),
        ];
        let reply = server.send("POST", "/api/share/123456/audio", &headers, vec![0; frames * 8]).await;
        if reply.status == 429 {
            return sequence;
        }
        assert_eq!(reply.status, 200, "{frames} frames at {rate}");
    }
    panic!("{frames} frames at {rate} are never too many")
}

#[tokio::test]
async fn chunks_bytes_and_audio_of_a_host_have_each_a_limit() {
    assert_eq!(taken_at_once(8, "48000").await, 50, "chunks");
    assert_eq!(taken_at_once(4096, "8000").await, 14, "7.5 seconds in chunks of 512 ms");
    assert_eq!(taken_at_once(100_000, "192000").await, 5, "4 MiB in chunks of 800 KB");
}

#[tokio::test]
async fn over_the_most_transcodes_whoever_needs_one_gets_503() {
    let server = server(|settings| settings.max_transcodes = 0);
    server.start().await;
    assert_eq!(server.post("/api/share/123456/audio", chunk(0).0).await.status, 200);
    let ask = async || {
        let request = Request::get("/api/v1/share/123456/stream.ogg").header("authorization", "Bearer Token");
        let answer = server.router.clone().oneshot(request.body(Body::empty()).expect("a request")).await;
        answer.expect("an answer").status().as_u16()
    };
    let refused = async {
        // The pool refuses beside the first request.
        while ask().await != 503 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, refused).await.expect("there is none to be had");
    assert!(server.relay.metrics.refused_transcodes.get() >= 1);
    assert_eq!(server.relay.metrics.active_transcodes.get(), 0);
}
