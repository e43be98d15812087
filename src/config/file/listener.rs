//! `Server.Listeners`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ConfigText, OneOrMany, TimeSpan};

/// One or more addresses that players connect to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Listener {
    /// IP address and port, such as `0.0.0.0:8080` or `[::]:8080`; a port alone listens on `0.0.0.0`; port 0 takes a free
    /// one. Or host name and port, such as `localhost:8080`, for every address that the name has; or `unix:` and the path
    /// of a socket. A list for several. May be `env:NAME`.
    pub address: OneOrMany,
    /// `FileDescriptorName=` of the sockets that systemd passes in place of those opened on `Address`. Default: the passed
    /// socket that has this address.
    pub socket: Option<ConfigText>,
    /// Mode of the file of a Unix socket, in octal: `"0660"`. Default: as the umask leaves it.
    pub socket_mode: Option<ConfigText>,
    /// Serve HTTPS, with HTTP/1.1 and HTTP/2 by ALPN. Default: plain HTTP.
    pub tls: Option<Tls>,
    /// Accept HTTP/2 without TLS by prior knowledge. Default: `false`.
    #[serde(default)]
    pub h2c: bool,
    /// Take the client's address from the PROXY protocol of a balancer. Default: connections have no such header.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Answer every request with a redirect (308) to the same URL by HTTPS. Default: `false`.
    #[serde(default)]
    pub redirect_to_https: bool,
    /// The port that `RedirectToHttps` names. Default: `443`.
    #[schemars(range(min = 1))]
    pub https_port: Option<u16>,
}

/// The PROXY protocol, version 1 or 2, in front of each connection, before TLS where there is TLS. The address in it is the
/// client's everywhere: in limits, policies and logs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ProxyProtocol {
    /// Networks (CIDR), or `unix` for a Unix socket, that connections come from, each with a header. A connection from
    /// elsewhere, or without a good header within `Server.HeaderTimeout`, is closed.
    pub trusted_sources: Vec<ConfigText>,
}

/// One certificate, or several chosen by the server name that the client asks for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Tls {
    /// PEM file with the certificate chain, leaf first.
    pub certificate: Option<ConfigText>,
    /// PEM file with the private key of `Certificate`.
    pub key: Option<ConfigText>,
    /// File with the OCSP response about `Certificate`, in DER, to be shown with it (stapling) while it says that the
    /// certificate is good. Default: none.
    pub ocsp_response: Option<ConfigText>,
    /// Several certificates in place of one; the first is the default where no name matches.
    pub certificates: Option<Vec<CertificateFiles>>,
    /// Names of a certificate that is ordered by ACME (`Server.Acme`), in place of files or after them.
    pub acme_names: Option<Vec<ConfigText>>,
    /// Ask clients for a certificate (mutual TLS). Default: they are not asked.
    pub client_certificates: Option<ClientCertificates>,
    /// Protocols that are offered (ALPN), the preferred one first. A client that asks for none of them is refused, and one that
    /// does not ask speaks HTTP/1.1. Default: `[h2, http/1.1]`.
    pub alpn: Option<Vec<AlpnProtocol>>,
    /// Let clients resume their sessions by tickets. With `ClientCertificates` none can. Default: `true`.
    pub session_tickets: Option<bool>,
    /// Files of the keys of session tickets, for nodes that share them: 80 random bytes each (`openssl rand 80`), or 48. The
    /// first encrypts, all decrypt. Default: the process makes a key of its own every six hours.
    pub session_ticket_keys: Option<OneOrMany>,
    /// How long browsers are to come back by HTTPS only (HSTS): each response says so, unless a route's own header does.
    /// Default: nothing is said.
    pub hsts: Option<TimeSpan>,
}

/// Certificates of clients. One that is shown must be good, or the handshake fails. Rules of authorization policies see it
/// as claims: `client_certificate.cn`, `.dns`, `.uri`, `.email`, `.ip` (its other names, each kind apart), `.serial` and
/// `.sha256` (hexadecimal, lower case).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ClientCertificates {
    /// PEM file with the certificates of the authorities that sign those of clients.
    pub authorities: ConfigText,
    /// What becomes of a client that shows none. Default: `Required`.
    #[serde(default)]
    pub mode: ClientCertificateMode,
    /// PEM files with the authorities' revocation lists (CRL). Default: none, and nothing is revoked.
    pub revocation_lists: Option<Vec<ConfigText>>,
    /// Take the certificate in place of a token where a request to a route has none: the user is its common name. Default:
    /// `false`.
    #[serde(default)]
    pub authenticates: bool,
}

/// What becomes of a client that shows no certificate.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
pub enum ClientCertificateMode {
    /// The handshake fails.
    #[default]
    Required,
    /// It is served, without claims of a certificate.
    Optional,
}

/// A certificate chain and its private key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct CertificateFiles {
    /// PEM file with the certificate chain, leaf first.
    pub certificate: ConfigText,
    /// PEM file with the private key.
    pub key: ConfigText,
    /// File with the OCSP response about the certificate, in DER, to be shown with it. Default: none.
    pub ocsp_response: Option<ConfigText>,
}

/// Protocol that a TLS handshake may select.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub enum AlpnProtocol {
    /// HTTP/2.
    #[serde(rename = "h2")]
    Http2,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http1,
}
