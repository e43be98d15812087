//! (to be written)
/// A text with captured path values in it.
#[derive(Clone, Debug)]
pub struct Template;
