//! Listeners: their addresses, and the ways to be spoken to there.

mod addresses;
mod proxy_protocol;
