//! OTLP/HTTP with binary protobuf.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;

use super::{AcceptedBatch, DeliveryError};
use crate::TracerError;
use crate::settings::Settings;
use primitives::clock::Clock;
use primitives::failure_log::chain;

/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Longest time for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Media type of the messages.
const PROTOBUF: &str = "application/x-protobuf";

/// Sends batches by HTTP.
pub struct HttpSender {
    client: reqwest::Client,
    endpoint: url::Url,
    clock: Clock,
}

impl HttpSender {
    /// Creates it; fails where a header's value is none, or TLS cannot be set up.
    pub fn new(settings: &Settings) -> Result<Self, TracerError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let refused = || TracerError::Client(format!("the value of `{name}` cannot be a header's"));
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| refused())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .default_headers(headers)
            .user_agent("tidegate");
        let client = client.build().map_err(|error| TracerError::Client(chain(&error)))?;
        Ok(Self { client, endpoint: settings.endpoint.clone(), clock: Clock::system() })
    }

    /// Sends a batch once.
    pub async fn send(&self, batch: &ExportTraceServiceRequest) -> Result<AcceptedBatch, DeliveryError> {
        let request = self.client.post(self.endpoint.clone()).body(batch.encode_to_vec());
        // Without the URL, which may say more than the log should.
        let broken = |error: reqwest::Error| DeliveryError::Temporary(chain(&error.without_url()), None);
        let mut answer = request.send().await.map_err(broken)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refusal(status, answer.headers(), self.clock.now()));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(broken)? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Ok(AcceptedBatch { rejected: 0 });
            }
            body.extend_from_slice(&piece);
        }
        // It took the batch, whatever it says of it.
        let said = ExportTraceServiceResponse::decode(body.as_slice()).unwrap_or_default();
        Ok(AcceptedBatch { rejected: super::messages::rejected_spans(&said) })
    }
}

/// Returns what a status means (OTLP, "Failures"): another try may help for 429, 502, 503 and 504, and for no other.
fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> DeliveryError {
    let text = format!("status {}", status.as_u16());
    match status.as_u16() {
        429 | 502 | 503 | 504 => DeliveryError::Temporary(text, retry_after(headers, now)),
        _ => DeliveryError::Final(text),
    }
}

/// Returns the time that `Retry-After` asks for (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_another_try_may_help_and_when() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (status, retry_after, expected) in [
            (503, None, Some(None)),
            (503, Some("7"), Some(seconds(7))),
            (429, Some("Sun, 06 Nov 1994 08:49:47 GMT"), Some(seconds(10))),
            (502, Some("Sun, 06 Nov 1994 08:49:07 GMT"), Some(seconds(0))),
            (504, Some("soon"), Some(None)),
            (400, Some("7"), None),
            (401, None, None),
            (404, None, None),
            (500, None, None),
            (302, None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = retry_after {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            }
            let text = format!("status {status}");
            let expected = match expected {
                Some(wait) => DeliveryError::Temporary(text, wait),
                None => DeliveryError::Final(text),
            };
            assert_eq!(refusal(StatusCode::from_u16(status).unwrap(), &headers, now), expected, "{status}");
        }
    }
}
