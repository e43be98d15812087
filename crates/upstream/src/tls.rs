//! TLS toward upstream servers: the system's trust anchors, HTTP/1.1 or HTTP/2 by ALPN. Verification cannot be switched off.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::settings::UpstreamHttpVersion;

/// Name of HTTP/2 in ALPN (RFC 9113 §3.2).
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Connector that makes TLS connections to upstream servers.
#[derive(Clone)]
pub struct UpstreamTlsConnector {
    http1: TlsConnector,
    negotiated: TlsConnector,
    http2: TlsConnector,
}

impl UpstreamTlsConnector {
    /// Reads the system's trust anchors. Those that cannot be read are left out, as browsers do.
    pub fn new() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let base = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = |protocols: &[&[u8]]| {
            // Without ALPN a server could choose a version that is not spoken here.
            let mut config = base.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            // Sessions of their own: a resumed one would bring the other's protocol along.
            config.resumption = Resumption::default();
            TlsConnector::from(Arc::new(config))
        };
        Self { http1: connector(&[HTTP1]), negotiated: connector(&[HTTP2, HTTP1]), http2: connector(&[HTTP2]) }
    }

    /// Performs the handshake over `stream`, offers what `version` says, and verifies the certificate for `host`. Fails where the
    /// handshake does, where `host` cannot be in a certificate, or where HTTP/2 is wanted and not chosen.
    pub async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
        version: UpstreamHttpVersion,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = match version {
            UpstreamHttpVersion::Http1 => &self.http1,
            UpstreamHttpVersion::Negotiated => &self.negotiated,
            UpstreamHttpVersion::Http2 => &self.http2,
        };
        let stream = connector.connect(name, stream).await?;
        if version == UpstreamHttpVersion::Http2 && !has_chosen_http2(&stream) {
            return Err(io::Error::other("the server does not speak HTTP/2"));
        }
        Ok(stream)
    }
}

/// Returns true where the server chose HTTP/2.
pub fn has_chosen_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}
