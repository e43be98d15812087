//! The way to the collector: messages of OTLP, in batches, by HTTP or gRPC, tried again where that can help.

mod exporter;
mod grpc;
mod http_sender;
mod messages;

pub(crate) use exporter::start;

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use crate::TracerError;
use crate::settings::{OtlpProtocol, Settings};

/// Answer of a collector that took a batch.
#[derive(Debug, PartialEq, Eq)]
struct AcceptedBatch {
    /// Spans of it that it refused.
    rejected: usize,
}

/// Failure to deliver a batch, in words for the log.
#[derive(Debug, PartialEq, Eq)]
enum DeliveryError {
    /// Another try may succeed, after this time where the collector names one.
    Temporary(String, Option<Duration>),
    /// No other try will.
    Final(String),
}

/// Client of the collector.
enum CollectorClient {
    Http(http_sender::HttpSender),
    Grpc(Box<grpc::GrpcSender>),
}

impl CollectorClient {
    fn new(settings: &Settings) -> Result<Self, TracerError> {
        match settings.protocol {
            OtlpProtocol::Http => http_sender::HttpSender::new(settings).map(Self::Http),
            OtlpProtocol::Grpc => grpc::GrpcSender::new(settings).map(Box::new).map(Self::Grpc),
        }
    }

    async fn send(&mut self, batch: &ExportTraceServiceRequest) -> Result<AcceptedBatch, DeliveryError> {
        match self {
            Self::Http(sender) => sender.send(batch).await,
            Self::Grpc(sender) => sender.send(batch).await,
        }
    }
}
