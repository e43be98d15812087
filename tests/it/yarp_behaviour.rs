//! `tests/yarp.yaml`: requests through the gateway, as YARP's own tests look at them, to scripted servers.
//!
//! A group has `routes` (each with the cluster of its id, else `a`), `clusters` (`Destinations` by the names of servers), `policies`,
//! and `servers`: what each answers (`status`, `headers`, `body`, its name by default), or `silent`, or `cut`. A server whose name ends with
//! `gone` is not there. `base` is the path of their addresses. Without `bare` each route tells its id to the server in `X-Route`.
//! A row sends `send` (method and target) with `host`, `with` (headers) and `body`, so many `times`. It expects the status `is`
//! (200), the `route`, the server `at` which it came, the request line that the server `gets`, headers that it `got`, headers of the
//! `answer` and its `text`, how many requests each server had (`spread`: least and most), or that `one` server had all. With `sticky` each
//! request brings the cookies of the answer before it, or the header of that name.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use crate::support::fault::{End, Step};
use crate::support::origin_http::{Answer, Seen};
use crate::support::raw::RawResponse;
use crate::support::{Gate, LIMIT, ScriptedOrigin, config};

/// Rows that there are at least.
const ROWS: usize = 60;
/// Gateways that run at the same time.
const AT_ONCE: usize = 3;

struct Group {
    about: String,
    gate: Gate,
    servers: BTreeMap<String, ScriptedOrigin>,
}

#[tokio::test]
async fn requests_are_routed_changed_and_answered_as_by_yarp() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/yarp.yaml")).expect("the rows");
    let groups: Vec<Value> = serde_yaml::from_str(&text).expect("YAML");
    let rows: usize = groups.iter().map(|group| list(&group["rows"]).len()).sum();
    assert!(rows >= ROWS, "only {rows} rows");
    let wrong: Vec<String> = futures::stream::iter(groups).map(run).buffer_unordered(AT_ONCE).concat().await;
    assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// Runs the rows of a group one after the other, and returns what is wrong.
async fn run(description: Value) -> Vec<String> {
    let group = Group::start(&description).await;
    let mut wrong = Vec::new();
    for row in list(&description["rows"]) {
        if let Err(reason) = group.check(row).await {
            wrong.push(format!("{}: {}: {reason}", group.about, text(&row["it"])));
        }
    }
    wrong
}

impl Group {
    async fn start(description: &Value) -> Self {
        let mut described = map(&description["servers"]);
        described.entry("a").or_insert_with(|| json!({}));
        let mut servers = BTreeMap::new();
        for (name, behaviour) in &described {
            let origin = ScriptedOrigin::start().await;
            origin.always(step(name, behaviour));
            servers.insert(name.clone(), origin);
        }
        let gate = Gate::start(&configuration(description, &servers)).await;
        Self { about: text(&description["about"]), gate, servers }
    }

    async fn check(&self, row: &Value) -> Result<(), String> {
        let mut seen: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
        let mut session = String::new();
        for _ in 0..row["times"].as_u64().unwrap_or(1) {
            let answer = self.send(row, &session).await?;
            if session.is_empty() {
                session = session_of(&row["sticky"], &answer);
            }
            check_answer(row, &answer)?;
            for (name, server) in &self.servers {
                seen.entry(name).or_default().extend(server.take_seen());
            }
        }
        for (name, bounds) in map(&row["spread"]) {
            let (least, most, count) = (bounds[0].as_u64(), bounds[1].as_u64(), seen[name.as_str()].len() as u64);
            if least.is_none_or(|least| count < least) || most.is_none_or(|most| count > most) {
                return Err(format!("`{name}` had {count} requests"));
            }
        }
        if row["one"] == true && seen.values().filter(|seen| !seen.is_empty()).count() != 1 {
            return Err("more than one server had requests".to_owned());
        }
        let all = || seen.iter().flat_map(|(name, seen)| seen.iter().map(move |seen| (*name, seen)));
        if let Some(at) = row["at"].as_str().and_then(|at| all().find(|(name, _)| *name != at)) {
            return Err(format!("it came to `{}`", at.0));
        }
        let is_forwarded = ["route", "gets", "got"].iter().any(|key| !row[*key].is_null());
        match all().last() {
            Some((_, last)) => check_request(row, last),
            None if is_forwarded => Err("no server got it".to_owned()),
            None => Ok(()),
        }
    }

    async fn send(&self, row: &Value, session: &str) -> Result<RawResponse, String> {
        let line = text(&row["send"]);
        let method = line.split(' ').next().unwrap_or_default();
        let mut request = format!("{line} HTTP/1.1\r\nHost: {}\r\n", row["host"].as_str().unwrap_or("gate"));
        request.push_str(session);
        for (name, value) in map(&row["with"]) {
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value]);
            values.iter().for_each(|value| request.push_str(&format!("{name}: {}\r\n", text(value))));
        }
        if let Some(body) = row["body"].as_str() {
            request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        } else {
            request.push_str("\r\n");
        }
        let mut raw = self.gate.raw().await;
        raw.send(request.as_bytes()).await;
        raw.response(method, LIMIT).await.map_err(|error| format!("no answer: {error}"))
    }
}

