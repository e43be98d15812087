//! Servers of a service as DNS names them: SRV records (RFC 2782). Names that it returns are resolved and judged elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};
use tokio::time::timeout;

use super::settings::ServiceName;
use primitives::clock::monotonic_now;
use primitives::failure_log::{FailureLog, line};

/// Time that is waited for an answer, whichever servers are asked.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that is waited for one server.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most servers that are read of an answer.
const MAX_TARGETS: usize = 32;

/// Lookup of a service.
pub struct ServiceLookup {
    name: ServiceName,
    dns_server: Option<SocketAddr>,
    failures: FailureLog,
}

/// Server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Servers of a smaller number are asked first.
    pub priority: u16,
    /// Share of the requests among servers of one priority.
    pub weight: u16,
}

impl ServiceLookup {
    /// Creates the lookup of `name`, by `dns_server` or else by the servers that the system asks (`/etc/resolv.conf`).
    pub fn new(name: ServiceName, dns_server: Option<SocketAddr>) -> Self {
        Self { name, dns_server, failures: FailureLog::default() }
    }

    /// Returns true where a DNS server of the operator's is asked.
    pub fn has_own_server(&self) -> bool {
        self.dns_server.is_some()
    }

    /// Returns the servers; none where DNS names none, or does not answer.
    pub async fn find(&self) -> Vec<ServiceTarget> {
        let name = self.name.as_str();
        let error = match timeout(LOOKUP_TIMEOUT, self.ask()).await {
            Ok(Ok(targets)) => {
                if self.failures.is_over(monotonic_now()) {
                    tracing::info!(name, "DNS names the servers of the directory of stations again");
                }
                return targets;
            }
            Ok(Err(error)) => line(&error.to_string()).to_owned(),
            Err(_) => format!("no answer within {LOOKUP_TIMEOUT:?}"),
        };
        if self.failures.is_news(&error, monotonic_now()) {
            tracing::warn!(error, name, "DNS does not name the servers of the directory of stations");
        }
        Vec::new()
    }

    async fn ask(&self) -> Result<Vec<ServiceTarget>, NetError> {
        let mut name = Name::from_ascii(self.name.as_str())?;
        // No domain of the machine's own is tried behind it.
        name.set_fqdn(true);
        let dns_server = self.dns_server;
        // It reads the system's configuration.
        let made = tokio::task::spawn_blocking(move || resolver(dns_server)).await;
        let answer = made.map_err(|error| NetError::from(std::io::Error::other(error)))??.srv_lookup(name).await?;
        let targets = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(server) => Some(ServiceTarget {
                host: server.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
                port: server.port,
                priority: server.priority,
                weight: server.weight,
            }),
            _ => None,
        });
        // The root is no server: it says that there are none (RFC 2782).
        Ok(targets.filter(|target| !target.host.is_empty() && target.port != 0).take(MAX_TARGETS).collect())
    }
}

/// Returns a resolver for one lookup: they are seldom, and the system's servers may be others by then.
fn resolver(dns_server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match dns_server {
        Some(address) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            let server = NameServerConfig::new(address.ip(), true, connections.into());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    options.timeout = SERVER_TIMEOUT;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dns_server_that_says_nothing_names_none() {
        let silent = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port");
        let name = ServiceName::parse("_api._tcp.radio.test").expect("a name");
        let lookup = ServiceLookup::new(name, Some(silent.local_addr().expect("an address")));
        assert_eq!(lookup.find().await, []);
        assert!(silent.try_recv(&mut [0; 1500]).is_ok(), "it was asked");
    }
}
