//! Mutual TLS: who gets in, and what policies know of a client by its certificate.

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::streaming_urls;
use crate::support::config;
use crate::support::curl::{self, Transfer, Version};
use crate::support::eventually::{eventually, in_time};
use crate::support::gate::{self, Gate};
use crate::support::h2::H2;
use crate::support::origin::{ScriptedOrigin, pattern};
use crate::support::token;
use crate::support::tools::TempFolder;
use crate::tls::{Certificates, FIRST};
use primitives::clock::Clock;

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

    /// An authority whose certificate this one has signed.
    fn below(&self, name: &str, serial: u64) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let folder = TempFolder::new("authority");
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        std::fs::write(folder.path().join("ca.pem"), pem).expect("a file");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn client(&self, name: &str, serial: u64) -> Client {
        self.client_until(name, serial, 4_000_000_000)
    }

    /// As [`Self::client`], valid until this Unix second.
    pub fn client_until(&self, name: &str, serial: u64, end: u64) -> Client {
        let names = vec![format!("{name}.devices.test"), "192.0.2.7".to_owned()];
        let mut params = CertificateParams::new(names).expect("good names");
        let ascii = |text: String| text.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::Rfc822Name(ascii(format!("{name}@devices.test"))));
        params.subject_alt_names.push(SanType::URI(ascii(format!("https://devices.test/{name}"))));
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
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

