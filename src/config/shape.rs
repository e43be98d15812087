//! Compares the tree with the JSON Schema of [`super::file`] and finds everything that does not fit: unknown keys,
//! missing ones, wrong types, names and formats. It knows no field by name.

use serde_json::Value as Json;
use serde_yaml::Value;

use super::path::ConfigPath;
use super::refused::{self, KeySupport};
use super::report::{ConfigProblem, nearest};
use super::source::{ConfigNode, MappingEntry, NodeData, SourceSpan};
use super::value;

/// Depth to which a mapping keeps its valid keys; below it one mistake leaves out the whole entry, so that it is not
/// judged by the half that could be read.
const SECTION: usize = 1;
/// Depth at which the search for secrets stops; the schema is not as deep.
const DEEPEST: usize = 16;

/// Result of the comparison.
pub struct ShapeCheck {
    /// Valid part of the tree, to be read by serde; `None` if there is none.
    pub value: Option<Value>,
    /// Problems found.
    pub problems: Vec<ConfigProblem>,
    /// Scalars that may be a secret, never to be shown.
    pub masked: Vec<SourceSpan>,
}

/// Compares `root` with `schema`.
pub fn check(schema: &Json, root: &ConfigNode) -> ShapeCheck {
    let mut walker = ShapeChecker { schema, root, problems: Vec::new(), masked: Vec::new() };
    let value = walker.visit(schema, root, &ConfigPath::default());
    ShapeCheck { value, problems: walker.problems, masked: walker.masked }
}

struct ShapeChecker<'s> {
    schema: &'s Json,
    root: &'s ConfigNode,
    problems: Vec<ConfigProblem>,
    masked: Vec<SourceSpan>,
}

impl<'s> ShapeChecker<'s> {
    /// Returns the value at `path` if it fits `schema`; problems are noted.
    fn visit(&mut self, schema: &'s Json, node: &ConfigNode, path: &ConfigPath) -> Option<Value> {
        let (schema, optional) = follow(self.schema, schema);
        let fits = |kind: &str| types(schema).any(|name| name == kind);
        match &node.data {
            NodeData::Null if optional || fits("null") => Some(Value::Null),
            NodeData::Map(members) if fits("object") && schema.get("properties").is_some() => {
                self.structure(schema, node, members, path)
            }
            NodeData::Map(members) if fits("object") => {
                let entries = schema.get("additionalProperties")?;
                let entries = members.iter().filter_map(|member| {
                    let value = self.visit(entries, &member.value, &path.key(&member.key))?;
                    Some((Value::String(member.key.clone()), value))
                });
                Some(Value::Mapping(entries.collect()))
            }
            NodeData::List(items) if fits("array") => {
                let schema = schema.get("items")?;
                // Collected in two steps: the first visits every element, also behind one that failed.
                let items: Vec<_> = items
                    .iter()
                    .enumerate()
                    .map(|(number, item)| self.visit(schema, item, &path.item(number)))
                    .collect();
                items.into_iter().collect::<Option<Vec<_>>>().map(Value::Sequence)
            }
            NodeData::Bool(value) if fits("boolean") => self.scalar(schema, node, path, Value::Bool(*value)),
            NodeData::Integer(value) if fits("integer") || fits("number") => {
                self.scalar(schema, node, path, Value::Number((*value).into()))
            }
            NodeData::Float(value) if fits("number") => self.scalar(schema, node, path, Value::Number((*value).into())),
            NodeData::Text(value) if fits("string") || schema.get("oneOf").is_some() => {
                self.scalar(schema, node, path, Value::String(value.clone()))
            }
            _ => {
                self.wrong_type(schema, node, path);
                None
            }
        }
    }

