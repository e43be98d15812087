//! Certificates by ACME, from a real server of the protocol.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::config;
use crate::support::curl::{self, Transfer, Version};
use crate::support::eventually::eventually;
use crate::support::gate::Gate;
use crate::support::origin::ScriptedOrigin;
use crate::support::pebble::Pebble;
use crate::support::service::free_port;
use crate::support::tools::TempFolder;

const NAME: &str = "media.tidegate.test";
const OTHER: &str = "www.tidegate.test";
const TRACK: &str = "/stream/track.mp3";
/// A validity that no test outlives, in seconds.
const LONG: u32 = 86_400;

/// A gate's listeners in the clear and with TLS, an ACME server that verifies names there, and the folder of certificates.
struct Authority {
    origin: ScriptedOrigin,
    pebble: Pebble,
    storage: TempFolder,
    http_port: u16,
    tls_port: u16,
}

impl Authority {
    async fn start(validity: u32) -> Option<Self> {
        let (http_port, tls_port) = (free_port(), free_port());
        let pebble = Pebble::start(http_port, tls_port, validity)?;
        let origin = ScriptedOrigin::with_track("music").await;
        Some(Self { origin, pebble, storage: TempFolder::new("acme"), http_port, tls_port })
    }

    fn configuration(&self, challenge: &str, names: &[&str]) -> Value {
        let mut config = config::objects(&self.origin.url(), "audio");
        config["Server"]["Listeners"] = json!([
            { "Address": format!("127.0.0.1:{}", self.tls_port), "Tls": { "AcmeNames": names } },
            { "Address": format!("127.0.0.1:{}", self.http_port), "RedirectToHttps": true },
        ]);
        config["Server"]["Acme"] = json!({
            "AcceptTerms": true,
            "Email": "ops@tidegate.test",
            "Directory": self.pebble.directory(),
            "Authorities": self.pebble.authorities(),
            "Storage": self.storage.path(),
            "Challenge": challenge,
        });
        config
    }

    /// GETs the track by HTTPS as a client that trusts only the certificate file `root`.
    async fn get(&self, name: &str, version: Version, root: &str) -> Transfer {
        let resolve = format!("{name}:{}:127.0.0.1", self.tls_port);
        let arguments = ["--no-insecure", "--cacert", root, "--resolve", &resolve];
        curl::get(&format!("https://{name}:{}{TRACK}", self.tls_port), version, &arguments).await
    }

    /// Waits until clients accept the certificate for `name`.
    async fn is_accepted(&self, name: &str, root: &str) {
        let accepted = async || (self.get(name, Version::Http1, root).await.exit == 0).then_some(());
        eventually("clients accept the certificate", accepted).await;
    }

    fn file(&self, name: &str) -> PathBuf {
        let mut folders = std::fs::read_dir(self.storage.path()).expect("the folder is there");
        folders.next().expect("one of the directory").expect("it can be read").path().join(name)
    }
}

