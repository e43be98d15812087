//! Failures of upstream servers in the operator's words: which server, and what the system or TLS reported. They go to
//! the log and never to a client.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use url::{Position, Url};

use super::cluster::ClusterMember;
use primitives::failure_log::chain;

/// Name of an upstream server: its cluster and its id within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationId {
    /// Id of the cluster in the YAML.
    pub cluster: Arc<str>,
    /// Id of the destination within the cluster.
    pub destination: Arc<str>,
}

/// Failure of an upstream server, as text for the log. `Display` names the server, its address where known, and the
/// whole chain of causes.
#[derive(Debug, PartialEq, Eq)]
pub struct UpstreamError {
    server: DestinationId,
    /// Scheme, host and port; `None` where the body of a response failed.
    address: Option<String>,
    // Text instead of the error itself: `AttemptStats` must be comparable, which `io::Error` is not.
    text: String,
}

impl UpstreamError {
    /// Describes `error` as a failure of `member` of `cluster`, before a response came.
    pub fn for_member(cluster: &Arc<str>, member: &ClusterMember, error: &(dyn Error + 'static)) -> Arc<Self> {
        let server = DestinationId { cluster: Arc::clone(cluster), destination: Arc::clone(member.destination.id()) };
        Arc::new(Self { server, address: Some(url_origin(&member.address)), text: chain(error) })
    }

    /// Describes `error` as a failure of the response body that `server` was sending.
    pub fn for_body(server: DestinationId, error: &(dyn Error + 'static)) -> Arc<Self> {
        // A body does not carry the URL that it came from.
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

/// Returns scheme, host and port of `address`. Nothing else of a URL may be logged: user information and queries hold
/// credentials.
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
