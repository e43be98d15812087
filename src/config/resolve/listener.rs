//! `Server.Listeners`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::ConfigLocation;
use super::acme::{self, ResolvedAcme};
use super::server::socket_name;
use super::server::{SOURCE, address, source};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::{ConfigText, OneOrMany};
use http_server::settings::{
    AlpnProtocol, CertificatePaths, ClientCertificateMode, ClientCertificateSettings, ListenAddress, ListenerSettings,
    TlsSettings,
};
use http_server::{check_certificate, check_client_certificates, check_ticket_key};

const LISTEN_ADDRESS: &str = "IP address and port such as 0.0.0.0:8080 or [::]:8080, a port, name and port such as localhost:8080, or unix:/path";
/// Longest path of a Unix socket in bytes (unix(7), without the final NUL).
const MAX_SOCKET_PATH: usize = 107;
/// Shortest and longest time of `Hsts`.
const LEAST_HSTS: Duration = Duration::from_secs(1);
const MOST_HSTS: Duration = Duration::from_secs(10 * 31_557_600);
/// Longest host name in bytes (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// Resolves the listeners. Where the file does not have the key, there is one at the port of `PORT`, else 8080. Reports an
/// empty list and addresses that clash, and returns the listeners all the same; `None` where one cannot be resolved.
pub fn listeners(
    at: &ConfigLocation<'_>,
    raw: Option<&[file::Listener]>,
    acme: ResolvedAcme<'_>,
) -> Option<Vec<ListenerSettings>> {
    let Some(raw) = raw else {
        // Platforms that run containers name the port in this variable.
        let port = at.variable("PORT", "a port such as 8080", |text| text.trim().parse().ok())?;
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.unwrap_or(8080)));
        return Some(vec![ListenerSettings::plain(ListenAddress::Ip(address))]);
    };
    if raw.is_empty() {
        at.report(ConfigProblem::new("nobody can connect").expected("at least one listener"));
    }
    let listeners = at.each(raw, |at, raw| listener(at, raw, acme))?;
    let all: Vec<_> = listeners.iter().enumerate().flat_map(|(of, listener)| addresses_of(of, listener)).collect();
    for (number, (of, address)) in all.iter().enumerate() {
        if let Some((first, _)) = all[..number].iter().find(|(_, other)| clash(other, address)) {
            let problem = ConfigProblem::new(format!("{address} is already taken by Listeners[{first}]"));
            at.item(*of).key("Address").report(problem.help("give every listener an address of its own"));
        }
    }
    Some(listeners)
}

fn addresses_of(number: usize, listener: &ListenerSettings) -> impl Iterator<Item = (usize, &ListenAddress)> {
    listener.addresses.iter().map(move |address| (number, address))
}

/// Returns the address of a listener that leaves none for `address`.
pub fn taken_by<'l>(listeners: &'l [ListenerSettings], address: &ListenAddress) -> Option<&'l ListenAddress> {
    listeners.iter().flat_map(|listener| &listener.addresses).find(|other| clash(other, address))
}

/// Returns true if two addresses cannot both be listened on. Names are not looked up: what they stand for is known only
/// where the file is used.
fn clash(one: &ListenAddress, two: &ListenAddress) -> bool {
    let (ListenAddress::Ip(one), ListenAddress::Ip(two)) = (one, two) else {
        return one == two && !matches!(one, ListenAddress::Host { port: 0, .. });
    };
    // Port 0 is any free port.
    one.port() == two.port() && one.port() != 0 && (includes(one.ip(), two.ip()) || includes(two.ip(), one.ip()))
}

/// Returns true if who listens on `one` listens on `two` too: an unspecified address includes every other one, and that of
/// IPv6 those of IPv4.
fn includes(one: IpAddr, two: IpAddr) -> bool {
    one == two || one.is_unspecified() && (one.is_ipv6() || two.is_ipv4())
}

