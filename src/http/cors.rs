//! (to be written)
/// Cross-origin rules of a route.
#[derive(Clone, Debug)]
pub struct Policy;
