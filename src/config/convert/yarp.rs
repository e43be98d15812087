//! YARP's `appsettings.json` as Tidegate's YAML.

use serde_json::Value as Json;

use super::ConvertedConfig;
use super::document::DocumentNode;
use crate::config::path::{ConfigPath, PathSegment};
use crate::config::report::{ConfigProblem, ProblemReport};
use crate::config::secret::EnvironmentLookup;
use crate::config::source::{self, ConfigNode, MappingEntry, NodeData, SourceSpan};
use crate::config::{dotnet, examine, foreign, schema};

/// Position of what the file did not have.
const ADDED: SourceSpan = SourceSpan { start: (1, 0), end: (1, 0) };

/// Comments on keys that mean something else here: path, and the comment.
const CHANGED: &[(&str, &str)] = &[
    (
        "ReverseProxy.Routes.*.Timeout",
        "limits the wait for the first byte and each pause; YARP's ends the whole request",
    ),
    ("ReverseProxy.Clusters.*.HttpClient.RequestHeaderEncoding", "without effect: header bytes go through unchanged"),
    ("ReverseProxy.Clusters.*.HttpClient.ResponseHeaderEncoding", "without effect: header bytes go through unchanged"),
];

/// Converts `text`, which reports call `name`. Fails where it cannot be read, or nothing of it is left.
pub fn convert_yarp(
    name: &str,
    text: &str,
    environment: EnvironmentLookup<'_>,
) -> Result<ConvertedConfig, ProblemReport> {
    let parsed = source::parse(text);
    let mut masked = parsed.masked;
    let report = |masked: &[SourceSpan], problems| ProblemReport::new(name, text, masked, problems);
    let Some(mut root) = parsed.root.filter(|_| parsed.problems.is_empty()) else {
        return Err(report(&masked, parsed.problems));
    };
    let schema = schema();
    let addresses = addresses(&root);
    let skipped = foreign::take_foreign_sections(&mut root);
    masked.extend(skipped.masked);
    let read = dotnet::read_as_dotnet(&schema, &mut root);
    if !read.problems.is_empty() {
        masked.extend(read.masked);
        return Err(report(&masked, read.problems));
    }
    let added = complete(&mut root, &addresses);
    let mut draft = Draft { schema, document: DocumentNode::from(&root), root, refused: Vec::new() };
    if let Err(problems) = draft.refuse_all(environment) {
        return Err(report(&masked, problems));
    }
    draft.comment(&added);
    let mut yaml =
        format!("# Made of {name} by `tidegate migrate yarp`. A comment stands where the meaning changed.\n");
    let https = addresses.iter().filter(|address| address.starts_with("https://"));
    let https =
        https.map(|address| format!("{address} needs `Tls: {{ Certificate: …, Key: … }}` at a listener of its own"));
    for note in skipped.notes.iter().cloned().chain(https) {
        yaml.push_str(&format!("# {note}\n"));
    }
    yaml.push_str(&draft.document.to_yaml());
    Ok(ConvertedConfig { yaml, refused: draft.refused })
}

/// Returns the addresses that the application listens on: `Urls`, and `Url` of `Kestrel.Endpoints`.
fn addresses(root: &ConfigNode) -> Vec<String> {
    let find = |node: &'_ ConfigNode, key: &str| {
        node.members().iter().find(|member| member.key.eq_ignore_ascii_case(key)).map(|member| member.value.clone())
    };
    let text = |node: ConfigNode| if let NodeData::Text(text) = node.data { Some(text) } else { None };
    let urls = find(root, "Urls").and_then(text).unwrap_or_default();
    let mut all: Vec<String> =
        urls.split(';').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
    let endpoints = find(root, "Kestrel").and_then(|kestrel| find(&kestrel, "Endpoints"));
    for endpoint in endpoints.iter().flat_map(ConfigNode::members) {
        all.extend(find(&endpoint.value, "Url").and_then(text));
    }
    all.dedup();
    all
}

