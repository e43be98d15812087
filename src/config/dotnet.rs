//! JSON as .NET's configuration reads it, so that a file of YARP means the same here: keys and well-known names in any case, a
//! list also as a mapping from `"0"` on, every scalar also as a text, `null` as if the key were not there. Only `ReverseProxy` of
//! a JSON file is read so: in YAML each thing has one spelling.

use serde_json::Value as Json;

use super::path::ConfigPath;
use super::refused;
use super::report::ConfigProblem;
use super::shape::{follow, names, types};
use super::source::{ConfigNode, MappingEntry, NodeData, SourceSpan};

const SECTION: &str = "ReverseProxy";
const AUTHORIZATION: &[&str] = &["Default", "Anonymous"];
const SWITCHED: &[&str] = &["Default", "Disable"];

/// Texts that mean something by themselves, by the path of their key.
const WELL_KNOWN: &[(&str, &[&str])] = &[
    ("ReverseProxy.DefaultAuthorizationPolicy", AUTHORIZATION),
    ("ReverseProxy.Routes.*.AuthorizationPolicy", AUTHORIZATION),
    ("ReverseProxy.Routes.*.RateLimiterPolicy", SWITCHED),
    ("ReverseProxy.Routes.*.OutputCachePolicy", SWITCHED),
    ("ReverseProxy.Routes.*.CorsPolicy", SWITCHED),
    ("ReverseProxy.Routes.*.TimeoutPolicy", SWITCHED),
    ("ReverseProxy.Routes.*.Transforms.ForFormat", &["Ip", "Unknown"]),
];

/// Outcome of the reading.
#[derive(Default)]
pub struct DotnetReading {
    /// Keys that stand twice once their case is not looked at.
    pub problems: Vec<ConfigProblem>,
    /// Scalars that are no longer in the tree and may be a secret.
    pub masked: Vec<SourceSpan>,
}

/// Brings `ReverseProxy` of `root` into the spelling of `schema`.
pub fn read_as_dotnet(schema: &Json, root: &mut ConfigNode) -> DotnetReading {
    let mut reader = DotnetReader { schema, outcome: DotnetReading::default() };
    let NodeData::Map(members) = &mut root.data else { return reader.outcome };
    let at = ConfigPath::default().key(SECTION);
    for member in members.iter_mut().filter(|member| member.key.eq_ignore_ascii_case(SECTION)) {
        SECTION.clone_into(&mut member.key);
        reader.read(&schema["properties"][SECTION], &mut member.value, &at);
        name_clusters_as_defined(&mut member.value);
    }
    reader.outcome
}

struct DotnetReader<'s> {
    schema: &'s Json,
    outcome: DotnetReading,
}

impl DotnetReader<'_> {
    fn read(&mut self, schema: &Json, node: &mut ConfigNode, path: &ConfigPath) {
        let (schema, _) = follow(self.schema, schema);
        let takes = |kind: &str| types(schema).any(|name| name == kind);
        if takes("array") {
            number_items(node);
        }
        match &mut node.data {
            NodeData::Map(members) => self.read_members(schema, members, path),
            NodeData::List(items) => {
                let items = items.iter_mut().enumerate();
                items.for_each(|(number, item)| self.read(&schema["items"], item, &path.item(number)));
            }
            _ => read_scalar(schema, node, path),
        }
    }

    fn read_members(&mut self, schema: &Json, members: &mut Vec<MappingEntry>, path: &ConfigPath) {
        let properties = schema["properties"].as_object();
        for member in members.iter_mut() {
            let Some(properties) = properties else { continue };
            let known = properties.keys().find(|key| key.eq_ignore_ascii_case(&member.key)).map(String::as_str);
            if let Some(known) = known.or_else(|| refused::spelling(path, &member.key)) {
                known.clone_into(&mut member.key);
            }
        }
        // A key without a value is not there.
        members.retain(|member| properties.is_none() || !matches!(member.value.data, NodeData::Null));
        self.refuse_second(members, path);
        for member in members {
            let entry = properties.map_or(&schema["additionalProperties"], |properties| {
                properties.get(&member.key).unwrap_or(&Json::Null)
            });
            self.read(entry, &mut member.value, &path.key(&member.key));
        }
    }

    /// Reports keys that differ in case alone: .NET refuses the file.
    fn refuse_second(&mut self, members: &mut Vec<MappingEntry>, path: &ConfigPath) {
        let mut seen: Vec<(String, usize)> = Vec::new();
        members.retain(|member| {
            let key = member.key.to_lowercase();
            let Some((_, line)) = seen.iter().find(|(seen, _)| *seen == key) else {
                seen.push((key, member.span.start.0));
                return true;
            };
            let problem = ConfigProblem::new(format!("the key `{}` stands here a second time", member.key))
                .help(format!("it is already in line {line}; in JSON the case of a key means nothing, as in .NET"));
            self.outcome.problems.push(problem.at(path.key(&member.key), member.span));
            self.outcome.masked.extend(member.value.scalars());
            false
        });
    }
}

