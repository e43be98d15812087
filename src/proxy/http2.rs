//! One HTTP/2 connection of a player: Pingora's, with a limit on the time until its first request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use super::Gateway;

/// Serves `stream` to its end. The handshake and the first request's header must be there within `header_timeout`; from
/// then on Pingora closes a connection that is without a stream for too long.
pub async fn serve(
    proxy: &Arc<HttpProxy<Gateway>>,
    stream: Stream,
    header_timeout: Duration,
    shutdown: &ShutdownWatch,
) {
    let connection = Arc::new(Connection { proxy: Arc::clone(proxy), asked: AtomicBool::new(false) });
    let overdue = async {
        tokio::time::sleep(header_timeout).await;
        if connection.asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        _ = connection.process_new(stream, shutdown) => {}
        () = overdue => {}
    }
}

/// The proxy for one connection. Pingora serves each stream in a task of its own, from its header on.
struct Connection {
    proxy: Arc<HttpProxy<Gateway>>,
    /// Whether there was a request.
    asked: AtomicBool,
}

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.asked.store(true, Ordering::Relaxed);
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }
}