fn listener(at: &ConfigLocation<'_>, raw: &file::Listener, acme: ResolvedAcme<'_>) -> Option<ListenerSettings> {
    let addresses = addresses(&at.key("Address"), &raw.address);
    let socket_mode = raw.socket_mode.as_ref().map(|mode| {
        let expected = "three or four octal digits in quotes, such as \"0660\"";
        at.key("SocketMode").parse(mode, expected, socket_mode)
    });
    let is_unix = |address: &ListenAddress| matches!(address, ListenAddress::Unix(_));
    if raw.socket_mode.is_some() && addresses.as_ref().is_some_and(|all| !all.iter().any(is_unix)) {
        let problem = ConfigProblem::new("the mode is that of a Unix socket, and there is none");
        at.key("SocketMode").report(problem.help("remove it, or listen on `unix:/path`"));
    }
    let tls = raw.tls.as_ref().map(|raw| tls(&at.key("Tls"), raw, acme));
    if raw.h2c && raw.tls.is_some() {
        let problem = ConfigProblem::new("a listener with `Tls` has HTTP/2 by ALPN");
        at.key("H2c").report(problem.help("remove `H2c`: it is for listeners without TLS"));
    }
    if raw.redirect_to_https && raw.tls.is_some() {
        let problem = ConfigProblem::new("the listener has `Tls`: what comes to it is HTTPS already");
        at.key("RedirectToHttps").report(problem.help("put it on a listener without `Tls`"));
    }
    if raw.https_port.is_some() && !raw.redirect_to_https {
        let problem = ConfigProblem::new("the port is that of `RedirectToHttps`, which is not switched on");
        at.key("HttpsPort").report(problem.help("add `RedirectToHttps: true`, or remove it"));
    }
    let socket = socket_name(at, raw.socket.as_ref());
    let proxy_sources = raw.proxy_protocol.as_ref().map(|raw| proxy_sources(&at.key("ProxyProtocol"), raw));
    Some(ListenerSettings {
        addresses: addresses?,
        socket: socket?,
        socket_mode: socket_mode.map_or(Some(None), |mode| mode.map(Some))?,
        tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
        h2c: raw.h2c,
        https_redirect: raw.redirect_to_https.then(|| raw.https_port.unwrap_or(443)),
        proxy_sources: proxy_sources.map_or(Some(None), |sources| sources.map(Some))?,
    })
}

fn proxy_sources(at: &ConfigLocation<'_>, raw: &file::ProxyProtocol) -> Option<Vec<IpNet>> {
    let at = at.key("TrustedSources");
    if raw.trusted_sources.is_empty() {
        at.report(ConfigProblem::new("nobody can connect").expected("the networks of the balancers, or `unix`"));
        return None;
    }
    at.each(&raw.trusted_sources, |at, text| at.parse(text, SOURCE, source))
}

fn addresses(at: &ConfigLocation<'_>, raw: &OneOrMany) -> Option<Vec<ListenAddress>> {
    let parse = |at: &ConfigLocation<'_>, text: &ConfigText| at.parse(text, LISTEN_ADDRESS, listen_address);
    match raw {
        OneOrMany::One(text) => parse(at, text).map(|address| vec![address]),
        OneOrMany::Many(texts) if texts.is_empty() => {
            at.report(ConfigProblem::new("nobody can connect").expected("at least one address"));
            None
        }
        OneOrMany::Many(texts) => at.each(texts, parse),
    }
}

/// Parses an address to listen on.
fn listen_address(text: &str) -> Option<ListenAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty() && path.len() <= MAX_SOCKET_PATH).then(|| ListenAddress::Unix(path.into()));
    }
    if let Some(address) = address(text) {
        return Some(ListenAddress::Ip(address));
    }
    let (name, port) = text.rsplit_once(':')?;
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    // With a letter in the last label, or a mistyped IP address would be a name (RFC 3696 §2).
    let last = name.rsplit('.').next().is_some_and(|label| label.bytes().any(|c| c.is_ascii_alphabetic()));
    let is_name = name.len() <= MAX_NAME && last && name.split('.').all(is_label);
    is_name.then_some(())?;
    Some(ListenAddress::Host { name: name.to_owned(), port: port.parse().ok()? })
}

fn socket_mode(text: &str) -> Option<u32> {
    matches!(text.len(), 3 | 4).then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o777)
}

