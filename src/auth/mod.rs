//! Who asks: tokens, keys, and the rules over claims.

pub mod policy;
pub mod settings;
