//! One order: from the account to the certificate (RFC 8555 §7.4).

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use http_server::acme_challenges::{AcmeChallenges, PendingChallenge};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use crate::files::{self, AcmeFileError};
use crate::http_client::AcmeHttpClient;
use crate::settings::{AcmeChallengeType, AcmeSettings, OrderedCertificate};

/// Time for the authority to verify the names, and the same again to sign.
const POLL_TIME: Duration = Duration::from_secs(120);

/// Reason why an order failed.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The ACME server refused or did not answer.
    #[error("the ACME server: {}", with_causes(.0))]
    Server(#[from] instant_acme::Error),
    /// A name was not verified.
    #[error("{name} was not verified: {reason}")]
    NotVerified {
        /// The name.
        name: String,
        /// Words of the authority.
        reason: String,
    },
    /// The authority does not offer the challenge.
    #[error("the ACME server does not offer the challenge {0}")]
    NoChallenge(&'static str),
    /// A certificate or key cannot be made.
    #[error("a certificate for the challenge cannot be made: {0}")]
    Certificate(Box<dyn std::error::Error + Send + Sync>),
    /// The account's file holds something else.
    #[error("the file of the ACME account cannot be read: {0}; remove it, and an account is made anew")]
    Account(serde_json::Error),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] AcmeFileError),
    /// The order took too long.
    #[error("the ACME server did not finish the order in time")]
    Timeout,
}

/// Returns the text of an error and of its causes: the library's own leaves those of the connection out.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Orders `certificate`, and writes its files.
pub async fn obtain(
    settings: &AcmeSettings,
    certificate: &OrderedCertificate,
    challenges: &AcmeChallenges,
) -> Result<(), AcmeError> {
    let account = open_account(settings).await?;
    let names: Vec<_> = certificate.names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    // Answered until the authority has asked.
    let pending = answer_challenges(&mut order, settings.challenge, challenges).await?;
    let policy = RetryPolicy::new().timeout(POLL_TIME);
    let status = order.poll_ready(&policy).await?;
    drop(pending);
    if status != OrderStatus::Ready {
        return Err(not_verified(&mut order).await);
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&policy).await?;
    Ok(files::write_pair(certificate, &chain, &key)?)
}

/// Opens the account of the folder, or makes one.
async fn open_account(settings: &AcmeSettings) -> Result<Account, AcmeError> {
    let builder = Account::builder_with_http(Box::new(AcmeHttpClient::new(settings)?));
    let path = files::account_path(settings);
    if let Ok(text) = fs::read_to_string(&path) {
        let credentials: AccountCredentials = serde_json::from_str(&text).map_err(AcmeError::Account)?;
        return Ok(builder.from_credentials(credentials).await?);
    }
    let contact = settings.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    let account = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&account, settings.directory.clone(), None).await?;
    files::write(&path, &serde_json::to_string(&credentials).map_err(AcmeError::Account)?)?;
    Ok(account)
}

/// Answers a challenge for each name that is not verified yet, and tells the authority to ask.
async fn answer_challenges(
    order: &mut Order,
    challenge_type: AcmeChallengeType,
    challenges: &AcmeChallenges,
) -> Result<Vec<PendingChallenge>, AcmeError> {
    let mut pending = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let (wanted, name) = match challenge_type {
            AcmeChallengeType::Http => (ChallengeType::Http01, "HTTP-01"),
            AcmeChallengeType::TlsAlpn => (ChallengeType::TlsAlpn01, "TLS-ALPN-01"),
        };
        let mut challenge = authorization.challenge(wanted).ok_or(AcmeError::NoChallenge(name))?;
        pending.push(match challenge_type {
            AcmeChallengeType::Http => {
                challenges.add_http(challenge.token.clone(), challenge.key_authorization().as_str().to_owned())
            }
            AcmeChallengeType::TlsAlpn => {
                let name = challenge.identifier().to_string().to_ascii_lowercase();
                let certificate = challenge_certificate(&name, &challenge)?;
                challenges.add_tls_alpn(name, Arc::new(certificate))
            }
        });
        challenge.set_ready().await?;
    }
    Ok(pending)
}

/// Makes the certificate of a TLS-ALPN-01 challenge (RFC 8737 §3).
fn challenge_certificate(name: &str, challenge: &ChallengeHandle<'_>) -> Result<CertifiedKey, AcmeError> {
    let failed = |error: rcgen::Error| AcmeError::Certificate(error.into());
    let mut params = CertificateParams::new([name.to_owned()]).map_err(failed)?;
    let digest = challenge.key_authorization().digest();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| AcmeError::Certificate(error.into()))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
    // Not checked against its key, as files are: the library refuses the critical extension of these certificates.
    key.map(|key| CertifiedKey::new(vec![certificate.der().clone()], key))
        .map_err(|error| AcmeError::Certificate(error.into()))
}

/// Returns the first name that the authority did not verify, with its words.
async fn not_verified(order: &mut Order) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let failed = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = failed {
            let name = authorization.identifier().to_string();
            return AcmeError::NotVerified { name, reason: problem.to_string() };
        }
    }
    AcmeError::NotVerified { name: "a name".into(), reason: "the ACME server does not say why".into() }
}
