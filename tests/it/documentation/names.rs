//! Settings, metrics and error codes that pages name, against what there is.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{links, pages, root};

#[test]
fn every_setting_that_the_documents_name_exists() {
    let text = std::fs::read_to_string(root().join("conf/schema.json")).expect("it is shipped");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let (mut count, mut wrong) = (0, Vec::new());
    for (page, text) in pages() {
        for name in inline_code(&text).into_iter().filter(|name| is_path(&schema, name)) {
            count += 1;
            if !exists(&schema, &name) {
                wrong.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(count > 100, "only {count} settings are found");
    assert!(wrong.is_empty(), "no such setting:\n{}", wrong.join("\n"));
}

#[test]
fn every_metric_that_a_page_describes_is_in_the_catalogue() {
    let catalogue = std::fs::read_to_string(root().join("docs/metrics.md")).expect("it is there");
    let mut missing = BTreeSet::new();
    for (page, text) in pages().into_iter().filter(|(page, _)| page != "docs/metrics.md") {
        let rows = text.lines().filter(|line| line.starts_with("| `tidegate_") || line.starts_with("| `novatune_"));
        for cell in rows.filter_map(|row| row.trim_start_matches("| ").split(" | ").next()) {
            let names = cell.split(", `").map(|name| name.trim_matches('`').split('{').next().unwrap_or_default());
            missing.extend(
                names.filter(|name| !catalogue.contains(&format!("| `{name}"))).map(|it| format!("{page}: {it}")),
            );
        }
    }
    assert!(missing.is_empty(), "renew it: scripts/renew-metrics.sh\n{missing:#?}");
}

#[test]
fn a_setting_that_is_not_there_is_found() {
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("conf/schema.json")).expect("it is shipped"))
            .expect("JSON");
    for name in [
        "Server.TrustedProxies",
        "Policies.Authorization.<name>.Http",
        "Auth.Jwt.Issuers",
        "Server.Limits.MaxStalledStreams",
    ] {
        assert!(is_path(&schema, name) && exists(&schema, name), "{name}");
    }
    for name in ["Server.TrustedProxy", "Policies.Authorisation.<name>", "Vod.Grant.Keyes"] {
        assert!(is_path(&schema, name) && !exists(&schema, name), "{name}");
    }
    for name in ["Cache-Control", "System.Threading.RateLimiting", "Server", "AuthorizationPolicy"] {
        assert!(!is_path(&schema, name), "{name}");
    }
}

/// What stands between backquotes, outside of blocks.
fn inline_code(text: &str) -> Vec<String> {
    links::prose(text).flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Tells whether a text is a path of keys, from the file's top on.
fn is_path(schema: &Value, text: &str) -> bool {
    let is_key = |key: &str| {
        key.starts_with('<') && key.ends_with('>')
            || !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphanumeric())
    };
    let keys: Vec<&str> = text.split('.').collect();
    keys.len() > 1 && keys.iter().all(|key| is_key(key)) && schema["properties"].get(keys[0]).is_some()
}

/// Tells whether the schema has a path of keys; `<name>` is a name of the operator's.
fn exists(schema: &Value, path: &str) -> bool {
    let mut places = vec![schema];
    for key in path.split('.') {
        places = places.iter().flat_map(|place| forms(schema, place)).flat_map(|place| below(place, key)).collect();
    }
    !places.is_empty()
}

/// The schemas below `place` for `key`.
fn below<'a>(place: &'a Value, key: &str) -> Vec<&'a Value> {
    let own = place["properties"].get(key);
    let named = place.get("additionalProperties").filter(|it| it.is_object());
    own.into_iter().chain(named).collect()
}

/// The schemas that `place` refers to or chooses from, itself and those of a list's items among them.
fn forms<'a>(schema: &'a Value, place: &'a Value) -> Vec<&'a Value> {
    let mut forms = vec![place];
    let refers = place["$ref"].as_str().and_then(|target| schema.pointer(target.trim_start_matches('#')));
    let chosen = ["anyOf", "oneOf", "allOf"].iter().filter_map(|kind| place[*kind].as_array()).flatten();
    for further in refers.into_iter().chain(chosen).chain(place.get("items")) {
        forms.extend(self::forms(schema, further));
    }
    forms
}
