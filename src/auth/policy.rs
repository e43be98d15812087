//! (to be written)

/// A named set of rules.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Its name in the YAML.
    pub name: std::sync::Arc<str>,
    /// All must hold.
    pub rules: Vec<Rule>,
}

/// One rule over the claims of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The claim named `claim` satisfies `test`.
    Claim {
        /// A claim's name; dots reach into objects (`realm_access.roles`).
        claim: String,
        /// What it must satisfy; where the claim is an array, one element must.
        test: Test,
    },
    /// At least one of these holds.
    AnyOf(Vec<Rule>),
}

/// What a claim must satisfy. Texts may name captured path values as `{name}`, compared decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Present and not null, false or empty.
    Exists,
    /// Equal to this text (numbers and booleans by their JSON text).
    Equals(String),
    /// Equal to one of these.
    In(Vec<String>),
    /// A text of words parted by blanks, as `scope` is, or an array, that has this word.
    Contains(String),
}
