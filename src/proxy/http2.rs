//! One HTTP/2 connection of a player: Pingora's, with a limit on the time until its first request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
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

// Written out, see `ProxyHttp` of `Gateway`.
impl HttpServerApp for Connection {
    fn process_new_http<'a, 'b, 'f>(
        self: &'a Arc<Self>,
        session: ServerSession,
        shutdown: &'b ShutdownWatch,
    ) -> BoxFuture<'f, Option<ReusedHttpStream>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.asked.store(true, Ordering::Relaxed);
        asked(self, session, shutdown)
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }
}

fn asked<'a>(
    connection: &'a Connection,
    session: ServerSession,
    shutdown: &'a ShutdownWatch,
) -> BoxFuture<'a, Option<ReusedHttpStream>> {
    connection.proxy.process_new_http(session, shutdown)
}
