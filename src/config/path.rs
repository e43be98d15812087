//! Path of a value in the YAML, such as `ReverseProxy.Routes.audio.Transforms[2].PresignedUrl`.

use std::fmt;

/// One step of a path.
#[derive(Clone, PartialEq, Eq)]
pub enum PathSegment {
    /// Value of that key in a mapping.
    Key(String),
    /// Element of that number in a list, from 0.
    Item(usize),
}

/// Path from the document's root.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigPath(Vec<PathSegment>);

impl ConfigPath {
    /// Returns this path extended by a key.
    pub fn key(&self, key: &str) -> Self {
        self.with(PathSegment::Key(key.to_owned()))
    }

    /// Returns this path extended by a list element.
    pub fn item(&self, number: usize) -> Self {
        self.with(PathSegment::Item(number))
    }

    fn with(&self, step: PathSegment) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// Returns the first `length` steps of this path.
    pub fn first(&self, length: usize) -> Self {
        Self(self.0.iter().take(length).cloned().collect())
    }

    /// Returns the steps from the root.
    pub fn steps(&self) -> &[PathSegment] {
        &self.0
    }

    /// Returns true if this path matches `pattern`, in which `*` stands for any one key; list numbers are skipped.
    pub fn is_at(&self, pattern: &str) -> bool {
        let mut keys = self.0.iter().filter_map(|step| match step {
            PathSegment::Key(key) => Some(key.as_str()),
            PathSegment::Item(_) => None,
        });
        let ends_with_key = matches!(self.0.last(), Some(PathSegment::Key(_)));
        ends_with_key
            && pattern.split('.').all(|part| keys.next().is_some_and(|key| part == "*" || part == key))
            && keys.next().is_none()
    }
}

impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                PathSegment::Item(item) => write!(f, "[{item}]")?,
                PathSegment::Key(key) => {
                    let dot = if number == 0 { "" } else { "." };
                    // Quoted, since the dots of such a key would read as further steps.
                    if key.is_empty() || key.contains(|c: char| c == '.' || c.is_control()) {
                        write!(f, "{dot}{key:?}")?;
                    } else {
                        write!(f, "{dot}{key}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_the_operator_would_say_it() {
        let path = ConfigPath::default().key("Routes").key("a.b").key("Transforms").item(2).key("Set");
        assert_eq!(path.to_string(), "Routes.\"a.b\".Transforms[2].Set");
        assert!(path.is_at("Routes.*.Transforms.Set"));
        assert!(!path.is_at("Routes.*.Transforms"));
        assert!(!path.is_at("Routes.*.Transforms.Set.More"));
    }
}
