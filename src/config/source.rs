//! Parses the text into a tree in which every key and value has its position. YAML 1.2, <https://yaml.org/spec/1.2.2/>;
//! JSON is YAML, except for the comments that editors and .NET allow in it (see [`without_comments`]). YAML is parsed
//! here only: serde reads this tree.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScanError, Tag};

use super::comments::without_comments;
use super::path::{ConfigPath, PathSegment};
use super::report::ConfigProblem;

/// Most nodes, more than any configuration has: aliases that multiply ("billion laughs") stop here.
const MOST_NODES: usize = 100_000;
/// Most levels, more than any configuration has: the tree is walked by recursion.
const MOST_LEVELS: usize = 64;

/// Position of a value; lines count from 1, columns in characters from 0, the end is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceSpan {
    /// Line and column of the first character.
    pub start: (usize, usize),
    /// Line and column after the last character.
    pub end: (usize, usize),
}

/// Value with its position.
#[derive(Clone, Debug)]
pub struct ConfigNode {
    /// Position of the value.
    pub span: SourceSpan,
    /// The value.
    pub data: NodeData,
}

/// Kind of a value.
#[derive(Clone, Debug)]
pub enum NodeData {
    /// Null, or no value.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<ConfigNode>),
    /// A mapping, in the order of the file; every key once.
    Map(Vec<MappingEntry>),
}

/// A key of a mapping with its value.
#[derive(Clone, Debug)]
pub struct MappingEntry {
    /// The key.
    pub key: String,
    /// Position of the key.
    pub span: SourceSpan,
    /// Its value.
    pub value: ConfigNode,
}

impl ConfigNode {
    /// Returns the members of a mapping; empty for any other node.
    pub fn members(&self) -> &[MappingEntry] {
        if let NodeData::Map(members) = &self.data { members } else { &[] }
    }

    /// Returns the member with that key.
    pub fn get(&self, key: &str) -> Option<&MappingEntry> {
        self.members().iter().find(|member| member.key == key)
    }

    /// Returns the node at `path`, if there is one.
    pub fn at(&self, path: &ConfigPath) -> Option<&ConfigNode> {
        path.steps().iter().try_fold(self, |node, step| match (step, &node.data) {
            (PathSegment::Key(key), _) => node.get(key).map(|member| &member.value),
            (PathSegment::Item(number), NodeData::List(items)) => items.get(*number),
            (PathSegment::Item(_), _) => None,
        })
    }

    /// Returns the position to underline for `path`: the scalar itself, else the key that holds it, else the nearest
    /// above.
    pub fn place(&self, path: &ConfigPath) -> SourceSpan {
        let (mut node, mut place) = (self, self.head());
        for step in path.steps() {
            match (step, &node.data) {
                (PathSegment::Key(key), _) => {
                    let Some(member) = node.get(key) else { return place };
                    place = if member.value.is_scalar() { member.value.span } else { member.span };
                    node = &member.value;
                }
                (PathSegment::Item(number), NodeData::List(items)) => {
                    let Some(item) = items.get(*number) else { return place };
                    place = item.head();
                    node = item;
                }
                (PathSegment::Item(_), _) => return place,
            }
        }
        place
    }

    /// Returns true if it is neither list nor mapping, and is written out.
    fn is_scalar(&self) -> bool {
        !matches!(self.data, NodeData::List(_) | NodeData::Map(_)) && self.span.start != self.span.end
    }

    /// Returns the position of its first word.
    fn head(&self) -> SourceSpan {
        match &self.data {
            NodeData::Map(members) => members.first().map_or(self.span, |member| member.span),
            NodeData::List(items) => items.first().map_or(self.span, ConfigNode::head),
            _ => self.span,
        }
    }

    /// Returns the positions of all scalars in it.
    pub fn scalars(&self) -> Vec<SourceSpan> {
        match &self.data {
            NodeData::List(items) => items.iter().flat_map(ConfigNode::scalars).collect(),
            NodeData::Map(members) => members.iter().flat_map(|member| member.value.scalars()).collect(),
            _ => vec![self.span],
        }
    }

    fn count(&self) -> usize {
        1 + match &self.data {
            NodeData::List(items) => items.iter().map(ConfigNode::count).sum(),
            NodeData::Map(members) => members.iter().map(|member| 1 + member.value.count()).sum(),
            _ => 0,
        }
    }
}

