//! What a grant opens.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{Cinema, film, films, signed_anew};
use crate::catalogue::{bearer, send};
use crate::support::fault::{End, Step};
use crate::support::origin::pattern;
use crate::support::{LIMIT, Object, Redis, ScriptedOrigin, eventually, in_time, token};
use vod::grant::{GRANT_COOKIE, GRANT_HEADER, path_without_token};

/// A store with two films and a key.
async fn store() -> ScriptedOrigin {
    let origin = ScriptedOrigin::start().await;
    origin.put("/vod/movies/b1/720p/seg-1.ts", Object::new("first segment"));
    origin.put("/vod/movies/b2/720p/seg-1.ts", Object::new("of another film"));
    origin.put("/vod/movies/b1/own.key", Object::new("own key"));
    origin.put("/vod/keys/b1/k.key", Object::new("key"));
    origin.put("/vod/secret", Object::new("secret"));
    origin
}

#[tokio::test]
async fn a_grant_opens_its_film_and_nothing_else() {
    let origin = store().await;
    let cinema = Cinema::before(&origin).await;
    let (gate, client, token) = (&cinema.gate, cinema.gate.client(), cinema.token("b1").await);
    origin.take_seen();
    assert!(token.len() <= 120, "{}", token.len());
    let below = |path: &str| format!("/v/{token}{path}");
    let segment = below("/movies/b1/720p/seg-1.ts");
    assert_eq!(client.get(&segment, &[]).await.is(200).text(), "first segment");
    assert_eq!(client.head(&segment, &[]).await.is(200).header("content-length"), "13");
    let asked = origin.seen().len();
    for other in
        ["/movies/b2/720p/seg-1.ts", "/movies/b1%2F/720p/seg-1.ts", "/movies/B1/720p/seg-1.ts", "/keys/b2/k.key"]
    {
        assert_eq!(client.get(&below(other), &[]).await.problem(403)["code"], "forbidden", "{other}");
    }
    for outside in
        ["/movies/b1/../b2/720p/seg-1.ts", "/movies/b1/%2e%2e/b2/x", "/movies/b1/..%2fb2/x", "/movies/b1/..%5cb2/x"]
    {
        let mut raw = gate.raw().await;
        raw.send(format!("GET {} HTTP/1.1\r\nHost: gate\r\n\r\n", below(outside)).as_bytes()).await;
        let head = raw.head().await.expect("it answers");
        assert!(head.starts_with("HTTP/1.1 400"), "{outside}: {head}");
    }
    for nothing in ["/", "", "/secret", "/movies", "/movies/b1", "/api/v1/tracks", "/health"] {
        client.get(&below(nothing), &[]).await.problem(404);
    }
    client.get(&below("/movies/b1/none.ts"), &[]).await.problem(404);
    client.send(Method::POST, &segment, &[]).await.problem(405);
    client.get(&format!("{segment}?X-Amz-Signature=00"), &[]).await.problem(400);
    assert_eq!(origin.seen().len(), asked + 1, "only the film's own missing segment was asked for");
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_and_counted() {
    let origin = store().await;
    let cinema = Cinema::before(&origin).await;
    let (gate, client, token) = (&cinema.gate, cinema.gate.client(), cinema.token("b1").await);
    origin.take_seen();
    let other = if token.ends_with('A') { "B" } else { "A" };
    let tampered = format!("{}{other}", &token[..token.len() - 1]);
    for (token, cause) in [(&*tampered, "bad_signature"), (&token[1..], "malformed"), ("x", "malformed")] {
        for place in ["/movies/b1/720p/seg-1.ts", "/movies/none/x", "/nowhere"] {
            let refused = client.get(&format!("/v/{token}{place}"), &[("origin", "https://app.example")]).await;
            assert_eq!(refused.problem(401)["code"], "unauthorized");
            assert!(!refused.header("www-authenticate").is_empty());
            assert_eq!(refused.header("access-control-allow-origin"), "https://app.example", "a page can read why");
        }
        let line = eventually("the access line", async || {
            gate.access_lines().into_iter().rev().find(|line| line["cause"] == cause)
        });
        let path = line.await["path"].to_string();
        assert!(path.starts_with("\"/v/***/"), "{path}");
    }
    assert_eq!(client.get("/v/b1/movies/b1/720p/seg-1.ts", &[]).await.problem(401)["code"], "unauthorized");
    let by_unknown_key = signed_anew(&token, "b1", 1);
    client.get(&format!("/v/{by_unknown_key}/movies/b1/720p/seg-1.ts"), &[]).await.problem(401);
    assert!(origin.seen().is_empty(), "the store is asked for nobody");
    // Too many are told to wait; a good one is let in all the same.
    let mut statuses = Vec::new();
    for _ in 0..100 {
        statuses.push(client.get(&format!("/v/{tampered}/movies/b1/720p/seg-1.ts"), &[]).await.status.as_u16());
    }
    assert!(statuses.contains(&429) && statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    client.get(&format!("/v/{token}/movies/b1/720p/seg-1.ts"), &[]).await.is(200);
}

#[tokio::test]
async fn two_keys_of_grants_are_good_at_once() {
    let origin = store().await;
    let mut config = films(&origin.url(), "vod");
    config["Vod"]["Grant"]["Keys"] =
        json!([{ "Id": 2, "Key": "env:NEW_GRANT_KEY" }, { "Id": 1, "Key": "env:OLD_GRANT_KEY" }]);
    let cinema = Cinema::open(config).await;
    origin.put("/vod/movies/b1/index.m3u8", Object::new("#EXTM3U\n"));
    let token = cinema.token("b1").await;
    for key in [0, 1] {
        let path = format!("/v/{}/movies/b1/720p/seg-1.ts", signed_anew(&token, "b1", key));
        cinema.gate.client().get(&path, &[]).await.is(200);
    }
}

#[tokio::test]
async fn a_header_or_a_cookie_carries_a_grant_where_the_films_id_stands_for_it() {
    let origin = store().await;
    let cinema = Cinema::before(&origin).await;
    let (client, token) = (cinema.gate.client(), cinema.token("b1").await);
    origin.take_seen();
    let path = path_without_token(&film("b1"), "720p/seg-1.ts");
    client.get(&path, &[]).await.problem(401);
    let ask = async |grant: &str| {
        let request = client.request(Method::POST, "/api/v1/stream/b1").header("authorization", bearer("ada"));
        let response = request.json(&json!({ "manifest_type": "hls", "grant": grant })).send().await;
        response.expect("it answers")
    };
    let said: Value = ask("header").await.json().await.expect("JSON");
    assert!(said["manifest_url"].as_str().is_some_and(|url| url.ends_with("/v/b1/movies/b1/index.m3u8")), "{said}");
    client.get(&path, &[(GRANT_HEADER, said["grant"].as_str().expect("a token"))]).await.is(200);
    let answer = ask("cookie").await;
    let set = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(
        set.contains("; Path=/v/b1; ") && set.contains("Secure; HttpOnly") && set.ends_with("Partitioned"),
        "{set}"
    );
    client.get(&path, &[("cookie", set.split(';').next().expect("a pair"))]).await.is(200);
    assert_eq!(client.get(&path, &[(GRANT_HEADER, &token)]).await.is(200).text(), "first segment");
    let cookie = format!("theme=dark; {GRANT_COOKIE}={token}");
    client.get(&path, &[("cookie", &cookie)]).await.is(200);
    client.get(&path, &[(GRANT_HEADER, "x"), ("cookie", &cookie)]).await.problem(401);
    let other = path_without_token(&film("b2"), "720p/seg-1.ts");
    client.get(&other, &[(GRANT_HEADER, &token)]).await.problem(403);
    assert!(!format!("{:?}", origin.seen()).contains(&token), "the store saw the token");
}

#[tokio::test]
async fn a_token_is_in_no_log_no_metric_and_no_request_to_the_store() {
    let origin = store().await;
    let mut config = films(&origin.url(), "vod");
    config["Telemetry"]["LogLevel"] = json!("debug");
    let cinema = Cinema::open(config).await;
    origin.put("/vod/movies/b1/index.m3u8", Object::new("#EXTM3U\n"));
    let (gate, client, token) = (&cinema.gate, cinema.gate.client(), cinema.token("b1").await);
    let broken = format!("{}x", &token[..token.len() - 1]);
    for token in [&token, &broken] {
        for place in
            ["/movies/b1/720p/seg-1.ts", "/movies/b1/none", "/keys/b1/k.key", "/movies/b2/x", "/x", "/movies/b1/../x"]
        {
            let reply = client.get(&format!("/v/{token}{place}"), &[]).await;
            assert_eq!(reply.header("referrer-policy"), "no-referrer", "{place}");
            assert!(!reply.text().contains(&**token), "{place}");
        }
    }
    // Spelt so that it is no film's path.
    client.get(&format!("/V/{token}/movies/b1/x"), &[]).await;
    client.get(&format!("/x/{token}"), &[]).await;
    eventually("the access lines", async || (gate.access_lines().len() >= 14).then_some(())).await;
    let page = gate.metrics().await;
    for token in [&token, &broken] {
        assert!(!gate.log().contains(&token[..60]), "the token is in the log");
        assert!(!page.contains(&token[..60]), "the token is in the metrics");
        assert!(!format!("{:?}", origin.seen()).contains(&token[..60]), "the store saw the token");
    }
    assert!(gate.log().contains("/v/***/movies/b1/720p/seg-1.ts"));
}

#[tokio::test]
async fn many_viewers_at_once_share_one_request_for_each_slice() {
    let origin = store().await;
    // Three slices and a part of one.
    let segment = pattern(3 * (256 << 10) + 1000);
    origin.put("/vod/movies/b1/long.ts", Object::new(segment.clone()));
    let cinema = Cinema::before(&origin).await;
    let client = cinema.gate.client();
    let mut paths = Vec::new();
    for _ in 0..20 {
        paths.push(cinema.path("b1", "long.ts").await);
    }
    origin.take_seen();
    let whole = paths.iter().map(|path| async { client.get(path, &[]).await.is(200).body.clone() });
    for body in join_all(whole).await {
        assert_eq!(body, segment);
    }
    assert_eq!(origin.seen().len(), 4, "{:?}", origin.seen());
    // Over the end of a slice, from the copy.
    let part = client.range(&paths[0], "bytes=262140-262150").await;
    assert_eq!(part.is(206).body, segment[262_140..=262_150]);
    assert_eq!(origin.seen().len(), 4);
}

#[tokio::test]
async fn a_segment_whose_body_breaks_off_is_continued() {
    for cache in ["Default", "Disable"] {
        let origin = store().await;
        let segment = pattern(700_000);
        origin.put("/vod/movies/b1/long.ts", Object::new(segment.clone()));
        for movie in ["b1", "b2"] {
            origin.put(&format!("/vod/movies/{movie}/index.m3u8"), Object::new("#EXTM3U\n"));
        }
        let mut config = films(&origin.url(), "vod");
        config["Vod"]["OutputCachePolicy"] = json!(cache);
        let cinema = Cinema::open(config).await;
        let path = cinema.path("b1", "long.ts").await;
        origin.take_seen();
        origin.script([Step::Body { send: 100_000, end: End::Reset }]);
        assert_eq!(cinema.gate.client().get(&path, &[]).await.is(200).body, segment, "{cache}");
        let asked = origin.seen();
        let rest = asked.iter().find(|request| request.header("if-match").is_some());
        assert!(rest.is_some_and(|request| request.header("range").is_some()), "{cache}: {asked:?}");
    }
}

#[tokio::test]
async fn all_viewers_share_one_cached_copy_with_ranges() {
    let origin = store().await;
    let cinema = Cinema::before(&origin).await;
    let client = cinema.gate.client();
    let mut paths = Vec::new();
    for _ in 0..3 {
        paths.push(cinema.path("b1", "720p/seg-1.ts").await);
    }
    origin.take_seen();
    for path in paths {
        assert_eq!(client.get(&path, &[]).await.is(200).text(), "first segment");
        let part = client.range(&path, "bytes=6-12").await;
        assert_eq!((part.is(206).text().as_str(), part.header("content-range")), ("segment", "bytes 6-12/13"));
        let etag = part.header("etag").to_owned();
        client.get(&path, &[("if-none-match", &etag)]).await.is(304);
    }
    assert_eq!(origin.seen().len(), 1, "{:?}", origin.seen());
}

#[tokio::test]
async fn a_key_is_never_kept_and_is_given_out_so_often_only() {
    let origin = store().await;
    let cinema = Cinema::before(&origin).await;
    let (client, token) = (cinema.gate.client(), cinema.token("b1").await);
    origin.take_seen();
    let keys = ["/keys/b1/k.key", "/movies/b1/own.key"];
    for place in keys {
        let key = client.get(&format!("/v/{token}{place}"), &[]).await;
        assert_eq!(key.is(200).header("cache-control"), "no-store");
    }
    let mut statuses = Vec::new();
    for number in 0..70 {
        statuses.push(client.get(&format!("/v/{token}{}", keys[number % 2]), &[]).await.status.as_u16());
    }
    let given = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((given, statuses.last()), (58, Some(&429)), "{statuses:?}");
    assert_eq!(origin.seen().len(), 60, "each was asked for");
    client.get(&format!("/v/{token}/movies/b1/720p/seg-1.ts"), &[]).await.is(200);
}

#[tokio::test]
async fn segments_are_immutable_and_pages_of_allowed_sites_read_their_ranges() {
    let origin = store().await;
    for name in ["a.m4s", "a.mp4", "sub.vtt", "x.bin"] {
        origin.put(&format!("/vod/movies/b1/{name}"), Object::new("x"));
    }
    let cinema = Cinema::before(&origin).await;
    let client = cinema.gate.client();
    let page = [("origin", "https://app.example"), ("range", "bytes=0-0")];
    for (name, kind, lasts) in [
        ("720p/seg-1.ts", "video/mp2t", "private, max-age=31536000, immutable"),
        ("a.m4s", "video/iso.segment", "private, max-age=31536000, immutable"),
        ("a.mp4", "video/mp4", "private, max-age=31536000, immutable"),
        ("sub.vtt", "text/vtt", "private, max-age=60"),
        ("x.bin", "audio/mpeg", "private, max-age=60"),
    ] {
        let reply = client.get(&cinema.path("b1", name).await, &page).await;
        assert_eq!((reply.is(206).header("content-type"), reply.header("cache-control")), (kind, lasts), "{name}");
        assert_eq!(reply.header("access-control-allow-origin"), "https://app.example");
        let exposed = reply.header("access-control-expose-headers");
        for name in ["content-range", "accept-ranges", "content-length"] {
            assert!(exposed.contains(name), "{exposed}");
        }
    }
    let asked = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "range, x-film-grant"),
    ];
    // A browser asks without a look at the token.
    let preflight = client.send(Method::OPTIONS, "/v/x/movies/b1/a.m4s", &asked).await;
    let allowed = preflight.is(204).header("access-control-allow-headers");
    assert!(allowed.contains("range") && allowed.contains("x-film-grant"), "{allowed}");
    let foreign = client.get(&cinema.path("b1", "a.m4s").await, &[("origin", "https://evil.example")]).await;
    assert_eq!(foreign.is(200).header("access-control-allow-origin"), "");
}