async fn orders(gate: &Gate, outcome: &str) -> u32 {
    gate.metric("tidegate_acme_orders_total", outcome).await as u32
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_certificate_is_ordered_by_http_01_and_kept_over_a_restart() {
    let Some(authority) = Authority::start(LONG).await else { return };
    let root = authority.pebble.root().await;
    let config = authority.configuration("Http", &[NAME, OTHER]);
    let mut gate = Gate::start(&config).await;
    for name in [NAME, OTHER] {
        authority.is_accepted(name, &root).await;
        for version in [Version::Http1, Version::Http2] {
            let answer = authority.get(name, version, &root).await;
            assert_eq!((answer.exit, answer.body), (0, b"music".to_vec()), "{name} {version:?}");
        }
    }
    assert_eq!(orders(&gate, "issued").await, 1, "one for both names");
    for name in [format!("{NAME}.key"), format!("{NAME}.pem"), "account.json".to_owned()] {
        assert_eq!(mode(&authority.file(&name)), 0o600, "{name}");
    }
    // Challenges are answered only while an order is under way.
    let url = format!("http://127.0.0.1:{}/.well-known/acme-challenge/some-token", authority.http_port);
    let answer = curl::get(&url, Version::Http1, &[]).await;
    assert_eq!(answer.heads.last().map(|head| head.status), Some(308));
    assert!(gate.stop().await.success());
    drop(gate);

    let gate = Gate::start(&config).await;
    assert_eq!(authority.get(NAME, Version::Http2, &root).await.exit, 0, "from the first connection on");
    assert_eq!(orders(&gate, "issued").await, 0);
    assert_eq!(orders(&gate, "failed").await, 0);
}

#[tokio::test]
async fn a_certificate_is_ordered_by_tls_alpn_01() {
    let Some(authority) = Authority::start(LONG).await else { return };
    let root = authority.pebble.root().await;
    let mut config = authority.configuration("TlsAlpn", &[NAME]);
    // Nothing listens in the clear.
    config["Server"]["Listeners"].as_array_mut().expect("a list").pop();
    let gate = Gate::start(&config).await;
    let ended = async || (orders(&gate, "").await > 0).then_some(());
    eventually("the order ends", ended).await;
    assert_eq!(orders(&gate, "issued").await, 1, "{}", gate.log());
    authority.is_accepted(NAME, &root).await;
    for version in [Version::Http1, Version::Http2] {
        assert_eq!(authority.get(NAME, version, &root).await.body, b"music", "{version:?}");
    }
}

#[tokio::test]
async fn a_reload_orders_the_certificates_that_it_adds() {
    let Some(authority) = Authority::start(LONG).await else { return };
    let root = authority.pebble.root().await;
    let mut config = authority.configuration("Http", &[NAME]);
    let mut before = config.clone();
    before["Server"].as_object_mut().expect("an object").remove("Acme");
    before["Server"]["Listeners"].as_array_mut().expect("a list").remove(0);
    let gate = crate::reload::start(&mut before).await;
    config["Server"]["ReloadOnChange"] = json!(false);
    crate::reload::reload(&gate, &config).await;
    authority.is_accepted(NAME, &root).await;
    assert_eq!(orders(&gate, "issued").await, 1);
    config["Server"]["Listeners"][0]["Tls"]["AcmeNames"] = json!([OTHER, NAME]);
    crate::reload::reload(&gate, &config).await;
    for name in [OTHER, NAME] {
        authority.is_accepted(name, &root).await;
    }
    assert_eq!(orders(&gate, "issued").await, 2);
    assert_eq!(orders(&gate, "failed").await, 0);
}

#[tokio::test]
async fn a_certificate_is_renewed_under_load_and_one_that_cannot_be_stays() {
    // Due after 30 s, and loaded within 10 s more.
    let Some(mut authority) = Authority::start(45).await else { return };
    let root = authority.pebble.root().await;
    let gate = Gate::start(&authority.configuration("Http", &[NAME])).await;
    authority.is_accepted(NAME, &root).await;
    let first = std::fs::read(authority.file(&format!("{NAME}.pem"))).expect("the certificate");
    let renewed = async || {
        // Each request makes a handshake of its own.
        let answer = authority.get(NAME, Version::Http2, &root).await;
        assert_eq!((answer.exit, answer.body), (0, b"music".to_vec()));
        let now = std::fs::read(authority.file(&format!("{NAME}.pem"))).expect("the certificate");
        (now != first).then_some(())
    };
    eventually("the certificate is renewed", renewed).await;
    let counted = async || (orders(&gate, "issued").await == 2).then_some(());
    eventually("it is counted", counted).await;

    authority.pebble.server.kill();
    let failed = async || (orders(&gate, "failed").await == 1).then_some(());
    eventually("the next renewal fails", failed).await;
    let log = gate.log();
    assert!(log.contains("no certificate for media.tidegate.test: the ACME server: "), "{log}");
    assert!(log.contains("Connection refused"), "{log}");
    assert_eq!(curl_accepting_all(&authority).await.body, b"music", "the one that is there stays in use");
}

async fn curl_accepting_all(authority: &Authority) -> Transfer {
    curl::get(&format!("https://127.0.0.1:{}{TRACK}", authority.tls_port), Version::Http1, &[]).await
}

#[tokio::test]
async fn a_name_that_is_not_verified_is_said_with_the_authoritys_words() {
    let Some(authority) = Authority::start(LONG).await else { return };
    let mut config = authority.configuration("Http", &[NAME]);
    // Where the authority asks, nobody listens.
    config["Server"]["Listeners"].as_array_mut().expect("a list").pop();
    let gate = Gate::start(&config).await;
    let failed = async || (orders(&gate, "failed").await == 1).then_some(());
    eventually("the order fails", failed).await;
    let log = gate.log();
    assert!(log.contains("no certificate for media.tidegate.test: "), "{log}");
    assert!(log.contains("connection refused"), "{log}");
    // Clients that verify refuse what is shown until then.
    assert_eq!(curl_accepting_all(&authority).await.body, b"music");
    let root = authority.pebble.root().await;
    assert_eq!(authority.get(NAME, Version::Http1, &root).await.exit, 60, "curl does not accept it");
}