fn tls(at: &ConfigLocation<'_>, raw: &file::Tls, acme: ResolvedAcme<'_>) -> Option<TlsSettings> {
    let certificates = certificates(at, raw);
    let wants = raw.client_certificates.as_ref().is_some_and(|raw| raw.mode == file::ClientCertificateMode::Required);
    let acme_names = acme::names(&at.key("AcmeNames"), raw.acme_names.as_deref(), acme, wants);
    let clients = raw.client_certificates.as_ref().map(|raw| client_certificates(&at.key("ClientCertificates"), raw));
    // At least a second: `max-age` has no fractions, and 0 would take back what was said.
    let hsts = raw.hsts.map(|age| at.key("Hsts").span(Some(age), LEAST_HSTS, LEAST_HSTS, MOST_HSTS));
    let hsts = hsts.map_or(Some(None), |age| age.map(Some));
    let alpn = alpn(&at.key("Alpn"), raw.alpn.as_deref());
    let ticket_keys = ticket_keys(at, raw);
    let (mut certificates, acme_names) = (certificates?, acme_names?);
    if let Some(acme) = acme.flatten().filter(|_| !acme_names.is_empty()) {
        certificates.push(acme.certificate_paths(&acme_names));
    }
    Some(TlsSettings {
        certificates,
        acme_names,
        client_certificates: clients.map_or(Some(None), |clients| clients.map(Some))?,
        alpn: alpn?,
        session_tickets: raw.session_tickets.unwrap_or(true),
        ticket_keys: ticket_keys?,
        hsts: hsts?,
    })
}

fn ticket_keys(at: &ConfigLocation<'_>, raw: &file::Tls) -> Option<Vec<PathBuf>> {
    let Some(keys) = &raw.session_ticket_keys else { return Some(Vec::new()) };
    let at_keys = at.key("SessionTicketKeys");
    if raw.session_tickets == Some(false) || raw.client_certificates.is_some() {
        let problem = ConfigProblem::new("the listener gives no session tickets");
        let help =
            "remove `SessionTicketKeys`: with `SessionTickets: false` or `ClientCertificates` no session is resumed";
        at_keys.report(problem.help(help));
    }
    let key = |at: &ConfigLocation<'_>, text: &ConfigText| {
        let path = at.text(text).map(PathBuf::from)?;
        check_ticket_key(&path).map_err(|error| at.report(ConfigProblem::new(error.to_string()))).ok()?;
        Some(path)
    };
    match keys {
        OneOrMany::One(text) => key(&at_keys, text).map(|path| vec![path]),
        OneOrMany::Many(texts) if texts.is_empty() => {
            at_keys.report(ConfigProblem::new("no key encrypts tickets").expected("at least one file"));
            None
        }
        OneOrMany::Many(texts) => at_keys.each(texts, key),
    }
}

fn alpn(at: &ConfigLocation<'_>, raw: Option<&[file::AlpnProtocol]>) -> Option<Vec<AlpnProtocol>> {
    let Some(raw) = raw else { return Some(vec![AlpnProtocol::Http2, AlpnProtocol::Http1]) };
    if raw.is_empty() {
        at.report(ConfigProblem::new("nothing is offered").expected("`h2`, `http/1.1` or both"));
        return None;
    }
    let protocol = |raw: &file::AlpnProtocol| match raw {
        file::AlpnProtocol::Http2 => AlpnProtocol::Http2,
        file::AlpnProtocol::Http1 => AlpnProtocol::Http1,
    };
    Some(raw.iter().map(protocol).collect())
}

/// Returns true where a listener takes clients' certificates in place of tokens.
pub fn authenticates(server: &file::Server) -> bool {
    let tls = server.listeners.iter().flatten().filter_map(|listener| listener.tls.as_ref());
    tls.filter_map(|tls| tls.client_certificates.as_ref()).any(|clients| clients.authenticates)
}

