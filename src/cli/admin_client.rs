//! Client of a running proxy's operator side (`Server.Admin`), for the commands that ask it.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::Value;
use url::Url;

use crate::config;
use primitives::secret::Secret;

/// Timeout of a whole exchange.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The proxy that is asked.
#[derive(clap::Args, Debug)]
pub struct AdminArgs {
    /// The operator's side of the proxy (`Server.Admin.Address`).
    #[arg(long, default_value = "http://127.0.0.1:9901")]
    pub admin: Url,
    /// Where the token of `Server.Admin.Token` is: env:NAME or file:PATH.
    #[arg(long)]
    pub token: Option<String>,
}

/// Client of one proxy.
pub struct AdminClient {
    http: reqwest::Client,
    address: Url,
    token: Option<Secret>,
}

impl AdminClient {
    /// Makes the client; fails where the token cannot be read.
    pub fn new(args: &AdminArgs) -> Result<Self, String> {
        let token = args.token.as_deref().map(config::read_secret).transpose();
        let token = token.map_err(|message| format!("--token: {message}"))?;
        // Never by a proxy of the environment: the admin address is usually on loopback, and the token must not leave it.
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(|error| error.to_string())?;
        Ok(Self { http, address: args.admin.clone(), token })
    }

    /// Posts to `path` what `with` adds to the request; returns the body, null where it is not JSON: the status has told
    /// already how it went.
    pub async fn post(&self, path: &str, with: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Result<Value, String> {
        let url = self.address.join(path).map_err(|error| error.to_string())?;
        let mut request = with(self.http.post(url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(|error| format!("the proxy cannot be reached: {error}"))?;
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        if status.is_success() {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("no reason was given");
        Err(format!("the proxy refused ({status}): {detail}"))
    }
}
