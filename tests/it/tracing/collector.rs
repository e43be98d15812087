//! A collector made from the official definitions of OTLP: it decodes what it gets over HTTP and gRPC on one port, and
//! accepts, refuses or stalls as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tonic::body::Body as GrpcBody;
use tower::ServiceExt;

use crate::support::eventually;

/// What a collector does with one batch.
#[derive(Clone, Debug)]
pub enum Reception {
    /// Takes it.
    Accept,
    /// Takes it but for so many spans.
    RejectSpans(i64),
    /// Answers with this status of HTTP, or what it means in gRPC, and with `Retry-After` in seconds.
    Refuse(u16, Option<&'static str>),
    /// Says nothing until [`Collector::release`].
    Stall,
}

/// The collector; it stops when dropped.
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    script: Mutex<VecDeque<Reception>>,
    otherwise: Mutex<Reception>,
    batches: Mutex<Vec<ExportTraceServiceRequest>>,
    tries: Mutex<usize>,
    headers: Mutex<Vec<HeaderMap>>,
    released: watch::Sender<bool>,
}

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: SpanKind,
    pub state: String,
    pub flags: u32,
    pub times: (u64, u64),
    pub is_error: bool,
    pub attributes: BTreeMap<String, String>,
}

impl ReceivedSpan {
    /// An attribute as text; empty where it has none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// How a stream to a collector begins: TLS, or nothing.
pub type Accept<S> = Arc<dyn Fn(tokio::net::TcpStream) -> futures::future::BoxFuture<'static, Option<S>> + Send + Sync>;

impl Collector {
    /// Starts one on a free port, without TLS.
    pub async fn start() -> Self {
        Self::start_with(Arc::new(|stream| Box::pin(std::future::ready(Some(stream))))).await
    }

    /// As [`Self::start`], with connections that begin as `accept` says.
    pub async fn start_with<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(accept: Accept<S>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            script: Mutex::default(),
            otherwise: Mutex::new(Reception::Accept),
            batches: Mutex::default(),
            tries: Mutex::default(),
            headers: Mutex::default(),
            released: watch::channel(false).0,
        });
        let task = tokio::spawn(serve(listener, accept, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does with the next batches; then as [`Self::always`] says.
    pub fn script(&self, steps: impl IntoIterator<Item = Reception>) {
        lock(&self.state.script).extend(steps);
    }

    /// What it does with every batch that the script has no step for.
    pub fn always(&self, step: Reception) {
        *lock(&self.state.otherwise) = step;
    }

    /// Ends every stall, those to come too: such a batch is taken.
    pub fn release(&self) {
        self.state.released.send_replace(true);
    }

    /// Batches that came, those that were refused too.
    pub fn tries(&self) -> usize {
        *lock(&self.state.tries)
    }

    /// The headers of each.
    pub fn headers(&self) -> Vec<HeaderMap> {
        lock(&self.state.headers).clone()
    }

    /// The batches that it took.
    pub fn batches(&self) -> Vec<ExportTraceServiceRequest> {
        lock(&self.state.batches).clone()
    }

    /// The spans that it took.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let batches = self.batches();
        let scopes = batches.iter().flat_map(|batch| &batch.resource_spans).flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|scope| &scope.spans).map(received).collect()
    }

    /// The spans of the trace whose answer is to a request at `path`, the answer first, once they are there.
    pub async fn trace_of(&self, path: &str) -> Vec<ReceivedSpan> {
        let mut all = self.traces_of(path, 1).await;
        all.remove(0)
    }

