//! Serving HTTP to clients: listeners, worker threads, TLS, HTTP/1.1 and HTTP/2 connections (RFC 9110, 9112, 9113). It
//! must not know routes, policies or stores: each request goes to one [`Handler`], which answers through
//! [`Downstream`].

pub mod acme_challenges;
pub mod bind;
pub mod client_certificate;
mod client_revalidation;
pub mod connection_counts;
mod connection_guard;
pub mod connection_info;
pub mod connection_limits;
pub mod downstream;
#[cfg(test)]
mod fuzz;
mod http1;
mod http2;
pub mod listen_sockets;
pub mod listener;
mod listener_change;
pub mod listener_set;
mod ocsp;
mod proxy_protocol;
pub mod settings;
pub mod socket;
mod ticket_keys;
mod tls;
mod tls_server;
mod tls_watch;
mod transport;
mod worker_watch;
pub mod workers;
mod write_deadline;

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use http::request::Parts;

pub use self::client_certificate::check as check_client_certificates;
pub use self::downstream::{Downstream, DownstreamError};
pub use self::http1::{ConnectionTakeover, RequestHeadError};
pub use self::ticket_keys::check as check_ticket_key;
pub use self::tls::{CertificateError, certificate_warnings, check as check_certificate};

/// Time that the rest of a request body may take to arrive after the response.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// A request that was admitted and that may take the whole connection over.
    type Admitted: Send;

    /// Returns true where `address` is one of a proxy, which has connections of many clients.
    fn is_proxy(&self, address: IpAddr) -> bool;

    /// Takes credentials out of the request's target, before anything else sees it.
    fn strip_credentials(&self, request: &mut Parts);

    /// Answers a request. The response may be broken off, but is never left open. `Some`: nothing was sent, and the
    /// handler wants the connection itself ([`Handler::take_over`]), which only HTTP/1.1 can give.
    fn handle(&self, downstream: &mut impl Downstream) -> impl Future<Output = Option<Self::Admitted>> + Send;

    /// Answers a request whose head cannot be taken; its parts are unknown, or not to be relied on.
    fn refuse(&self, downstream: &mut impl Downstream, fault: RequestHeadError) -> impl Future<Output = ()> + Send;

    /// Goes on with a connection from an admitted request on, to the connection's end.
    fn take_over(&self, admitted: Self::Admitted, connection: ConnectionTakeover) -> impl Future<Output = ()> + Send;
}

/// Reason for a refusal of a request's head, for the client.
pub type RefusalDetail = Cow<'static, str>;