/// Result of parsing.
pub struct ParsedDocument {
    /// The tree; `None` if the text is not YAML.
    pub root: Option<ConfigNode>,
    /// Problems found so far.
    pub problems: Vec<ConfigProblem>,
    /// Scalars that are not in the tree and may be a secret.
    pub masked: Vec<SourceSpan>,
    /// Aliases of scalars, in the order of the text.
    pub aliases: Vec<ScalarAlias>,
    /// True where the text is JSON: where it begins with `{` or `[`.
    pub is_json: bool,
}

/// An alias of a scalar.
#[derive(Clone, Copy, Debug)]
pub struct ScalarAlias {
    /// Position of the alias.
    pub span: SourceSpan,
    /// Position of the scalar, or of the alias that it names in turn.
    pub named: SourceSpan,
}

/// Adds to `masked` the scalars that are named by aliases in it: a secret that stands elsewhere is shown as little as one that
/// stands in its place.
pub fn mask_aliased(masked: &mut Vec<SourceSpan>, aliases: &[ScalarAlias]) {
    if aliases.is_empty() {
        return;
    }
    let mut all: BTreeSet<SourceSpan> = masked.drain(..).collect();
    // The last first: what an alias names stands before it, and may be an alias too.
    for alias in aliases.iter().rev() {
        if all.contains(&alias.span) {
            all.insert(alias.named);
        }
    }
    masked.extend(all);
}

/// Parses one document. Problems of single keys are returned along with the tree.
pub fn parse(text: &str) -> ParsedDocument {
    let mut builder = TreeBuilder::default();
    let text = without_comments(text);
    let is_json = matches!(text, Cow::Owned(_));
    for event in Parser::new_from_str(&text) {
        let step = event.map_err(|error| Box::new(syntax(&error))).and_then(|(event, span)| {
            let span =
                SourceSpan { start: (span.start.line(), span.start.col()), end: (span.end.line(), span.end.col()) };
            builder.take(event, span)
        });
        if let Err(problem) = step {
            builder.problems.push(problem.marked_as_syntax_error());
            return ParsedDocument {
                root: None,
                problems: builder.problems,
                masked: builder.masked,
                aliases: builder.aliases,
                is_json,
            };
        }
    }
    // An empty file is an empty mapping: what it lacks is reported by the usual checks.
    let empty = ConfigNode { span: SourceSpan { start: (1, 0), end: (1, 0) }, data: NodeData::Map(Vec::new()) };
    ParsedDocument {
        root: Some(builder.root.unwrap_or(empty)),
        problems: builder.problems,
        masked: builder.masked,
        aliases: builder.aliases,
        is_json,
    }
}

fn syntax(error: &ScanError) -> ConfigProblem {
    let start = (error.marker().line(), error.marker().col());
    ConfigProblem::new(format!("this is not YAML: {}", error.info()))
        .at_span(SourceSpan { start, end: start })
        .help("check indentation (spaces, never tabs), quotes and brackets here and in the line above")
}

/// List or mapping that is still open.
struct OpenCollection {
    node: ConfigNode,
    anchor: usize,
    /// Key that waits for its value.
    key: Option<(String, SourceSpan)>,
    /// Lines of the keys that have one.
    lines: HashMap<String, usize>,
}

impl OpenCollection {
    fn wants_key(&self) -> bool {
        self.key.is_none() && matches!(self.node.data, NodeData::Map(_))
    }
}

#[derive(Default)]
struct TreeBuilder {
    open: Vec<OpenCollection>,
    anchors: BTreeMap<usize, ConfigNode>,
    root: Option<ConfigNode>,
    nodes: usize,
    problems: Vec<ConfigProblem>,
    masked: Vec<SourceSpan>,
    aliases: Vec<ScalarAlias>,
}