/// Returns the line by which a request goes on with the session of `answer`.
fn session_of(sticky: &Value, answer: &RawResponse) -> String {
    let line = |name: &str, value: Option<&str>| value.map(|value| format!("{name}: {value}\r\n")).unwrap_or_default();
    match sticky.as_str() {
        Some(header) => line(header, answer.header(header)),
        None if *sticky == true => {
            line("Cookie", answer.header("Set-Cookie").and_then(|cookie| cookie.split(';').next()))
        }
        None => String::new(),
    }
}

fn check_answer(row: &Value, answer: &RawResponse) -> Result<(), String> {
    let expected = row["is"].as_u64().unwrap_or(200);
    if u64::from(answer.status) != expected {
        return Err(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }
    let lines = answer.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers: Vec<(String, String)> =
        lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    check_headers(&map(&row["answer"]), &headers)?;
    match row["text"].as_str() {
        Some(expected) if expected.as_bytes() != answer.body => {
            Err(format!("body {:?}", String::from_utf8_lossy(&answer.body)))
        }
        _ => Ok(()),
    }
}

fn check_request(row: &Value, seen: &Seen) -> Result<(), String> {
    let line = format!("{} {}", seen.method, seen.target);
    if row["gets"].as_str().is_some_and(|expected| expected != line) {
        return Err(format!("the server got {line:?}"));
    }
    if let Some(route) = row["route"].as_str().filter(|route| Some(*route) != seen.header("x-route")) {
        return Err(format!("it took the route {:?}, and not {route:?}", seen.header("x-route")));
    }
    check_headers(&map(&row["got"]), &seen.headers)
}

/// Compares headers: the values of a name joined by commas, `null` where there is none.
fn check_headers(expected: &Map<String, Value>, headers: &[(String, String)]) -> Result<(), String> {
    for (name, expected) in expected {
        let values = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        let values: Vec<&str> = values.collect();
        let found = (!values.is_empty()).then(|| values.join(", "));
        let expected = (!expected.is_null()).then(|| text(expected));
        if found != expected {
            return Err(format!("{name} is {found:?}, and not {expected:?}"));
        }
    }
    Ok(())
}

fn step(name: &str, behaviour: &Value) -> Step {
    if behaviour["silent"] == true {
        return Step::Silence(End::Stall);
    }
    if behaviour["cut"] == true {
        return Step::Silence(End::Close);
    }
    let status = behaviour["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    let mut answer = Answer::new(status, "text/plain", behaviour["body"].as_str().unwrap_or(name));
    if status == 204 {
        answer.replace_body(Vec::new());
        answer.remove("Content-Length");
    }
    for (name, value) in map(&behaviour["headers"]) {
        answer.set(&name, &text(&value));
    }
    Step::Answer(answer)
}

fn configuration(description: &Value, servers: &BTreeMap<String, ScriptedOrigin>) -> Value {
    let base = description["base"].as_str().unwrap_or_default();
    let address = |name: &str| match servers.get(name) {
        Some(server) => format!("{}{base}", server.url()),
        // Nothing listens on the port of TCP's multiplexer.
        None => "http://127.0.0.1:1".to_owned(),
    };
    let cluster = |names: &[&str]| -> Value {
        names.iter().map(|name| ((*name).to_owned(), json!({ "Address": address(name) }))).collect::<Map<_, _>>().into()
    };
    let mut clusters: Map<String, Value> =
        servers.keys().map(|name| (name.clone(), json!({ "Destinations": cluster(&[name.as_str()]) }))).collect();
    for (id, mut described) in map(&description["clusters"]) {
        let names: Vec<&str> = list(&described["Destinations"]).iter().filter_map(Value::as_str).collect();
        let destinations = cluster(&names);
        described["Destinations"] = destinations;
        clusters.insert(id, described);
    }
    let mut routes = Map::new();
    for (id, mut route) in map(&description["routes"]) {
        if route["ClusterId"].is_null() {
            route["ClusterId"] = json!("a");
        }
        route["AuthorizationPolicy"] = json!("Anonymous");
        if description["bare"] != true {
            let mut transforms = list(&route["Transforms"]).clone();
            transforms.push(json!({ "RequestHeader": "X-Route", "Set": id }));
            route["Transforms"] = transforms.into();
        }
        routes.insert(id, route);
    }
    let mut config = config::empty();
    config["ReverseProxy"] = json!({ "Routes": routes, "Clusters": clusters });
    config["Policies"] = map(&description["policies"]).into();
    config
}

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn list(value: &Value) -> &Vec<Value> {
    static NONE: Vec<Value> = Vec::new();
    value.as_array().unwrap_or(&NONE)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
