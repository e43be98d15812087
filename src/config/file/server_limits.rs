//! `Server.Limits`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{ByteSize, TimeSpan};

/// What one client may take of the server, besides the time limits of `Server`. No ordinary player reaches a default.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ServerLimits {
    /// Connections at once from one client address; those of `TrustedProxies` are not counted. Default: `4096`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections_per_address: Option<u32>,
    /// Connections at once from one IPv6 network of 64 bits, which is usually one subscriber; those of `TrustedProxies` are
    /// not counted. Default: `4096`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections_per_network: Option<u32>,
    /// Streams at once of an HTTP/2 connection. Default: `100`.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_streams_per_connection: Option<u32>,
    /// HTTP/2 streams at once, over all connections, whose clients take none of the bytes that wait for them; beyond it
    /// those that have waited longest are reset. Default: `16384`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_stalled_streams: Option<u32>,
    /// Requests on one connection, which is closed after the last one; HTTP/2 by GOAWAY. Default: any number.
    #[schemars(range(min = 1))]
    pub max_requests_per_connection: Option<u32>,
    /// Bytes of a request line and all headers together, from `4KiB` to `1MiB`. Default: `64KiB`.
    pub max_request_headers_total_size: Option<ByteSize>,
    /// Headers of a request. Default: `256`.
    #[schemars(range(min = 16, max = 512))]
    pub max_request_header_count: Option<u32>,
    /// Bytes per second that a client must take of an answer, averaged over `DataRateWindow`, while bytes wait for it.
    /// `0`: no limit. Default: `240`, as in YARP's host.
    pub min_response_data_rate: Option<ByteSize>,
    /// Bytes per second that a client must send of a request's body, averaged over `DataRateWindow`, while they are waited
    /// for. `0`: no limit. Default: `240`, as in YARP's host.
    pub min_request_body_data_rate: Option<ByteSize>,
    /// Time over which both rates are averaged. Default: `60s`.
    pub data_rate_window: Option<TimeSpan>,
    /// How long a request may take from its head to the end of its answer, streams and WebSockets of plain routes included;
    /// WebSockets of Tidegate's own API are not. Default: any time.
    pub request_timeout: Option<TimeSpan>,
}
