//! `docs/enhancements.md`: the endpoints of document 002 and those beside them, held against what the server describes.

use std::collections::BTreeSet;

use serde_json::json;

use crate::catalogue::{sqlite, tracks};
use crate::promises;
use crate::support::Gate;
use crate::support::described::Described;
use crate::support::tools::TempFolder;

const PAGE: &str = include_str!("../../../docs/enhancements.md");
/// Mark of an endpoint that this version does not serve.
const NOT_YET: &str = "not yet";
/// Classes of requests.
const CLASSES: [&str; 5] = ["standard", "strict", "positions", "radio", "recognition"];
/// Modules whose endpoints must all be in the table.
const TAGS: [&str; 8] = ["playback", "radio", "lyrics", "schedules", "queue", "playlists", "recognition", "telegram"];

/// A row: the endpoint, its class, where it keeps something, its test.
struct Row<'a> {
    endpoint: &'a str,
    class: &'a str,
    storage: &'a str,
    test: &'a str,
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [endpoint, class, storage, test] = cells[..] else { panic!("not four cells: {line}") };
            Row { endpoint: endpoint.trim_matches('`'), class, storage, test: test.trim_matches('`') }
        })
        .collect()
}

#[tokio::test]
async fn the_table_of_document_002_is_what_the_server_describes() {
    let folder = TempFolder::new("enhancements");
    let mut config = tracks("http://127.0.0.1:1", &sqlite(&folder));
    for section in ["Playback", "Lyrics", "Radio", "Channels", "Playlists", "Recognition", "Schedules"] {
        config[section] = json!({});
    }
    config["Telegram"] = json!({ "Token": "env:BOT_TOKEN", "ApiUrl": "http://127.0.0.1:1" });
    config["Radio"]["Directory"] = json!("http://127.0.0.1:1");
    let gate = Gate::start_with(&config, &[("BOT_TOKEN", "1:abcdefghijklmnopqrst")]).await;
    let described = Described::by(&gate.client()).await;
    let (all, tests) = (described.operations_without("none"), promises::tests());
    let (document, ours) = PAGE.split_once("## Ours").expect("two tables");
    assert_eq!(rows(document).len(), 26, "the document lists so many");
    let rows: Vec<Row<'_>> = [rows(document), rows(ours)].into_iter().flatten().collect();
    let mut listed = BTreeSet::new();
    for Row { endpoint, class, storage, test } in rows {
        assert!(listed.insert(endpoint.to_owned()), "{endpoint} stands there twice");
        if class == NOT_YET {
            assert!(storage.is_empty() && test.is_empty(), "{endpoint} is not served yet, and has a test?");
            continue;
        }
        assert!(all.contains(endpoint), "{endpoint} is not described in /openapi.json");
        assert!(CLASSES.contains(&class), "{endpoint}: no such class: {class}");
        assert!(!storage.is_empty(), "{endpoint}: where is what it changes?");
        assert!(tests.contains_key(test), "{endpoint}: there is no test {test}");
    }
    for tag in TAGS {
        let others = described.operations_without(tag);
        let of_tag: Vec<&String> = all.iter().filter(|operation| !others.contains(*operation)).collect();
        assert!(!of_tag.is_empty(), "no operation has the tag {tag}");
        let missing: Vec<_> = of_tag.into_iter().filter(|operation| !listed.contains(*operation)).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
    }
}