    fn structure(
        &mut self,
        schema: &'s Json,
        node: &ConfigNode,
        members: &[MappingEntry],
        path: &ConfigPath,
    ) -> Option<Value> {
        let properties = schema.get("properties")?.as_object()?;
        let before = self.problems.len();
        let mut meant = Vec::new();
        let mut fields = serde_yaml::Mapping::new();
        for member in members {
            let path = path.key(&member.key);
            match (properties.get(&member.key), refused::reason(&path, &member.value)) {
                (Some(property), _) => {
                    let value = self.visit(property, &member.value, &path);
                    fields.extend(value.map(|value| (Value::String(member.key.clone()), value)));
                }
                (None, Some(KeySupport::Off)) => {}
                (None, Some(KeySupport::Refused { why, help })) => {
                    self.mask(&member.value);
                    let problem = ConfigProblem::new(format!("`{}` {why}", member.key)).help(help);
                    self.problems.push(problem.at(path, member.span));
                }
                (None, None) => {
                    self.mask(&member.value);
                    meant.extend(self.unknown(member, path, properties.keys().map(String::as_str)));
                }
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        let mut complete = true;
        for key in required {
            complete &= fields.contains_key(key);
            // A key that is only misspelt is reported once, as unknown.
            if node.get(key).is_none() && !meant.contains(&key) {
                let about = self.about(&properties[key]);
                let problem =
                    ConfigProblem::new(format!("the key `{key}` is missing")).expected(format!("`{key}`: {about}"));
                self.problems.push(problem.at(path.clone(), self.root.place(path)));
            }
        }
        let whole = path.steps().len() <= SECTION || self.problems.len() == before;
        (complete && whole).then_some(Value::Mapping(fields))
    }

    /// Reports an unknown key, and returns the key that was probably meant.
    fn unknown<'n>(
        &mut self,
        member: &MappingEntry,
        path: ConfigPath,
        keys: impl Iterator<Item = &'n str> + Clone,
    ) -> Option<&'n str> {
        let meant = nearest(&member.key, keys.clone());
        let mut problem =
            ConfigProblem::new(format!("unknown key `{}`", member.key)).suggest(&member.key, keys.clone());
        if meant.is_none() {
            problem = problem.expected(one_of(keys));
        }
        self.problems.push(problem.at(path, member.span));
        meant
    }

    /// Checks a scalar of the right type: its name, range and format.
    fn scalar(&mut self, schema: &Json, node: &ConfigNode, path: &ConfigPath, value: Value) -> Option<Value> {
        let text = match &value {
            Value::String(text) => text.clone(),
            Value::Bool(value) => value.to_string(),
            Value::Number(value) => value.to_string(),
            _ => String::new(),
        };
        let secret = schema["writeOnly"] == true;
        let reference = value::format("secret-ref", &text).is_ok();
        // Masked before any problem is found: the line may be shown for its neighbour.
        if secret && !reference || value::is_telling(&text) {
            self.mask(node);
        }
        let names: Vec<&str> = names(schema).collect();
        let format = schema["format"].as_str().unwrap_or_default();
        let problem = if !names.is_empty() && !names.contains(&text.as_str()) {
            ConfigProblem::new(format!("`{text}` is not known"))
                .expected(one_of(names.iter().copied()))
                .suggest(&text, names)
        } else if let Err(expected) = value::format(format, &text) {
            match secret {
                true => ConfigProblem::new("a secret must not stand in the file")
                    .expected(expected)
                    .help("put it into an environment variable or a file of its own, and name that here"),
                false => ConfigProblem::new(format!("`{text}` cannot be read")).expected(expected),
            }
        } else if let Some(expected) = out_of_range(schema, &value) {
            ConfigProblem::new(format!("{text} is out of range")).expected(expected)
        } else {
            return Some(value);
        };
        self.problems.push(problem.at(path.clone(), node.span));
        None
    }

