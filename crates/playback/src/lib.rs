//! Where users are in what they play: [`positions`] that are kept and given back, and [`reports`] of what players do, which
//! become events.

pub mod positions;
pub mod reports;
