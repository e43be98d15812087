//! The embedded object store: a folder as S3, for one machine without set-up.
//!
//! It owns the folder's layout (`<root>/<bucket>/<key>`), what an object's ETag is, and S3's answers to reading,
//! listing and writing. Protocol and signatures (SigV4, presigned and in the header) are the `s3s` crate's; GET and
//! HEAD of an object are answered here from the verified request itself, because RFC 9110 §13–14 (several tags in one
//! condition, ranges that are to be ignored) does not survive the crate's parsing. It must not know routes, tokens or
//! anything else of the proxy, which speaks to it over a socket as to every other store.
//!
//! Files dropped into the folder are objects at once. Not kept: user metadata and a content type (that is read off the
//! key's ending). Not there, and refused as `NotImplemented`: multipart uploads, copies, versions, access lists.

mod bucket_service;
mod folder;
mod listing;
mod object_read_route;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use primitives::clock::Clock;
use primitives::secret::Secret;

use bucket_service::BucketService;
use folder::StoreFolder;
use object_read_route::ObjectReadRoute;

/// A folder, ready to be served as S3.
#[derive(Debug)]
pub struct EmbeddedStore {
    service: S3Service,
}

impl EmbeddedStore {
    /// Opens the folder `root`, making it where it is missing. `access_key` and `secret_key` are what requests must be
    /// signed with; `clock` gives the date that `If-Range` is judged by (signatures are judged by the system's clock).
    ///
    /// # Errors
    /// The folder cannot be made or opened; the message names it and says why.
    pub fn open(root: &Path, access_key: &str, secret_key: &Secret, clock: Clock) -> io::Result<Self> {
        let folder = StoreFolder::open(root)?;
        let mut builder = S3ServiceBuilder::new(BucketService::new(folder.clone()));
        builder.set_route(ObjectReadRoute::new(folder, clock));
        builder.set_auth(SingleKeyAuth { access_key: access_key.into(), secret_key: secret_key.expose().into() });
        Ok(Self { service: builder.build() })
    }

    /// Serves connections until `shutdown` completes, then lets the exchanges under way end. Dropping the future ends
    /// nothing but the listening: connections are closed by their own end.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let connections = TaskTracker::new();
        let stop = CancellationToken::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(handle_connection(stream, self.service.clone(), stop.clone()));
                    }
                    // Out of file descriptors, most likely: wait for connections to end instead of spinning.
                    Err(error) => {
                        tracing::warn!(%error, "the embedded store cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop(listener);
        stop.cancel();
        connections.close();
        connections.wait().await;
    }
}

/// Serves one connection; after `stop` it ends with the exchange under way.
///
/// No time limit on an idle connection: the proxy's pool is the only client, and a limit would close connections in
/// the moment of their reuse.
async fn handle_connection(stream: TcpStream, service: S3Service, stop: CancellationToken) {
    // A connection that cannot be told this is only slower.
    let _ = stream.set_nodelay(true);
    let mut serving = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // An error is the client's leaving in the middle: nothing to do about it.
    tokio::select! {
        _ = &mut serving => {}
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// Authentication with the one key of the store.
struct SingleKeyAuth {
    access_key: String,
    secret_key: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for SingleKeyAuth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            Ok(self.secret_key.clone())
        } else {
            Err(s3_error!(InvalidAccessKeyId, "The access key is not the embedded store's."))
        }
    }
}
