//! Live streams as the operator sees and ends them.

use http::Method;
use serde_json::{Value, json};

use crate::support::fault::{End, Step};
use crate::support::h2::H2;
use crate::support::heard::Ending;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::{Gate, Object, ScriptedOrigin, config, eventually, token};
use crate::tls::{Certificates, FIRST};

/// More than all buffers between the store and a player that has stopped reading.
const LENGTH: usize = 64 << 20;

async fn list(gate: &Gate, query: &str) -> Value {
    let reply = gate.admin().get(&format!("/streams{query}"), &[]).await;
    serde_json::from_str(&reply.is(200).text()).expect("JSON")
}

async fn end(gate: &Gate, id: &str) -> u16 {
    gate.admin().send(Method::DELETE, &format!("/streams/{id}"), &[]).await.status.as_u16()
}

/// The one stream of this route, once it has sent something.
async fn of_route(gate: &Gate, route: &str) -> Value {
    let found = async || {
        let page = list(gate, "").await;
        let streams = page["items"].as_array().expect("a list").clone();
        streams.into_iter().find(|stream| stream["route"] == route && stream["bytesSent"] != 0)
    };
    eventually("the stream is in the list", found).await
}

/// Ends the stream of `route`; returns when it is gone, with the line of the log.
async fn end_route(gate: &Gate, route: &str) -> Value {
    let id = of_route(gate, route).await["id"].as_str().expect("an id").to_owned();
    assert_eq!(end(gate, &id).await, 204);
    let logged = async || gate.access_lines().into_iter().find(|line| line["request_id"] == *id);
    let line = eventually("the line of the stream", logged).await;
    assert_eq!((&line["failure"], &line["route"]), (&json!("stream_ended"), &json!(route)));
    let gone = async || (end(gate, &id).await == 404).then_some(());
    eventually("the stream is no more in the list", gone).await;
    line
}

/// Asks for `path`, and reads the beginning of the body.
pub async fn begin(raw: &mut Raw, path: &str, headers: &str) {
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate\r\n{headers}Connection: close\r\n\r\n").as_bytes()).await;
    let head = raw.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 20"), "{head}");
    raw.exactly(65_536).await.expect("it streams");
}

/// A gate with object, cached and plain routes over all that listeners speak, before a long object.
async fn everything(origin: &ScriptedOrigin, certificates: &Certificates) -> Gate {
    for path in ["/audio/long.mp3", "/plain/long.mp3"] {
        origin.put(path, Object::new(pattern(LENGTH)));
    }
    let mut config = config::objects_both_ways(&origin.url(), "audio");
    config["Auth"] = config::jwt();
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    let tls = certificates.listener();
    config["Server"]["Listeners"].as_array_mut().expect("a list").push(tls);
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    let mut own = config::object_route("/own/{**key}", "main", "audio", "{**key}");
    own["AuthorizationPolicy"] = json!("Default");
    config["ReverseProxy"]["Routes"]["own"] = own;
    Gate::start(&config).await
}

#[tokio::test]
async fn a_stream_is_in_the_list_while_it_lasts_with_all_that_is_known_of_it() {
    let (origin, certificates) = (ScriptedOrigin::start().await, Certificates::make());
    let gate = everything(&origin, &certificates).await;
    assert_eq!(list(&gate, "").await, json!({ "total": 0, "items": [], "nextCursor": null }));
    let bearer = format!("Bearer {}", token::of("alice"));
    let mut raw = gate.raw().await;
    begin(&mut raw, "/own/long.mp3", &format!("Authorization: {bearer}\r\nRange: bytes=1000-\r\n")).await;
    let seen = of_route(&gate, "own").await;
    assert_eq!(
        (&seen["protocol"], &seen["tls"], &seen["client"], &seen["resumes"]),
        (&json!("HTTP/1.1"), &json!(false), &json!("127.0.0.1"), &json!(0)),
    );
    assert_eq!(
        (&seen["size"], &seen["range"]),
        (&json!(LENGTH), &json!({ "first": 1000, "last": LENGTH - 1 })),
        "{seen}"
    );
    let sent = seen["bytesSent"].as_u64().expect("a number");
    assert!((65_536..LENGTH as u64).contains(&sent), "{sent}");
    let user = seen["user"].as_str().expect("a hash");
    assert!(user.len() == 16 && !seen.to_string().contains("alice"), "{seen}");
    // Another stream of hers has the same hash, one of nobody has none.
    let connection = H2::connect(gate.address()).await;
    let mut second = connection.open("/own/long.mp3", &[("authorization", &bearer)]).await;
    second.take(100_000).await;
    let both = async || {
        let page = list(&gate, "").await;
        let users: Vec<Value> = page["items"].as_array()?.iter().map(|stream| stream["user"].clone()).collect();
        (users.len() == 2).then_some(users)
    };
    assert_eq!(eventually("both are there", both).await, [json!(user), json!(user)]);
    let (rest, _) = raw.up_to(LENGTH).await;
    assert_eq!(65_536 + rest.len(), LENGTH - 1000, "a stream that nobody ends comes whole");
    second.finish().await.is(200, &pattern(LENGTH));
    let empty = async || (list(&gate, "").await["total"] == 0).then_some(());
    eventually("none is there", empty).await;
}