/// A member that was added, and why.
type Addition = (ConfigPath, &'static str);

/// Adds what YARP has elsewhere, so that the file means the same and loads: listeners, the policy of routes that name none, and
/// policies of the application's code, which let nobody in until they are written.
fn complete(root: &mut ConfigNode, addresses: &[String]) -> Vec<Addition> {
    let mut added = Vec::new();
    let top = ConfigPath::default();
    let listeners: Vec<ConfigNode> =
        addresses.iter().filter_map(|url| listener(url)).map(|address| map([("Address", text(&address))])).collect();
    if !listeners.is_empty() && root.get("Server").is_none() {
        put(root, "Server", map([("Listeners", node(NodeData::List(listeners)))]));
        added.push((top.key("Server"), "without this Tidegate listens on 0.0.0.0:8080"));
    }
    let names = |key: &str| -> Vec<Option<String>> {
        let routes = root.get("ReverseProxy").and_then(|proxy| proxy.value.get("Routes"));
        let routes = routes.map(|routes| routes.value.members()).unwrap_or_default();
        let name = |route: &MappingEntry| match &route.value.get(key)?.value.data {
            NodeData::Text(name) => Some(name.clone()),
            _ => None,
        };
        routes.iter().map(name).collect()
    };
    let authorization = names("AuthorizationPolicy");
    let needed: Vec<_> = CODE_POLICIES.iter().map(|policy| (policy, names(policy.key))).collect();
    let asks = authorization.iter().flatten().any(|name| name != "Anonymous");
    let is_silent = authorization.iter().any(Option::is_none);
    if asks && root.get("Auth").is_none() {
        let issuer = map([("Issuer", text("https://issuer.example")), ("Jwks", text("https://issuer.example/jwks"))]);
        put(root, "Auth", map([("Jwt", map([("Issuers", node(NodeData::List(vec![issuer])))]))]));
        added.push((top.key("Auth"), "name the issuer of your tokens: nobody is let in before"));
    }
    for (policy, names) in needed {
        for name in names.into_iter().flatten().filter(|name| !policy.known.contains(&name.as_str())) {
            let section = child(root, "Policies").and_then(|policies| child(policies, policy.section));
            if let Some(section) = section.filter(|section| section.get(&name).is_none()) {
                put(section, &name, (policy.make)());
                added.push((top.key("Policies").key(policy.section).key(&name), policy.why));
            }
        }
    }
    let proxy = child(root, "ReverseProxy").filter(|proxy| proxy.get("DefaultAuthorizationPolicy").is_none());
    if let Some(proxy) = proxy.filter(|_| is_silent) {
        put(proxy, "DefaultAuthorizationPolicy", text("Anonymous"));
        let at = top.key("ReverseProxy").key("DefaultAuthorizationPolicy");
        added.push((at, "as in YARP: who names no policy is open to everybody; `Default` asks for a token"));
    }
    added
}

/// A kind of policy that YARP's applications have in code.
struct CodePolicy {
    /// Key of a route.
    key: &'static str,
    /// Names that are no policy of the code.
    known: &'static [&'static str],
    /// Section of `Policies`.
    section: &'static str,
    /// A policy that stands in for the code.
    make: fn() -> ConfigNode,
    why: &'static str,
}

const CODE_POLICIES: &[CodePolicy] = &[
    CodePolicy {
        key: "AuthorizationPolicy",
        known: &["Default", "Anonymous"],
        section: "Authorization",
        make: || {
            let rule = map([("Claim", text("write-the-rules-here")), ("Equals", text("nobody"))]);
            map([("Require", node(NodeData::List(vec![rule])))])
        },
        why: "was code: lets nobody in until its rules are written here",
    },
    CodePolicy {
        key: "RateLimiterPolicy",
        known: &["Default", "Disable"],
        section: "RateLimiter",
        make: || map([("FixedWindow", map([("PermitLimit", node(NodeData::Integer(100))), ("Window", text("1m"))]))]),
        why: "was code: write its limits here",
    },
    CodePolicy {
        key: "CorsPolicy",
        known: &["Disable"],
        section: "Cors",
        make: || map([("Origins", node(NodeData::List(vec![text("https://write-the-origins-here.example")])))]),
        why: "was code: write its origins here",
    },
    CodePolicy {
        key: "TimeoutPolicy",
        known: &["Disable"],
        section: "Timeout",
        make: || map([("FirstByte", text("100s")), ("Idle", text("100s"))]),
        why: "was code: write its limits here; none of them ends a stream that flows",
    },
];

/// Returns `Address` of an `http` URL of .NET, whose `*` and `+` are every address.
fn listener(url: &str) -> Option<String> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        Some((host, port)) => (host, port),
        None => (authority, "80"),
    };
    let host = if matches!(host, "*" | "+") { "0.0.0.0" } else { host };
    Some(format!("{host}:{port}"))
}

struct Draft {
    schema: Json,
    document: DocumentNode,
    root: ConfigNode,
    refused: Vec<String>,
}

impl Draft {
    /// Takes out what is refused until the rest loads. Fails with the problems where nothing can be taken out.
    fn refuse_all(&mut self, environment: EnvironmentLookup<'_>) -> Result<(), Vec<ConfigProblem>> {
        loop {
            let problems = examine(&self.schema, &self.root, environment).problems;
            // The deepest first: what is above it may be good without it.
            let Some(problem) = problems.iter().max_by_key(|problem| problem.path().steps().len()) else {
                return Ok(());
            };
            let Some(target) = target(&self.root, problem.path()) else { return Err(problems) };
            let (path, reason) = (problem.path().to_string(), problem.reason());
            let line = problem.line().map(|line| format!("line {line}: ")).unwrap_or_default();
            self.refused.push(format!("{line}{path}: {reason}"));
            self.document.drop_at(&target, &reason);
            remove(&mut self.root, &target);
        }
    }

    /// Adds the comments on what was added and what means something else.
    fn comment(&mut self, added: &[Addition]) {
        for (path, why) in added {
            if let Some(node) = self.document.at_mut(path.steps()) {
                node.comment = Some((*why).to_owned());
            }
        }
        let mut changed = Vec::new();
        walk(&self.root, &ConfigPath::default(), &mut |path, node| {
            changed.extend(change(path, node).map(|it| (path.clone(), it)))
        });
        for (path, comment) in changed {
            if let Some(node) = self.document.at_mut(path.steps()) {
                node.comment = Some(comment.to_owned());
            }
        }
    }
}

