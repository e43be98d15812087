//! The HTTP client with which Amazon's library asks: the one that everything here is asked with, bounded in time and size.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

use primitives::clock::Clock;
use s3::refusal;
use s3::signer::clock_difference;

/// Time limit of a connection.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Time limit of a request, where the library names none.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Largest answer, in bytes: the longest ones of the token service are a few KiB.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Client for token and metadata services. It takes no proxy of the environment, since link-local addresses are behind
/// none, and follows no redirect with somebody's token.
#[derive(Clone, Debug)]
pub(crate) struct AwsHttpClient {
    client: reqwest::Client,
    /// Clock of the service that answered last.
    pub clock: ServiceClock,
}

/// Clock of a service, as far as its answers tell it: requests to it are signed by it, and keys end by it. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct ServiceClock {
    ours: Clock,
    /// Seconds that it is ahead of ours.
    ahead: Arc<AtomicI64>,
}

impl ServiceClock {
    /// Returns the Unix second of our clock at which the service's shows `at`.
    pub fn to_ours(&self, at: u64) -> u64 {
        at.saturating_add_signed(self.ahead.load(Ordering::Relaxed).saturating_neg())
    }

    fn learn(&self, date: SystemTime) {
        // Somebody who is days off is not followed, as with stores.
        if let Some(ahead) = clock_difference(self.ours.unix(), date) {
            self.ahead.store(ahead, Ordering::Relaxed);
        }
    }
}

impl TimeSource for ServiceClock {
    fn now(&self) -> SystemTime {
        let (ours, ahead) = (self.ours.now(), self.ahead.load(Ordering::Relaxed));
        let difference = Duration::from_secs(ahead.unsigned_abs());
        let theirs = if ahead < 0 { ours.checked_sub(difference) } else { ours.checked_add(difference) };
        theirs.unwrap_or(ours)
    }
}

impl AwsHttpClient {
    /// Creates it; fails where no TLS can be set up.
    pub fn new(clock: &Clock) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            // Used a few times an hour: a connection that was kept would be closed by then.
            .pool_max_idle_per_host(0)
            .user_agent("tidegate");
        let clock = ServiceClock { ours: clock.clone(), ahead: Arc::default() };
        Ok(Self { client: client.build()?, clock })
    }
}

impl HttpClient for AwsHttpClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let time = settings.read_timeout().map_or(REQUEST_TIME, |read| read + CONNECT_TIME).min(REQUEST_TIME);
        SharedHttpConnector::new(AwsHttpConnector { client: self.clone(), time })
    }
}

#[derive(Debug)]
struct AwsHttpConnector {
    client: AwsHttpClient,
    time: Duration,
}

impl HttpConnector for AwsHttpConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, time) = (self.client.clone(), self.time);
        HttpConnectorFuture::new(async move {
            match tokio::time::timeout(time, exchange(&client, request)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(ConnectorError::timeout(format!("no answer within {time:?}").into())),
            }
        })
    }
}

async fn exchange(
    AwsHttpClient { client, clock }: &AwsHttpClient,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    // Requests to these services are whole texts.
    let request = request.map(|body| body.bytes().unwrap_or_default().to_vec());
    let request = reqwest::Request::try_from(request).map_err(|error| ConnectorError::user(error.into()))?;
    // The address may hold what is secret.
    let failed = |error: reqwest::Error| ConnectorError::io(error.without_url().into());
    let mut response = client.execute(request).await.map_err(failed)?;
    if let Some(date) = refusal::date(response.headers()) {
        clock.learn(date);
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            let reason = format!("an answer of more than {MAX_ANSWER_BYTES} bytes");
            return Err(ConnectorError::other(reason.into(), None));
        }
        body.extend_from_slice(&piece);
    }
    let mut answer = http::Response::new(SdkBody::from(body));
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
}
