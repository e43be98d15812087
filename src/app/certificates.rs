//! Certificates by ACME, composed: those that the listeners want are ordered and kept valid.

use acme::CertificateOrders;
use acme::settings::AcmeSettings;

use super::{SharedServices, StartError};
use crate::config::Settings;
use http_server::acme_challenges::AcmeChallenges;

/// Makes the files of the certificates that are ordered by ACME, where they are missing: the listeners read them.
pub fn prepare(settings: &Settings) -> Result<(), StartError> {
    let Some(acme) = &settings.acme else { return Ok(()) };
    Ok(acme::prepare(acme, &acme.certificates(&settings.server.http))?)
}

/// Starts ordering the certificates of `settings`. The listeners must answer already.
pub fn start(
    settings: &Settings,
    challenges: AcmeChallenges,
    SharedServices { clock, metrics, tasks, .. }: &SharedServices,
) -> Result<CertificateOrders, StartError> {
    let orders = CertificateOrders::start(challenges, clock.clone(), tasks, metrics.registry())?;
    order(settings, &orders);
    Ok(orders)
}

/// Has the certificates that the listeners want kept valid by ACME.
pub fn order(settings: &Settings, orders: &CertificateOrders) {
    let wanted = |acme: &AcmeSettings| (acme.clone(), acme.certificates(&settings.server.http));
    orders.keep_valid(settings.acme.as_ref().map(wanted));
}
