//! Socket at which `tidegate upgrade` asks a running process for an upgrade, and hears of its outcome: an abstract socket
//! (unix(7)), so that nothing is left of it. A part of its name is drawn at random, so that nobody can take the name before;
//! who asks looks for it among the system's sockets, and the system says to each whose process the other is.

use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net as system;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Longest outcome, in bytes.
pub const MAX_OUTCOME: usize = 4096;
/// Time for whoever asked to take the outcome.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted: the reason would be the same at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Outcome of an upgrade, for whoever asked for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeOutcome {
    /// The process of this id has taken over.
    Upgraded(u32),
    /// None has; the reason.
    Failed(String),
}

/// Returns the beginning of the socket's name, which the process of this id has.
pub fn name_prefix(process: u32) -> String {
    format!("tidegate-upgrade-{process}-")
}

/// The socket of this process.
pub struct UpgradeSocket(Option<UnixListener>);

impl UpgradeSocket {
    /// Opens it. Needs a tokio runtime. Where it fails, which is logged, only SIGUSR2 asks for an upgrade.
    pub fn open() -> Self {
        let opened = || -> io::Result<UnixListener> {
            let name = format!("{}{:032x}", name_prefix(std::process::id()), rand::random::<u128>());
            let socket = system::UnixListener::bind_addr(&system::SocketAddr::from_abstract_name(name)?)?;
            socket.set_nonblocking(true)?;
            UnixListener::from_std(socket)
        };
        let logged = opened().inspect_err(|error| {
            tracing::warn!(%error, "the socket for `tidegate upgrade` cannot be opened: only SIGUSR2 asks for an upgrade");
        });
        Self(logged.ok())
    }

    /// Returns the next request of root or of this process's own user. Can be dropped and called again.
    pub async fn next(&self) -> UpgradeRequest {
        let Some(socket) = &self.0 else { return pending().await };
        loop {
            match socket.accept().await {
                Ok((stream, _)) => {
                    let request = UpgradeRequest(stream);
                    if request.is_allowed() {
                        return request;
                    }
                    let reason = "only root and the user of the process may ask for its upgrade";
                    request.answer(&UpgradeOutcome::Failed(reason.to_owned())).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "a request for an upgrade cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Request for an upgrade, which holds for as long as its connection.
pub struct UpgradeRequest(UnixStream);

impl UpgradeRequest {
    fn is_allowed(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.0.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
    }

    /// Resolves when whoever has asked does not wait any longer. Can be dropped and called again.
    pub async fn withdrawn(&mut self) {
        let mut nothing = [0; 64];
        while matches!(self.0.read(&mut nothing).await, Ok(1..)) {}
    }

    /// Tells the outcome.
    pub async fn answer(mut self, outcome: &UpgradeOutcome) {
        let mut text = serde_json::to_vec(outcome).unwrap_or_default();
        if text.len() > MAX_OUTCOME {
            let short = UpgradeOutcome::Failed("the reason is in its log".to_owned());
            text = serde_json::to_vec(&short).unwrap_or_default();
        }
        // Whoever asked may have gone.
        let _ = timeout(ANSWER_TIME, self.0.write_all(&text)).await;
    }
}
