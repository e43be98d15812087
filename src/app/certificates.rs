//! Certificates by ACME, composed: those that the listeners want are ordered and kept valid.

use acme::CertificateOrders;
use acme::settings::AcmeSettings;

use super::StartError;
use crate::config::Settings;

/// Makes the files of the certificates that are ordered by ACME, where they are missing: the listeners read them.
pub fn prepare(settings: &Settings) -> Result<(), StartError> {
    let Some(acme) = &settings.acme else { return Ok(()) };
    Ok(acme::prepare(acme, &acme.certificates(&settings.server.http))?)
}

/// Has the certificates that the listeners want kept valid by ACME.
pub fn order(settings: &Settings, orders: &CertificateOrders) {
    let wanted = |acme: &AcmeSettings| (acme.clone(), acme.certificates(&settings.server.http));
    orders.keep_valid(settings.acme.as_ref().map(wanted));
}
