//! Errors of Redis, in its own or the system's words: of the connection, and of commands that it refuses.

use std::time::Instant;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::Server;
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use primitives::failure_log::{FailureLog, line};
use primitives::secret::Secret;

/// Beginning of the arguments that some errors repeat: users' ids and their data, which must not be logged.
const ARGUMENTS: &str = ", with args beginning with";

/// Errors of one client.
pub struct RedisErrorReporter {
    password: Option<Secret>,
    connection: Mutex<ConnectionErrors>,
    refusals: FailureLog,
}

/// Errors of the connection: a command without one reports only that.
struct ConnectionErrors {
    new: Receiver<(Error, Option<Server>)>,
    last: Option<String>,
}

impl RedisErrorReporter {
    /// Collects the errors of `client` from now on.
    pub fn for_client(client: &Client) -> Self {
        let password = client.client_config().password.filter(|password| !password.is_empty()).map(Secret::new);
        let connection = Mutex::new(ConnectionErrors { new: client.error_rx(), last: None });
        Self { password, connection, refusals: FailureLog::default() }
    }

    /// Returns the words of Redis or of the system in `error`.
    pub fn error_text(&self, error: &Error) -> String {
        let text = line(error.details());
        let text = text.split_once(ARGUMENTS).map_or(text, |(text, _)| text);
        match &self.password {
            Some(password) => text.replace(password.expose(), "***"),
            None => text.to_owned(),
        }
    }

    /// Logs a command that Redis refused at `now`. A missing connection, answer or right is reported by the health
    /// check.
    pub fn log_refusal(&self, error: &Error, now: Instant) {
        if !is_refusal(error) {
            return;
        }
        let words = self.error_text(error);
        if self.refusals.is_news(&words, now) {
            tracing::warn!(error = words, "Redis (State.Url) refuses commands");
        }
    }

    /// Returns the last error of the connection.
    pub fn connection_error(&self) -> Option<String> {
        let mut connection = self.connection.lock();
        loop {
            match connection.new.try_recv() {
                // An end that is ours or nobody's explains nothing.
                Ok((error, _)) if *error.kind() == ErrorKind::Canceled => {}
                Ok((error, _)) => connection.last = Some(self.error_text(&error)),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return connection.last.clone(),
            }
        }
    }

    /// Clears the errors of the connection: there is a good one.
    pub fn clear_connection_errors(&self) {
        self.connection_error();
        self.connection.lock().last = None;
    }

    /// Returns the reason of `error`: the words of Redis, else the state of the connection.
    pub fn reason(&self, error: &Error) -> String {
        let said = is_refusal(error) || *error.kind() == ErrorKind::Auth;
        let connection = self.connection_error().filter(|_| !said);
        connection.unwrap_or_else(|| self.error_text(error))
    }
}

/// Returns true if Redis itself has answered so, except that it requires authentication.
pub fn is_refusal(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unknown | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::Cluster
    )
}
