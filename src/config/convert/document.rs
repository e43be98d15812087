//! A tree of YAML with comments, and its writer.

use std::fmt::Write;

use crate::config::path::{ConfigPath, PathSegment};
use crate::config::source::{ConfigNode, NodeData};

/// Value with the comments that belong to it.
#[derive(Clone, Debug)]
pub struct DocumentNode {
    /// Comment behind the value, in its line.
    pub comment: Option<String>,
    /// Lines of comments behind the members: what was taken out of this list or mapping, and why.
    pub dropped: Vec<String>,
    value: DocumentValue,
}

#[derive(Clone, Debug)]
enum DocumentValue {
    /// YAML of a scalar.
    Scalar(String),
    List(Vec<DocumentNode>),
    Map(Vec<(String, DocumentNode)>),
}

impl From<&ConfigNode> for DocumentNode {
    fn from(node: &ConfigNode) -> Self {
        let value = match &node.data {
            NodeData::Null => DocumentValue::Scalar("null".to_owned()),
            NodeData::Bool(flag) => DocumentValue::Scalar(flag.to_string()),
            NodeData::Integer(number) => DocumentValue::Scalar(number.to_string()),
            NodeData::Float(number) => DocumentValue::Scalar(number.to_string()),
            NodeData::Text(text) => DocumentValue::Scalar(quoted(text)),
            NodeData::List(items) => DocumentValue::List(items.iter().map(Self::from).collect()),
            NodeData::Map(members) => {
                let member =
                    |member: &crate::config::source::MappingEntry| (member.key.clone(), Self::from(&member.value));
                DocumentValue::Map(members.iter().map(member).collect())
            }
        };
        Self { comment: None, dropped: Vec::new(), value }
    }
}

impl DocumentNode {
    /// Returns the node at `path`, if there is one.
    pub fn at_mut(&mut self, path: &[PathSegment]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, step| match (step, &mut node.value) {
            (PathSegment::Key(key), DocumentValue::Map(members)) => {
                members.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            (PathSegment::Item(number), DocumentValue::List(items)) => items.get_mut(*number),
            _ => None,
        })
    }

    /// Takes the node at `path` out and leaves it as a comment with `reason`.
    pub fn drop_at(&mut self, path: &ConfigPath, reason: &str) {
        let Some((last, above)) = path.steps().split_last() else { return };
        let Some(parent) = self.at_mut(above) else { return };
        let text = match (last, &mut parent.value) {
            (PathSegment::Key(key), DocumentValue::Map(members)) => {
                let Some(at) = members.iter().position(|(name, _)| name == key) else { return };
                let (key, value) = members.remove(at);
                format!("{}: {}", quoted(&key), value.flow())
            }
            (PathSegment::Item(number), DocumentValue::List(items)) if *number < items.len() => {
                format!("- {}", items.remove(*number).flow())
            }
            _ => return,
        };
        parent.dropped.push(text);
        parent.dropped.push(format!("  refused: {reason}"));
    }

    /// Returns the YAML of a mapping as a document.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.write_members(0, &mut out);
        out
    }

    fn write_members(&self, indent: usize, out: &mut String) {
        match &self.value {
            DocumentValue::Map(members) => members.iter().for_each(|(key, value)| value.write_member(key, indent, out)),
            DocumentValue::List(items) => items.iter().for_each(|item| item.write_item(indent, out)),
            DocumentValue::Scalar(_) => {}
        }
        for line in &self.dropped {
            let _ = writeln!(out, "{:indent$}# {line}", "");
        }
    }

    fn write_member(&self, key: &str, indent: usize, out: &mut String) {
        let _ = write!(out, "{:indent$}{}:", "", quoted(key));
        if self.is_short() {
            let _ = write!(out, " {}", self.flow());
        }
        self.write_comment(out);
        if self.is_short() {
            // What was taken out of an empty list or mapping.
            for line in &self.dropped {
                let _ = writeln!(out, "{:indent$}  # {line}", "");
            }
        } else {
            self.write_members(indent + 2, out);
        }
    }

    /// Writes an element of a list in one line; what was taken out of it stands above.
    fn write_item(&self, indent: usize, out: &mut String) {
        let mut dropped = Vec::new();
        let mut comments = Vec::new();
        self.collect(&mut dropped, &mut comments);
        for line in dropped {
            let _ = writeln!(out, "{:indent$}# {line}", "");
        }
        let _ = write!(out, "{:indent$}- {}", "", self.flow());
        if !comments.is_empty() {
            let _ = write!(out, "  # {}", comments.join("; "));
        }
        out.push('\n');
    }

    fn collect<'n>(&'n self, dropped: &mut Vec<&'n str>, comments: &mut Vec<&'n str>) {
        dropped.extend(self.dropped.iter().map(String::as_str));
        comments.extend(self.comment.as_deref());
        match &self.value {
            DocumentValue::Map(members) => members.iter().for_each(|(_, value)| value.collect(dropped, comments)),
            DocumentValue::List(items) => items.iter().for_each(|item| item.collect(dropped, comments)),
            DocumentValue::Scalar(_) => {}
        }
    }

    fn write_comment(&self, out: &mut String) {
        if let Some(comment) = &self.comment {
            let _ = write!(out, "  # {comment}");
        }
        out.push('\n');
    }

    /// Returns true for a value that stands behind its key: a scalar, a list of scalars, or nothing.
    fn is_short(&self) -> bool {
        match &self.value {
            DocumentValue::Scalar(_) => true,
            DocumentValue::List(items) => items.iter().all(|item| matches!(item.value, DocumentValue::Scalar(_))),
            DocumentValue::Map(members) => members.is_empty(),
        }
    }

    /// Returns the value in YAML's flow style, without comments.
    fn flow(&self) -> String {
        match &self.value {
            DocumentValue::Scalar(text) => text.clone(),
            DocumentValue::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
            DocumentValue::Map(members) if members.is_empty() => "{}".to_owned(),
            DocumentValue::Map(members) => {
                let members = members.iter().map(|(key, value)| format!("{}: {}", quoted(key), value.flow()));
                format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Returns a text as YAML: plain where nothing else could be read out of it, else in double quotes.
pub fn quoted(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_./-".contains(&c));
    let is_constant = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(text));
    if is_word && !is_constant {
        return text.to_owned();
    }
    // A text in JSON is one in YAML.
    serde_json::Value::from(text).to_string()
}