/// Returns how the value at `path` differs from YARP's.
fn change(path: &ConfigPath, value: &ConfigNode) -> Option<&'static str> {
    let lists = |name: &str| match &value.data {
        NodeData::List(items) => {
            items.iter().any(|item| matches!(&item.data, NodeData::Text(text) if text.eq_ignore_ascii_case(name)))
        }
        _ => false,
    };
    if path.is_at("ReverseProxy.Routes.*.Match.Methods") && lists("GET") && !lists("HEAD") {
        return Some("takes HEAD too");
    }
    if path.is_at("ReverseProxy.Clusters.*.HealthCheck") && value.get("AvailableDestinationsPolicy").is_none() {
        return Some("`AvailableDestinationsPolicy` is `HealthyAndUnknown` unless said");
    }
    CHANGED.iter().find(|(pattern, _)| path.is_at(pattern)).map(|(_, comment)| *comment)
}

/// Returns what has to go for a problem at `path`: never less than keeps the rest as closed as it was. `None` where nothing can.
fn target(root: &ConfigNode, path: &ConfigPath) -> Option<ConfigPath> {
    let steps = path.steps();
    // The problem may speak of a key that is missing.
    let known = (0..=steps.len()).rev().map(|length| path.first(length)).find(|path| root.at(path).is_some())?;
    let steps: Vec<&str> =
        known.steps().iter().map(|step| if let PathSegment::Key(key) = step { key } else { "" }).collect();
    match steps.as_slice() {
        // An unknown section; the others are ours.
        [section] if !["ReverseProxy", "Server", "Auth", "Policies"].contains(section) => Some(known),
        // Without a condition or a policy a route would take more requests, or let more people in.
        ["ReverseProxy", "Routes", _, "Match" | "AuthorizationPolicy", ..] => Some(known.first(3)),
        ["ReverseProxy", "Routes", _, "Transforms", _, ..] => Some(known.first(5)),
        ["ReverseProxy", "Clusters", _, "Destinations", _, ..] => Some(known.first(5)),
        ["ReverseProxy", _, _, ..] => Some(known),
        ["ReverseProxy", key] if !["Routes", "Clusters", "DefaultAuthorizationPolicy"].contains(key) => Some(known),
        _ => None,
    }
}

fn remove(root: &mut ConfigNode, path: &ConfigPath) {
    let Some((last, above)) = path.steps().split_last() else { return };
    let parent = above.iter().try_fold(root, |node, step| match (step, &mut node.data) {
        (PathSegment::Key(key), NodeData::Map(members)) => {
            members.iter_mut().find(|member| member.key == *key).map(|member| &mut member.value)
        }
        (PathSegment::Item(number), NodeData::List(items)) => items.get_mut(*number),
        _ => None,
    });
    match (last, parent.map(|parent| &mut parent.data)) {
        (PathSegment::Key(key), Some(NodeData::Map(members))) => members.retain(|member| member.key != *key),
        (PathSegment::Item(number), Some(NodeData::List(items))) if *number < items.len() => {
            drop(items.remove(*number))
        }
        _ => {}
    }
}

fn walk(node: &ConfigNode, path: &ConfigPath, visit: &mut impl FnMut(&ConfigPath, &ConfigNode)) {
    visit(path, node);
    match &node.data {
        NodeData::Map(members) => members.iter().for_each(|member| walk(&member.value, &path.key(&member.key), visit)),
        NodeData::List(items) => {
            items.iter().enumerate().for_each(|(number, item)| walk(item, &path.item(number), visit))
        }
        _ => {}
    }
}

fn node(data: NodeData) -> ConfigNode {
    ConfigNode { span: ADDED, data }
}

fn text(text: &str) -> ConfigNode {
    node(NodeData::Text(text.to_owned()))
}

fn entry(key: &str, value: ConfigNode) -> MappingEntry {
    MappingEntry { key: key.to_owned(), span: ADDED, value }
}

fn map<const N: usize>(members: [(&str, ConfigNode); N]) -> ConfigNode {
    node(NodeData::Map(members.into_iter().map(|(key, value)| entry(key, value)).collect()))
}

/// Puts a member before all others, which are read better with `ReverseProxy` at the end.
fn put(node: &mut ConfigNode, key: &str, value: ConfigNode) {
    if let NodeData::Map(members) = &mut node.data {
        members.insert(0, entry(key, value));
    }
}

/// Returns the value at `key`, a mapping that is made where it is missing; `None` where `node` is no mapping.
fn child<'n>(node: &'n mut ConfigNode, key: &str) -> Option<&'n mut ConfigNode> {
    if node.get(key).is_none() {
        put(node, key, map([]));
    }
    let NodeData::Map(members) = &mut node.data else { return None };
    members.iter_mut().find(|member| member.key == key).map(|member| &mut member.value)
}
