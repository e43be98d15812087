//! What is refused, and leaves nothing behind.

use super::station::Station;
use super::*;

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_however_they_are_reached() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let port = station.url("").rsplit(':').next().expect("a port").to_owned();
    let elsewhere = ["127.0.0.2", "0x7f.0.0.2", "2130706434", "[::ffff:127.0.0.2]", "[::1]", "0.0.0.0", "[::]"];
    let elsewhere = elsewhere.map(|host| format!("http://{host}:{port}/live.mp3"));
    let others = [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://10.0.0.1/",
        "http://[64:ff9b::7f00:2]/",
    ];
    let led = ["/to-loopback", "/to-mapped", "/to-metadata", "/to-file", "/to-user", "/to-loopback.pls"];
    let led = led.map(|path| station.url(path));
    for url in elsewhere.into_iter().chain(others.map(str::to_owned)).chain(led) {
        let body = json!({ "name": "Inside", "url": url });
        let said = admin.send(Method::POST, "streams", Some(&body)).await.problem(422);
        let detail = said["detail"].as_str().expect("a detail");
        assert!(!detail.contains("127.0.0") && !detail.contains(&port), "{url}: {detail}");
    }
    assert_eq!(admin.get("streams").await["items"], json!([]), "nothing is kept");
    assert_eq!(station.plays(), 0, "and nothing was connected to");
}

#[tokio::test]
async fn a_segment_or_a_variant_of_hls_that_is_not_public_is_refused() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    for path in [
        "/hls-to-loopback.m3u8",
        "/hls-to-metadata.m3u8",
        "/hls-moved.m3u8",
        "/variants-to-loopback.m3u8",
        "/variants-moved.m3u8",
    ] {
        let body = json!({ "name": "Inside", "url": station.url(path) });
        let said = admin.send(Method::POST, "streams", Some(&body)).await.problem(422);
        let detail = said["detail"].as_str().expect("a detail");
        assert!(detail.contains("its address is not a public one") && !detail.contains("127.0.0"), "{path}: {detail}");
    }
    assert_eq!(admin.get("streams").await["items"], json!([]), "nothing is kept");
    // Whose segments are where they may be is a station.
    for path in ["/hls.m3u8", "/variants.m3u8"] {
        let body = json!({ "name": "Outside", "url": station.url(path) });
        let listed = json_of(admin.send(Method::POST, "streams", Some(&body)).await.is(201));
        assert_eq!((&listed["hls"], &listed["codec"]), (&json!(true), &json!("mp3")), "{path}");
        admin.send(Method::DELETE, &format!("streams/{}", id_of(&listed)), None).await.is(204);
    }
}

#[tokio::test]
async fn what_is_no_station_is_refused() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let good = station.url("/live.mp3");
    let with = |member: &str, value: Value| {
        let mut body = json!({ "name": "One", "url": good });
        body[member] = value;
        body
    };
    let at = |path: &str| with("url", json!(station.url(path)));
    for (body, status) in [
        (at("/page"), 422),
        (at("/empty"), 422),
        (at("/missing"), 422),
        (at("/loop"), 422),
        (at("/loop.m3u"), 422),
        (at("/endless.pls"), 422),
        (at("/endless-head"), 422),
        (with("url", json!("ftp://radio.example/live")), 422),
        (with("url", json!("javascript:alert(1)")), 422),
        (with("url", json!(good.replace("http://", "http://user@"))), 422),
        (with("url", json!("radio.example")), 422),
        (with("url", json!("http://127.0.0.1:22/")), 422),
        (with("url", json!("http://radio.invalid/")), 422),
        (with("url", json!(format!("{good}?{}", "x".repeat(2048)))), 422),
        (with("url", json!(5)), 400),
        (with("name", json!("<b>One</b>")), 422),
        (with("name", json!("")), 422),
        (with("name", json!("x".repeat(129))), 422),
        (with("name", json!("two\nlines")), 422),
        (with("genre", json!("<script>")), 422),
        (with("country", json!("x".repeat(65))), 422),
        (with("fallback_id", json!("01997b6e-5f3c-7c2e-9d0a-1f2e3d4c5b6a")), 422),
        (with("fallback_id", json!("none")), 400),
        (with("logo", json!("x")), 400),
        (json!({ "name": "One" }), 400),
        (with("name", json!("x".repeat(9000))), 413),
    ] {
        admin.send(Method::POST, "streams", Some(&body)).await.problem(status);
    }
    // 256 KiB of the playlist and 16 KiB of the head, and what was on its way then.
    let taken = station.flooded();
    assert!((256 << 10..768 << 10).contains(&taken), "what has no end is cut at its bound: {taken} bytes");
    assert_eq!(admin.get("streams").await["items"], json!([]), "nothing is kept");
}