impl Client {
    /// Connects with the certificate, for HTTP/2 or HTTP/1.1.
    async fn connect(&self, gate: &Gate, certificates: &Certificates, alpn: &str) -> TlsStream<TcpStream> {
        let certificate = CertificateDer::from_pem_file(&self.certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        certificates.connect_as(gate.address(), (FIRST, true), &[alpn], Some((vec![certificate], key))).await
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
        json!({ "Claim": "client_certificate.dns", "In": ["player.devices.test"] }),
        json!({ "Claim": "client_certificate.email", "Equals": "player@devices.test" }),
        json!({ "Claim": "client_certificate.uri", "Equals": "https://devices.test/player" }),
        json!({ "Claim": "client_certificate.serial", "Equals": "1a2b" }),
        json!({ "Claim": "client_certificate.sha256", "Equals": player.sha256 }),
    ];
    let mut forged = token::claims("mallory");
    forged["client_certificate"] = json!({ "cn": "player", "dns": ["player.devices.test"], "serial": "1a2b" });
    forged["client_certificate.cn"] = json!("player");
    forged["client_certificate.dns"] = json!("player.devices.test");
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
async fn a_name_of_one_kind_does_not_pass_for_one_of_another() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let player = ours.client("player", 1);
    let mut config = configuration(&origin, &certificates, json!({ "Authorities": ours.file() }));
    config["Auth"] = config::jwt();
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("device");
    let names = [
        ("dns", "player.devices.test"),
        ("email", "player@devices.test"),
        ("uri", "https://devices.test/player"),
        ("ip", "192.0.2.7"),
    ];
    let pairs = names.iter().flat_map(|(kind, own)| names.map(|(_, name)| (*kind, name, name == *own)));
    let rule = |kind: &str, name: &str| json!({ "Claim": format!("client_certificate.{kind}"), "Equals": name });
    let wrong = pairs.clone().filter(|(.., is_own)| !is_own).map(|(kind, name, _)| rule(kind, name));
    config["Policies"]["Authorization"]["device"] = json!({ "Require": [{ "AnyOf": wrong.collect::<Vec<_>>() }] });
    let bearer = format!("Authorization: Bearer {}", token::of("alice"));
    let gate = Gate::start(&config).await;
    assert_eq!(status(&gate, Version::Http1, Some(&player), &["-H", &bearer]).await, 403);
    let right = pairs.filter(|(.., is_own)| *is_own).map(|(kind, name, _)| rule(kind, name));
    config["Policies"]["Authorization"]["device"] = json!({ "Require": right.collect::<Vec<_>>() });
    let gate = Gate::start(&config).await;
    assert_eq!(status(&gate, Version::Http1, Some(&player), &["-H", &bearer]).await, 200);
    // A claim that no certificate has would permit nobody.
    config["Policies"]["Authorization"]["device"] = json!({ "Require": [rule("san", "player.devices.test")] });
    let folder = TempFolder::new("unknown-claim");
    let file = gate::write_config(&folder, &config).display().to_string();
    let ended = gate::run(&["check", &file], &folder).await;
    assert_eq!(ended.code, Some(64), "{}", ended.stdout);
    assert!(ended.stderr.contains("`client_certificate.san`") && ended.stderr.contains("client_certificate.dns"));
}

#[tokio::test]
async fn the_api_judges_a_routes_policy_by_the_certificate_too() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let (player, other) = (ours.client("player", 1), ours.client("other", 2));
    let mut config = streaming_urls::urls(&origin.url(), "audio", &["env:NEW_KEY"]);
    let mut listener = certificates.listener();
    listener["Tls"]["ClientCertificates"] = json!({ "Authorities": ours.file(), "Mode": "Optional" });
    config["Server"]["Listeners"] = json!([listener]);
    config["Policies"]["Authorization"]["device"] =
        json!({ "Require": [{ "Claim": "client_certificate.dns", "Equals": "player.devices.test" }] });
    config["ReverseProxy"]["Routes"]["stream"]["AuthorizationPolicy"] = json!("device");
    let gate = streaming_urls::start(&config).await;
    let bearer = format!("Authorization: Bearer {}", token::of("alice"));
    for version in VERSIONS {
        for (client, expected) in [(Some(&player), 200), (Some(&other), 403), (None, 403)] {
            let answer = ask(&gate, "/api/v1/tracks/track/stream-url", version, client, &["-H", &bearer]).await;
            assert_eq!(answer.heads.first().map(|head| head.status), Some(expected), "{version:?} {answer:?}");
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

/// Open connections of one client: idle ones, and ones on which an answer is under way.
struct OpenConnections {
    idle: TlsStream<TcpStream>,
    busy: TlsStream<TcpStream>,
    http2: H2,
    length: usize,
}

impl OpenConnections {
    /// Opens them, and has each answer a request.
    async fn open(gate: &Gate, certificates: &Certificates, client: &Client, length: usize) -> Self {
        let mut idle = client.connect(gate, certificates, "http/1.1").await;
        idle.write_all(format!("HEAD {TRACK} HTTP/1.1\r\nHost: {FIRST}\r\n\r\n").as_bytes()).await.expect("it is sent");
        let mut begun = [0; 15];
        idle.read_exact(&mut begun).await.expect("an answer");
        assert_eq!(&begun, b"HTTP/1.1 200 OK");
        let mut busy = client.connect(gate, certificates, "http/1.1").await;
        busy.write_all(format!("GET {TRACK} HTTP/1.1\r\nHost: {FIRST}\r\n\r\n").as_bytes()).await.expect("it is sent");
        busy.read_exact(&mut begun).await.expect("an answer");
        let http2 = H2::over(client.connect(gate, certificates, "h2").await).await.expect("HTTP/2");
        assert_eq!(http2.get(TRACK, &[("range", "bytes=0-99")]).await.status, 206);
        Self { idle, busy, http2, length }
    }

    /// Waits for the end of all of them. The answer under way is cut, since it is not read.
    async fn have_ended(mut self) {
        let mut rest = Vec::new();
        let _ = in_time("the idle connection ends", self.idle.read_to_end(&mut rest)).await;
        let _ = self.http2.ended().await;
        // Nothing is read before the connection is gone: the kernel has room for a part of the answer only.
        let mut rest = Vec::new();
        eventually("the answer under way is cut", async || {
            let mut piece = vec![0; 64 * 1024];
            match self.busy.read(&mut piece).await {
                Ok(1..) if rest.len() < self.length / 2 => {
                    rest.extend_from_slice(&piece[..1]);
                    None
                }
                ended => Some(ended.is_err() || rest.len() < self.length),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn open_connections_end_when_their_certificate_is_revoked() {
    let length = 50_000_000;
    let origin = ScriptedOrigin::with_track(pattern(length)).await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let (player, other) = (ours.client("player", 5), ours.client("other", 6));
    let clients = json!({ "Authorities": ours.file(), "RevocationLists": [ours.revoke(&[])] });
    let gate = Gate::start(&configuration(&origin, &certificates, clients)).await;
    let open = OpenConnections::open(&gate, &certificates, &player, length).await;
    let kept = H2::over(other.connect(&gate, &certificates, "h2").await).await.expect("HTTP/2");
    assert_eq!(kept.get(TRACK, &[("range", "bytes=0-99")]).await.status, 206);
    ours.revoke(&[5]);
    open.have_ended().await;
    assert_eq!(kept.get(TRACK, &[("range", "bytes=0-99")]).await.status, 206, "the other's goes on");
}

#[tokio::test]
async fn open_connections_end_when_their_authority_is_taken_away() {
    let length = 50_000_000;
    let origin = ScriptedOrigin::with_track(pattern(length)).await;
    let (certificates, ours, other) = (Certificates::make(), Authority::new("ours"), Authority::new("other"));
    let player = ours.client("player", 5);
    let clients = json!({ "Authorities": ours.file(), "Mode": "Optional" });
    let gate = Gate::start(&configuration(&origin, &certificates, clients)).await;
    let open = OpenConnections::open(&gate, &certificates, &player, length).await;
    std::fs::copy(other.file(), ours.file()).expect("it is replaced");
    open.have_ended().await;
}

#[tokio::test]
async fn open_connections_end_with_their_certificate() {
    let length = 50_000_000;
    let origin = ScriptedOrigin::with_track(pattern(length)).await;
    let (certificates, ours) = (Certificates::make(), Authority::new("ours"));
    let player = ours.client_until("player", 5, Clock::system().unix() + 20);
    let gate = Gate::start(&configuration(&origin, &certificates, json!({ "Authorities": ours.file() }))).await;
    OpenConnections::open(&gate, &certificates, &player, length).await.have_ended().await;
}

#[tokio::test]
async fn a_revoked_authority_below_the_root_and_a_list_that_was_cut_let_nobody_in() {
    if curl::find().is_none() {
        return;
    }
    let origin = ScriptedOrigin::with_track("music").await;
    let (certificates, root, second) = (Certificates::make(), Authority::new("root"), Authority::new("second"));
    let below = root.below("below", 77);
    let (player, revoked) = (below.client("player", 1), second.client("revoked", 2));
    // The client shows the authority below the root too.
    let chain = [&player.certificate, &below.file()].map(|file| std::fs::read_to_string(file).expect("a file"));
    std::fs::write(&player.certificate, chain.concat()).expect("a file");
    let both = [root.file(), second.file()].map(|file| std::fs::read_to_string(file).expect("a file")).concat();
    std::fs::write(certificates.folder().join("both.pem"), both).expect("a file");
    let lists = |first: &[u64]| {
        [root.revoke(first), second.revoke(&[2])].map(|file| std::fs::read_to_string(file).expect("a file"))
    };
    let file = certificates.folder().join("lists.pem");
    std::fs::write(&file, lists(&[]).concat()).expect("a file");
    let clients = json!({ "Authorities": certificates.folder().join("both.pem"), "RevocationLists": [file] });
    let gate = Gate::start(&configuration(&origin, &certificates, clients)).await;
    assert_eq!(status(&gate, Version::Http1, Some(&player), &[]).await, 200);
    assert_eq!(status(&gate, Version::Http1, Some(&revoked), &[]).await, 0);
    // The file as it is in the middle of a write: without the second list.
    std::fs::write(&file, &lists(&[])[0]).expect("a file");
    eventually("it is refused", async || gate.log().contains("the revocation list of the authority").then_some(()))
        .await;
    assert_eq!(status(&gate, Version::Http1, Some(&revoked), &[]).await, 0);
    std::fs::write(&file, lists(&[77]).concat()).expect("a file");
    eventually("the authority below is refused", async || {
        (status(&gate, Version::Http1, Some(&player), &[]).await == 0).then_some(())
    })
    .await;
}
