//! Section `Server`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{ConfigLocation, server_limits};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use http_server::check_certificate;
use http_server::settings::{CertificatePaths, ListenerSettings};

use crate::proxy::settings::{AdminSettings, ServerSettings};

const ADDRESS: &str = "an IP address and port such as 0.0.0.0:8080 or [::]:8080, or a port";
const DAY: Duration = Duration::from_secs(86_400);

pub fn server(at: &ConfigLocation<'_>, raw: &file::Server) -> Option<(ServerSettings, Option<AdminSettings>)> {
    let listeners = listeners(&at.key("Listeners"), raw.listeners.as_deref());
    let admin = raw.admin.as_ref().map(|raw| admin(&at.key("Admin"), raw));
    if let (Some(listeners), Some(Some(admin))) = (&listeners, &admin)
        && let Some(other) = listeners.iter().find(|listener| clash(listener.address, admin.address))
    {
        let problem = ConfigProblem::new(format!("{} is already a listener's: {}", admin.address, other.address));
        at.key("Admin").key("Address").report(problem.help("give the operator's side a port of its own"));
    }
    let trusted = at.key("TrustedProxies").each(raw.trusted_proxies.as_deref().unwrap_or_default(), |at, text| {
        at.parse(text, "a network such as 10.0.0.0/8, or an IP address", network)
    });
    let limits = server_limits::connection(at, raw);
    let request_timeout = server_limits::request_timeout(at, raw);
    let grace = Duration::from_secs(30);
    let shutdown_grace = at.key("ShutdownGrace").span(raw.shutdown_grace, grace, Duration::ZERO, DAY);
    let public_url = raw.public_url.as_ref().map(|text| {
        at.key("PublicUrl").parse(text, "scheme and host, such as https://media.example, without a path", |text| {
            let url = super::http_url(text)?;
            (url.path() == "/" && url.query().is_none()).then(|| text.trim_end_matches('/').to_owned())
        })
    });
    let cores = available_parallelism().map_or(1, usize::from);
    let trusted_proxies = trusted?;
    let http = http_server::settings::Settings {
        listeners: listeners?,
        threads: raw.threads.and_then(|threads| usize::try_from(threads).ok()).unwrap_or(cores),
        limits: limits?,
        shutdown_grace: shutdown_grace?,
        connections: server_limits::counts(raw, &trusted_proxies),
    };
    let public_url = public_url.map_or(Some(None), |url| url.map(Some))?;
    let server =
        ServerSettings { http, trusted_proxies, api_cors: None, public_url, request_timeout: request_timeout? };
    Some((server, admin.map_or(Some(None), |admin| admin.map(Some))?))
}

fn listeners(at: &ConfigLocation<'_>, raw: Option<&[file::Listener]>) -> Option<Vec<ListenerSettings>> {
    let Some(raw) = raw else {
        // Platforms that run containers name the port in this variable.
        let port = at.variable("PORT", "a port such as 8080", |text| text.trim().parse().ok())?;
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.unwrap_or(8080)));
        return Some(vec![ListenerSettings { address, certificates: Vec::new(), h2c: false }]);
    };
    if raw.is_empty() {
        at.report(ConfigProblem::new("nobody can connect").expected("at least one listener"));
    }
    let listeners = at.each(raw, listener)?;
    for (number, listener) in listeners.iter().enumerate() {
        if let Some(first) = listeners[..number].iter().position(|other| clash(other.address, listener.address)) {
            let problem = ConfigProblem::new(format!("{} is already taken by Listeners[{first}]", listener.address));
            at.item(number).key("Address").report(problem.help("give every listener an address of its own"));
        }
    }
    Some(listeners)
}

/// Returns true if two addresses cannot both be listened on.
fn clash(one: SocketAddr, two: SocketAddr) -> bool {
    // Port 0 is any free port, and an unspecified address includes every other one.
    let any = one.ip().is_unspecified() || two.ip().is_unspecified();
    one.port() == two.port() && one.port() != 0 && (one.ip() == two.ip() || any)
}

