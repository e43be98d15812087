//! Addresses of a listener: several, those of a name, and Unix sockets.

use std::net::ToSocketAddrs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::config;
use crate::support::curl::{self, Version};
use crate::support::eventually::eventually;
use crate::support::gate::{self, Gate};
use crate::support::origin::ScriptedOrigin;
use crate::support::tools::TempFolder;

const TRACK: &str = "/stream/track.mp3";

fn configuration(origin: &ScriptedOrigin, listeners: Value) -> Value {
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = listeners;
    config
}

/// GETs the track through the Unix socket.
async fn get(socket: &Path, version: Version, arguments: &[&str]) -> curl::Transfer {
    let socket = socket.display().to_string();
    let all: Vec<&str> = ["--unix-socket", &socket].into_iter().chain(arguments.iter().copied()).collect();
    curl::get(&format!("http://tidegate{TRACK}"), version, &all).await
}

/// Standard error of a start that fails, with its exit code.
async fn refused(config: &Value) -> (Option<i32>, String) {
    let folder = TempFolder::new("refused");
    let file = gate::write_config(&folder, config).display().to_string();
    let ended = gate::run(&["serve", "-c", &file], &folder).await;
    (ended.code, ended.stderr)
}

#[tokio::test]
async fn one_listener_answers_on_all_its_addresses() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("socket");
    let socket = folder.path().join("tidegate.sock");
    let addresses = json!(["127.0.0.1:0", "127.0.0.1:0", format!("unix:{}", socket.display())]);
    let gate = Gate::start(&configuration(&origin, json!([{ "Address": addresses }]))).await;
    assert_eq!(gate.listeners().len(), 2, "{:?}", gate.listener_names());
    for address in gate.listeners() {
        let answer = curl::get(&format!("http://{address}{TRACK}"), Version::Http1, &[]).await;
        assert_eq!((answer.exit, answer.body), (0, b"music".to_vec()), "{address}");
    }
    assert_eq!(gate.listener_names()[2], format!("unix:{}", socket.display()));
    assert_eq!(get(&socket, Version::Http1, &[]).await.body, b"music");
}

#[tokio::test]
async fn a_name_is_listened_on_at_every_address_that_it_has() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let gate = Gate::start(&configuration(&origin, json!([{ "Address": "localhost:0" }]))).await;
    let mut expected: Vec<_> =
        ("localhost", 0).to_socket_addrs().expect("localhost is known").map(|it| it.ip()).collect();
    expected.dedup();
    // One that this machine does not have is left out.
    let present = |ip: &std::net::IpAddr| std::net::TcpListener::bind((*ip, 0)).is_ok();
    expected.retain(present);
    let bound: Vec<_> = gate.listeners().iter().map(|address| address.ip()).collect();
    assert_eq!(bound, expected);
    for address in gate.listeners() {
        let answer = curl::get(&format!("http://{address}{TRACK}"), Version::Http1, &[]).await;
        assert_eq!((answer.exit, answer.body), (0, b"music".to_vec()), "{address}");
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_said_at_the_start() {
    let origin = ScriptedOrigin::with_track("music").await;
    let (code, text) = refused(&configuration(&origin, json!([{ "Address": "nowhere.invalid:0" }]))).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("cannot listen on nowhere.invalid: the name cannot be resolved"), "{text}");
}

#[tokio::test]
async fn a_unix_socket_speaks_both_versions_and_has_the_mode_that_is_set() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("socket");
    let socket = folder.path().join("tidegate.sock");
    let address = format!("unix:{}", socket.display());
    let listener = json!([{ "Address": address, "SocketMode": "0606", "H2c": true }, { "Address": "127.0.0.1:0" }]);
    let gate = Gate::start(&configuration(&origin, listener)).await;
    let mode = std::fs::metadata(&socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o606);
    for version in [Version::Http1, Version::Http2] {
        let answer = get(&socket, version, &[]).await;
        assert_eq!((answer.exit, answer.heads[0].status), (0, 200), "{version:?}");
        assert_eq!(answer.body, b"music");
    }
    let lines = eventually("two access lines", async || Some(gate.access_lines()).filter(|it| it.len() == 2)).await;
    for line in lines {
        assert_eq!(line["client"], "0.0.0.0", "{line}");
    }
}

#[tokio::test]
async fn what_connects_to_a_unix_socket_is_a_proxy_only_where_that_is_said() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    for (trusted, client) in
        [(json!([]), "0.0.0.0"), (json!(["127.0.0.0/8", "10.0.0.0/8"]), "0.0.0.0"), (json!(["unix"]), "203.0.113.7")]
    {
        let folder = TempFolder::new("socket");
        let socket = folder.path().join("tidegate.sock");
        let mut config = configuration(&origin, json!([{ "Address": format!("unix:{}", socket.display()) }]));
        config["Server"]["TrustedProxies"] = trusted.clone();
        let gate = Gate::start(&config).await;
        get(&socket, Version::Http1, &["-H", "X-Forwarded-For: 203.0.113.7"]).await;
        let line = eventually("an access line", async || gate.access_lines().pop()).await;
        assert_eq!(line["client"], client, "{trusted}: {line}");
    }
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_a_live_one_stays() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("socket");
    let socket = folder.path().join("tidegate.sock");
    let config = configuration(&origin, json!([{ "Address": format!("unix:{}", socket.display()) }]));
    // Dropping the listener closes it and leaves its file.
    drop(UnixListener::bind(&socket).expect("a new path"));
    let mut gate = Gate::start(&config).await;
    assert_eq!(get(&socket, Version::Http1, &[]).await.body, b"music");

    let (code, text) = refused(&config).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("another process listens on it"), "{text}");
    assert_eq!(get(&socket, Version::Http1, &[]).await.body, b"music", "the first one goes on");
    gate.stop().await;
    assert!(socket.exists(), "it stays when Tidegate ends");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_removed() {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("socket");
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "kept").expect("a file");
    let config = configuration(&origin, json!([{ "Address": format!("unix:{}", file.display()) }]));
    let (code, text) = refused(&config).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the file is there and no socket"), "{text}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is still there"), "kept");
    assert!(!std::fs::metadata(&file).expect("it is still there").file_type().is_socket());
}
