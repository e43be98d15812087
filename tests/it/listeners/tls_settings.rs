//! TLS as it is set: staples, tickets, protocols, and certificates that are renewed while the gate runs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::client_certificates::{Authority, get};
use crate::support::config;
use crate::support::curl::{self, Version};
use crate::support::eventually;
use crate::support::gate::{self, Gate};
use crate::support::origin::ScriptedOrigin;
use crate::support::tools::{self, TempFolder};
use crate::tls::{Certificates, FIRST};
use primitives::clock::Clock;

const TRACK: &str = "/stream/track.mp3";

fn configuration(origin: &ScriptedOrigin, tls: Value) -> Value {
    let mut config = config::objects(&origin.url(), "audio");
    config["Server"]["Listeners"] = json!([{ "Address": "127.0.0.1:0", "Tls": tls }]);
    config
}

/// Output of openssl with these arguments, standard error included.
async fn openssl<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> String {
    let mut command = Command::new(tools::find("openssl").expect("openssl was there"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(Duration::from_secs(30), command.output()).await.expect("it ends").expect("it starts");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A handshake of `openssl s_client` with more arguments.
async fn handshake(gate: &Gate, folder: &Path, more: &[&str]) -> String {
    let address = gate.address().to_string();
    let arguments: Vec<&str> =
        ["s_client", "-connect", &address, "-servername", FIRST].into_iter().chain(more.iter().copied()).collect();
    openssl(folder, &arguments).await
}

/// An authority, two certificates of it, and what its responder says of them.
struct Responder {
    folder: TempFolder,
}

impl Responder {
    async fn new() -> Self {
        let folder = TempFolder::new("ocsp");
        std::fs::write(folder.path().join("names"), "subjectAltName=DNS:first.test\n").expect("a file");
        for line in [
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=ca",
            "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=first.test",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 30 -extfile names -out server.pem",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 8 -days 30 -extfile names -out other.pem",
        ] {
            openssl(folder.path(), &line.split(' ').collect::<Vec<_>>()).await;
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tls(&self) -> Value {
        let file = |name: &str| self.file(name);
        json!({ "Certificate": file("server.pem"), "Key": file("server.key"), "OcspResponse": file("staple.der") })
    }

    /// The response about `certificate`, which has this status in the index (`V` or `R`), for this time.
    async fn answer(&self, certificate: &str, status: &str, time: &str) -> Vec<u8> {
        let revoked = if status == "R" { "200101000000Z" } else { "" };
        let line = |serial: &str| format!("{status}\t991231235959Z\t{revoked}\t{serial}\tunknown\t/CN={serial}.test\n");
        std::fs::write(self.file("index.txt"), line("07") + &line("08")).expect("a file");
        let respond = format!(
            "ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert {certificate} \
             -respout answer.der {time} -noverify"
        );
        openssl(self.folder.path(), &respond.split_whitespace().collect::<Vec<_>>()).await;
        std::fs::read(self.file("answer.der")).expect("openssl has made a response")
    }

    fn staple(&self, response: &[u8]) {
        std::fs::write(self.file("staple.der"), response).expect("a file");
    }
}

/// The same response with another end, as `date -d` says it: signatures are the clients' to verify.
async fn with_end(response: &[u8], end: &str) -> Vec<u8> {
    let date = Command::new("date").args(["-u", "-d", end, "+%Y%m%d%H%M%SZ"]).output().await.expect("it runs");
    let mut changed = response.to_vec();
    // GeneralizedTime: when it was made, then its begin and its end.
    let is_time = |at: &usize| response[*at..].starts_with(&[0x18, 15, b'2', b'0']);
    let place = (0..response.len()).filter(is_time).nth(2).expect("nextUpdate") + 2;
    changed[place..place + 15].copy_from_slice(date.stdout.trim_ascii_end());
    changed
}

#[tokio::test]
async fn the_response_of_an_ocsp_responder_is_shown_with_the_certificate() {
    if tools::find("openssl").is_none() {
        return;
    }
    let (origin, responder) = (ScriptedOrigin::with_track("music").await, Responder::new().await);
    responder.staple(&responder.answer("server.pem", "V", "-ndays 5").await);
    let gate = Gate::start(&configuration(&origin, responder.tls())).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let text = handshake(&gate, responder.folder.path(), &["-status", version]).await;
        assert!(text.contains("OCSP Response Status: successful") && text.contains("Cert Status: good"), "{text}");
    }
    let end = eventually("the metric is there", async || {
        let end = gate.metric("tidegate_ocsp_response_end_timestamp_seconds", "listener=\"0\"").await;
        (end > 0.0).then_some(end)
    })
    .await;
    let now = Clock::system().unix() as f64;
    assert!((now + 4.0 * 86_400.0..now + 6.0 * 86_400.0).contains(&end), "{end} of {now}");
    assert!(!gate.log().contains("OCSP"), "{}", gate.log());
}

#[tokio::test]
async fn a_response_that_clients_would_refuse_is_warned_of_and_not_shown() {
    if tools::find("openssl").is_none() {
        return;
    }
    let (origin, responder) = (ScriptedOrigin::with_track("music").await, Responder::new().await);
    let good = responder.answer("server.pem", "V", "-ndays 5").await;
    let other = responder.answer("other.pem", "V", "-ndays 5").await;
    let revoked = responder.answer("server.pem", "R", "-ndays 5").await;
    let endless = responder.answer("server.pem", "V", "").await;
    let ended = with_end(&good, "-10 sec").await;
    for (bytes, reason) in [
        (&good[..100], "it is cut, or no OCSP response"),
        (&[0x30, 0x82, 0xff, 0xff, 0x0a, 1, 0, 0xa0], "it is cut, or no OCSP response"),
        (b"<html>", "it is cut, or no OCSP response"),
        // tryLater.
        (&[0x30, 3, 0x0a, 1, 3], "answered with an error"),
        (&other, "about another certificate"),
        (&revoked, "the certificate is revoked"),
        (&endless, "does not say until when"),
        (&ended, "was not renewed"),
    ] {
        responder.staple(bytes);
        let config = configuration(&origin, responder.tls());
        let file = gate::write_config(&responder.folder, &config).display().to_string();
        let checked = gate::run(&["check", &file], &responder.folder).await;
        assert_eq!(checked.code, Some(0), "{reason}: {}", checked.stderr);
        let warning = format!("the OCSP response {} is not shown", responder.file("staple.der").display());
        assert!(checked.stderr.contains(&warning) && checked.stderr.contains(reason), "{reason}: {}", checked.stderr);
        let gate = Gate::start(&config).await;
        let text = handshake(&gate, responder.folder.path(), &["-status"]).await;
        assert!(text.contains("no response sent") && text.contains("Verify return code"), "{reason}: {text}");
        let told = gate.log_lines().into_iter().filter(|line| {
            line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| text.contains("OCSP"))
        });
        assert_eq!(told.count(), 1, "{reason}: {}", gate.log());
    }
}

#[tokio::test]
async fn a_response_is_shown_until_its_end_and_another_one_when_it_is_there() {
    if tools::find("openssl").is_none() {
        return;
    }
    let (origin, responder) = (ScriptedOrigin::with_track("music").await, Responder::new().await);
    let good = responder.answer("server.pem", "V", "-ndays 5").await;
    let short = with_end(&good, "+4 sec").await;
    responder.staple(&short);
    let gate = Gate::start(&configuration(&origin, responder.tls())).await;
    let shown = async || handshake(&gate, responder.folder.path(), &["-status"]).await.contains("Cert Status: good");
    eventually("it is shown no longer", async || (!shown().await).then_some(())).await;
    let warned = async || gate.log().contains("it has ended at").then_some(());
    eventually("it is warned of", warned).await;
    responder.staple(&good);
    eventually("the new one is shown", async || shown().await.then_some(())).await;
}

#[tokio::test]
async fn sessions_are_resumed_by_tickets_where_they_may_be() {
    if tools::find("openssl").is_none() || curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, authority) = (Certificates::make(), Authority::new("ours"));
    let tls = certificates.listener()["Tls"].clone();
    let (mut without, mut asking) = (tls.clone(), tls.clone());
    without["SessionTickets"] = json!(false);
    asking["ClientCertificates"] = json!({ "Authorities": authority.file(), "Mode": "Optional" });
    for (tls, resumed) in [(tls, true), (without, false), (asking, false)] {
        let gate = Gate::start(&configuration(&origin, tls.clone())).await;
        for version in ["-tls1_2", "-tls1_3"] {
            let folder = TempFolder::new("session");
            let first = session(&gate, folder.path(), version, "-sess_out session.pem").await;
            assert!(first.contains("HTTP/1.1 200") && first.contains("New, "), "{first}");
            if !folder.path().join("session.pem").exists() {
                assert!(!resumed, "no session was given: {first}");
                continue;
            }
            let second = session(&gate, folder.path(), version, "-sess_in session.pem").await;
            assert!(second.contains("HTTP/1.1 200"), "{second}");
            assert_eq!(second.contains("Reused, "), resumed, "{version} {tls}: {second}");
        }
    }
}

/// What a session of TLS with `gate` says, by `openssl s_client` with more arguments.
async fn session(gate: &Gate, folder: &Path, version: &str, more: &str) -> String {
    let request = format!("GET {TRACK} HTTP/1.1\r\nHost: {FIRST}\r\nConnection: close\r\n\r\n");
    std::fs::write(folder.join("request"), request).expect("a file");
    let line = format!(
        "openssl s_client -connect {} -servername {FIRST} {version} -ign_eof {more} <request 2>&1",
        gate.address()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(folder).kill_on_drop(true);
    let output = timeout(Duration::from_secs(30), command.output()).await.expect("it ends");
    String::from_utf8_lossy(&output.expect("it starts").stdout).into_owned()
}

/// Two nodes with the same files of TLS.
async fn nodes(origin: &ScriptedOrigin, tls: &Value) -> [Gate; 2] {
    let config = configuration(origin, tls.clone());
    [Gate::start(&config).await, Gate::start(&config).await]
}

#[tokio::test]
async fn a_session_is_resumed_at_another_node_and_after_a_restart_by_shared_keys() {
    if tools::find("openssl").is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, folder) = (Certificates::make(), TempFolder::new("tickets"));
    let file = |name: &str| folder.path().join(name);
    for (name, bytes) in [("new", "80"), ("old", "48")] {
        let path = file(name).display().to_string();
        openssl(folder.path(), &["rand", "-out", &path, bytes]).await;
    }
    let own = certificates.listener()["Tls"].clone();
    let (mut old, mut both) = (own.clone(), own.clone());
    old["SessionTicketKeys"] = json!(file("old"));
    both["SessionTicketKeys"] = json!([file("new"), file("old")]);
    for version in ["-tls1_2", "-tls1_3"] {
        let resumed = async |from: &Gate, to: &Gate| {
            let first = session(from, folder.path(), version, "-sess_out session.pem").await;
            assert!(first.contains("HTTP/1.1 200") && first.contains("New, "), "{first}");
            let second = session(to, folder.path(), version, "-sess_in session.pem").await;
            assert!(second.contains("HTTP/1.1 200"), "{second}");
            second.contains("Reused, ")
        };
        let [one, two] = nodes(&origin, &own).await;
        assert!(!resumed(&one, &two).await, "{version}: each has keys of its own");
        let [mut one, two] = nodes(&origin, &old).await;
        assert!(resumed(&one, &two).await, "{version}: they share their key");
        let rotated = Gate::start(&configuration(&origin, both.clone())).await;
        assert!(resumed(&one, &rotated).await, "{version}: all keys decrypt");
        assert!(!resumed(&rotated, &two).await, "{version}: the first key encrypts");
        session(&one, folder.path(), version, "-sess_out session.pem").await;
        one.stop().await;
        let again = Gate::start(&configuration(&origin, old.clone())).await;
        let second = session(&again, folder.path(), version, "-sess_in session.pem").await;
        assert!(second.contains("Reused, "), "{version}: {second}");
        if version == "-tls1_3" {
            assert!(second.contains("Early data was not sent") && second.contains("Max Early Data: 0"), "{second}");
        }
    }
}

#[tokio::test]
async fn keys_of_tickets_are_read_again_and_those_of_a_wrong_length_are_refused() {
    if tools::find("openssl").is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, folder) = (Certificates::make(), TempFolder::new("tickets"));
    let file = folder.path().join("key");
    std::fs::write(&file, [1; 80]).expect("a file");
    let mut tls = certificates.listener()["Tls"].clone();
    tls["SessionTicketKeys"] = json!([&file]);
    let [one, two] = nodes(&origin, &tls).await;
    session(&one, folder.path(), "-tls1_3", "-sess_out session.pem").await;
    let resumed =
        async |gate: &Gate| session(gate, folder.path(), "-tls1_3", "-sess_in session.pem").await.contains("Reused, ");
    assert!(resumed(&two).await);
    std::fs::write(&file, [2; 81]).expect("a file");
    eventually("it is refused", async || two.log().contains("it has 81 bytes; expected 80").then_some(())).await;
    assert!(resumed(&two).await, "the key that was loaded before stays in use");
    let config = gate::write_config(&folder, &configuration(&origin, tls.clone())).display().to_string();
    let checked = gate::run(&["check", &config], &folder).await;
    assert_eq!(checked.code, Some(64), "{}", checked.stdout);
    let place = "Server.Listeners[0].Tls.SessionTicketKeys[0]";
    assert!(checked.stderr.contains(place) && checked.stderr.contains("openssl rand 80"), "{}", checked.stderr);
    std::fs::write(&file, [2; 80]).expect("a file");
    eventually("the new key is used", async || (!resumed(&two).await).then_some(())).await;
    // Both have it by now.
    eventually("it is shared again", async || {
        session(&one, folder.path(), "-tls1_3", "-sess_out session.pem").await;
        resumed(&two).await.then_some(())
    })
    .await;
    tls["SessionTickets"] = json!(false);
    let config = gate::write_config(&folder, &configuration(&origin, tls)).display().to_string();
    let checked = gate::run(&["check", &config], &folder).await;
    assert!(checked.stderr.contains("the listener gives no session tickets"), "{}", checked.stderr);
}

#[tokio::test]
async fn the_protocols_that_are_offered_can_be_set() {
    if tools::find("openssl").is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let certificates = Certificates::make();
    let folder = TempFolder::new("alpn");
    for (offered, rows) in [
        (json!(["http/1.1"]), [("h2,http/1.1", "ALPN protocol: http/1.1"), ("h2", "no application protocol")]),
        (json!(["h2"]), [("http/1.1,h2", "ALPN protocol: h2"), ("http/1.1", "no application protocol")]),
        (json!(["http/1.1", "h2"]), [("h2,http/1.1", "ALPN protocol: http/1.1"), ("h2", "ALPN protocol: h2")]),
    ] {
        let mut tls = certificates.listener()["Tls"].clone();
        tls["Alpn"] = offered.clone();
        let gate = Gate::start(&configuration(&origin, tls)).await;
        for (asked, expected) in rows {
            let text = handshake(&gate, folder.path(), &["-alpn", asked]).await;
            assert!(text.contains(expected), "{offered} for {asked}: {text}");
        }
    }
}

/// Writes a new self-signed certificate for `name`, with its key.
fn renew(folder: &TempFolder, name: &str) -> String {
    write_renewed(folder, name, "server.key")
}

/// As [`renew`], with the key in another file.
fn renewed_in(folder: &TempFolder, key: &str) -> String {
    write_renewed(folder, FIRST, key)
}

fn write_renewed(folder: &TempFolder, name: &str, key_file: &str) -> String {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec![name.to_owned()]).expect("a name").self_signed(&key);
    let pem = certificate.expect("a certificate").pem();
    std::fs::write(folder.path().join("server.pem"), &pem).expect("a file");
    std::fs::write(folder.path().join(key_file), key.serialize_pem()).expect("a file");
    pem.replace('\r', "").trim().to_owned()
}

