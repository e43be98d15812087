//! What a configuration says, key by key, each value as it is meant: `60s` and `00:01:00` are the same. It is for operators:
//! no secret is in it, only whether one has changed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value as Json;

use super::content::ContentDigest;
use super::path::ConfigPath;
use super::shape::follow;
use super::source::{ConfigNode, NodeData};
use super::value;

/// Text in place of a value that may hold a secret.
const MASKED: &str = "***";

/// Everything that a configuration says, by path.
#[derive(Clone, Debug, Default)]
pub struct WrittenConfig(BTreeMap<String, WrittenValue>);

/// A value that a configuration says.
#[derive(Clone, Debug)]
struct WrittenValue {
    /// For operators.
    shown: String,
    /// Digest of what it means: what is not shown is compared too.
    meaning: ContentDigest,
    /// Line of the file, from 1.
    line: usize,
}

/// A key with its value, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WrittenKey {
    /// Path from the root, such as `Server.Threads`.
    pub path: String,
    /// Its value; what may hold a secret is `***`.
    pub value: String,
    /// Line of the file, from 1.
    pub line: usize,
}

/// What another configuration says of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    /// Path from the root.
    pub path: String,
    /// Value before; `None` where it was not there.
    pub before: Option<String>,
    /// Value after; `None` where it is not there.
    pub after: Option<String>,
}

impl WrittenConfig {
    /// Reads `root`, a valid configuration by `schema`.
    pub fn new(schema: &Json, root: &ConfigNode) -> Self {
        let mut reader = WrittenReader { schema, keys: BTreeMap::new() };
        reader.read(schema, root, &ConfigPath::default(), root.span.start.0);
        Self(reader.keys)
    }

    /// Returns all keys, by path.
    pub fn keys(&self) -> impl Iterator<Item = WrittenKey> + '_ {
        self.0.iter().map(|(path, found)| WrittenKey {
            path: path.clone(),
            value: found.shown.clone(),
            line: found.line,
        })
    }

    /// Returns what `new` says otherwise, by path.
    pub fn changes(&self, new: &Self) -> Vec<ConfigChange> {
        let mut paths: Vec<_> = self.0.keys().chain(new.0.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let changed = paths.into_iter().filter_map(|path| {
            let (before, after) = (self.0.get(path), new.0.get(path));
            let meaning = |found: &WrittenValue| found.meaning;
            let shown = |found: &WrittenValue| found.shown.clone();
            (before.map(meaning) != after.map(meaning)).then(|| ConfigChange {
                path: path.clone(),
                before: before.map(shown),
                after: after.map(shown),
            })
        });
        changed.collect()
    }
}

struct WrittenReader<'s> {
    schema: &'s Json,
    keys: BTreeMap<String, WrittenValue>,
}

impl<'s> WrittenReader<'s> {
    /// Reads the value `node`, whose key stands in `line`.
    fn read(&mut self, schema: &'s Json, node: &ConfigNode, path: &ConfigPath, line: usize) {
        let (schema, _) = follow(self.schema, schema);
        let items = schema.get("items").unwrap_or(&Json::Null);
        match &node.data {
            // A key without a value is as one that is not there.
            NodeData::Null => {}
            NodeData::Map(members) if !members.is_empty() => {
                for member in members {
                    let property = schema.get("properties").and_then(|properties| properties.get(&member.key));
                    let below = property.or(schema.get("additionalProperties")).unwrap_or(&Json::Null);
                    self.read(below, &member.value, &path.key(&member.key), member.span.start.0);
                }
            }
            NodeData::List(nodes) if nodes.iter().any(is_nested) => {
                for (number, item) in nodes.iter().enumerate() {
                    self.read(items, item, &path.item(number), item.span.start.0);
                }
            }
            NodeData::List(nodes) => {
                let values: Vec<_> = nodes.iter().map(|item| scalar(items, item)).collect();
                self.keep(path, format!("[{}]", shown(&values)), &values, line);
            }
            _ => {
                let value = [scalar(schema, node)];
                self.keep(path, shown(&value), &value, line);
            }
        }
    }

    fn keep(&mut self, path: &ConfigPath, shown: String, values: &[ScalarMeaning], line: usize) {
        let meant: Vec<_> = values.iter().map(|value| &value.meant).collect();
        // A list's items apart, whatever they hold.
        let meaning = ContentDigest::of(format!("{meant:?}").as_bytes());
        self.keys.insert(path.to_string(), WrittenValue { shown, meaning, line });
    }
}

