//! Clients' certificates on connections that are open: they were verified in the handshake, and are verified again when
//! the authorities or the revocation lists have changed, and when a certificate of the chain ends.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The verifier in force; another one each time that the files of TLS were loaded.
pub type VerifierInForce = Option<Arc<dyn ClientCertVerifier>>;

/// Time for the answers under way on a connection whose certificate is no longer good.
const GRACE: Duration = Duration::from_secs(10);
/// Longest time between two verifications: the clock may be set meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Certificates that a client has shown, and what verifies them.
pub struct ClientRevalidation {
    chain: Vec<CertificateDer<'static>>,
    verifiers: watch::Receiver<VerifierInForce>,
}

impl ClientRevalidation {
    /// Verifies `chain`, whose first certificate is the client's own, by each of `verifiers`.
    pub fn new(chain: &[CertificateDer<'_>], verifiers: watch::Receiver<VerifierInForce>) -> Self {
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Self { chain, verifiers }
    }

    /// Waits until the chain is no longer good; then has the connection end by `revoked`, and resolves once the answers
    /// under way have had their time.
    pub async fn wait_for_end(mut self, revoked: &CancellationToken) {
        loop {
            let verifier = self.verifiers.borrow_and_update().clone();
            // As in the handshake, which takes the system's time too.
            let now = UnixTime::now();
            if verifier.is_some_and(|verifier| !self.is_good(&*verifier, now)) {
                break;
            }
            let pause = self.pause(now);
            tokio::select! {
                changed = self.verifiers.changed() => {
                    if changed.is_err() {
                        // The listener is gone, and its connections are about to end.
                        std::future::pending::<()>().await;
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        revoked.cancel();
        tokio::time::sleep(GRACE).await;
    }

    fn is_good(&self, verifier: &dyn ClientCertVerifier, now: UnixTime) -> bool {
        let Some((leaf, intermediates)) = self.chain.split_first() else { return true };
        let verified = verifier.verify_client_cert(leaf, intermediates, now);
        let logged = verified.inspect_err(|error| {
            tracing::info!(%error, "a client's certificate is no longer good: its connection ends");
        });
        logged.is_ok()
    }

    /// Returns the time until the first certificate of the chain ends.
    fn pause(&self, now: UnixTime) -> Duration {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let ends = self.chain.iter().filter_map(|certificate| {
            let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
            Some(certificate.validity().not_after.timestamp())
        });
        // One that has ended already is none that the chain needs.
        let left = ends.filter(|end| *end >= now).map(|end| end - now + 1).min().unwrap_or(i64::MAX);
        Duration::from_secs(left.unsigned_abs()).min(LONGEST_PAUSE)
    }
}