/// Ends all sessions of a user.
pub async fn revoke(cinema: &Cinema, user: &str) {
    let mut claims = token::claims("operator");
    claims["role"] = json!("admin");
    let operator = format!("Bearer {}", token::with(&claims));
    let path = format!("/api/v1/admin/stream-sessions?user_id={user}");
    let reply = send(&cinema.gate, Method::DELETE, &path, &operator, None).await;
    assert!(reply.status.is_success(), "{}", reply.text());
}

#[tokio::test]
async fn a_revoked_session_ends_within_seconds_and_says_why() {
    let origin = store().await;
    let cinema = Cinema::before(&origin).await;
    let client = cinema.gate.client();
    let path = cinema.start_as("ada", "b1").await;
    let (segment, key) = (path.replace("index.m3u8", "720p/seg-1.ts"), path.replace("index.m3u8", "own.key"));
    client.get(&segment, &[]).await.is(200);
    client.get(&key, &[]).await.is(200);
    revoke(&cinema, "ada").await;
    assert_eq!(client.get(&key, &[]).await.problem(403)["code"], "session_ended", "a key at once");
    // Asked ten times a second at most: after fifty answers five seconds have passed.
    let mut pace = interval(Duration::from_millis(100));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut served = 0;
    let refused = loop {
        pace.tick().await;
        let reply = client.get(&segment, &[]).await;
        if reply.status == 403 {
            break reply;
        }
        served += 1;
        assert!(served <= 50, "it is still served after five seconds");
    };
    let problem = refused.problem(403);
    assert_eq!((&problem["code"], &problem["detail"]), (&json!("session_ended"), &json!("the session was revoked")));
    let line = cinema.gate.access_lines().into_iter().find(|line| line["cause"] == "session_revoked");
    assert_eq!(line.expect("the operator sees why")["user"], json!(null));
}

