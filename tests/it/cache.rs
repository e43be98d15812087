//! What the cache keeps for everybody, and what the operator takes out of it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::Reply;
use crate::support::fault::Step;
use crate::support::gate::sum;
use crate::support::origin::pattern;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually, fault, gate, token};

/// The token of the operator.
pub const TOKEN: &str = "the admin's own token";

/// A gate before `origin` with a cached route for each path, bucket and key.
pub async fn cached(origin: &ScriptedOrigin, routes: &[(&str, &str, &str)]) -> Gate {
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    for (id, bucket, key) in routes {
        let mut route = config::object_route(&format!("/{id}/{{**key}}"), "main", bucket, key);
        route["OutputCachePolicy"] = json!("Default");
        config["ReverseProxy"]["Routes"][*id] = route;
    }
    config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
    Gate::start_with(&config, &[("ADMIN_TOKEN", TOKEN)]).await
}

async fn purge(gate: &Gate, scope: Value) {
    let request = gate.admin().request(Method::POST, "/cache/purge").bearer_auth(TOKEN).json(&scope);
    let reply = request.send().await.expect("it answers").error_for_status().expect("it purges");
    assert_eq!(reply.json::<Value>().await.expect("JSON"), json!({ "purged": scope, "durable": true }));
}

#[tokio::test]
async fn what_is_purged_by_its_route_is_served_old_by_no_other() {
    let origin = ScriptedOrigin::start().await;
    let routes = [
        ("songs", "audio", "songs/{**key}"),
        ("all", "audio", "{**key}"),
        ("again", "audio", "songs/{**key}"),
        ("elsewhere", "other", "{**key}"),
    ];
    let gate = cached(&origin, &routes).await;
    // Whether a purge of `songs` covers it. That route comes last: what it fetches anew would be there for the others.
    let table = [
        ("/all/songs/a", true),
        ("/again/a", true),
        ("/all/other", false),
        ("/elsewhere/songs/a", false),
        ("/songs/a", true),
    ];
    let put = |text: &'static str| {
        for path in ["/audio/songs/a", "/audio/other", "/other/songs/a"] {
            origin.put(path, Object::new(text));
        }
    };
    put("old");
    for (path, _) in table {
        assert_eq!(gate.client().get(path, &[]).await.is(200).text(), "old", "{path}");
    }
    put("new");
    purge(&gate, json!({ "route": "songs" })).await;
    let mut wrong = Vec::new();
    for (path, purged) in table {
        let text = gate.client().get(path, &[]).await.is(200).text();
        if text != if purged { "new" } else { "old" } {
            wrong.push((path, text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    // All of a bucket, by the route that has all of it.
    purge(&gate, json!({ "route": "all" })).await;
    for (path, text) in [("/all/other", "new"), ("/elsewhere/songs/a", "old")] {
        assert_eq!(gate.client().get(path, &[]).await.is(200).text(), text, "{path}");
    }
}

#[tokio::test]
async fn a_denial_of_one_moment_is_nobody_elses() {
    let origin = ScriptedOrigin::start().await;
    let gate = cached(&origin, &[]).await;
    let client = gate.client();
    for (number, headers) in [&[][..], &[("range", "bytes=-1")], &[("if-none-match", "\"x\"")]].into_iter().enumerate()
    {
        let path = format!("/cached/{number}");
        origin.put(&format!("/audio/{number}"), Object::new("music"));
        origin.always(fault::DENIED);
        client.get(&path, headers).await.problem(404);
        origin.reset();
        client.get(&path, headers).await.is(if headers.first().is_some_and(|(name, _)| *name == "range") {
            206
        } else {
            200
        });
    }
    // That there is none is believed for a moment.
    client.get("/cached/none", &[]).await.problem(404);
    origin.put("/audio/none", Object::new("music"));
    client.get("/cached/none", &[]).await.problem(404);
}

/// An answer whose cache state is said: that state, and the `Age`.
async fn states(gate: &Gate, method: Method, headers: &[(&str, &str)]) -> (u16, String, String) {
    let headers: Vec<_> = headers.iter().copied().chain([("x-tidegate-debug", TOKEN)]).collect();
    let reply: Reply = gate.client().send(method, "/cached/track.mp3", &headers).await;
    (reply.status.as_u16(), reply.header("x-tidegate-cache").to_owned(), reply.header("age").to_owned())
}

#[tokio::test]
async fn a_denied_object_is_asked_for_each_time_and_is_never_a_remembered_absence() {
    let origin = ScriptedOrigin::start().await;
    let gate = cached(&origin, &[]).await;
    origin.always(fault::DENIED);
    for number in 1..4 {
        origin.take_seen();
        let (status, state, age) = states(&gate, Method::GET, &[]).await;
        assert_eq!((status, &*state, &*age), (404, "miss", ""), "time {number}");
        assert!(!origin.seen().is_empty(), "time {number}");
    }
    assert_eq!(metric(&gate, "tidegate_cache_requests_total", "state=\"negative\"").await, 0.0);
}

#[tokio::test]
async fn age_is_said_of_what_was_served_without_asking_the_store() {
    let origin = ScriptedOrigin::with_track(pattern(1_000_000)).await;
    let gate = cached(&origin, &[]).await;
    let (first, third) = ("bytes=0-9", "bytes=786422-786431");
    for (method, headers, expected) in [
        (Method::GET, &[("range", first)][..], (206, "miss", false)),
        (Method::GET, &[("range", first)], (206, "hit", true)),
        // The object is known, but its bytes come from the store, which has said that they are of that version.
        (Method::GET, &[("range", third)], (206, "miss", false)),
        (Method::GET, &[("range", third)], (206, "hit", true)),
        (Method::GET, &[("range", "bytes=0-600000")], (206, "partial", true)),
        (Method::HEAD, &[], (200, "hit", true)),
        (Method::GET, &[("if-modified-since", "Fri, 31 Dec 2055 23:59:59 GMT")], (304, "hit", true)),
    ] {
        let (status, state, age) = states(&gate, method.clone(), headers).await;
        assert_eq!((status, &*state, age.parse::<u64>().is_ok()), expected, "{method} {headers:?}");
        eventually("nothing is under way", async || is_idle(&gate).await.then_some(())).await;
    }
}

/// A metric of a gate whose admin address has a token.
pub async fn metric(gate: &Gate, name: &str, labels: &str) -> f64 {
    let page = gate.admin().request(Method::GET, "/metrics").bearer_auth(TOKEN).send().await.expect("it answers");
    sum(&page.text().await.expect("text"), name, labels)
}

pub async fn is_idle(gate: &Gate) -> bool {
    metric(gate, "tidegate_cache_fills_total", "").await == metric(gate, "tidegate_cache_fills_ended_total", "").await
}

pub async fn ended(gate: &Gate, outcome: &str) -> f64 {
    metric(gate, "tidegate_cache_fills_ended_total", &format!("outcome=\"{outcome}\"")).await
}

#[tokio::test]
async fn the_first_question_of_a_player_is_kept_though_two_bytes_are_all_that_it_wants() {
    let body = pattern(1_000_000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = cached(&origin, &[]).await;
    origin.script([Step::Trickle { pieces: 8, pause: Duration::from_millis(50) }]);
    for state in ["miss", "hit"] {
        let headers = [("range", "bytes=0-1"), ("x-tidegate-debug", TOKEN)];
        let reply = gate.client().get("/cached/track.mp3", &headers).await;
        assert_eq!((&reply.is(206).body[..], reply.header("x-tidegate-cache")), (&body[..2], state));
        eventually("the slice is whole", async || (ended(&gate, "whole").await == 1.0).then_some(())).await;
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_slice_that_was_left_is_kept_when_it_is_asked_for_again() {
    let origin = ScriptedOrigin::with_track(pattern(1_000_000)).await;
    let gate = cached(&origin, &[]).await;
    origin.always(Step::Trickle { pieces: 8, pause: Duration::from_millis(50) });
    for (number, outcome, asked) in [(1, "cancelled", 1), (2, "whole", 2), (3, "whole", 2)] {
        gate.client().range("/cached/track.mp3", "bytes=300000-300001").await.is(206);
        eventually("the fill ends", async || (ended(&gate, outcome).await == 1.0).then_some(())).await;
        assert_eq!(origin.seen().len(), asked, "time {number}");
    }
}

#[tokio::test]
async fn a_long_read_that_is_left_fetches_no_further() {
    let origin = ScriptedOrigin::with_track(pattern(10_000_000)).await;
    let gate = cached(&origin, &[]).await;
    origin.always(Step::Trickle { pieces: 8, pause: Duration::from_millis(20) });
    let mut player = TcpStream::connect(gate.address()).await.expect("it listens");
    player.write_all(b"GET /cached/track.mp3 HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is sent");
    player.read_exact(&mut vec![0; 300_000]).await.expect("the second slice has begun");
    drop(player);
    eventually("all fills have ended", async || is_idle(&gate).await.then_some(())).await;
    assert!(origin.seen().len() <= 4, "{} of 39 slices", origin.seen().len());
    assert!(ended(&gate, "whole").await <= 3.0);
}

#[tokio::test]
async fn the_purge_after_a_thousand_drops_what_nobody_purged() {
    let origin = ScriptedOrigin::with_track(pattern(10)).await;
    let gate = cached(&origin, &[]).await;
    let client = gate.client();
    for number in 0..1000 {
        purge(&gate, json!({ "key": format!("{number}") })).await;
    }
    client.get("/cached/track.mp3", &[]).await.is(200);
    assert_eq!(states(&gate, Method::GET, &[]).await.1, "hit");
    purge(&gate, json!({ "key": "one more" })).await;
    assert_eq!(states(&gate, Method::GET, &[]).await.1, "miss");
    // From then on there is room for some 500 more.
    purge(&gate, json!({ "key": "and another" })).await;
    assert_eq!(states(&gate, Method::GET, &[]).await.1, "hit");
}

#[tokio::test]
async fn a_hit_is_for_who_may_have_it_and_no_client_makes_the_store_work() {
    const TRACK: &str = "/stream/track.mp3";
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::private_objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
    let gate = Gate::start_with(&config, &[("ADMIN_TOKEN", TOKEN)]).await;
    let bearer = format!("Bearer {}", token::of("alice"));
    let (authorised, debugged) = (("authorization", bearer.as_str()), ("x-tidegate-debug", TOKEN));
    let first = gate.client().get(TRACK, &[authorised, debugged]).await;
    assert_eq!(first.is(200).header("x-tidegate-cache"), "miss");
    origin.take_seen();
    for more in [("cache-control", "no-cache"), ("cache-control", "no-store, max-age=0"), ("pragma", "no-cache")] {
        let hit = gate.client().get(TRACK, &[authorised, debugged, more]).await;
        assert_eq!((hit.is(200).text().as_str(), hit.header("x-tidegate-cache")), ("music", "hit"), "{more:?}");
    }
    for wrong in [[authorised, ("x-tidegate-debug", "another token")], [authorised, ("x-other", "1")]] {
        assert_eq!(gate.client().get(TRACK, &wrong).await.is(200).header("x-tidegate-cache"), "", "{wrong:?}");
    }
    gate.client().get(TRACK, &[debugged]).await.problem(401);
    gate.client().get(TRACK, &[("authorization", "Bearer x.y.z"), debugged]).await.problem(401);
    assert!(origin.take_seen().is_empty(), "the store was asked for what is cached");
}

#[tokio::test]
async fn the_command_purges_what_it_names() {
    let origin = ScriptedOrigin::start().await;
    let gate = cached(&origin, &[]).await;
    let ready = async || gate.log_lines().into_iter().find(|line| line["message"] == "ready");
    let ready = eventually("the ready line", ready).await;
    let (admin, folder) =
        (format!("http://{}", ready["admin"].as_str().expect("an address")), TempFolder::new("purge"));
    let purge = async |arguments: &[&str], token: &str| {
        let mut command = gate::command(&folder);
        command.args(["purge", "--admin", &admin, "--token", "env:ADMIN_TOKEN"]).args(arguments);
        let output = command.env("ADMIN_TOKEN", token).output().await.expect("it runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    origin.put("/audio/a/b", Object::new("music"));
    for (scope, done) in [
        (&["--key", "a/b"][..], true),
        (&["--prefix", "a/"], true),
        (&["--route", "cached"], true),
        (&["--all"], true),
        (&["--key", "other"], false),
        (&["--key", "a/b", "--refresh"], false),
    ] {
        gate.client().get("/cached/a/b", &[]).await.is(200);
        origin.take_seen();
        assert_eq!(purge(scope, TOKEN).await.0, Some(0), "{scope:?}");
        let by_command = origin.take_seen().len();
        gate.client().get("/cached/a/b", &[]).await.is(200);
        assert_eq!(!origin.take_seen().is_empty(), done, "{scope:?}");
        assert_eq!(by_command, usize::from(scope.contains(&"--refresh")), "{scope:?}");
    }
    assert_eq!(purge(&["--all"], "another token").await, (Some(1), String::new()));
    assert_eq!(purge(&["--route", "none"], TOKEN).await.0, Some(1));
    assert_eq!(purge(&[], TOKEN).await.0, Some(64));
}

#[tokio::test]
async fn a_range_far_past_the_end_keeps_the_object_from_nobody() {
    let body = pattern(300_000);
    for range in ["bytes=9300000000000000000-", "bytes=9223372036854775807-", "bytes=18446744073709551615-"] {
        let origin = ScriptedOrigin::with_track(body.clone()).await;
        let gate = cached(&origin, &[]).await;
        for path in ["/stream/track.mp3", "/cached/track.mp3"] {
            let reply = gate.client().range(path, range).await;
            assert_eq!(
                (reply.status.as_u16(), reply.header("content-range")),
                (416, "bytes */300000"),
                "{path} {range}"
            );
        }
        let is_readable = |text: &str| text.is_empty() || text.parse::<i64>().is_ok();
        for seen in origin.seen() {
            let asked = seen.header("range").unwrap_or("bytes=-");
            assert!(asked["bytes=".len()..].split('-').all(is_readable), "{asked}");
        }
        for state in ["miss", "hit"] {
            let reply = gate.client().get("/cached/track.mp3", &[("x-tidegate-debug", TOKEN)]).await;
            assert_eq!(reply.header("x-tidegate-cache"), state, "{range}");
            assert!(reply.is(200).body == body);
        }
    }
}

#[tokio::test]
async fn a_range_that_the_store_ignores_is_answered_and_keeps_the_object_from_nobody() {
    let body = pattern(600_000);
    let origin = ScriptedOrigin::with_track(body.clone()).await;
    let gate = cached(&origin, &[]).await;
    origin.script([fault::WHOLE, fault::WHOLE]);
    let headers = [("range", "bytes=300000-300009"), ("x-tidegate-debug", TOKEN)];
    let reply = gate.client().get("/cached/track.mp3", &headers).await;
    assert_eq!((&reply.is(206).body[..], reply.header("x-tidegate-cache")), (&body[300_000..300_010], "bypass"));
    let reply = gate.client().get("/cached/track.mp3", &headers).await;
    assert_eq!((&reply.is(206).body[..], reply.header("x-tidegate-cache")), (&body[300_000..300_010], "miss"));
    // Past the end, it tells the size as well as a HEAD does.
    origin.put("/audio/other.mp3", Object::new(body.clone()));
    origin.script([Step::Answer(Answer::new(200, "audio/mpeg", body.clone()).with("ETag", &Object::new(body).etag))]);
    let reply = gate.client().range("/cached/other.mp3", "bytes=700000-").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-range")), (416, "bytes */600000"));
    let reply = gate.client().get("/cached/other.mp3", &[("range", "bytes=0-9"), ("x-tidegate-debug", TOKEN)]).await;
    assert_eq!(reply.is(206).header("x-tidegate-cache"), "miss");
}
