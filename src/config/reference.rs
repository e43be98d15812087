//! Tables of `docs/configuration.md`, generated from the schema, so that the reference and the program agree.

use std::fmt::Write;

use serde_json::Value as Json;

/// Returns the reference in Markdown: one table for each mapping of the file.
pub fn reference() -> String {
    let schema = super::schema();
    let mut out = String::new();
    table(&mut out, "The file", &schema);
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        if definition.get("properties").is_some() {
            table(&mut out, name, definition);
        } else {
            names(&mut out, name, definition);
        }
    }
    refused(&mut out);
    out
}

/// Keys that are known and refused, each with the reason.
fn refused(out: &mut String) {
    out.push_str(
        "### Refused\n\nKeys that are known and not supported. A value that switches the feature off is accepted.\n\n",
    );
    out.push_str("| Key | Reason | Instead |\n|---|---|---|\n");
    for (path, why, instead) in super::refused::REFUSED {
        // Not as code, which would name a key that can be set.
        let path = path.replace('*', "\\*");
        let _ = writeln!(out, "| {path} | {} | {} |", line(why), line(instead));
    }
    out.push('\n');
}

fn heading(out: &mut String, name: &str, schema: &Json) {
    let description = schema["description"].as_str().unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(out, "### {name}\n\n{}\n\n", line(description));
}

fn table(out: &mut String, name: &str, schema: &Json) {
    heading(out, name, schema);
    out.push_str("| Key | Value | Meaning |\n|---|---|---|\n");
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let needed = if required.contains(&key.as_str()) { ", **needed**" } else { "" };
        let description = line(property["description"].as_str().unwrap_or_default());
        let _ = writeln!(out, "| `{key}` | {}{needed} | {description} |", value(property));
    }
    out.push('\n');
}

fn names(out: &mut String, name: &str, schema: &Json) {
    heading(out, name, schema);
    out.push_str("| Value | Meaning |\n|---|---|\n");
    for choice in schema["oneOf"].as_array().into_iter().flatten() {
        let description = line(choice["description"].as_str().unwrap_or_default());
        let _ = writeln!(out, "| `{}` | {description} |", choice["const"].as_str().unwrap_or_default());
    }
    out.push('\n');
}

/// Describes the value of a key, with a link to the table of a mapping.
fn value(schema: &Json) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    // schemars describes an optional mapping as `anyOf` of the mapping and null.
    if let Some(choice) = schema["anyOf"].as_array().and_then(|all| all.iter().find(|choice| choice["type"] != "null"))
    {
        return value(choice);
    }
    let types: Vec<&str> = match &schema["type"] {
        Json::Array(types) => types.iter().filter_map(Json::as_str).filter(|name| *name != "null").collect(),
        name => name.as_str().into_iter().collect(),
    };
    match (schema["format"].as_str(), types.as_slice()) {
        (Some("time-span"), _) => "time span".to_owned(),
        (Some("byte-size"), _) => "bytes".to_owned(),
        (Some("secret-ref"), _) => "`env:` or `file:`".to_owned(),
        (Some("flag"), _) | (_, ["boolean"]) => "true or false".to_owned(),
        (_, ["integer"]) => "number".to_owned(),
        (_, ["array"]) => format!("list of {}", value(&schema["items"])),
        (_, ["string", "array"]) => "text, or a list of texts".to_owned(),
        (_, ["object"]) => format!("names with {}", value(&schema["additionalProperties"])),
        (_, ["string"]) => "text".to_owned(),
        _ => "text or number".to_owned(),
    }
}

/// Joins a description into one line: it has the line breaks of the source, a table must have none.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