#[tokio::test]
async fn queries_and_bodies_that_are_none_are_refused() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let (admin, good) = (Client::admin(&gate), station.url("/live.mp3"));
    for query in ["?limit=0", "?limit=101", "?genre=a%0Ab"] {
        admin.send(Method::GET, &format!("streams{query}"), None).await.problem(422);
    }
    for query in ["?cursor=x", "?limit=-1", "?other=1"] {
        admin.send(Method::GET, &format!("streams{query}"), None).await.problem(400);
    }
    for (body, status) in [
        (json!({}), 400),
        (json!({ "url": good, "stream_id": "01997b6e-5f3c-7c2e-9d0a-1f2e3d4c5b6a" }), 400),
        (json!({ "url": good, "channel_id": "a\u{0}" }), 400),
        (json!({ "url": "ftp://x/" }), 422),
        (json!({ "url": good, "to_players": true }), 422),
        (json!({ "url": good }), 404),
        (json!({ "stream_id": "01997b6e-5f3c-7c2e-9d0a-1f2e3d4c5b6a" }), 404),
    ] {
        admin.send(Method::POST, "play", Some(&body)).await.problem(status);
    }
    admin.send(Method::GET, "streams/none", None).await.problem(400);
    admin.send(Method::GET, "01997b6e-5f3c-7c2e-9d0a-1f2e3d4c5b6a/live", None).await.problem(404);
    admin.send(Method::GET, "01997b6e-5f3c-7c2e-9d0a-1f2e3d4c5b6a/now", None).await.problem(404);
    admin.send(Method::GET, "directory", None).await.problem(404);
}

#[tokio::test]
async fn a_type_that_a_station_invents_reaches_no_browser() {
    let folder = TempFolder::new("radio");
    let (gate, station) = (Gate::start(&in_a_file(&folder)).await, Station::start().await);
    let admin = Client::admin(&gate);
    let added = admin.add("Lying", &station.url("/lying")).await;
    let sound = admin.hear(id_of(&added)).await;
    let header = |name: &str| sound.response.headers().get(name).map(|value| value.to_str().expect("text"));
    assert_eq!((header("content-type"), header("x-content-type-options")), (Some("audio/mpeg"), Some("nosniff")));
    assert_eq!((header("accept-ranges"), header("cache-control")), (Some("none"), Some("no-store")));
    assert_eq!(header("set-cookie"), None);
}

#[tokio::test]
async fn the_list_is_changed_by_administrators_and_read_by_users() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    let limit = |permits: u32| json!({ "FixedWindow": { "PermitLimit": permits, "Window": "1d" } });
    config["Policies"]["RateLimiter"] = json!({ "standard": limit(2), "strict": limit(1), "radio": limit(1) });
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let (admin, alice) = (Client::admin(&gate), Client::new(&gate, "alice"));
    let body = json!({ "name": "One", "url": station.url("/live.mp3") });
    alice.send(Method::POST, "streams", Some(&body)).await.problem(403);
    let added = admin.add_with(body.clone()).await;
    admin.send(Method::POST, "streams", Some(&body)).await.problem(429);
    let one = format!("streams/{}", id_of(&added));
    admin.send(Method::DELETE, &one, None).await.problem(429);
    admin.send(Method::PUT, &one, Some(&body)).await.problem(429);
    let played = alice.play(id_of(&added)).await;
    alice.get(&one).await;
    alice.send(Method::GET, &one, None).await.problem(429);
    let play_url = played["play_url"].as_str().expect("an address");
    drop(Sound::of(gate.client().request(Method::GET, play_url).send().await.expect("the gate answers")));
    gate.client().get(play_url, &[]).await.problem(429);
    for (method, what) in [
        (Method::POST, "streams"),
        (Method::GET, "streams"),
        (Method::POST, "play"),
        (Method::PUT, one.as_str()),
        (Method::DELETE, one.as_str()),
    ] {
        gate.client().send(method, &path(what), &[]).await.problem(401);
    }
    drop(gate);
    config["Radio"]["Enabled"] = json!(false);
    let gate = Gate::start(&config).await;
    Client::new(&gate, "alice").send(Method::GET, "streams", None).await.problem(404);
    assert!(!gate.metrics().await.contains("tidegate_radio_"));
}

