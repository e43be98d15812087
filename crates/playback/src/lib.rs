//! Playback: [`positions`] of users in what they play, saved and given back; [`player`], the settings and the live players
//! of their channels; and [`reports`] of what players do, which become events.

pub mod player;
pub mod positions;
pub mod reports;
