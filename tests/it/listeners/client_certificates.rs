//! Mutual TLS: who gets in, and what policies know of a client by its certificate.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::config;
use crate::support::curl::{self, Transfer, Version};
use crate::support::eventually::eventually;
use crate::support::gate::Gate;
use crate::support::origin::ScriptedOrigin;
use crate::support::token;
use crate::support::tools::TempFolder;
use crate::tls::Certificates;

const TRACK: &str = "/stream/track.mp3";
const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

/// An authority that signs clients' certificates, as files.
pub struct Authority {
    folder: TempFolder,
    issuer: Issuer<'static, KeyPair>,
}

/// A client's certificate as curl takes it.
pub struct Client {
    certificate: PathBuf,
    key: PathBuf,
    sha256: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let folder = TempFolder::new("authority");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        std::fs::write(folder.path().join("ca.pem"), pem).expect("a file");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn client(&self, name: &str, serial: u64) -> Client {
        let names = vec![format!("{name}.devices.test"), "192.0.2.7".to_owned()];
        let mut params = CertificateParams::new(names).expect("good names");
        let ascii = |text: String| text.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::Rfc822Name(ascii(format!("{name}@devices.test"))));
        params.subject_alt_names.push(SanType::URI(ascii(format!("https://devices.test/{name}"))));
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        std::fs::write(file("pem"), certificate.pem()).expect("a file");
        std::fs::write(file("key"), key.serialize_pem()).expect("a file");
        let sha256 = Sha256::digest(certificate.der()).iter().map(|byte| format!("{byte:02x}")).collect();
        Client { certificate: file("pem"), key: file("key"), sha256 }
    }

    /// Writes the list of what is revoked.
    pub fn revoke(&self, serials: &[u64]) -> PathBuf {
        let day = date_time_ymd(2024, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: day,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: day,
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.folder.path().join("revoked.pem");
        std::fs::write(&file, list.signed_by(&self.issuer).expect("a list").pem().expect("PEM")).expect("a file");
        file
    }
}

/// Objects over TLS, with this in `ClientCertificates`.
pub fn configuration(origin: &ScriptedOrigin, certificates: &Certificates, clients: Value) -> Value {
    let mut config = config::objects(&origin.url(), "audio");
    let mut listener = certificates.listener();
    listener["Tls"]["ClientCertificates"] = clients;
    config["Server"]["Listeners"] = json!([listener]);
    config
}

/// GETs the track, with the client's certificate where there is one.
pub async fn get(gate: &Gate, version: Version, client: Option<&Client>, more: &[&str]) -> Transfer {
    ask(gate, TRACK, version, client, more).await
}

async fn ask(gate: &Gate, path: &str, version: Version, client: Option<&Client>, more: &[&str]) -> Transfer {
    let file = |path: &PathBuf| path.display().to_string();
    let pair = client.map(|client| (file(&client.certificate), file(&client.key)));
    let mut arguments = more.to_vec();
    if let Some((certificate, key)) = &pair {
        arguments.extend(["--cert", certificate, "--key", key]);
    }
    curl::get(&format!("https://{}{path}", gate.address()), version, &arguments).await
}

/// The status, or 0 where there is no answer.
async fn status(gate: &Gate, version: Version, client: Option<&Client>, more: &[&str]) -> u16 {
    let answer = get(gate, version, client, more).await;
    answer.heads.first().map_or(0, |head| head.status)
}

#[tokio::test]
async fn a_client_without_a_good_certificate_has_no_connection_where_one_is_required() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours, other) = (Certificates::make(), Authority::new("ours"), Authority::new("other"));
    let (good, stranger) = (ours.client("player", 1), other.client("player", 1));
    let gate = Gate::start(&configuration(&origin, &certificates, json!({ "Authorities": ours.file() }))).await;
    for version in VERSIONS {
        assert_eq!(status(&gate, version, Some(&good), &[]).await, 200);
        for refused in [None, Some(&stranger)] {
            let answer = get(&gate, version, refused, &[]).await;
            assert!(answer.exit != 0 && answer.heads.is_empty(), "{answer:?}");
        }
    }
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_and_not_wrong() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours, other) = (Certificates::make(), Authority::new("ours"), Authority::new("other"));
    let clients = json!({ "Authorities": ours.file(), "Mode": "Optional" });
    let gate = Gate::start(&configuration(&origin, &certificates, clients)).await;
    for version in VERSIONS {
        assert_eq!(status(&gate, version, None, &[]).await, 200);
        assert_eq!(status(&gate, version, Some(&ours.client("player", 1)), &[]).await, 200);
        assert_eq!(status(&gate, version, Some(&other.client("player", 1)), &[]).await, 0);
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let (good, revoked) = (ours.client("good", 1), ours.client("revoked", 2));
    let clients = json!({ "Authorities": ours.file(), "RevocationLists": [ours.revoke(&[2])] });
    let gate = Gate::start(&configuration(&origin, &certificates, clients)).await;
    assert_eq!(status(&gate, Version::Http1, Some(&good), &[]).await, 200);
    assert_eq!(status(&gate, Version::Http1, Some(&revoked), &[]).await, 0);
}

