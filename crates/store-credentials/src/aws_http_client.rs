//! The HTTP client with which Amazon's library asks: the one that everything here is asked with, bounded in time and size.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

/// Time limit of a connection.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Time limit of a request, where the library names none.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Largest answer, in bytes: the longest ones of the token service are a few KiB.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Client for token and metadata services. It takes no proxy of the environment, since link-local addresses are behind
/// none, and follows no redirect with somebody's token.
#[derive(Clone, Debug)]
pub(crate) struct AwsHttpClient(reqwest::Client);

impl AwsHttpClient {
    /// Creates it; fails where no TLS can be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            // Used a few times an hour: a connection that was kept would be closed by then.
            .pool_max_idle_per_host(0)
            .user_agent("tidegate");
        client.build().map(Self)
    }
}

impl HttpClient for AwsHttpClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let time = settings.read_timeout().map_or(REQUEST_TIME, |read| read + CONNECT_TIME).min(REQUEST_TIME);
        SharedHttpConnector::new(AwsHttpConnector { client: self.0.clone(), time })
    }
}

#[derive(Debug)]
struct AwsHttpConnector {
    client: reqwest::Client,
    time: Duration,
}

impl HttpConnector for AwsHttpConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, time) = (self.client.clone(), self.time);
        HttpConnectorFuture::new(async move {
            match tokio::time::timeout(time, exchange(client, request)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(ConnectorError::timeout(format!("no answer within {time:?}").into())),
            }
        })
    }
}

async fn exchange(client: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    // Requests to these services are whole texts.
    let request = request.map(|body| body.bytes().unwrap_or_default().to_vec());
    let request = reqwest::Request::try_from(request).map_err(|error| ConnectorError::user(error.into()))?;
    // The address may hold what is secret.
    let failed = |error: reqwest::Error| ConnectorError::io(error.without_url().into());
    let mut response = client.execute(request).await.map_err(failed)?;
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