fn is_nested(node: &ConfigNode) -> bool {
    matches!(node.data, NodeData::Map(_) | NodeData::List(_))
}

/// A scalar as it is meant.
struct ScalarMeaning {
    meant: String,
    /// True where it may hold a secret.
    is_masked: bool,
}

fn shown(values: &[ScalarMeaning]) -> String {
    let shown = |value: &ScalarMeaning| if value.is_masked { MASKED.to_owned() } else { value.meant.clone() };
    values.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn scalar(schema: &Json, node: &ConfigNode) -> ScalarMeaning {
    let text = match &node.data {
        NodeData::Text(text) => text.clone(),
        NodeData::Bool(value) => value.to_string(),
        NodeData::Integer(value) => value.to_string(),
        NodeData::Float(value) => value.to_string(),
        NodeData::Map(_) => "{}".to_owned(),
        NodeData::List(_) | NodeData::Null => String::new(),
    };
    let is_secret = schema["writeOnly"] == true && value::format("secret-ref", &text).is_err();
    let is_masked = is_secret || value::is_telling(&text);
    let format = schema["format"].as_str().unwrap_or_default();
    ScalarMeaning { meant: value::canonical(format, &text).unwrap_or(text), is_masked }
}

#[cfg(test)]
mod tests {
    use super::super::load_text;
    use super::*;

    const OLD: &str = "\
Server:
  Listeners: [{ Address: '127.0.0.1:8080' }]
  Threads: 2
ObjectStores:
  store: { Endpoint: 'http://127.0.0.1:9000', Region: us-east-1, Credentials: { AccessKey: 'env:KEY', SecretKey: 'env:KEY' } }
Policies:
  Timeout:
    short: { Connect: 60s }
ReverseProxy:
  Routes:
    files:
      Match: { Path: '/f/{**key}', Methods: [GET, HEAD] }
      AuthorizationPolicy: Anonymous
      Transforms: [{ PresignedUrl: { Store: store, Bucket: music, Key: '{key}' } }]
";

    fn written(text: &str) -> WrittenConfig {
        load_text("test", text, &|_| Some("a-key-of-24-characters-ok".to_owned())).expect("it is valid").source.written
    }

    fn changes(new: &str) -> Vec<String> {
        let show = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let all = written(OLD).changes(&written(new)).into_iter();
        all.map(|change| format!("{}: {} > {}", change.path, show(change.before), show(change.after))).collect()
    }

    #[test]
    fn other_spellings_and_another_order_change_nothing() {
        let (server, stores) = OLD.split_at(OLD.find("ObjectStores").expect("it is there"));
        assert_eq!(changes(&format!("{stores}{server}").replace("60s", "00:01:00")), [""; 0]);
    }

    #[test]
    fn items_of_a_list_are_compared_and_not_its_text() {
        let with = |methods: &str| written(&OLD.replace("[GET, HEAD]", methods));
        let hosts = |hosts: &str| written(&OLD.replace("Methods:", &format!("Hosts: {hosts}, Methods:")));
        assert_eq!(with("[GET, HEAD]").changes(&with("[HEAD, GET]")).len(), 1);
        assert_eq!(hosts("['a.example']").changes(&hosts("['a.example', 'b.example']")).len(), 1);
    }

    #[test]
    fn each_change_is_named_by_its_path() {
        let new = OLD
            .replace("Threads: 2", "Threads: 4")
            .replace("[GET, HEAD]", "[GET]")
            .replace("    short: { Connect: 60s }", "    long: { Connect: 2m }");
        assert_eq!(
            changes(&new),
            [
                "Policies.Timeout.long.Connect: - > 2m",
                "Policies.Timeout.short.Connect: 1m > -",
                "ReverseProxy.Routes.files.Match.Methods: [GET, HEAD] > [GET]",
                "Server.Threads: 2 > 4",
            ]
        );
    }

    #[test]
    fn a_secret_is_not_shown_and_its_change_is() {
        let with = |name: &str| format!("{OLD}Database: {{ Url: 'sqlite:///var/{name}.db?mode=rwc' }}\n");
        let (old, new) = (written(&with("first")), written(&with("second")));
        let changed = old.changes(&new);
        assert_eq!(changed.len(), 1);
        assert!(!format!("{changed:?}").contains("second") && !format!("{old:?}").contains("first"));
        assert_eq!(changed[0].after.as_deref(), Some(MASKED));
        let lines: Vec<_> = old.keys().filter(|key| key.path == "Database.Url").map(|key| key.line).collect();
        assert_eq!(lines, [with("first").lines().count()]);
    }
}