#[tokio::test]
async fn rules_of_policies_see_the_certificate_as_claims_that_no_token_can_have() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let (player, other) = (ours.client("player", 0x1a2b), ours.client("other", 2));
    let clients = json!({ "Authorities": ours.file(), "Mode": "Optional" });
    let rules = [
        json!({ "Claim": "client_certificate.cn", "Equals": "player" }),
        json!({ "Claim": "client_certificate.san", "In": ["player.devices.test"] }),
        json!({ "Claim": "client_certificate.san", "Equals": "player@devices.test" }),
        json!({ "Claim": "client_certificate.san", "Equals": "https://devices.test/player" }),
        json!({ "Claim": "client_certificate.serial", "Equals": "1a2b" }),
        json!({ "Claim": "client_certificate.sha256", "Equals": player.sha256 }),
    ];
    let mut forged = token::claims("mallory");
    forged["client_certificate"] = json!({ "cn": "player", "san": ["player.devices.test"], "serial": "1a2b" });
    forged["client_certificate.cn"] = json!("player");
    forged["client_certificate.san"] = json!("player.devices.test");
    forged["client_certificate.serial"] = json!("1a2b");
    forged["client_certificate.sha256"] = json!(player.sha256);
    let (alice, mallory) = (token::of("alice"), token::with(&forged));
    let header = |token: &str| format!("Authorization: Bearer {token}");
    let (alice, mallory) = (header(&alice), header(&mallory));
    for rule in rules {
        let mut config = configuration(&origin, &certificates, clients.clone());
        config["Auth"] = config::jwt();
        config["Policies"]["Authorization"]["device"] = json!({ "Require": [rule] });
        config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("device");
        let gate = Gate::start(&config).await;
        for version in VERSIONS {
            for (client, bearer, expected) in [
                (Some(&player), Some(&alice), 200),
                (Some(&other), Some(&alice), 403),
                (None, Some(&alice), 403),
                (None, Some(&mallory), 403),
                (Some(&other), Some(&mallory), 403),
                // A certificate is no token unless the listener says so.
                (Some(&player), None, 401),
            ] {
                let more = bearer.map_or(vec![], |bearer| vec!["-H", bearer.as_str()]);
                let found = status(&gate, version, client, &more).await;
                assert_eq!(found, expected, "{rule} {version:?} {bearer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_destination_is_told_the_certificate_by_the_header_that_the_route_names() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let player = ours.client("player", 1);
    let clients = json!({ "Authorities": ours.file(), "Mode": "Optional" });
    let mut config = configuration(&origin, &certificates, clients);
    config["ReverseProxy"]["Clusters"]["own"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Routes"]["own"] = config::plain_route("/own/{**rest}", "own");
    config["ReverseProxy"]["Routes"]["own"]["Transforms"] = json!([{ "ClientCert": "X-Client-Cert" }]);
    let gate = Gate::start(&config).await;
    let forged = ["-H", "X-Client-Cert: forged"];
    let pem = std::fs::read_to_string(&player.certificate).expect("a file");
    let encoded: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    for (client, expected) in [(Some(&player), Some(encoded.as_str())), (None, None)] {
        for version in VERSIONS {
            ask(&gate, "/own/a", version, client, &forged).await;
            let seen = origin.seen().pop().expect("the origin was asked");
            assert_eq!(seen.header("x-client-cert"), expected, "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_stands_for_a_token_where_the_listener_says_so() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let player = ours.client("player", 1);
    let clients = json!({ "Authorities": ours.file(), "Mode": "Optional", "Authenticates": true });
    let mut config = configuration(&origin, &certificates, clients);
    config["Policies"]["Authorization"]["own"] = json!({ "Require": [{ "Claim": "sub", "Equals": "player" }] });
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("own");
    config["ReverseProxy"]["Clusters"]["own"] = config::cluster(&[origin.url()]);
    config["ReverseProxy"]["Routes"]["act"] = config::plain_route("/act/{**rest}", "own");
    config["ReverseProxy"]["Routes"]["act"]["AuthorizationPolicy"] = json!("own");
    let gate = Gate::start(&config).await;
    assert_eq!(status(&gate, Version::Http2, Some(&player), &[]).await, 200);
    assert_eq!(status(&gate, Version::Http1, None, &[]).await, 401);
    assert_eq!(status(&gate, Version::Http1, Some(&ours.client("other", 2)), &[]).await, 403);
    // A page of another site makes the browser show the certificate, as it makes it send a cookie.
    for (site, is_refused) in [("cross-site", true), ("same-origin", false)] {
        let named = format!("Sec-Fetch-Site: {site}");
        let answer = ask(&gate, "/act/a", Version::Http2, Some(&player), &["-X", "POST", "-H", &named]).await;
        assert_eq!(answer.heads[0].status == 401, is_refused, "{site}: {answer:?}");
    }
    eventually("five access lines", async || (gate.access_lines().len() == 5).then_some(())).await;
    config["Auth"] = config::jwt();
    let gate = Gate::start(&config).await;
    assert_eq!(status(&gate, Version::Http1, Some(&player), &[]).await, 200);
    let usage = ask(&gate, "/api/v1/usage", Version::Http1, Some(&player), &[]).await;
    assert_eq!(usage.heads[0].status, 401, "the API knows no certificates");
}