/// Makes a list of a mapping whose keys are numbers, in their order.
fn number_items(node: &mut ConfigNode) {
    let NodeData::Map(members) = &node.data else { return };
    let numbered: Option<Vec<(u32, &MappingEntry)>> =
        members.iter().map(|member| Some((member.key.parse().ok()?, member))).collect();
    let Some(mut numbered) = numbered else { return };
    numbered.sort_by_key(|(number, _)| *number);
    node.data = NodeData::List(numbered.into_iter().map(|(_, member)| member.value.clone()).collect());
}

/// Gives a scalar the type and the spelling that `schema` wants, where .NET would read it so.
fn read_scalar(schema: &Json, node: &mut ConfigNode, path: &ConfigPath) {
    let takes = |kind: &str| types(schema).any(|name| name == kind);
    let is_text = takes("string") && !takes("integer") && !takes("boolean") && !takes("number");
    let read = match &node.data {
        NodeData::Text(text) if takes("boolean") => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Some(NodeData::Bool(true)),
            "false" => Some(NodeData::Bool(false)),
            _ => None,
        },
        NodeData::Text(text) if takes("integer") && !takes("string") => text.trim().parse().ok().map(NodeData::Integer),
        NodeData::Text(text) => spelling(schema, path, text).map(|name| NodeData::Text(name.to_owned())),
        NodeData::Integer(number) if is_text => Some(NodeData::Text(number.to_string())),
        NodeData::Float(number) if is_text => Some(NodeData::Text(number.to_string())),
        // As .NET writes it.
        NodeData::Bool(flag) if is_text => Some(NodeData::Text(if *flag { "True" } else { "False" }.to_owned())),
        _ => None,
    };
    if let Some(read) = read {
        node.data = read;
    }
}

/// Returns the spelling of a name of an enumeration, or of one with a meaning of its own.
fn spelling<'a>(schema: &'a Json, path: &ConfigPath, text: &str) -> Option<&'a str> {
    let own = WELL_KNOWN.iter().filter(|(pattern, _)| path.is_at(pattern)).flat_map(|(_, names)| names.iter().copied());
    names(schema).chain(own).find(|name| name.eq_ignore_ascii_case(text))
}

/// Writes each `ClusterId` as the cluster's own key: YARP finds clusters in any case.
fn name_clusters_as_defined(proxy: &mut ConfigNode) {
    let clusters: Vec<String> = proxy
        .get("Clusters")
        .map_or_else(Vec::new, |clusters| clusters.value.members().iter().map(|cluster| cluster.key.clone()).collect());
    let NodeData::Map(members) = &mut proxy.data else { return };
    let routes = members.iter_mut().filter(|member| member.key == "Routes");
    for route in routes.flat_map(|routes| members_of(&mut routes.value)) {
        for member in members_of(&mut route.value).iter_mut().filter(|member| member.key == "ClusterId") {
            if let NodeData::Text(id) = &mut member.value.data
                && let Some(cluster) = clusters.iter().find(|cluster| cluster.eq_ignore_ascii_case(id))
            {
                id.clone_from(cluster);
            }
        }
    }
}

fn members_of(node: &mut ConfigNode) -> &mut [MappingEntry] {
    if let NodeData::Map(members) = &mut node.data { members } else { &mut [] }
}
