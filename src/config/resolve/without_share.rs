//! Section `Share` in a program that is built without live sharing.

use super::{ConfigLocation, require_feature};
use crate::config::{Share, file};

/// Refuses the section if it is there.
pub fn share(at: &ConfigLocation<'_>, raw: Option<&file::Share>, _: bool) -> Option<Option<Share>> {
    if raw.is_some() {
        require_feature(at, false, "share")?;
    }
    Some(None)
}