#[tokio::test]
async fn a_ticket_opens_its_station_alone() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Radio"]["MaxListenersPerUser"] = json!(1);
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let admin = Client::admin(&gate);
    let one = admin.add("One", &station.url("/live.mp3")).await;
    let two = admin.add("Two", &station.url("/other.mp3")).await;
    let played = admin.play(id_of(&one)).await;
    let ticket = played["play_url"].as_str().and_then(|url| url.split("ticket=").nth(1)).expect("a ticket").to_owned();
    let anonymous = gate.client();
    let live = |station: &Value, ticket: &str| path(&format!("{}/live?ticket={ticket}", id_of(station)));
    for (station, ticket) in [(&two, ticket.as_str()), (&one, ""), (&one, &ticket[1..]), (&one, "AAAA")] {
        anonymous.get(&live(station, ticket), &[]).await.problem(401);
    }
    anonymous.get(&path(&format!("{}/live", id_of(&one))), &[]).await.problem(401);
    anonymous.get(&path(&format!("streams?ticket={ticket}")), &[]).await.problem(401);
    let head = anonymous.head(&live(&one, &ticket), &[]).await;
    assert_eq!(head.is(200).header("content-type"), "audio/mpeg");
    let mut sound = Sound::of(anonymous.request(Method::GET, &live(&one, &ticket)).send().await.expect("an answer"));
    sound.hear(1000).await;
    let refused = anonymous.get(&live(&one, &ticket), &[]).await;
    assert!(!refused.header("retry-after").is_empty() && refused.problem(429)["reset_after"].is_u64());
    assert!(!gate.log().contains(&ticket), "no log has it");
}

#[tokio::test]
async fn players_of_a_channel_that_is_none_of_the_users_begin_nothing() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config["Playback"] = json!({});
    let (gate, station) = (Gate::start(&config).await, Station::start().await);
    let listed = Client::admin(&gate).add("One", &station.url("/live.mp3")).await;
    let (alice, bob) = (Client::new(&gate, "alice"), Client::new(&gate, "bob"));
    let report = json!({ "session_id": "s", "seq": 1, "track_id": "t", "state": "paused", "position_ms": 0 });
    bob.0.send(Method::POST, "/api/v1/playback/report?channel_id=kitchen", Some(&report)).await.is(200);
    for (who, channel, status) in [(&alice, "kitchen", 404), (&alice, "nowhere", 404), (&bob, "kitchen", 200)] {
        let body = json!({ "stream_id": listed["id"], "channel_id": channel, "to_players": true });
        let reply = who.send(Method::POST, "play", Some(&body)).await;
        assert_eq!(reply.status, status, "{channel}: {}", reply.text());
        if status == 404 {
            let said = reply.problem(404)["detail"].as_str().expect("a detail").to_owned();
            assert!(said.starts_with("there is no such channel"), "{said}");
        }
    }
}

#[tokio::test]
async fn the_role_vip_has_the_elevated_class() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    let limit = |permits: u32| json!({ "FixedWindow": { "PermitLimit": permits, "Window": "1d" } });
    config["Policies"]["RateLimiter"] = json!({ "standard": limit(1), "elevated": limit(2) });
    let gate = Gate::start(&config).await;
    let mut claims = token::claims("vera");
    claims["role"] = json!("vip");
    let mut vip = Client::new(&gate, "vera");
    vip.0.authorization = format!("Bearer {}", token::with(&claims));
    for (client, most) in [(Client::new(&gate, "alice"), 1), (vip, 2)] {
        for _ in 0..most {
            client.get("streams").await;
        }
        client.send(Method::GET, "streams", None).await.problem(429);
    }
}

#[tokio::test]
async fn without_the_section_there_are_no_stations() {
    let folder = TempFolder::new("radio");
    let mut config = in_a_file(&folder);
    config.as_object_mut().expect("a map").remove("Radio");
    let gate = Gate::start(&config).await;
    let alice = Client::new(&gate, "alice");
    for (method, what) in [
        (Method::GET, "streams"),
        (Method::POST, "streams"),
        (Method::POST, "play"),
        (Method::GET, "directory"),
        (Method::GET, "01997b6e-5f3c-7c2e-9d0a-1f2e3d4c5b6a/live"),
        (Method::GET, "01997b6e-5f3c-7c2e-9d0a-1f2e3d4c5b6a/now"),
    ] {
        assert_eq!(alice.send(method, what, None).await.problem(404)["code"], "no_route", "{what}");
    }
    assert!(!gate.metrics().await.contains("tidegate_radio_"));
    assert!(!gate.client().get("/openapi.json", &[]).await.text().contains("/api/v1/radio/"));
}
