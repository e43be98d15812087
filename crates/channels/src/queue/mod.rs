//! The queue of a channel: its items, their order, and where they are kept.
//!
//! An item's turn is the time at which it was queued, less the head start of its user's role. The earliest turn is next. So a
//! VIP goes before others, and yet nobody starves: whatever is queued later than a head start after an item comes behind it.

pub mod estimate;
pub mod item;
pub mod store;
