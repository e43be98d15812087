//! HTTP client for the servers of stations, which anybody may run: a name is resolved, each address judged, and the connection
//! made to an address that passed, so that a second resolution cannot lead elsewhere; every redirect begins anew. Heads are
//! bounded, and so is the time for everything before the body.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::{HeaderMap, Request, header};
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::SourceError;
use super::address_policy::{AddressPolicy, is_public};
use super::intake_pace::IntakePace;
use super::resolver::StationResolver;
use super::station_url::check_station_url;
use super::status_line::{ByteStream, StatusLineReader};

/// Timeout of a connection, and of its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a response's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most redirects in a row.
const MAX_REDIRECTS: usize = 5;
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Largest head, in bytes, and most bytes of a body that wait to be taken.
const MAX_BUFFER_BYTES: usize = 16 * 1024;
/// Most fields of a head.
const MAX_FIELDS: usize = 100;
/// `User-Agent`: a browser's name would get a page from some servers, and directories ask for a name that says who asks.
const USER_AGENT: &str = concat!("Tidegate/", env!("CARGO_PKG_VERSION"));

type Connection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// Client. Clones share it.
#[derive(Clone)]
pub struct StationClient {
    policy: Arc<AddressPolicy>,
    resolver: StationResolver,
    tls: TlsConnector,
}

/// Response to a request.
pub struct StationResponse {
    /// Address that it came from, after all redirects.
    pub link: StationLink,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: ResponseBody,
}

/// Body of a response. Dropping it closes the connection.
pub struct ResponseBody {
    incoming: Incoming,
    /// The connection, until it has ended.
    connection: Option<Connection>,
    /// Pace at which it is taken.
    pub pace: IntakePace,
}

/// Address that is asked, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationLink {
    /// The address.
    pub url: Url,
    /// True where it may be in a network that is not public: an administrator named it, or a server of such a network did.
    /// A public server must not lead into the operator's own network.
    pub may_be_internal: bool,
}

impl StationLink {
    /// Returns the link to an address that an administrator or the operator named.
    pub fn named(url: Url) -> Self {
        Self { url, may_be_internal: true }
    }

    /// Returns the link to an address that is found here.
    pub fn to(&self, url: Url) -> Self {
        Self { url, may_be_internal: self.may_be_internal }
    }
}

impl StationClient {
    /// Creates a client for addresses that `policy` permits, with the system's trust anchors.
    pub fn new(policy: AddressPolicy) -> Self {
        Self::with_resolver(policy, StationResolver::new())
    }

    fn with_resolver(policy: AddressPolicy, resolver: StationResolver) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { policy: Arc::new(policy), resolver, tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Returns the rule about addresses.
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// GETs `link`, through redirects, and asks for titles within the stream.
    pub async fn get(&self, link: &StationLink) -> Result<StationResponse, SourceError> {
        let (mut url, mut may_be_internal) = (check_station_url(link.url.clone())?, link.may_be_internal);
        for _ in 0..=MAX_REDIRECTS {
            let addresses = self.addresses(&url, may_be_internal).await?;
            let (head, body, address) = self.exchange(&url, &addresses).await?;
            may_be_internal = !is_public(address.ip());
            if head.status.is_redirection() {
                let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok());
                url = check_station_url(next.ok_or(SourceError::BadAnswer)?)?;
                continue;
            }
            if !head.status.is_success() {
                return Err(SourceError::Status(head.status.as_u16()));
            }
            let link = StationLink { url, may_be_internal };
            return Ok(StationResponse { link, headers: head.headers, body });
        }
        Err(SourceError::TooManyRedirects)
    }

    /// GETs a text of at most `limit` bytes; a longer one is read no further.
    pub async fn get_text(&self, link: &StationLink, limit: usize) -> Result<(StationLink, String), SourceError> {
        let response = self.get(link).await?;
        let text = response.body.text(Vec::new(), limit).await?;
        Ok((response.link, text))
    }

