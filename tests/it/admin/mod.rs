//! The operator's side of a running process: what it does now, and what is changed there by hand.

mod page;
mod status;
mod streams;