fn listener(at: &ConfigLocation<'_>, raw: &file::Listener) -> Option<ListenerSettings> {
    let address = at.key("Address").parse(&raw.address, ADDRESS, address);
    let certificates = match &raw.tls {
        None => Some(Vec::new()),
        Some(raw) => tls(&at.key("Tls"), raw),
    };
    if raw.h2c && raw.tls.is_some() {
        let problem = ConfigProblem::new("a listener with `Tls` has HTTP/2 by ALPN");
        at.key("H2c").report(problem.help("remove `H2c`: it is for listeners without TLS"));
    }
    Some(ListenerSettings { address: address?, certificates: certificates?, h2c: raw.h2c })
}

fn admin(at: &ConfigLocation<'_>, raw: &file::Admin) -> Option<AdminSettings> {
    let address = at.key("Address").parse(&raw.address, ADDRESS, address);
    let token = raw.token.as_ref().map(|token| at.key("Token").credential(token));
    let address = address?;
    // Whoever reaches the operator's side can purge the cache, so only this machine may without a token.
    if raw.token.is_none() && !address.ip().to_canonical().is_loopback() {
        let problem = ConfigProblem::new("the operator's side can be reached from elsewhere, and there is no `Token`");
        let help = "add `Token: \"env:ADMIN_TOKEN\"`, or listen on loopback (127.0.0.1:9901): a port alone means every address";
        at.key("Address").report(problem.help(help));
        return None;
    }
    Some(AdminSettings { address, token: token.map_or(Some(None), |token| token.map(Some))? })
}

fn tls(at: &ConfigLocation<'_>, raw: &file::Tls) -> Option<Vec<CertificatePaths>> {
    match (&raw.certificate, &raw.key, &raw.certificates) {
        (Some(chain), Some(key), None) => certificate(at, chain, key).map(|certificate| vec![certificate]),
        (None, None, Some(all)) if !all.is_empty() => {
            at.key("Certificates").each(all, |at, raw| certificate(at, &raw.certificate, &raw.key))
        }
        _ => {
            let expected = "`Certificate` with `Key`, or a list of such pairs in `Certificates`";
            at.report(ConfigProblem::new("the certificate is not clear").expected(expected));
            None
        }
    }
}

fn certificate(at: &ConfigLocation<'_>, chain: &ConfigText, key: &ConfigText) -> Option<CertificatePaths> {
    let chain_file = at.key("Certificate").text(chain).map(PathBuf::from).filter(|path| {
        let read = CertificateDer::pem_file_iter(path).and_then(|mut found| found.next().transpose());
        check_pem(&at.key("Certificate"), path, read.map(|found| found.is_some()), "a certificate")
    });
    let key_file = at.key("Key").text(key).map(PathBuf::from).filter(|path| {
        let read = PrivateKeyDer::from_pem_file(path).map(|_| true);
        check_pem(&at.key("Key"), path, read, "a private key")
    });
    let pair = CertificatePaths { certificate: chain_file?, key: key_file? };
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
fn check_pem(at: &ConfigLocation<'_>, path: &Path, read: Result<bool, pem::Error>, what: &str) -> bool {
    let problem = match read {
        Ok(true) => return true,
        Err(pem::Error::Io(error)) => ConfigProblem::new(format!("`{}` cannot be read: {error}", path.display()))
            .help("a relative path starts at the folder that Tidegate is started in"),
        Ok(false) | Err(_) => ConfigProblem::new(format!("`{}` does not hold {what}", path.display())),
    };
    at.report(problem.expected(format!("a PEM file with {what}")));
    false
}

fn address(text: &str) -> Option<SocketAddr> {
    match text.parse() {
        Ok(port) => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        Err(_) => text.parse().ok(),
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
