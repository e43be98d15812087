//! `Server.Limits`, and the time limits of `Server` with them.

use std::time::Duration;

use super::ConfigLocation;
use super::cache::size;
use crate::config::file;
use http_server::connection_counts::ConnectionCountSettings;
use http_server::connection_limits::{ConnectionLimits, DataRate};

const DAY: Duration = Duration::from_secs(86_400);
const LEAST: Duration = Duration::from_millis(100);
/// Most bytes per second that a client may be asked for: more would cut players of uncompressed audio.
const MOST_RATE: u64 = 1024 * 1024;

/// Returns the limits of each connection; `at` is `Server`.
pub fn connection(at: &ConfigLocation<'_>, raw: &file::Server) -> Option<ConnectionLimits> {
    let (second, limits) = (Duration::from_secs(1), &raw.limits);
    let head = at.key("HeaderTimeout").span(raw.header_timeout, 10 * second, LEAST, DAY);
    let write = at.key("WriteTimeout").span(raw.write_timeout, 30 * second, LEAST, DAY);
    let body = at.key("BodyTimeout").span(raw.body_timeout, 30 * second, LEAST, DAY);
    let idle = at.key("KeepAliveTimeout").span(raw.keep_alive_timeout, 75 * second, LEAST, DAY);
    let at = at.key("Limits");
    let key = at.key("MaxRequestHeadersTotalSize");
    let head_bytes = size(&key, limits.max_request_headers_total_size, 64 * 1024, 4 * 1024, 1024 * 1024);
    let rate = |name, raw| size(&at.key(name), raw, 240, 0, MOST_RATE);
    let response_rate = rate("MinResponseDataRate", limits.min_response_data_rate);
    let body_rate = rate("MinRequestBodyDataRate", limits.min_request_body_data_rate);
    let window = at.key("DataRateWindow").span(limits.data_rate_window, 60 * second, second, DAY);
    Some(ConnectionLimits {
        head: head?,
        write: write?,
        body: body?,
        idle: idle?,
        head_bytes: usize::try_from(head_bytes?).unwrap_or(usize::MAX),
        header_lines: number(limits.max_request_header_count, 256),
        requests: limits.max_requests_per_connection.map(u64::from),
        streams: limits.max_streams_per_connection.unwrap_or(100),
        response_rate: DataRate { bytes_per_second: response_rate?, window: window? },
        body_rate: DataRate { bytes_per_second: body_rate?, window: window? },
    })
}

/// Returns the limits of the number of connections.
pub fn counts(raw: &file::Server) -> ConnectionCountSettings {
    // A quarter of all: one address cannot take every place. A carrier's address translation, or a proxy that is not
    // told of in `TrustedProxies`, has room.
    const PER_CLIENT: usize = 4096;
    ConnectionCountSettings {
        total: number(raw.max_connections, 16_384),
        per_address: number(raw.limits.max_connections_per_address, PER_CLIENT),
        per_network: number(raw.limits.max_connections_per_network, PER_CLIENT),
    }
}

/// Returns the most HTTP/2 streams that may be stalled at once.
pub fn stalled_streams(raw: &file::Server) -> usize {
    // As many as connections, whose clients can be as slow.
    number(raw.limits.max_stalled_streams, 16_384)
}

/// Returns the longest time of a request; `Some(None)`: any. `at` is `Server`.
pub fn request_timeout(at: &ConfigLocation<'_>, raw: &file::Server) -> Option<Option<Duration>> {
    let given = raw.limits.request_timeout;
    let limit = at.key("Limits").key("RequestTimeout").span(given, DAY, LEAST, 7 * DAY)?;
    Some(given.is_some().then_some(limit))
}

/// Returns a number of the file, or the default.
fn number(given: Option<u32>, default: usize) -> usize {
    given.and_then(|given| usize::try_from(given).ok()).unwrap_or(default)
}
