//! Listeners over a reload: addresses that come, go and stay, and rules of an address that change.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::{SinkExt as _, StreamExt as _};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::lifecycle::process::Upgradable;
use crate::reload::{refused, reload, start, yaml};
use crate::support::h2::H2;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::service::free_port;
use crate::support::tools::TempFolder;
use crate::support::{Client, Gate, LIMIT, ScriptedOrigin, config, eventually};
use crate::tls::{Certificates, FIRST};

const TRACK: &str = "/stream/track.mp3";
const REQUEST: &[u8] = b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n";
/// Longer than the buffers between the store and a player that does not read.
const LONG_TRACK: usize = 30_000_000;

/// The address that `port` is reached at.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err()
}

/// Waits for the end of a connection.
pub async fn has_ended(raw: &mut Raw, what: &str) {
    eventually(what, async || raw.has_ended().await.then_some(())).await;
}

/// Status of a GET of the track at `address`.
async fn status(address: SocketAddr) -> u16 {
    Client::new(format!("http://{address}")).get(TRACK, &[]).await.status.as_u16()
}

#[tokio::test]
async fn a_new_address_is_listened_on_and_one_that_is_taken_away_drains() {
    let origin = ScriptedOrigin::with_track(pattern(LONG_TRACK)).await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] =
        config::cluster(&[format!("http://{}", crate::plain::upgrade::echo().await)]);
    let gate = start(&mut config).await;
    let (old, new) = (gate.address(), local(free_port()));
    let mut stream = gate.raw().await;
    stream.send(REQUEST).await;
    assert!(stream.head().await.expect("a head").starts_with("HTTP/1.1 200"));
    let mut idle = gate.raw().await;
    idle.send(b"HEAD /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\n\r\n").await;
    let answer = idle.response("HEAD", LIMIT).await.expect("an answer");
    assert!(answer.status == 200 && answer.header("connection") != Some("close"), "{}", answer.head);
    let mut http2 = H2::connect(old).await;
    let mut stream2 = http2.open(TRACK, &[]).await;
    stream2.take(1).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{old}/plain/echo")).await.expect("it opens");

    config["Server"]["Listeners"] = json!([{ "Address": new.to_string() }]);
    let report = reload(&gate, &config).await;
    assert!(report.ends_with(&format!("; now listening on {new}; no longer listening on {old}")), "{report}");
    assert!(is_refused(old).await, "it accepts nothing any more");
    assert_eq!(status(new).await, 200);
    has_ended(&mut idle, "an idle connection is closed").await;
    assert!(stream.exactly(LONG_TRACK).await.expect("the whole body") == pattern(LONG_TRACK));
    assert!(stream2.finish().await.body == pattern(LONG_TRACK));
    http2.ended().await.expect("GOAWAY, so that the client goes elsewhere");
    has_ended(&mut stream, "the connection ends with its answer").await;
    for _ in 0..2 {
        socket.send("still here".into()).await.expect("it is open");
        let heard = socket.next().await.expect("it is open").expect("a message");
        assert_eq!(heard.to_text().expect("text"), "still here");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_refuses_the_reload_and_everything_goes_on() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let taken = taken.local_addr().expect("it is bound");
    let folder = TempFolder::new("sockets");
    let (socket, file) = (folder.path().join("new.sock"), folder.path().join("notes.txt"));
    std::fs::write(&file, "kept").expect("it is written");
    let (unix, no_socket) = (format!("unix:{}", socket.display()), format!("unix:{}", file.display()));
    for (address, reason) in [
        (taken.to_string(), format!("cannot listen on {taken}: ")),
        ("192.0.2.1:80".to_owned(), "no network interface of this machine has the address".to_owned()),
        ("nowhere.invalid:80".to_owned(), "the name cannot be resolved".to_owned()),
        (no_socket, "the file is there and no socket".to_owned()),
        (format!("0.0.0.0:{}", gate.address().port()), format!("while {} is open", gate.address())),
    ] {
        let free = local(free_port());
        let mut changed = config.clone();
        changed["Server"]["Listeners"] = json!([{ "Address": [free.to_string(), unix, address] }]);
        changed["ReverseProxy"]["Routes"]["stream"]["Match"]["Path"] = json!("/moved/{**key}");
        let report = refused(&gate, &yaml(&changed)).await;
        assert!(report.contains(&reason), "{report}");
        assert!(is_refused(free).await, "nothing of the file is in force");
        assert!(!socket.exists(), "what was bound is gone");
        assert_eq!(status(gate.address()).await, 200);
    }
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "kept");
    reload(&gate, &config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_stays_refuses_nobody_while_others_come_and_go() {
    const CLIENTS: usize = 20;
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    let (stays, end, answers) = (gate.address(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (end, answers) = (Arc::clone(&end), Arc::clone(&answers));
        clients.spawn(async move {
            while !end.load(Ordering::Relaxed) {
                // A connection of its own for each request or two: what is refused is a connection.
                let mut raw = Raw::over(TcpStream::connect(stays).await.expect("nobody is refused"));
                for _ in 0..2 {
                    raw.send(REQUEST).await;
                    let answer = raw.response("GET", LIMIT).await.expect("an answer");
                    assert_eq!((answer.status, answer.body.as_slice()), (200, b"music".as_slice()));
                    answers.fetch_add(1, Ordering::Relaxed);
                    if answer.header("connection") == Some("close") {
                        break;
                    }
                }
            }
        });
    }
    let others = [local(free_port()), local(free_port())];
    for round in 0..50 {
        let before = answers.load(Ordering::Relaxed);
        eventually("the load goes on", async || (answers.load(Ordering::Relaxed) >= before + CLIENTS).then_some(()))
            .await;
        let (comes, goes) = (others[round % 2], others[(round + 1) % 2]);
        // The address moves between two listeners, and its rules change, too.
        let stays = json!({ "Address": "127.0.0.1:0", "H2c": round % 3 == 0 });
        let other = json!({ "Address": comes.to_string() });
        config["Server"]["Listeners"] = if round % 2 == 0 { json!([stays, other]) } else { json!([other, stays]) };
        reload(&gate, &config).await;
        assert_eq!(status(comes).await, 200);
        assert!(is_refused(goes).await, "round {round}");
    }
    end.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("no client fails");
    }
}

#[tokio::test]
async fn the_rules_of_an_address_change_for_new_connections() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    let address = gate.address();
    let mut kept = gate.raw().await;
    kept.send(REQUEST).await;
    assert_eq!(kept.response("GET", LIMIT).await.expect("an answer").status, 200);
    let certificates = Certificates::make();
    config["Server"]["Listeners"] = json!([certificates.listener()]);
    reload(&gate, &config).await;
    let mut secure = certificates.connect(&gate, FIRST, true, &["http/1.1"]).await;
    secure.write_all(REQUEST).await.expect("it is open");
    let mut answer = [0; 12];
    secure.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    // One that is open ends with its next answer, by which its client comes back under the new rules.
    kept.send(REQUEST).await;
    let answer = kept.response("GET", LIMIT).await.expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    config["Server"]["Listeners"] =
        json!([{ "Address": "127.0.0.1:0", "ProxyProtocol": { "TrustedSources": ["127.0.0.1"] } }]);
    reload(&gate, &config).await;
    let mut proxied = gate.raw().await;
    proxied.send(b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 80\r\n").await;
    proxied.send(REQUEST).await;
    assert_eq!(proxied.response("GET", LIMIT).await.expect("an answer").status, 200);
    eventually("the access line", async || {
        gate.access_lines().iter().any(|line| line["client"] == "203.0.113.9").then_some(())
    })
    .await;
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    reload(&gate, &config).await;
    assert_eq!(H2::connect(address).await.get(TRACK, &[]).await.status, 200);
    // The expiry of certificates that are no longer shown is not told.
    eventually("the metric is gone", async || {
        (!gate.metrics().await.contains("tidegate_certificate_expiry_timestamp_seconds{")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_without_its_key_refuses_the_reload() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let certificates = Certificates::make();
    config["Server"]["Listeners"] = json!([certificates.listener()]);
    let gate = start(&mut config).await;
    let mut wrong = certificates.listener();
    let pair = wrong["Tls"]["Certificates"][1].clone();
    wrong["Tls"]["Certificates"][0]["Key"] = pair["Key"].clone();
    let mut changed = config.clone();
    changed["Server"]["Listeners"] = json!([wrong]);
    let report = refused(&gate, &yaml(&changed)).await;
    assert!(report.contains("Certificates") && report.contains("Key"), "{report}");
    certificates.connect(&gate, FIRST, true, &[]).await;
}

/// Answer to a GET of the track through the Unix socket.
async fn ask_unix(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(b"GET /stream/track.mp3 HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn unix_sockets_come_and_go_and_change_their_mode() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    let folder = TempFolder::new("sockets");
    let socket = folder.path().join("tidegate.sock");
    let tcp = json!({ "Address": "127.0.0.1:0" });
    let unix = |mode: &str| json!({ "Address": format!("unix:{}", socket.display()), "SocketMode": mode });
    for (mode, bits) in [("0600", 0o600), ("0660", 0o660)] {
        config["Server"]["Listeners"] = json!([tcp, unix(mode)]);
        reload(&gate, &config).await;
        assert!(ask_unix(&socket).await.expect("it answers").starts_with("HTTP/1.1 200"));
        assert_eq!(std::fs::metadata(&socket).expect("it is there").permissions().mode() & 0o777, bits);
    }
    for _ in 0..2 {
        config["Server"]["Listeners"] = json!([tcp]);
        reload(&gate, &config).await;
        assert!(ask_unix(&socket).await.is_err(), "nobody listens");
        config["Server"]["Listeners"] = json!([unix("0600"), tcp]);
        reload(&gate, &config).await;
        assert!(ask_unix(&socket).await.expect("it answers").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(status(gate.address()).await, 200);
}

#[tokio::test]
async fn an_upgrade_hands_over_the_addresses_that_a_reload_has_put_in_force() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let (goes, comes) = (local(free_port()), local(free_port()));
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0" }, { "Address": goes.to_string() }]);
    let gate = Upgradable::start(&config).await;
    let text = std::fs::read_to_string(gate.folder().join("tidegate.yaml")).expect("text");
    // With a name by which nothing was passed, as without systemd.
    let named = format!("{comes}\n    Socket: web");
    gate.reconfigure(&text.replace(&goes.to_string(), &named));
    let report = gate.admin().send(Method::POST, "/reload", &[]).await;
    assert!(report.is(200).text().contains(&format!("now listening on {comes}")), "{}", report.text());
    // Handed over twice, so that the second time it comes from a process that has inherited it.
    for _ in 0..2 {
        let before = gate.process();
        let ended = gate.upgrade(true).await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.stderr, gate.log());
        assert_ne!(gate.process(), before);
        assert_eq!([status(gate.address).await, status(comes).await], [200, 200]);
        assert!(is_refused(goes).await);
    }
    assert_eq!(gate.said("no longer listening").len(), 1, "that of the reload: {}", gate.log());
}

#[tokio::test]
async fn a_listener_that_gets_a_socket_name_is_found_by_it_at_an_upgrade() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    let address = local(free_port());
    config["Server"]["Listeners"] = json!([{ "Address": address.to_string() }]);
    let gate = Upgradable::start(&config).await;
    let text = std::fs::read_to_string(gate.folder().join("tidegate.yaml")).expect("text");
    for file in [text.replace(&address.to_string(), &format!("{address}\n    Socket: web")), text] {
        gate.reconfigure(&file);
        gate.admin().send(Method::POST, "/reload", &[]).await.is(200);
        let before = gate.process();
        let ended = gate.upgrade(true).await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.stderr, gate.log());
        assert_ne!(gate.process(), before);
        assert_eq!(status(address).await, 200);
    }
}

/// A gate that has the tracks of `origin` behind it and listens on one free port.
async fn ordinary(origin: &ScriptedOrigin) -> (Gate, Value) {
    let mut config = config::objects(&origin.url(), "audio");
    let gate = start(&mut config).await;
    (gate, config)
}

#[tokio::test]
async fn the_same_address_written_in_another_way_keeps_its_socket() {
    let origin = ScriptedOrigin::with_track("music").await;
    let (gate, mut config) = ordinary(&origin).await;
    let port = gate.address().port();
    for address in [format!("127.0.0.1:{port}"), "127.0.0.1:0".to_owned(), format!("127.0.0.1:{port}")] {
        let moved = address.ends_with(":0");
        config["Server"]["Listeners"] = json!([{ "Address": address }]);
        let report = reload(&gate, &config).await;
        // Any port is another wish than this one.
        assert_eq!(report.contains("listening"), moved, "{report}");
        if moved {
            break;
        }
        assert_eq!(status(gate.address()).await, 200);
    }
}

#[tokio::test]
async fn the_admin_address_changes_too_and_whoever_asks_for_it_is_answered() {
    let origin = ScriptedOrigin::with_track("music").await;
    let (gate, mut config) = ordinary(&origin).await;
    let (old, new) = (gate.admin_address(), local(free_port()));
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let mut changed = config.clone();
    changed["Server"]["Admin"]["Address"] = json!(taken);
    let report = refused(&gate, &yaml(&changed)).await;
    assert!(report.contains(&format!("cannot listen on {taken}")), "{report}");
    config["Server"]["Admin"]["Address"] = json!(new.to_string());
    reload(&gate, &config).await;
    eventually("the old address is closed", async || is_refused(old).await.then_some(())).await;
    let admin = Client::new(format!("http://{new}"));
    admin.get("/readyz", &[]).await.is(200);
    gate.rewrite(&config);
    admin.send(Method::POST, "/reload", &[]).await.is(200);
    config["Server"].as_object_mut().expect("an object").remove("Admin");
    gate.rewrite(&config);
    admin.send(Method::POST, "/reload", &[]).await.is(200);
    eventually("there is none", async || is_refused(new).await.then_some(())).await;
    assert_eq!(status(gate.address()).await, 200);
}

#[tokio::test]
async fn an_address_that_includes_another_takes_two_reloads() {
    let origin = ScriptedOrigin::with_track("music").await;
    let (gate, mut config) = ordinary(&origin).await;
    let port = free_port();
    let (one, all, kept) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"), "127.0.0.1:0");
    for (before, after) in [(&one, &all), (&all, &one)] {
        config["Server"]["Listeners"] = json!([{ "Address": [kept, before] }]);
        reload(&gate, &config).await;
        config["Server"]["Listeners"] = json!([{ "Address": [kept, after] }]);
        let report = refused(&gate, &yaml(&config)).await;
        assert!(report.contains(&format!("cannot listen on {after} while {before} is open")), "{report}");
        assert_eq!(status(local(port)).await, 200);
        config["Server"]["Listeners"] = json!([{ "Address": kept }]);
        reload(&gate, &config).await;
        config["Server"]["Listeners"] = json!([{ "Address": [kept, after] }]);
        reload(&gate, &config).await;
        assert_eq!(status(local(port)).await, 200);
        config["Server"]["Listeners"] = json!([{ "Address": kept }]);
        reload(&gate, &config).await;
    }
}
