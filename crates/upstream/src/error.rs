//! Failures of upstream servers in the operator's words: which server, and what the system or TLS said. They go to the log
//! and never to a client.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use url::{Position, Url};

use super::cluster::ClusterMember;
use primitives::failure_log::chain;

/// The name of an upstream server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationId {
    /// Its cluster.
    pub cluster: Arc<str>,
    /// Its id within the cluster.
    pub destination: Arc<str>,
}

/// Failure of an upstream server.
#[derive(Debug, PartialEq, Eq)]
pub struct UpstreamError {
    server: DestinationId,
    /// Scheme, host and port; `None` where the body of an answer failed.
    address: Option<String>,
    text: String,
}

impl UpstreamError {
    /// The failure `error` of the server `member` of the cluster.
    pub fn for_member(cluster: &Arc<str>, member: &ClusterMember, error: &(dyn Error + 'static)) -> Arc<Self> {
        let server = DestinationId { cluster: Arc::clone(cluster), destination: Arc::clone(member.destination.id()) };
        Arc::new(Self { server, address: Some(url_origin(&member.address)), text: chain(error) })
    }

    /// The failure `error` of the body that `server` was sending.
    pub fn for_body(server: DestinationId, error: &(dyn Error + 'static)) -> Arc<Self> {
        Arc::new(Self { server, address: None, text: chain(error) })
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server: DestinationId { cluster, destination }, address, text } = self;
        write!(f, "destination `{destination}` of cluster `{cluster}`")?;
        if let Some(address) = address {
            write!(f, " ({address})")?;
        }
        write!(f, ": {text}")
    }
}

/// Scheme, host and port of `address`: nothing else of it may stand in the log.
pub fn url_origin(address: &Url) -> String {
    format!("{}://{}", address.scheme(), &address[Position::BeforeHost..Position::AfterPort])
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::destination::ConnectError;

    #[test]
    fn an_error_is_told_with_the_systems_own_words() {
        let error = ConnectError::Refused(io::Error::from_raw_os_error(111));
        assert_eq!(chain(&error), "the connection is refused: Connection refused (os error 111)");
        assert_eq!(chain(&ConnectError::Timeout), "connecting takes longer than allowed");
    }

    #[test]
    fn of_an_address_only_scheme_host_and_port_are_told() {
        let address = Url::parse("https://user:word@store.example:9000/a?b=c").expect("a URL");
        assert_eq!(url_origin(&address), "https://store.example:9000");
    }
}
