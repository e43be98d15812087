//! Reasons why Redis cannot be used, in its own or the system's words: of the connection, and of commands that it refuses.

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

/// Some errors repeat the command with its arguments, which are users' ids and what is kept of them.
const ARGUMENTS: &str = ", with args beginning with";

/// The faults of one client.
pub struct RedisErrorReporter {
    password: Option<Secret>,
    connection: Mutex<ConnectionErrors>,
    refusals: FailureLog,
}

/// Errors of the connection: a command that finds none says only that.
struct ConnectionErrors {
    new: Receiver<(Error, Option<Server>)>,
    last: Option<String>,
}

impl RedisErrorReporter {
    /// Those of `client` from now on.
    pub fn for_client(client: &Client) -> Self {
        let password = client.client_config().password.filter(|password| !password.is_empty()).map(Secret::new);
        let connection = Mutex::new(ConnectionErrors { new: client.error_rx(), last: None });
        Self { password, connection, refusals: FailureLog::default() }
    }

    /// The words of Redis or of the system in `error`.
    pub fn error_text(&self, error: &Error) -> String {
        let text = line(error.details());
        let text = text.split_once(ARGUMENTS).map_or(text, |(text, _)| text);
        match &self.password {
            Some(password) => text.replace(password.expose(), "***"),
            None => text.to_owned(),
        }
    }

    /// Tells in the log of a command that Redis refused at `now`. That there is no connection, no answer or no right to
    /// ask is found by whoever asks whether Redis answers.
    pub fn log_refusal(&self, error: &Error, now: Instant) {
        if !is_refusal(error) {
            return;
        }
        let words = self.error_text(error);
        if self.refusals.is_news(&words, now) {
            tracing::warn!(error = words, "Redis (State.Url) refuses commands");
        }
    }

    /// The last error of the connection.
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

    /// Forgets the errors of the connection: there is a good one.
    pub fn clear_connection_errors(&self) {
        self.connection_error();
        self.connection.lock().last = None;
    }

    /// The reason behind `error`: what Redis said, else what became of the connection.
    pub fn reason(&self, error: &Error) -> String {
        let said = is_refusal(error) || *error.kind() == ErrorKind::Auth;
        let connection = self.connection_error().filter(|_| !said);
        connection.unwrap_or_else(|| self.error_text(error))
    }
}

/// Whether Redis itself has answered so, other than that it wants to know who asks.
pub fn is_refusal(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unknown | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::Cluster
    )
}