fn client_certificates(at: &ConfigLocation<'_>, raw: &file::ClientCertificates) -> Option<ClientCertificateSettings> {
    let authorities = at.key("Authorities").text(&raw.authorities).map(PathBuf::from).filter(|path| {
        let read = CertificateDer::pem_file_iter(path).and_then(|mut found| found.next().transpose());
        check_pem(&at.key("Authorities"), path, read.map(|found| found.is_some()), "a certificate")
    });
    let lists = raw.revocation_lists.as_deref().unwrap_or_default();
    let lists = at.key("RevocationLists").each(lists, |at, text| {
        at.text(text).map(PathBuf::from).filter(|path| {
            let read = CertificateRevocationListDer::pem_file_iter(path).and_then(|mut found| found.next().transpose());
            check_pem(at, path, read.map(|found| found.is_some()), "a revocation list")
        })
    });
    let mode = match raw.mode {
        file::ClientCertificateMode::Required => ClientCertificateMode::Required,
        file::ClientCertificateMode::Optional => ClientCertificateMode::Optional,
    };
    let settings = ClientCertificateSettings {
        authorities: authorities?,
        revocation_lists: lists?,
        mode,
        authenticates: raw.authenticates,
    };
    check_client_certificates(&settings).map_err(|error| at.report(ConfigProblem::new(error.to_string()))).ok()?;
    Some(settings)
}

fn certificates(at: &ConfigLocation<'_>, raw: &file::Tls) -> Option<Vec<CertificatePaths>> {
    if raw.ocsp_response.is_some() && raw.certificate.is_none() {
        let problem = ConfigProblem::new("the response is about `Certificate`, which is not there");
        at.key("OcspResponse").report(problem.help("put it beside the certificate in `Certificates`"));
    }
    match (&raw.certificate, &raw.key, &raw.certificates) {
        (Some(chain), Some(key), None) => {
            certificate(at, chain, key, raw.ocsp_response.as_ref()).map(|certificate| vec![certificate])
        }
        (None, None, Some(all)) if !all.is_empty() => at
            .key("Certificates")
            .each(all, |at, raw| certificate(at, &raw.certificate, &raw.key, raw.ocsp_response.as_ref())),
        (None, None, None) if raw.acme_names.is_some() => Some(Vec::new()),
        _ => {
            let expected = "`Certificate` with `Key`, a list of such pairs in `Certificates`, or `AcmeNames`";
            at.report(ConfigProblem::new("the certificate is not clear").expected(expected));
            None
        }
    }
}

fn certificate(
    at: &ConfigLocation<'_>,
    chain: &ConfigText,
    key: &ConfigText,
    ocsp: Option<&ConfigText>,
) -> Option<CertificatePaths> {
    let chain_file = at.key("Certificate").text(chain).map(PathBuf::from).filter(|path| {
        let read = CertificateDer::pem_file_iter(path).and_then(|mut found| found.next().transpose());
        check_pem(&at.key("Certificate"), path, read.map(|found| found.is_some()), "a certificate")
    });
    let key_file = at.key("Key").text(key).map(PathBuf::from).filter(|path| {
        let read = PrivateKeyDer::from_pem_file(path).map(|_| true);
        check_pem(&at.key("Key"), path, read, "a private key")
    });
    let ocsp_response = ocsp.map(|path| at.key("OcspResponse").text(path).map(PathBuf::from));
    let ocsp_response = ocsp_response.map_or(Some(None), |path| path.map(Some));
    let pair = CertificatePaths { certificate: chain_file?, key: key_file?, ocsp_response: ocsp_response? };
    match check_certificate(&pair) {
        Ok(_) => Some(pair),
        Err(error) => {
            let help = "`Certificate` holds the chain, the server's own certificate first, and `Key` that one's key";
            at.key("Key").report(ConfigProblem::new(error.to_string()).help(help));
            None
        }
    }
}

/// Returns true if the PEM file has the expected item; its content is not shown.
pub fn check_pem(at: &ConfigLocation<'_>, path: &Path, read: Result<bool, pem::Error>, what: &str) -> bool {
    let problem = match read {
        Ok(true) => return true,
        Err(pem::Error::Io(error)) => ConfigProblem::new(format!("`{}` cannot be read: {error}", path.display()))
            .help("a relative path starts at the folder that Tidegate is started in"),
        Ok(false) | Err(_) => ConfigProblem::new(format!("`{}` does not hold {what}", path.display())),
    };
    at.report(problem.expected(format!("a PEM file with {what}")));
    false
}
