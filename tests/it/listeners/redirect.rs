//! Redirects to HTTPS, and the header that keeps browsers there (RFC 6797).

use serde_json::{Value, json};

use crate::support::config;
use crate::support::curl::{self, Head, Transfer, Version};
use crate::support::eventually::eventually;
use crate::support::gate::Gate;
use crate::support::origin::ScriptedOrigin;
use crate::tls::Certificates;

const TRACK: &str = "/stream/track.mp3";
const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

fn configuration(origin: &ScriptedOrigin, listeners: Value) -> Value {
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = listeners;
    config
}

/// The only head of an answer that came whole.
fn head(answer: &Transfer) -> &Head {
    assert_eq!(answer.exit, 0, "{answer:?}");
    answer.heads.last().expect("an answer")
}

#[tokio::test]
async fn every_request_in_the_clear_is_sent_to_the_same_url_by_https() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let listener = |port: Option<u16>| {
        let mut listener = json!({ "Address": "127.0.0.1:0", "H2c": true, "RedirectToHttps": true });
        if let Some(port) = port {
            listener["HttpsPort"] = json!(port);
        }
        listener
    };
    let gate = Gate::start(&configuration(&origin, json!([listener(None), listener(Some(8443))]))).await;
    for version in VERSIONS {
        for (number, port) in [(0, ""), (1, ":8443")] {
            let base = format!("http://{}", gate.listeners()[number]);
            for (host, target, method) in [
                ("media.test", TRACK, "GET"),
                ("media.test:8080", "/a%20b?x=1&y=%2F", "GET"),
                ("media.test", "/api/v1/tracks", "POST"),
                ("[2001:db8::1]:80", "/health", "GET"),
            ] {
                let named = format!("Host: {host}");
                let arguments = ["-X", method, "-H", named.as_str()];
                let answer = curl::get(&format!("{base}{target}"), version, &arguments).await;
                let name = host.strip_suffix(":8080").or(host.strip_suffix(":80")).unwrap_or(host);
                assert_eq!(head(&answer).status, 308, "{version:?} {target}");
                let location = format!("https://{name}{port}{target}");
                assert_eq!(head(&answer).field("location"), Some(location.as_str()), "{version:?}");
                assert_eq!(head(&answer).field("content-length"), Some("0"));
                assert!(answer.body.is_empty());
            }
        }
    }
    assert!(origin.seen().is_empty());
    let lines = eventually("access lines", async || Some(gate.access_lines()).filter(|it| it.len() == 16)).await;
    assert!(lines.iter().all(|line| line["status"] == 308), "{lines:?}");
}

#[tokio::test]
async fn a_request_that_names_no_host_cannot_be_redirected() {
    let origin = ScriptedOrigin::with_track("music").await;
    let gate =
        Gate::start(&configuration(&origin, json!([{ "Address": "127.0.0.1:0", "RedirectToHttps": true }]))).await;
    let mut raw = gate.raw().await;
    raw.send(format!("GET {TRACK} HTTP/1.0\r\n\r\n").as_bytes()).await;
    let answer = raw.response("GET", std::time::Duration::from_secs(5)).await.expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.head);
}

#[tokio::test]
async fn every_answer_over_tls_tells_browsers_to_stay_with_it() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let certificates = Certificates::make();
    let mut listener = certificates.listener();
    listener["Tls"]["Hsts"] = json!("365d");
    let mut config = configuration(&origin, json!([listener, { "Address": "127.0.0.1:0", "H2c": true }]));
    config["ReverseProxy"]["Clusters"]["own"] = config::cluster(&[origin.url()]);
    let mut own = config::plain_route("/own/{**rest}", "own");
    own["Transforms"] =
        json!([{ "ResponseHeader": "Strict-Transport-Security", "Set": "max-age=5", "When": "Always" }]);
    config["ReverseProxy"]["Routes"]["own"] = own;
    let gate = Gate::start(&config).await;
    for version in VERSIONS {
        for (path, expected) in [
            (TRACK, "max-age=31536000"),
            ("/stream/none.mp3", "max-age=31536000"),
            ("/nowhere", "max-age=31536000"),
            ("/health", "max-age=31536000"),
            ("/own/track.mp3", "max-age=5"),
        ] {
            let answer = curl::get(&format!("https://{}{path}", gate.listeners()[0]), version, &[]).await;
            let fields: Vec<_> =
                head(&answer).fields.iter().filter(|(name, _)| name == "strict-transport-security").collect();
            assert_eq!(fields.len(), 1, "{version:?} {path}: {fields:?}");
            assert_eq!(fields[0].1, expected, "{version:?} {path}");
        }
        // In the clear it means nothing, and must not be sent (RFC 6797 §7.2).
        let answer = curl::get(&format!("http://{}{TRACK}", gate.listeners()[1]), version, &[]).await;
        assert_eq!(head(&answer).field("strict-transport-security"), None, "{version:?}");
    }
}