#[tokio::test]
async fn the_operator_ends_a_stream_over_each_protocol_and_route() {
    let (origin, certificates) = (ScriptedOrigin::start().await, Certificates::make());
    let gate = everything(&origin, &certificates).await;
    for (path, route) in [("/stream/long.mp3", "stream"), ("/cached/long.mp3", "cached"), ("/plain/long.mp3", "plain")]
    {
        // A player that does not read at all is ended too.
        let mut raw = gate.raw().await;
        begin(&mut raw, path, "").await;
        let line = end_route(&gate, route).await;
        assert_eq!(line["status"], 200, "{line}");
        let (rest, closed) = raw.up_to(LENGTH).await;
        assert!(closed && 65_536 + rest.len() < LENGTH, "{path}: {} bytes", rest.len());
        // Over HTTP/2 that one stream is reset, and the connection serves on.
        let connection = H2::connect(gate.address()).await;
        let mut stream = connection.open(path, &[]).await;
        stream.take(100_000).await;
        assert_eq!(of_route(&gate, route).await["protocol"], "HTTP/2");
        end_route(&gate, route).await;
        let heard = stream.finish().await;
        assert!(matches!(heard.end, Ending::Broken(_)), "{path}: {:?}", heard.end);
        assert_eq!(connection.get("/stream/none.mp3", &[]).await.status, 404);
    }
    let tls = certificates.connect_to(gate.listeners()[1], FIRST, true, &["h2"]).await;
    let connection = H2::over(tls).await.expect("HTTP/2");
    let mut stream = connection.open("/stream/long.mp3", &[]).await;
    stream.take(100_000).await;
    assert_eq!(of_route(&gate, "stream").await["tls"], true);
    end_route(&gate, "stream").await;
    assert!(matches!(stream.finish().await.end, Ending::Broken(_)));
}

#[tokio::test]
async fn a_body_that_was_continued_says_so_in_the_list() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/audio/long.mp3", Object::new(pattern(LENGTH)));
    origin.script([Step::Body { send: 40_000, end: End::Reset }]);
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let mut raw = gate.raw().await;
    begin(&mut raw, "/stream/long.mp3", "").await;
    let resumed = async || (of_route(&gate, "stream").await["resumes"] == 1).then_some(());
    eventually("its one continuation", resumed).await;
}

#[tokio::test]
async fn the_list_of_streams_comes_in_pages_and_refuses_what_is_none_of_it() {
    let origin = ScriptedOrigin::start().await;
    origin.put("/audio/long.mp3", Object::new(pattern(LENGTH)));
    let gate = Gate::start(&config::objects(&origin.url(), "audio")).await;
    let mut players = Vec::new();
    for number in 0..5 {
        let mut raw = gate.raw().await;
        begin(&mut raw, "/stream/long.mp3", &format!("Range: bytes={number}-\r\n")).await;
        players.push(raw);
    }
    let first_of = |page: &Value| -> Vec<u64> {
        let items = page["items"].as_array().expect("a list");
        items.iter().map(|stream| stream["range"]["first"].as_u64().unwrap_or(0)).collect()
    };
    let first = list(&gate, "?limit=2").await;
    assert_eq!((first_of(&first), &first["total"]), (vec![0, 1], &json!(5)));
    // Those of the first page leave: no other one is passed over.
    players.drain(..2);
    let left = async || (list(&gate, "").await["total"] == 3).then_some(());
    eventually("two have left", left).await;
    let cursor = first["nextCursor"].as_str().expect("a cursor");
    let second = list(&gate, &format!("?limit=2&cursor={cursor}")).await;
    assert_eq!(first_of(&second), [2, 3]);
    let cursor = second["nextCursor"].as_str().expect("a cursor");
    let last = list(&gate, &format!("?limit=2&cursor={cursor}")).await;
    assert_eq!((first_of(&last), &last["nextCursor"]), (vec![4], &Value::Null));
    for (path, status) in
        [("/streams?limit=0", 422), ("/streams?limit=501", 422), ("/streams?cursor=%25", 400), ("/streams?page=2", 400)]
    {
        gate.admin().get(path, &[]).await.problem(status);
    }
    for id in ["1", "000000000000000g", "0000000000000000", "00000000000000000"] {
        assert_eq!(end(&gate, id).await, 404, "{id}");
    }
}