    /// Returns the addresses of a host that may be connected to.
    async fn addresses(&self, url: &Url, may_be_internal: bool) -> Result<Vec<SocketAddr>, SourceError> {
        let port = url.port_or_known_default().ok_or(SourceError::BadAnswer)?;
        let all: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(address)) => vec![(address, port).into()],
            Some(Host::Ipv6(address)) => vec![(address, port).into()],
            Some(Host::Domain(name)) => self.resolver.resolve(name, port).await?,
            None => return Err(SourceError::Unresolved),
        };
        let permits = |at: &SocketAddr| match may_be_internal {
            true => self.policy.permits(at.ip()),
            false => is_public(at.ip()),
        };
        let permitted: Vec<SocketAddr> = all.iter().copied().filter(permits).collect();
        match (permitted.is_empty(), all.is_empty()) {
            (false, _) => Ok(permitted),
            (true, false) => Err(SourceError::Forbidden),
            (true, true) => Err(SourceError::Unresolved),
        }
    }

    /// Sends a request to the first of `addresses` that answers; returns that one too.
    async fn exchange(
        &self,
        url: &Url,
        addresses: &[SocketAddr],
    ) -> Result<(http::response::Parts, ResponseBody, SocketAddr), SourceError> {
        let mut last = SourceError::Unreachable;
        for address in addresses.iter().take(MAX_ADDRESSES) {
            let stream = match timeout(CONNECT_TIMEOUT, self.connect(url, *address)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    last = error;
                    continue;
                }
                Err(_) => continue,
            };
            let answer = timeout(HEAD_TIMEOUT, request(url, stream)).await;
            let (head, body) = answer.unwrap_or(Err(SourceError::TimedOut))?;
            return Ok((head, body, *address));
        }
        Err(last)
    }

    async fn connect(&self, url: &Url, address: SocketAddr) -> Result<Box<dyn ByteStream>, SourceError> {
        let stream = TcpStream::connect(address).await.map_err(|_| SourceError::Unreachable)?;
        if url.scheme() == "http" {
            return Ok(Box::new(stream));
        }
        let name = match url.host() {
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(|_| SourceError::Tls)?,
            Some(Host::Ipv4(address)) => ServerName::IpAddress(std::net::IpAddr::from(address).into()),
            Some(Host::Ipv6(address)) => ServerName::IpAddress(std::net::IpAddr::from(address).into()),
            None => return Err(SourceError::Tls),
        };
        let stream = self.tls.connect(name, stream).await.map_err(|_| SourceError::Tls)?;
        Ok(Box::new(stream))
    }
}

/// Sends the request and waits for the response's head.
async fn request(url: &Url, stream: Box<dyn ByteStream>) -> Result<(http::response::Parts, ResponseBody), SourceError> {
    let mut builder = http1::Builder::new();
    // Stations' servers were written by many: a field that is none is left out rather than the station.
    builder
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_BUFFER_BYTES)
        .ignore_invalid_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    let handshake = builder.handshake(TokioIo::new(StatusLineReader::new(stream))).await;
    let (mut sender, connection) = handshake.map_err(|_| SourceError::BadAnswer)?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::get(target)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header("icy-metadata", "1")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| SourceError::BadAnswer)?;
    let connection: Connection = Box::pin(connection);
    let sending = Box::pin(sender.send_request(request));
    let (answer, connection) = match select(sending, connection).await {
        Either::Left((answer, connection)) => (answer, Some(connection)),
        // It has ended: what it has read is with the answer.
        Either::Right((_, sending)) => (sending.await, None),
    };
    let (head, incoming) = answer.map_err(|_| SourceError::BadAnswer)?.into_parts();
    Ok((head, ResponseBody { incoming, connection, pace: IntakePace::new() }))
}

