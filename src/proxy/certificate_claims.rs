//! Claims of a client's certificate, for the rules over claims: beside those of a token, and in place of a token where the
//! listener says so. That no token has such claims is `server-kit`'s care.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use http_server::client_certificate::ClientCertificate;
use primitives::ids::UserId;
use server_kit::auth::{AuthenticationError, CERTIFICATE_CLAIM, CertificateClaim, Claims};

/// Returns `claims` with [`CERTIFICATE_CLAIM`], where there is a certificate.
pub fn add_certificate(claims: Arc<Claims>, certificate: Option<&ClientCertificate>) -> Arc<Claims> {
    match certificate {
        Some(certificate) => claims.with_certificate(certificate_claim(certificate)),
        None => claims,
    }
}

/// Returns the claims of a client that shows its certificate and no token: the user is its common name.
pub fn claims_of(certificate: &ClientCertificate) -> Result<Arc<Claims>, AuthenticationError> {
    let name = certificate.common_name.as_deref().ok_or(AuthenticationError::NoSubject)?;
    let subject = UserId::parse(name).ok_or(AuthenticationError::UnusableSubject)?;
    let map = Map::from_iter([
        ("sub".to_owned(), Value::from(name)),
        (CERTIFICATE_CLAIM.to_owned(), certificate_claim(certificate).0),
    ]);
    Ok(Arc::new(Claims { subject, map }))
}

/// Returns the certificate as a claim; its parts are `CERTIFICATE_CLAIM_PARTS`.
pub fn certificate_claim(certificate: &ClientCertificate) -> CertificateClaim {
    let names = &certificate.alternative_names;
    CertificateClaim(json!({
        "cn": certificate.common_name,
        "dns": names.dns,
        "uri": names.uris,
        "email": names.emails,
        "ip": names.ips,
        "serial": certificate.serial,
        "sha256": certificate.sha256,
    }))
}
