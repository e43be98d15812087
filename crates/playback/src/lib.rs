//! Playback: [`positions`] of users in what they play, saved and given back, and [`reports`] of what players do, which
//! become events.

pub mod positions;
pub mod reports;
