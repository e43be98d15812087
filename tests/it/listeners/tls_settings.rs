//! TLS as it is set: staples, tickets, protocols, and certificates that are renewed while the gate runs.

use std::ffi::OsStr;
use std::path::Path;
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

#[tokio::test]
async fn the_response_of_an_ocsp_responder_is_shown_with_the_certificate() {
    if tools::find("openssl").is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let folder = TempFolder::new("ocsp");
    std::fs::write(folder.path().join("names"), "subjectAltName=DNS:first.test\n").expect("a file");
    // An authority, a certificate of it, and what its responder says of that.
    for line in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=ca",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=first.test",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 30 -extfile names -out server.pem",
    ] {
        openssl(folder.path(), &line.split(' ').collect::<Vec<_>>()).await;
    }
    std::fs::write(folder.path().join("index.txt"), "V\t991231235959Z\t\t07\tunknown\t/CN=first.test\n")
        .expect("a file");
    let respond = "ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert server.pem \
                   -respout staple.der -ndays 5 -noverify";
    openssl(folder.path(), &respond.split_whitespace().collect::<Vec<_>>()).await;
    let file = |name: &str| folder.path().join(name);
    assert!(file("staple.der").exists(), "openssl has made no response");
    let tls = json!({
        "Certificate": file("server.pem"), "Key": file("server.key"), "OcspResponse": file("staple.der"),
    });
    let gate = Gate::start(&configuration(&origin, tls.clone())).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let text = handshake(&gate, folder.path(), &["-status", version]).await;
        assert!(text.contains("OCSP Response Status: successful") && text.contains("Cert Status: good"), "{text}");
    }
    // A responder's error (tryLater), and what is no response at all.
    for (bytes, reason) in [(&[0x30, 3, 0x0a, 1, 3][..], "answered with an error"), (b"<html>", "it is something else")]
    {
        std::fs::write(file("staple.der"), bytes).expect("a file");
        let config = gate::write_config(&folder, &configuration(&origin, tls.clone())).display().to_string();
        let ended = gate::run(&["check", &config], &folder).await;
        assert_eq!(ended.code, Some(64), "{}", ended.stderr);
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert!(text.contains("Server.Listeners[0].Tls.OcspResponse") && text.contains(reason), "{text}");
    }
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
            // TLS 1.3 sends tickets after the handshake: the session is written when they come.
            let request = format!("GET {TRACK} HTTP/1.1\r\nHost: {FIRST}\r\nConnection: close\r\n\r\n");
            std::fs::write(folder.path().join("request"), request).expect("a file");
            let session = async |more: &str| {
                let line = format!(
                    "openssl s_client -connect {} -servername {FIRST} {version} -ign_eof {more} <request 2>&1",
                    gate.address()
                );
                let mut command = Command::new("sh");
                command.args(["-c", &line]).current_dir(folder.path()).kill_on_drop(true);
                let output = timeout(Duration::from_secs(30), command.output()).await.expect("it ends");
                String::from_utf8_lossy(&output.expect("it starts").stdout).into_owned()
            };
            let first = session("-sess_out session.pem").await;
            assert!(first.contains("HTTP/1.1 200") && first.contains("New, "), "{first}");
            if !folder.path().join("session.pem").exists() {
                assert!(!resumed, "no session was given: {first}");
                continue;
            }
            let second = session("-sess_in session.pem").await;
            assert!(second.contains("HTTP/1.1 200"), "{second}");
            assert_eq!(second.contains("Reused, "), resumed, "{version} {tls}: {second}");
        }
    }
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
