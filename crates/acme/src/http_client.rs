//! The client that asks the ACME server: bounded in time and size, which the library's own is not.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::{Certificate, Client};

use crate::settings::AcmeSettings;

/// Time limit of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest response in bytes; certificate chains are a few KiB.
const MAX_RESPONSE: usize = 1024 * 1024;

/// HTTPS to the ACME server.
pub struct AcmeHttpClient(Client);

impl AcmeHttpClient {
    /// Creates a client that verifies the server as `settings` say. Fails where their file holds no certificates.
    pub fn new(settings: &AcmeSettings) -> Result<Self, Error> {
        let other = |error: Box<dyn std::error::Error + Send + Sync>| Error::Other(error);
        let mut builder = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &settings.authorities {
            let text = std::fs::read(path).map_err(|error| other(error.into()))?;
            let roots = Certificate::from_pem_bundle(&text).map_err(|error| other(error.into()))?;
            builder = builder.tls_certs_only(roots);
        }
        builder.build().map(Self).map_err(|error| other(error.into()))
    }
}

impl HttpClient for AcmeHttpClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(parts, body.to_bytes());
            let request = reqwest::Request::try_from(request).map_err(|error| Error::Other(error.into()))?;
            let response = client.execute(request).await.map_err(|error| Error::Other(error.into()))?;
            let response = http::Response::from(response).map(|body| Limited::new(body, MAX_RESPONSE));
            Ok(BytesResponse::from(response))
        })
    }
}