impl TreeBuilder {
    fn take(&mut self, event: Event<'_>, span: SourceSpan) -> Result<(), Box<ConfigProblem>> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => Err(Box::new(
                ConfigProblem::new("a second document starts here")
                    .at_span(span)
                    .help("put everything into one document"),
            )),
            Event::DocumentStart(_) => Ok(()),
            Event::SequenceStart(anchor, tag) => self.begin(NodeData::List(Vec::new()), anchor, tag.as_deref(), span),
            Event::MappingStart(anchor, tag) => self.begin(NodeData::Map(Vec::new()), anchor, tag.as_deref(), span),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.open.pop() else { return Ok(()) };
                open.node.span.end = span.end;
                self.put(open.node, open.anchor)
            }
            Event::Scalar(text, style, anchor, tag) => {
                // Tags could turn a value into another type than the schema expects.
                self.refuse_tag(tag.as_deref(), span);
                if let Some(open) = self.open.last_mut().filter(|open| open.wants_key()) {
                    open.key = Some((text.into_owned(), span));
                    return Ok(());
                }
                let data = match Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref()) {
                    Some(Scalar::Boolean(value)) => NodeData::Bool(value),
                    Some(Scalar::Integer(value)) => NodeData::Integer(value),
                    Some(Scalar::FloatingPoint(value)) => NodeData::Float(value.into_inner()),
                    Some(Scalar::String(value)) => NodeData::Text(value.into_owned()),
                    Some(Scalar::Null) | None => NodeData::Null,
                };
                self.put(ConfigNode { span, data }, anchor)
            }
            Event::Alias(id) => {
                // An anchor is known only once its node is complete, so an alias inside of it finds nothing.
                let Some(mut node) = self.anchors.get(&id).cloned() else {
                    return Err(Box::new(
                        ConfigProblem::new("this alias stands inside of what it names").at_span(span),
                    ));
                };
                // An alias costs the whole tree that it names, before that is copied into place.
                self.nodes += node.count();
                if node.is_scalar() {
                    self.aliases.push(ScalarAlias { span, named: node.span });
                }
                // Problems are shown at the alias, where the value is used.
                node.span = span;
                self.put(node, 0)
            }
        }
    }

    fn begin(
        &mut self,
        data: NodeData,
        anchor: usize,
        tag: Option<&Tag>,
        span: SourceSpan,
    ) -> Result<(), Box<ConfigProblem>> {
        self.refuse_tag(tag, span);
        if self.open.last().is_some_and(OpenCollection::wants_key) {
            return Err(Box::new(
                ConfigProblem::new("a key must be a text")
                    .at_span(span)
                    .help("did you forget quotes around `{…}` or `[…]`?"),
            ));
        }
        if self.open.len() >= MOST_LEVELS {
            return Err(Box::new(ConfigProblem::new(format!("nested deeper than {MOST_LEVELS} levels")).at_span(span)));
        }
        self.open.push(OpenCollection { node: ConfigNode { span, data }, anchor, key: None, lines: HashMap::new() });
        Ok(())
    }

    fn put(&mut self, node: ConfigNode, anchor: usize) -> Result<(), Box<ConfigProblem>> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            let message = format!("more than {MOST_NODES} values once its aliases are followed");
            return Err(Box::new(ConfigProblem::new(message).at_span(node.span)));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.data, open.key.take()) {
            (NodeData::Map(members), Some((key, span))) => {
                let Some(line) = open.lines.get(&key) else {
                    open.lines.insert(key.clone(), span.start.0);
                    members.push(MappingEntry { key, span, value: node });
                    return Ok(());
                };
                let help = format!("it is already in line {line}; keep one of the two");
                let problem = ConfigProblem::new(format!("the key `{key}` stands here a second time")).help(help);
                // The second value is dropped, but its line may be shown with the problem.
                self.masked.extend(node.scalars());
                let path = self.path().key(&key);
                self.problems.push(problem.at(path, span));
            }
            (NodeData::List(items), _) => items.push(node),
            _ => {}
        }
        Ok(())
    }

    /// Returns the path of the node that comes next.
    fn path(&self) -> ConfigPath {
        self.open.iter().fold(ConfigPath::default(), |path, open| match (&open.node.data, &open.key) {
            (_, Some((key, _))) => path.key(key),
            (NodeData::List(items), None) => path.item(items.len()),
            (_, None) => path,
        })
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: SourceSpan) {
        if let Some(tag) = tag {
            let problem = ConfigProblem::new(format!("the tag `{}{}` means nothing here", tag.handle, tag.suffix));
            self.problems.push(problem.at(self.path(), span).help("write the value without a tag; quotes make a text"));
            self.masked.push(span);
        }
    }
}
