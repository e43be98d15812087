//! (to be written)
/// One change to a request or response.
#[derive(Clone, Debug)]
pub enum Transform {}