#[tokio::test]
async fn a_body_under_way_breaks_off_when_its_session_is_revoked() {
    let origin = store().await;
    let film = pattern(8 << 20);
    origin.put("/vod/movies/b1/whole.mp4", Object::new(film.clone()));
    let cinema = Cinema::before(&origin).await;
    let path = cinema.start_as("ada", "b1").await.replace("index.m3u8", "whole.mp4");
    origin.take_seen();
    origin.always(Step::Body { send: 300_000, end: End::Stall });
    let mut raw = cinema.gate.raw().await;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await;
    let head = raw.head().await.expect("it answers");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    revoke(&cinema, "ada").await;
    let rest = in_time("the body breaks off", raw.rest(LIMIT)).await;
    assert!(rest.map_or(0, |bytes| bytes.len()) < film.len());
    eventually("the log says why", async || {
        cinema.gate.access_lines().into_iter().find(|line| line["cause"] == "session_revoked")
    })
    .await;
}

#[tokio::test]
async fn a_grant_is_good_at_every_node_and_ends_at_every_node_and_redis_away_stops_nobody() {
    let (origin, Some(mut redis)) = (store().await, Redis::start()) else { return };
    origin.put("/vod/movies/b1/index.m3u8", Object::new("#EXTM3U\n"));
    let mut config = films(&origin.url(), "vod");
    config["State"] = json!({ "Url": redis.url() });
    let (one, two) = (Cinema::open(config.clone()).await, Cinema::open(config).await);
    let (adas, bobs) = (one.start_as("ada", "b1").await, one.start_as("bob", "b1").await);
    let names = |path: &str| ["720p/seg-1.ts", "own.key"].map(|name| path.replace("index.m3u8", name));
    let [segment, key] = names(&adas);
    for cinema in [&one, &two] {
        cinema.gate.client().get(&segment, &[]).await.is(200);
        cinema.gate.client().get(&key, &[]).await.is(200);
    }
    revoke(&two, "ada").await;
    for cinema in [&one, &two] {
        let client = cinema.gate.client();
        assert_eq!(client.get(&key, &[]).await.problem(403)["code"], "session_ended", "a key at once, everywhere");
        let mut pace = interval(Duration::from_millis(100));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut served = 0;
        while client.get(&segment, &[]).await.status != 403 {
            pace.tick().await;
            served += 1;
            assert!(served <= 50, "it is still served after five seconds");
        }
    }
    // Who is known plays on, who is not is believed; a key is for nobody.
    redis.stop();
    let [segment, key] = names(&bobs);
    for cinema in [&one, &two] {
        cinema.gate.client().get(&segment, &[]).await.is(200);
        cinema.gate.client().get(&key, &[]).await.problem(503);
    }
}
