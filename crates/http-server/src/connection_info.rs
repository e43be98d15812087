//! Facts about a client's connection that are the same for all its requests.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use crate::client_certificate::ClientCertificate;
use crate::settings::ListenerSettings;

/// Duties of a listener's responses.
#[derive(Clone, Debug, Default)]
pub struct ResponseRules {
    /// Port of HTTPS that each request is redirected to.
    pub https_redirect: Option<u16>,
    /// Value of `Strict-Transport-Security`.
    hsts: Option<HeaderValue>,
}

impl ResponseRules {
    /// Makes the rules of a listener.
    pub fn new(listener: &ListenerSettings) -> Self {
        let age = listener.tls.as_ref().and_then(|tls| tls.hsts);
        let hsts = age.map(|age| {
            HeaderValue::try_from(format!("max-age={}", age.as_secs())).expect("a number is a header's value")
        });
        Self { https_redirect: listener.https_redirect, hsts }
    }
}

/// Facts about a connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Address of the client, as far as the connection tells it.
    pub peer: IpAddr,
    /// The connection has TLS.
    pub is_tls: bool,
    /// Certificate of the client, which was verified; `None` where it has shown none.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// Rules of the listener.
    pub rules: Arc<ResponseRules>,
}

impl ConnectionInfo {
    /// Returns the `Strict-Transport-Security` that a response with `headers` still needs: those of a route stand.
    pub fn missing_hsts(&self, headers: &HeaderMap) -> Option<&HeaderValue> {
        let hsts = self.rules.hsts.as_ref()?;
        (!headers.contains_key(header::STRICT_TRANSPORT_SECURITY)).then_some(hsts)
    }
}