    /// As [`Self::trace_of`], of so many requests.
    pub async fn traces_of(&self, path: &str, count: usize) -> Vec<Vec<ReceivedSpan>> {
        eventually(&format!("{count} traces of {path}"), async || {
            let spans = self.spans();
            let is_root = |span: &&ReceivedSpan| span.kind == SpanKind::Server && span.attribute("url.path") == path;
            let roots: Vec<&ReceivedSpan> = spans.iter().filter(is_root).collect();
            let whole = |root: &&ReceivedSpan| {
                let below = spans.iter().filter(|span| span.trace == root.trace && span.id != root.id);
                std::iter::once(*root).chain(below).cloned().collect::<Vec<_>>()
            };
            (roots.len() >= count).then(|| roots.iter().map(whole).collect())
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn received(span: &opentelemetry_proto::tonic::trace::v1::Span) -> ReceivedSpan {
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    ReceivedSpan {
        trace: hexadecimal(&span.trace_id),
        id: hexadecimal(&span.span_id),
        parent: hexadecimal(&span.parent_span_id),
        name: span.name.clone(),
        kind: span.kind(),
        state: span.trace_state.clone(),
        flags: span.flags,
        times: (span.start_time_unix_nano, span.end_time_unix_nano),
        is_error: span.status.as_ref().is_some_and(|status| status.code == 2),
        attributes: span.attributes.iter().map(|it| (it.key.clone(), text(it))).collect(),
    }
}

/// An attribute as text.
pub fn text(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(AnyValue::StringValue(text)) => text.clone(),
        Some(AnyValue::IntValue(number)) => number.to_string(),
        other => panic!("an attribute of another kind: {other:?}"),
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    listener: TcpListener,
    accept: Accept<S>,
    state: Arc<State>,
) {
    // The connections end with the set, hence with the collector.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (accept, state) = (Arc::clone(&accept), Arc::clone(&state));
        connections.spawn(async move {
            let Some(stream) = accept(stream).await else { return };
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<GrpcBody>, Infallible> {
    lock(&state.headers).push(request.headers().clone());
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec()).unwrap_or_default();
    if kind.starts_with(b"application/grpc") {
        return TraceServiceServer::new(Receiver(state)).oneshot(request).await;
    }
    let is_known = request.method() == "POST" && request.uri().path() == "/v1/traces";
    if !is_known || kind != b"application/x-protobuf" {
        return Ok(http_answer(StatusCode::NOT_FOUND, None, Bytes::new()));
    }
    let Ok(body) = request.into_body().collect().await else {
        return Ok(http_answer(StatusCode::BAD_REQUEST, None, Bytes::new()));
    };
    let batch = ExportTraceServiceRequest::decode(body.to_bytes()).expect("a message of OTLP");
    Ok(match receive(&state, batch).await {
        Ok(rejected) => http_answer(StatusCode::OK, None, response(rejected).encode_to_vec().into()),
        Err((status, wait)) => {
            http_answer(StatusCode::from_u16(status).expect("a status"), wait, Bytes::from_static(b"not now"))
        }
    })
}

fn http_answer(status: StatusCode, wait: Option<&str>, body: Bytes) -> Response<GrpcBody> {
    let mut answer = Response::new(GrpcBody::new(Full::new(body)));
    *answer.status_mut() = status;
    if let Some(wait) = wait {
        answer.headers_mut().insert(header::RETRY_AFTER, wait.parse().expect("a value"));
    }
    answer
}

/// Meets a batch as the script says; the error is a status of HTTP, with `Retry-After`.
async fn receive(state: &State, batch: ExportTraceServiceRequest) -> Result<i64, (u16, Option<&'static str>)> {
    *lock(&state.tries) += 1;
    let step = lock(&state.script).pop_front().unwrap_or_else(|| lock(&state.otherwise).clone());
    let rejected = match step {
        Reception::Accept => 0,
        Reception::RejectSpans(count) => count,
        Reception::Refuse(status, wait) => return Err((status, wait)),
        Reception::Stall => {
            let _ = state.released.subscribe().wait_for(|is_released| *is_released).await;
            0
        }
    };
    lock(&state.batches).push(batch);
    Ok(rejected)
}

fn response(rejected: i64) -> ExportTraceServiceResponse {
    let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message: "too many".to_owned() };
    ExportTraceServiceResponse { partial_success: (rejected > 0).then_some(partial) }
}

/// The service of the official definitions.
struct Receiver(Arc<State>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        match receive(&self.0, request.into_inner()).await {
            Ok(rejected) => Ok(tonic::Response::new(response(rejected))),
            Err((503, _)) => Err(tonic::Status::unavailable("not now")),
            Err(_) => Err(tonic::Status::invalid_argument("never")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
