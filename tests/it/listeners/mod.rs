//! Listeners: their addresses, and the ways to be spoken to there.

mod acme;
mod addresses;
mod client_certificates;
mod proxy_protocol;
mod redirect;
mod tls_settings;
