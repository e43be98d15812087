//! The description and the pages of documents leave nothing out.

use std::collections::BTreeSet;
use std::path::Path;

use http::Method;
use serde_json::json;

use super::{everything, start};
use crate::support::described::Described;
use crate::support::tools::TempFolder;
use crate::support::{Gate, ScriptedOrigin, config};

#[tokio::test]
async fn a_token_is_described_wherever_one_is_wanted() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let described = Described::by(&gate.client()).await;
    let schemes = described.document()["components"]["securitySchemes"].as_object().expect("schemes").clone();
    for (path, item) in described.document()["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let wants_token = operation["responses"].get("401").is_some() && !path.starts_with("/t/");
            assert!(schemes.contains_key("bearer"), "docs/api.md names it");
            let security = operation["security"].as_array().cloned().unwrap_or_default();
            assert_eq!(!security.is_empty(), wants_token, "{method} {path}");
            for scheme in security.iter().flat_map(|one| one.as_object().expect("an object").keys()) {
                assert!(schemes.contains_key(scheme), "{method} {path}: {scheme}");
            }
        }
    }
}

#[tokio::test]
async fn the_description_has_every_path_that_players_and_people_use() {
    let folder = TempFolder::new("manner");
    let gate = start(&everything(&folder)).await;
    let described = Described::by(&gate.client()).await;
    let paths = described.document()["paths"].as_object().expect("paths").clone();
    let by_url = "/t/{token}/api/v1/tracks/{id}/stream";
    for path in ["/health", "/openapi.json", "/docs/", "/listen/{id}", "/listen/host", by_url] {
        assert!(paths.contains_key(path), "{path}");
    }
    let page = gate.client().get("/listen/host", &[]).await;
    described.checks("GET", "/listen/host", page.is(200));
}

/// The paths that routers are given by hand, with the file of each; the others are described where they are made.
fn routed() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, text) in crate::layers::sources() {
        if name.contains("tests") {
            continue;
        }
        let served = text.split("#[cfg(test)]").next().unwrap_or_default();
        found.extend(served.split(".route(\"").skip(1).filter_map(|rest| {
            let (path, _) = rest.split_once('"')?;
            Some((path.to_owned(), name.clone()))
        }));
    }
    found
}

#[tokio::test]
async fn every_path_that_is_served_is_described_or_named_as_not_of_the_api() {
    let folder = TempFolder::new("manner");
    let mut config = everything(&folder);
    config["Vod"] = json!({ "Store": "main", "Bucket": "vod" });
    config["Player"] = json!({});
    let gate = start(&config).await;
    let described = Described::by(&gate.client()).await;
    let described = described.document()["paths"].as_object().expect("paths");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("it is readable");
    let (operations, api) = (read("docs/operations.md"), read("docs/api.md"));
    let apart = api.lines().find(|line| line.starts_with("Not in the description:")).expect("docs/api.md says so");
    let all = routed();
    assert!(all.len() >= 10, "{all:?}");
    for (path, file) in all {
        let by_operator = operations.lines().any(|line| line.starts_with(&format!("| `{path}` |")));
        let is_known = described.contains_key(&path) || by_operator || apart.contains(&format!("`{path}`"));
        assert!(is_known, "{path} of {file}: neither described nor named in docs/api.md or docs/operations.md");
    }
}

#[tokio::test]
async fn the_paths_of_the_admin_address_are_those_of_the_page_of_operations() {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["ReverseProxy"]["Routes"]["stream"]["OutputCachePolicy"] = json!("Default");
    config["Server"]["Admin"]["Token"] = json!("env:ADMIN_TOKEN");
    let gate = Gate::start_with(&config, &[("ADMIN_TOKEN", "the admin's own token")]).await;
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).expect("a page");
    let section =
        page.split("## The admin address").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("it is there");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `/")?.split_once("` |"));
    let mut listed = BTreeSet::new();
    for (path, rest) in rows {
        let path = format!("/{path}");
        let wants_token = rest.trim_start().starts_with("yes");
        let method = if path.starts_with("/cache/") { Method::POST } else { Method::GET };
        let status = gate.admin().request(method.clone(), &path).send().await.expect("an answer").status();
        assert_eq!(status == 401, wants_token, "{path}: {status}");
        assert_ne!(status, 404, "{path}");
        let outside = gate.client().request(method, &path).send().await.expect("an answer").status();
        assert_eq!(outside == 404, path != "/health", "{path}: {outside}");
        listed.insert(path);
    }
    let served: BTreeSet<String> = routed()
        .into_iter()
        .filter(|(path, file)| match file.as_str() {
            "crates/server-kit/src/api/router.rs" => path != "/openapi.json",
            file => file == "crates/admin-page/src/lib.rs",
        })
        .map(|(path, _)| path)
        .collect();
    assert_eq!(listed, served);
}

/// The names of metrics in `text`: words that begin as they do, whole ones.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    // `tidegate_0.1.0_amd64.deb` is a package.
    let is_word = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let is_name =
        |word: &&str| ["tidegate_", "novatune_"].iter().filter_map(|begin| word.strip_prefix(begin)).any(is_word);
    words.filter(is_name).filter(|word| !word.ends_with('_')).collect()
}

#[test]
fn the_metrics_of_the_pages_are_those_that_there_are() {
    let docs = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("the pages").flatten();
    let docs = docs.map(|page| page.path()).filter(|path| path.extension().is_some_and(|it| it == "md"));
    let pages = docs.map(|path| std::fs::read_to_string(path).expect("a page")).collect::<Vec<_>>().join("\n");
    let sources: Vec<_> = crate::layers::sources().into_iter().filter(|(name, _)| !name.contains("tests")).collect();
    let code = sources.iter().map(|(_, text)| text.split("#[cfg(test)]").next().unwrap_or_default());
    let quoted = code.flat_map(|text| text.split('"').skip(1).step_by(2)).filter(|text| !text.contains(' '));
    let counted: BTreeSet<&str> = quoted.flat_map(metric_names).collect();
    assert!(counted.len() > 60, "{counted:?}");
    let named = metric_names(&pages);
    let bare = |name: &str| {
        let parts = ["_bucket", "_count", "_sum"];
        parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned()
    };
    let unknown: Vec<_> = named.iter().filter(|name| !counted.contains(&*bare(name))).collect();
    assert!(unknown.is_empty(), "the pages name metrics that there are not: {unknown:?}");
    let silent: Vec<_> = counted.iter().filter(|name| !named.contains(*name)).collect();
    assert!(silent.is_empty(), "no page names these metrics: {silent:?}");
}
