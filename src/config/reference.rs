//! The tables of `docs/configuration.md`, made from the schema.

/// The reference in Markdown.
pub fn reference() -> String {
    String::new()
}