    fn wrong_type(&mut self, schema: &Json, node: &ConfigNode, path: &ConfigPath) {
        let secret = schema["writeOnly"] == true;
        let wants_scalar =
            types(schema).any(|name| name != "object" && name != "array") || names(schema).next().is_some();
        let telling = matches!(&node.data, NodeData::Text(text) if value::is_telling(text));
        if secret || telling || (!wants_scalar && self.may_hold_secret(schema, 0)) {
            self.mask(node);
        }
        let found = match &node.data {
            NodeData::Null => "nothing",
            NodeData::Bool(_) => "true or false",
            NodeData::Integer(_) => "a whole number",
            NodeData::Float(_) => "a number",
            NodeData::Text(_) => "a text",
            NodeData::List(_) => "a list",
            NodeData::Map(_) => "a mapping",
        };
        let problem = ConfigProblem::new(format!("found {found}"));
        let names: Vec<&str> = names(schema).collect();
        let formatted = value::format(schema["format"].as_str().unwrap_or_default(), "");
        let number = matches!(node.data, NodeData::Bool(_) | NodeData::Integer(_) | NodeData::Float(_));
        let problem = if !names.is_empty() {
            problem.expected(one_of(names))
        } else if let Err(expected) = formatted {
            problem.expected(expected)
        } else {
            let kinds: Vec<_> = types(schema).filter(|name| *name != "null").map(type_name).collect();
            let problem = problem.expected(kinds.join(" or "));
            let quotes = number && types(schema).any(|name| name == "string");
            if quotes { problem.help("put it in quotes to make it a text") } else { problem }
        };
        self.problems.push(problem.at(path.clone(), self.root.place(path)));
    }

    /// Returns true if the schema has a secret at or below this point.
    fn may_hold_secret(&self, schema: &'s Json, depth: usize) -> bool {
        let (schema, _) = follow(self.schema, schema);
        let below = |part: &'s Json| depth >= DEEPEST || self.may_hold_secret(part, depth + 1);
        schema["writeOnly"] == true
            || schema.get("items").is_some_and(below)
            || schema.get("additionalProperties").filter(|entries| entries.is_object()).is_some_and(below)
            || schema.get("properties").and_then(Json::as_object).is_some_and(|parts| parts.values().any(below))
    }

    /// Returns the first sentence of a key's description.
    fn about(&self, property: &'s Json) -> &'s str {
        let description = property.get("description").or_else(|| follow(self.schema, property).0.get("description"));
        let text = description.and_then(Json::as_str).unwrap_or_default();
        text.split_inclusive(". ").next().unwrap_or_default().trim_end()
    }

    /// Masks every scalar in `node`.
    fn mask(&mut self, node: &ConfigNode) {
        self.masked.extend(node.scalars());
    }
}

/// Returns the schema behind references in `root`, and true if null is allowed too.
pub fn follow<'s>(root: &'s Json, mut schema: &'s Json) -> (&'s Json, bool) {
    let mut optional = false;
    loop {
        if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
            match root.pointer(name.trim_start_matches('#')) {
                Some(target) => schema = target,
                None => return (schema, optional),
            }
        } else if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
            let (nulls, others): (Vec<_>, Vec<_>) = choices.iter().partition(|choice| choice["type"] == "null");
            // schemars describes an `Option<T>` as `anyOf` of T and null.
            optional |= !nulls.is_empty();
            match others.first() {
                Some(other) => schema = other,
                None => return (schema, optional),
            }
        } else {
            return (schema, optional);
        }
    }
}

/// Returns the types that a value may have.
pub fn types(schema: &Json) -> impl Iterator<Item = &str> {
    let types = &schema["type"];
    types.as_str().into_iter().chain(types.as_array().into_iter().flatten().filter_map(Json::as_str))
}

/// Returns the names of an enumeration.
pub fn names(schema: &Json) -> impl Iterator<Item = &str> {
    let listed = schema["enum"].as_array().into_iter().flatten();
    // schemars writes an enum whose variants have docs as `oneOf` of constants.
    let described = schema["oneOf"].as_array().into_iter().flatten().map(|choice| &choice["const"]);
    listed.chain(described).filter_map(Json::as_str)
}

fn type_name(name: &str) -> &str {
    match name {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        _ => "a mapping of keys to values",
    }
}

fn out_of_range(schema: &Json, value: &Value) -> Option<String> {
    let value = value.as_f64()?;
    let (least, most) = (&schema["minimum"], &schema["maximum"]);
    let outside = least.as_f64().is_some_and(|least| value < least) || most.as_f64().is_some_and(|most| value > most);
    outside.then(|| match most {
        Json::Null => format!("{least} or more"),
        most => format!("{least} to {most}"),
    })
}

/// Joins names as `a`, `b` or `c`; `nothing` where there are none.
pub fn one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}
