//! `Share` in a program that is built without live sharing.

use super::{At, built_with};
use crate::config::{Share, file};

/// Refuses the section.
pub fn share(at: &At<'_>, raw: Option<&file::Share>, _: bool) -> Option<Option<Share>> {
    if raw.is_some() {
        built_with(at, false, "share")?;
    }
    Some(None)
}
