//! What the running server says of its API, held against its answers.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::client::{Client, Reply};

/// A server's `/openapi.json`.
pub struct Described(Value);

impl Described {
    /// That of the server behind `client`.
    pub async fn by(client: &Client) -> Self {
        let reply = client.get("/openapi.json", &[]).await;
        Self(serde_json::from_slice(&reply.is(200).body).expect("the description is JSON"))
    }

    /// The document.
    pub fn document(&self) -> &Value {
        &self.0
    }

    /// Fails unless `reply`, the answer to `method` on `path` (as it was sent, the query aside), is as described: its
    /// status is named for that operation, or covered by its `default`, and its body fits the schema of its media type.
    #[track_caller]
    pub fn checks(&self, method: &str, path: &str, reply: &Reply) {
        let status = reply.status.as_u16();
        let what = format!("{method} {path}: {status}");
        let path = path.split('?').next().unwrap_or(path);
        let paths = self.0["paths"].as_object().expect("the description has paths");
        let item =
            paths.get(path).or_else(|| paths.iter().find(|(template, _)| fits(template, path)).map(|(_, item)| item));
        let responses =
            &item.unwrap_or_else(|| panic!("{what}: the path is not described"))[method.to_lowercase()]["responses"];
        assert!(responses.is_object(), "{what}: the method is not described");
        let named = responses.get(status.to_string()).or_else(|| responses.get("default").filter(|_| status >= 400));
        let response = self.resolved(named.unwrap_or_else(|| panic!("{what}: the status is not described")));
        let content = response["content"].as_object().filter(|content| !content.is_empty());
        let Some(content) = content else {
            assert!(reply.body.is_empty(), "{what}: a body is not described: {}", reply.text());
            return;
        };
        let media_type = reply.header("content-type").split(';').next().unwrap_or_default().trim();
        let range = format!("{}/*", media_type.split('/').next().unwrap_or_default());
        let described = [media_type, &range, "*/*"].into_iter().find_map(|one| content.get(one));
        let described = described.unwrap_or_else(|| panic!("{what}: {media_type:?} is not described"));
        if let (Some(schema), true) = (described.get("schema"), media_type.ends_with("json")) {
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{what}: {error}"));
            let faults: Vec<String> =
                self.validator(schema).iter_errors(&body).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{what}: {faults:#?}\n{body:#}");
        }
    }

    /// The operations, as `GET /path`, but for those with this tag.
    pub fn operations_without(&self, tag: &str) -> BTreeSet<String> {
        let paths = self.0["paths"].as_object().expect("the description has paths");
        let of = |(path, item): (&String, &Value)| -> Vec<String> {
            let operations = item.as_object().into_iter().flatten();
            let wanted = operations
                .filter(|(_, operation)| !operation["tags"].as_array().is_some_and(|tags| tags.contains(&json!(tag))));
            wanted.map(|(method, _)| format!("{} {path}", method.to_uppercase())).collect()
        };
        paths.iter().flat_map(of).collect()
    }

    /// The operation that `method` on `path` is, as [`Self::operations_without`] names it.
    pub fn operation(&self, method: &str, path: &str) -> String {
        let path = path.split('?').next().unwrap_or(path);
        let paths = self.0["paths"].as_object().expect("the description has paths");
        let template = paths
            .keys()
            .find(|template| *template == path)
            .or_else(|| paths.keys().find(|template| fits(template, path)));
        format!("{method} {}", template.map_or(path, String::as_str))
    }

    /// References of a schema lead into the document; so it goes along.
    fn validator(&self, schema: &Value) -> Validator {
        let schema = json!({ "allOf": [schema], "components": self.0["components"] });
        jsonschema::draft202012::new(&schema).expect("the schema is one")
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        reference.map_or(value, |pointer| self.0.pointer(pointer).expect("a reference leads somewhere"))
    }
}

/// Whether `path` is one of those that `template`, with its parameters in braces, stands for.
fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given || wanted.starts_with('{') => {}
            _ => return false,
        }
    }
}
