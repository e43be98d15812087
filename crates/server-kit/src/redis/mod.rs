//! Shared short-lived state: the one client of Redis or Valkey (single, sentinel, cluster, TLS, Unix socket).
//!
//! Owns connecting, reconnecting and the timeouts of commands. Knows nothing of the content: each module that shares
//! state has an adapter file of its own over [`Redis::client_with_timeout`], and decides what happens without Redis.
//! The names of keys are in [`keys`] alone.

mod error_reporter;
pub mod keys;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::config::{Config, Options, ReconnectPolicy};
use fred::types::{Builder, ClusterHash, CustomCommand, FromValue};

use error_reporter::RedisErrorReporter;
use futures::future::BoxFuture;
use keys::RedisKey;
use primitives::clock::monotonic_now;
use settings::Settings;

/// Timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of the first connection, before the process goes on without it.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// Shortest interval between two tries to reconnect, in milliseconds.
const MIN_RECONNECT_MILLIS: u32 = 50;
/// Longest interval between two tries to reconnect, in milliseconds.
const MAX_RECONNECT_MILLIS: u32 = 1000;
/// Messages of subscriptions that wait for their receivers.
const SUBSCRIPTION_CAPACITY: usize = 1024;

/// The address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("State.Url cannot be used: expected redis://, rediss://, redis-cluster://, redis-sentinel:// or redis+unix://")]
pub struct InvalidRedisUrl;

/// Client of Redis. Clones share its connections.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    prefix: String,
    errors: Arc<RedisErrorReporter>,
}

impl Redis {
    /// Connects. If Redis does not answer at once the client keeps trying in the background, and every command fails
    /// until it does: a proxy starts, and streams, without it.
    pub async fn connect(settings: &Settings) -> Result<Self, InvalidRedisUrl> {
        let mut config = Config::from_url(settings.url.expose()).map_err(|_| InvalidRedisUrl)?;
        // Off for the connection itself: a first try that fails must not end the client, which goes on trying.
        config.fail_fast = false;
        let client = Builder::from_config(config)
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT_TIMEOUT;
                connection.internal_command_timeout = CONNECT_TIMEOUT;
                // A password that is rotated on the server first would otherwise end the client for good.
                connection.reconnect_on_auth_error = true;
                // The caller decides what happens without an answer; a command that is sent again could count twice.
                connection.max_command_attempts = 1;
            })
            .set_policy(ReconnectPolicy::new_exponential(0, MIN_RECONNECT_MILLIS, MAX_RECONNECT_MILLIS, 2))
            .build()
            .map_err(|_| InvalidRedisUrl)?;
        // Before the first error can come.
        let faults = Arc::new(RedisErrorReporter::for_client(&client));
        client.connect();
        if tokio::time::timeout(START_TIMEOUT, client.wait_for_connect()).await.is_err() {
            let error = faults.connection_error().unwrap_or_else(|| "no answer in time".to_owned());
            tracing::warn!(error, "Redis (State.Url) does not answer: going on without it, and trying to connect");
        }
        Ok(Self { client, prefix: settings.prefix.clone(), errors: faults })
    }

    /// Returns a client for commands that take at most `budget` and fail at once while there is no connection.
    pub fn client_with_timeout(&self, budget: Duration) -> WithOptions<Client> {
        self.client().with_options(&Options { timeout: Some(budget), fail_fast: true, ..Options::default() })
    }

    /// Runs a script on `keys`, which in a cluster are of one node, with the other arguments. As a custom command:
    /// fred's `eval` blocks the connection until it is answered, and does not return while it reconnects.
    pub async fn script<R: FromValue>(
        &self,
        budget: Duration,
        script: &str,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<R, Error> {
        let command = Self::command("EVAL", keys.first().map_or("", String::as_str));
        let all = [script.to_owned(), keys.len().to_string()].into_iter().chain(keys).chain(arguments).collect();
        let client = self.client_with_timeout(budget);
        self.run_with_timeout(budget, client.custom(command, all)).await
    }

    /// Returns the command `name`, for the node that has `key` in a cluster. The slot must be given: fred supports
    /// finding the key itself (`ClusterHash::Offset`) in its own commands only.
    pub fn command(name: &'static str, key: &str) -> CustomCommand {
        CustomCommand::new_static(name, ClusterHash::from(key), false)
    }

    /// Runs `command` within `budget` in any state of the client. Refusals by Redis are logged.
    pub async fn run_with_timeout<T>(
        &self,
        budget: Duration,
        command: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        // fred's futures are deep and large: with a box, the caller's future holds a pointer.
        let command: BoxFuture<'_, _> = Box::pin(command);
        let late = |_| Err(Error::new(ErrorKind::Timeout, "no answer in time"));
        let answer = tokio::time::timeout(budget, command).await.unwrap_or_else(late);
        answer.inspect_err(|error| self.errors.log_refusal(error, monotonic_now()))
    }

    /// Returns true if Redis itself has answered so: it is there, and refuses this one command.
    pub fn is_refusal(error: &Error) -> bool {
        error_reporter::is_refusal(error)
    }

    /// Returns the words of Redis or of the system in `error`, for the operator: one line without the password.
    pub fn error_text(&self, error: &Error) -> String {
        self.errors.error_text(error)
    }

    /// Returns the client itself, for subscriptions and blocking reads.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns a client with connections of its own, for commands that would delay others and for subscriptions.
    pub fn with_own_connections(&self) -> Self {
        let client = self.client();
        let mut performance = client.perf_config();
        performance.broadcast_channel_capacity = SUBSCRIPTION_CAPACITY;
        let (connection, policy) = (client.connection_config().clone(), client.client_reconnect_policy());
        let client = Client::new(client.client_config(), Some(performance), Some(connection), policy);
        let faults = Arc::new(RedisErrorReporter::for_client(&client));
        client.connect();
        Self { client, prefix: self.prefix.clone(), errors: faults }
    }

    /// Returns the name of `key`, with the operator's prefix.
    pub fn key(&self, key: RedisKey<'_>) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Waits for a connection, for at most `budget`; returns true if there is one.
    pub async fn wait_connected(&self, budget: Duration) -> bool {
        self.run_with_timeout(budget, self.client().wait_for_connect()).await.is_ok()
    }

    /// Returns true if there is a connection.
    pub fn is_connected(&self) -> bool {
        self.client().is_connected()
    }

    /// Checks that Redis answers within `budget`; an error is the reason, for the operator.
    pub async fn check(&self, budget: Duration) -> Result<(), String> {
        match self.run_with_timeout(budget, self.client_with_timeout(budget).ping::<String>(None)).await {
            Ok(_) => {
                self.errors.clear_connection_errors();
                Ok(())
            }
            Err(error) => Err(self.errors.reason(&error)),
        }
    }

    /// Closes the connections, within `budget`: a client that was never connected would wait for Redis to accept its
    /// QUIT.
    pub async fn close(&self, budget: Duration) -> Result<(), Error> {
        self.run_with_timeout(budget, self.client().quit()).await
    }
}
