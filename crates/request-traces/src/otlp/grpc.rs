//! OTLP/gRPC, by tonic.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::{AcceptedBatch, DeliveryError};
use crate::TracerError;
use crate::settings::Settings;
use primitives::failure_log::{chain, line};

/// Longest time for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Type of the detail by which a server says when to try again.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Sends batches by gRPC.
pub struct GrpcSender {
    client: TraceServiceClient<Channel>,
    metadata: MetadataMap,
    timeout: Duration,
}

impl GrpcSender {
    /// Creates it, without a connection yet; fails where a header's value is none, or TLS cannot be set up.
    pub fn new(settings: &Settings) -> Result<Self, TracerError> {
        let failed = |error: tonic::transport::Error| TracerError::Client(chain(&error));
        let mut endpoint = Endpoint::from_shared(settings.endpoint.to_string()).map_err(failed)?;
        if settings.endpoint.scheme() == "https" {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(failed)?;
        }
        let endpoint = endpoint.connect_timeout(CONNECT_TIME).user_agent("tidegate").map_err(failed)?;
        let client = TraceServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Self { client, metadata: metadata(settings)?, timeout: settings.timeout })
    }

    /// Sends a batch once.
    pub async fn send(&mut self, batch: &ExportTraceServiceRequest) -> Result<AcceptedBatch, DeliveryError> {
        let mut request = Request::new(batch.clone());
        *request.metadata_mut() = self.metadata.clone();
        // Told to the server, which need not work for nobody.
        request.set_timeout(self.timeout);
        match self.client.export(request).await {
            Ok(answer) => Ok(AcceptedBatch { rejected: super::messages::rejected_spans(answer.get_ref()) }),
            Err(status) => Err(refusal(&status)),
        }
    }
}

fn metadata(settings: &Settings) -> Result<MetadataMap, TracerError> {
    let mut metadata = MetadataMap::new();
    for (name, value) in &settings.headers {
        let refused = || TracerError::Client(format!("`{name}` and its value cannot be metadata of gRPC"));
        let key = AsciiMetadataKey::from_bytes(name.as_str().as_bytes()).map_err(|_| refused())?;
        let mut value = AsciiMetadataValue::try_from(value.expose()).map_err(|_| refused())?;
        value.set_sensitive(true);
        metadata.append(key, value);
    }
    Ok(metadata)
}

/// Returns what a status means (OTLP, "Failures").
fn refusal(status: &Status) -> DeliveryError {
    let text = format!("{:?}: {}", status.code(), line(status.message()));
    let wait = retry_delay(status.details());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => DeliveryError::Temporary(text, wait),
        // A limit that is over by itself has a time.
        Code::ResourceExhausted if wait.is_some() => DeliveryError::Temporary(text, wait),
        _ => DeliveryError::Final(text),
    }
}

/// The error model of gRPC, `google.rpc.Status`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<RpcDetail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct RpcDetail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RpcDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
struct RpcDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Returns the time that a server asks to wait.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let detail = status.details.iter().find(|detail| detail.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(detail.value.as_slice()).ok()?.retry_delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(seconds: i64) -> Vec<u8> {
        let delay = RpcDuration { seconds, nanos: 500_000_000 };
        let info = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
        let other = RpcDetail { type_url: "type.googleapis.com/google.rpc.Help".to_owned(), value: vec![1] };
        let detail = RpcDetail { type_url: RETRY_INFO.to_owned(), value: info };
        RpcStatus { details: vec![other, detail] }.encode_to_vec()
    }

    #[test]
    fn a_code_says_whether_another_try_may_help_and_when() {
        let wait = Some(Duration::from_millis(3500));
        for (code, details, expected) in [
            (Code::Unavailable, Vec::new(), Some(None)),
            (Code::Unavailable, details(3), Some(wait)),
            (Code::Unavailable, details(-3), Some(None)),
            (Code::DeadlineExceeded, Vec::new(), Some(None)),
            (Code::ResourceExhausted, Vec::new(), None),
            (Code::ResourceExhausted, details(3), Some(wait)),
            (Code::InvalidArgument, details(3), None),
            (Code::Unauthenticated, Vec::new(), None),
            (Code::Unimplemented, Vec::new(), None),
        ] {
            let status = Status::with_details(code, "why\nsecond line", details.into());
            let text = format!("{code:?}: why");
            let expected = match expected {
                Some(wait) => DeliveryError::Temporary(text, wait),
                None => DeliveryError::Final(text),
            };
            assert_eq!(refusal(&status), expected);
        }
    }
}