/// A gate whose certificate and key are files in a folder that a test may write; and the certificate.
async fn with_files_of_its_own() -> (ScriptedOrigin, TempFolder, String, Gate) {
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("renewal");
    let first = renew(&folder, FIRST);
    let file = |name: &str| folder.path().join(name);
    let tls = json!({ "Certificate": file("server.pem"), "Key": file("server.key") });
    let gate = Gate::start(&configuration(&origin, tls)).await;
    (origin, folder, first, gate)
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_changes_nothing() {
    if tools::find("openssl").is_none() {
        return;
    }
    let (_origin, folder, first, gate) = with_files_of_its_own().await;
    let file = |name: &str| folder.path().join(name);
    assert!(handshake(&gate, folder.path(), &[]).await.contains(&first));
    assert!(gate.metric("tidegate_certificate_expiry_timestamp_seconds", "listener=\"0\"").await > 1e9);

    let second = renew(&folder, FIRST);
    eventually("the new certificate is shown", async || {
        handshake(&gate, folder.path(), &[]).await.contains(&second).then_some(())
    })
    .await;
    assert_eq!(gate.metric("tidegate_certificate_loads_total", "outcome=\"loaded\"").await, 1.0);

    // A certificate without its key.
    let key = std::fs::read(file("server.key")).expect("a file");
    let third = renew(&folder, FIRST);
    std::fs::write(file("server.key"), key).expect("a file");
    eventually("the pair is refused", async || {
        (gate.metric("tidegate_certificate_loads_total", "outcome=\"refused\"").await == 1.0).then_some(())
    })
    .await;
    let text = handshake(&gate, folder.path(), &[]).await;
    assert!(text.contains(&second) && !text.contains(&third), "{text}");
    assert!(gate.log().contains("cannot be used with its key"), "{}", gate.log());

    let fourth = renew(&folder, FIRST);
    eventually("a good pair is shown again", async || {
        handshake(&gate, folder.path(), &[]).await.contains(&fourth).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_renewed_revocation_list_is_used_without_a_restart() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let player = ours.client("player", 5);
    let mut tls = certificates.listener()["Tls"].clone();
    tls["ClientCertificates"] = json!({ "Authorities": ours.file(), "RevocationLists": [ours.revoke(&[])] });
    let gate = Gate::start(&configuration(&origin, tls)).await;
    assert_eq!(get(&gate, Version::Http2, Some(&player), &[]).await.body, b"music");
    ours.revoke(&[5]);
    eventually("the certificate is refused", async || {
        (get(&gate, Version::Http2, Some(&player), &[]).await.exit != 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn files_of_tls_that_could_not_be_used_are_tried_again() {
    if tools::find("openssl").is_none() {
        return;
    }
    let (_origin, folder, first, gate) = with_files_of_its_own().await;
    let file = |name: &str| folder.path().join(name);
    // A FIFO blocks who opens it, and is neither read nor waited for.
    std::fs::remove_file(file("server.key")).expect("it is removed");
    let made = std::process::Command::new("mkfifo").arg(file("server.key")).status().expect("it runs");
    assert!(made.success());
    eventually("it is refused", async || gate.log().contains("it is a FIFO").then_some(())).await;
    assert!(handshake(&gate, folder.path(), &[]).await.contains(&first));
    std::fs::remove_file(file("server.key")).expect("it is removed");
    let second = renew(&folder, FIRST);
    eventually("the new certificate is shown", async || {
        handshake(&gate, folder.path(), &[]).await.contains(&second).then_some(())
    })
    .await;
    // The key is elsewhere for a time, such as on a file system that is not mounted: what stands in the folder says
    // nothing of when it is back.
    std::fs::create_dir(file("keys")).expect("a folder");
    std::fs::rename(file("server.key"), file("keys/server.key")).expect("it is moved");
    // As certbot makes it: what the link leads to changes without a change of the link.
    std::os::unix::fs::symlink("keys/server.key", file("server.key")).expect("a link");
    std::fs::rename(file("keys"), file("away")).expect("it is moved");
    eventually("it is refused", async || gate.log().contains("No such file").then_some(())).await;
    let third = renewed_in(&folder, "away/server.key");
    std::fs::rename(file("away"), file("keys")).expect("it is moved");
    eventually("the newest certificate is shown", async || {
        handshake(&gate, folder.path(), &[]).await.contains(&third).then_some(())
    })
    .await;
}
