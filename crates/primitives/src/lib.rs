//! Small parts that every other member is built from, and that know nothing of HTTP: time as an argument, secrets that
//! are never shown, tasks that shutdown waits for, ids, and values that are kept for a short time.

pub mod blocking_calls;
pub mod change_detector;
pub mod clock;
pub mod failure_log;
pub mod hexadecimal;
pub mod ids;
pub mod lifecycle;
pub mod loading_cache;
pub mod markup;
pub mod regular_file;
pub mod secret;
pub mod unix_time;
