//! Versions of HTTP toward servers: what ALPN chooses over TLS, and prior knowledge without.

use serde_json::{Value, json};

use crate::support::fault::Step;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, ScriptedOrigin, config};
use crate::tls::behind_tls;

/// A server of HTTP/2 without TLS: a gateway before `origin`.
async fn http2_server(origin: &ScriptedOrigin) -> Gate {
    let mut config = plain(&origin.url(), json!({}));
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "H2c": true }]);
    Gate::start(&config).await
}

fn plain(address: &str, request: Value) -> Value {
    let mut config = config::empty();
    config["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/plain/{**rest}", "back");
    config["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[address.to_owned()]);
    config["ReverseProxy"]["Clusters"]["back"]["HttpRequest"] = request;
    config
}

fn version(version: &str, policy: &str) -> Value {
    json!({ "Version": version, "VersionPolicy": policy })
}

#[tokio::test]
async fn alpn_chooses_the_version_and_an_exact_one_takes_no_other() {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    let http2 = http2_server(&origin).await;
    let folder = TempFolder::new("versions");
    let trusted = folder.path().join("server.pem");
    for (server, alpn, request, expected) in [
        (http2.address(), &["h2"][..], version("2", "RequestVersionOrLower"), 200),
        (http2.address(), &["h2"], version("2", "RequestVersionExact"), 200),
        (http2.address(), &["h2"], version("1.1", "RequestVersionOrHigher"), 200),
        (http2.address(), &["h2"], version("1.1", "RequestVersionExact"), 502),
        (origin.address(), &["http/1.1"], version("2", "RequestVersionOrLower"), 200),
        (origin.address(), &[], version("2", "RequestVersionOrLower"), 200),
        (origin.address(), &["http/1.1"], version("2", "RequestVersionExact"), 502),
        (origin.address(), &[], version("2", "RequestVersionExact"), 502),
    ] {
        let address = behind_tls(server, &trusted, alpn).await;
        let trust = trusted.display().to_string();
        let gate = Gate::start_with(&plain(&address, request.clone()), &[("SSL_CERT_FILE", &trust)]).await;
        for _ in 0..3 {
            let reply = gate.client().get("/plain/x", &[]).await;
            assert_eq!(reply.status.as_u16(), expected, "{alpn:?} {request}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn without_tls_http_2_is_spoken_where_nothing_lower_may_be() {
    let origin = ScriptedOrigin::start().await;
    origin.always(Step::Answer(Answer::new(200, "text/plain", "well")));
    let http2 = http2_server(&origin).await;
    for policy in ["RequestVersionExact", "RequestVersionOrHigher"] {
        let gate = Gate::start(&plain(&http2.url(), version("2", policy))).await;
        let body = "b".repeat(100_000);
        let sent = gate.client().request(http::Method::POST, "/plain/x?q=1").body(body.clone()).send().await;
        assert_eq!(sent.expect("an answer").status().as_u16(), 200, "{policy}");
        let seen = origin.take_seen().remove(0);
        assert_eq!((seen.target.as_str(), seen.body.len()), ("/plain/x?q=1", body.len()));
    }
    // A server of HTTP/1.1 does not understand it.
    let gate = Gate::start(&plain(&origin.url(), version("2", "RequestVersionExact"))).await;
    gate.client().get("/plain/x", &[]).await.problem(502);
    let lower = Gate::start(&plain(&origin.url(), version("2", "RequestVersionOrLower"))).await;
    lower.client().get("/plain/x", &[]).await.is(200);
}
