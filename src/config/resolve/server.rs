//! Section `Server`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::acme::acme;
use super::listener::{listeners, taken_by};
use super::{ConfigLocation, server_limits};
use crate::config::file;
use crate::config::report::ConfigProblem;
use crate::config::value::ConfigText;
use ::acme::settings::AcmeSettings;
use http_semantics::client_ip::parse_network;
use http_server::bind::UNIX_PEER;
use http_server::settings::ListenAddress;

use crate::proxy::settings::{AdminSettings, ProcessSettings, ServerSettings};

const ADDRESS: &str = "an IP address and port such as 0.0.0.0:8080 or [::]:8080, or a port";
/// Networks that a setting trusts, in words.
pub const SOURCE: &str = "a network such as 10.0.0.0/8, an IP address, or `unix`";
const DAY: Duration = Duration::from_secs(86_400);

/// Resolves how the process itself behaves.
pub fn process(at: &ConfigLocation<'_>, raw: &file::Server) -> Option<ProcessSettings> {
    let second = Duration::from_secs(1);
    let upgrade_timeout = at.key("UpgradeTimeout").span(raw.upgrade_timeout, 60 * second, second, DAY);
    let pid_file = raw.pid_file.as_ref().map(|path| at.key("PidFile").text(path).map(PathBuf::from));
    Some(ProcessSettings {
        pid_file: pid_file.map_or(Some(None), |path| path.map(Some))?,
        upgrade_timeout: upgrade_timeout?,
    })
}

/// Resolves the name of a socket that systemd passes; `Some(None)`: none is given.
pub fn socket_name(at: &ConfigLocation<'_>, raw: Option<&ConfigText>) -> Option<Option<String>> {
    let Some(raw) = raw else { return Some(None) };
    // The rule of `FileDescriptorName=` (systemd.socket(5)).
    let name = at.key("Socket").parse(raw, "1 to 255 printable characters without `:`", |text| {
        let is_plain = text.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b':');
        (is_plain && (1..=255).contains(&text.len())).then(|| text.to_owned())
    });
    name.map(Some)
}

/// The settings that `Server` holds, of several modules.
pub struct ResolvedServer {
    /// Listeners and connections.
    pub server: ServerSettings,
    /// Admin listener of the operator.
    pub admin: Option<AdminSettings>,
    /// Certificates by ACME.
    pub acme: Option<AcmeSettings>,
}

/// Resolves `Server`, but for what [`process`] does.
pub fn server(at: &ConfigLocation<'_>, raw: &file::Server) -> Option<ResolvedServer> {
    let acme = raw.acme.as_ref().map(|raw| acme(&at.key("Acme"), raw));
    let acme = acme.map_or(Some(None), |acme| acme.map(Some));
    let listeners = listeners(&at.key("Listeners"), raw.listeners.as_deref(), acme.as_ref().map(Option::as_ref));
    let admin = raw.admin.as_ref().map(|raw| admin(&at.key("Admin"), raw));
    if let (Some(listeners), Some(Some(admin))) = (&listeners, &admin)
        && let Some(other) = taken_by(listeners, &ListenAddress::Ip(admin.address))
    {
        let problem = ConfigProblem::new(format!("{} is already a listener's: {other}", admin.address));
        at.key("Admin").key("Address").report(problem.help("give the operator's side a port of its own"));
    }
    let trusted = at
        .key("TrustedProxies")
        .each(raw.trusted_proxies.as_deref().unwrap_or_default(), |at, text| at.parse(text, SOURCE, source));
    let limits = server_limits::connection(at, raw);
    let request_timeout = server_limits::request_timeout(at, raw);
    let shutdown_delay = at.key("ShutdownDelay").span(raw.shutdown_delay, Duration::ZERO, Duration::ZERO, DAY);
    let grace = Duration::from_secs(30);
    let shutdown_grace = at.key("ShutdownGrace").span(raw.shutdown_grace, grace, Duration::ZERO, DAY);
    let public_url = raw.public_url.as_ref().map(|text| {
        at.key("PublicUrl").parse(text, "scheme and host, such as https://media.example, without a path", |text| {
            let url = super::http_url(text)?;
            (url.path() == "/" && url.query().is_none()).then(|| text.trim_end_matches('/').to_owned())
        })
    });
    let http = http_server::settings::Settings {
        listeners: listeners?,
        threads: raw.threads.and_then(|threads| usize::try_from(threads).ok()),
        limits: limits?,
        shutdown_delay: shutdown_delay?,
        shutdown_grace: shutdown_grace?,
        connections: server_limits::counts(raw),
        stalled_streams: server_limits::stalled_streams(raw),
    };
    let public_url = public_url.map_or(Some(None), |url| url.map(Some))?;
    let server = ServerSettings {
        http,
        request_timeout: request_timeout?,
        trusted_proxies: trusted?,
        api_cors: None,
        public_url,
    };
    Some(ResolvedServer { server, admin: admin.map_or(Some(None), |admin| admin.map(Some))?, acme: acme? })
}

fn admin(at: &ConfigLocation<'_>, raw: &file::Admin) -> Option<AdminSettings> {
    let address = at.key("Address").parse(&raw.address, ADDRESS, address);
    let token = raw.token.as_ref().map(|token| at.key("Token").credential(token));
    let socket = socket_name(at, raw.socket.as_ref());
    let address = address?;
    // Whoever reaches the operator's side can purge the cache, so only this machine may without a token.
    if raw.token.is_none() && !address.ip().to_canonical().is_loopback() {
        let problem = ConfigProblem::new("the operator's side can be reached from elsewhere, and there is no `Token`");
        let help = "add `Token: \"env:ADMIN_TOKEN\"`, or listen on loopback (127.0.0.1:9901): a port alone means every address";
        at.key("Address").report(problem.help(help));
        return None;
    }
    Some(AdminSettings { address, socket: socket?, token: token.map_or(Some(None), |token| token.map(Some))? })
}

/// Parses an IP address and port, or a port alone.
pub fn address(text: &str) -> Option<SocketAddr> {
    match text.parse() {
        Ok(port) => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        Err(_) => text.parse().ok(),
    }
}

/// Parses a network, an address, or `unix` for the other ends of Unix sockets.
pub fn source(text: &str) -> Option<IpNet> {
    if text == "unix" { Some(IpNet::from(UNIX_PEER)) } else { parse_network(text) }
}
