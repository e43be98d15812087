//! Certificates by ACME (RFC 8555): ordered from an authority such as Let's Encrypt, and renewed before they end. They are
//! written to files that the listeners read like any other certificate; this knows no connection and no route.

mod files;
mod http_client;
mod metrics;
mod order;
mod renewal;
pub mod settings;

pub use self::files::{AcmeFileError, prepare};
pub use self::renewal::CertificateOrders;