impl ResponseBody {
    /// Returns the next bytes, no faster than the pace permits; `None` at the end. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        loop {
            self.pace.wait().await;
            let frame = std::future::poll_fn(|cx| {
                // The connection first: it reads what the body gives.
                if let Some(connection) = &mut self.connection
                    && connection.as_mut().poll(cx).is_ready()
                {
                    self.connection = None;
                }
                match Pin::new(&mut self.incoming).poll_frame(cx) {
                    // Nothing reads for it any more.
                    Poll::Pending if self.connection.is_none() => Poll::Ready(None),
                    other => other,
                }
            })
            .await?;
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) if bytes.is_empty() => {}
                Ok(Ok(bytes)) => {
                    self.pace.count(bytes.len());
                    return Some(Ok(bytes));
                }
                Ok(Err(_)) => {}
                Err(_) => return Some(Err(SourceError::Broken)),
            }
        }
    }

    /// Returns the text of the whole body, which begins with `read`; fails past `limit` bytes, and after a while.
    pub async fn text(mut self, mut read: Vec<u8>, limit: usize) -> Result<String, SourceError> {
        let whole = async {
            while let Some(bytes) = self.next().await {
                read.extend_from_slice(&bytes?);
                if read.len() > limit {
                    return Err(SourceError::TooLarge);
                }
            }
            Ok(String::from_utf8_lossy(&read).into_owned())
        };
        timeout(HEAD_TIMEOUT, whole).await.unwrap_or(Err(SourceError::TimedOut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_public_server_leads_into_no_internal_network() {
        let client = StationClient::new(AddressPolicy::new(vec!["127.0.0.0/8".parse().expect("a network")]));
        let link = StationLink::named(Url::parse("http://127.0.0.1:1/").expect("a URL"));
        assert_eq!(client.get(&link).await.err(), Some(SourceError::Unreachable), "named by an administrator");
        let found = StationLink { may_be_internal: false, ..link };
        assert_eq!(
            client.get(&found).await.err(),
            Some(SourceError::Forbidden),
            "found in a public station's playlist"
        );
    }

    /// A client that may connect to loopback, and whose names have these addresses, one answer after another.
    fn client_of(answers: Vec<Vec<SocketAddr>>) -> StationClient {
        let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse().expect("a network")]);
        let answers = parking_lot::Mutex::new(answers.into_iter());
        StationClient::with_resolver(
            policy,
            StationResolver::over(CONNECT_TIMEOUT, move |_, _| Ok(answers.lock().next().unwrap_or_default())),
        )
    }

    fn named(url: &str) -> StationLink {
        StationLink::named(Url::parse(url).expect("a URL"))
    }

    #[tokio::test]
    async fn a_name_is_resolved_once_and_the_address_that_was_judged_is_connected_to() {
        let one = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = one.local_addr().expect("an address").port();
        let other = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.expect("a free port");
        let at = |host: [u8; 4]| vec![SocketAddr::from((host, port))];
        // The second answer is that of a name which has moved meanwhile.
        let client = client_of(vec![at([127, 0, 0, 1]), at([127, 0, 0, 2])]);
        let link = named(&format!("http://radio.example:{port}/"));
        let asked = tokio::join!(client.get(&link), async {
            let (stream, _) = one.accept().await.expect("a connection");
            drop(stream);
        });
        assert_eq!(asked.0.err(), Some(SourceError::BadAnswer));
        assert!(futures::FutureExt::now_or_never(other.accept()).is_none(), "nobody asks there");
    }

    #[tokio::test]
    async fn of_mixed_answers_only_what_is_permitted_is_tried() {
        let internal = SocketAddr::from(([10, 0, 0, 1], 80));
        let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
        let only_internal = client_of(vec![vec![internal, metadata]]);
        assert_eq!(only_internal.get(&named("http://radio.example/")).await.err(), Some(SourceError::Forbidden));
        let nothing = client_of(vec![vec![]]);
        assert_eq!(nothing.get(&named("http://radio.example/")).await.err(), Some(SourceError::Unresolved));
        let mixed = client_of(vec![vec![internal, SocketAddr::from(([127, 0, 0, 1], 1)), metadata]]);
        let url = Url::parse("http://radio.example:1/").expect("a URL");
        let addresses = mixed.addresses(&url, true).await.expect("one is permitted");
        assert_eq!(addresses, [SocketAddr::from(([127, 0, 0, 1], 1))]);
        // What a public server leads to may be at public addresses alone.
        let led = client_of(vec![vec![SocketAddr::from(([127, 0, 0, 1], 1))]]);
        assert_eq!(led.addresses(&url, false).await.err(), Some(SourceError::Forbidden));
    }
}
