//! Texts, wherever they come from: the environment, files, or anything that is no configuration at all; and that no report
//! shows a secret.

use std::fs;
use std::path::Path;

use proptest::prelude::{any, proptest};

use super::{bad, conf, environment, good, has_leak, load_text, read, with_route};
use crate::config::load;

#[test]
fn texts_come_from_the_environment_where_they_say_so() {
    let text = with_route("ClusterId: web\nMatch: { Path: / }", "Server: { Listeners: [{ Address: \"env:PORT\" }] }\n")
        .replace("http://web:80", "env:S3_ENDPOINT_URL");
    let settings = good(&text);
    assert_eq!(settings.server.http.listeners[0].addresses[0].to_string(), "0.0.0.0:8080");
    assert_eq!(settings.clusters["web"].destinations[0].address.as_str(), "http://canary-endpoint:9000/");
}

#[test]
fn a_secret_file_is_read_without_its_last_line_break() {
    let path = std::env::temp_dir().join(format!("tidegate-secret-{}", std::process::id()));
    fs::write(&path, "a token of the file\r\n").expect("a temporary file");
    let admin = format!("Server: {{ Admin: {{ Address: \"127.0.0.1:1\", Token: \"file:{}\" }} }}\n", path.display());
    let settings = good(&with_route("ClusterId: web\nMatch: { Path: / }", &admin));
    fs::remove_file(&path).expect("it is ours");
    let token = settings.admin.and_then(|admin| admin.token).expect("a token");
    assert_eq!(token.expose(), "a token of the file");
}

#[test]
fn a_file_that_is_not_there_is_a_report_too() {
    let report = load(Path::new("no/such/file.yaml")).map(|_| ()).expect_err("no file").to_string();
    assert!(report.starts_with("no/such/file.yaml: the file cannot be read: "), "{report}");
}

#[test]
fn no_secret_is_shown_wherever_it_was_written() {
    let store = "ObjectStores:\n  minio:\n    Endpoint: http://minio:9000\n";
    for text in [
        "    Credentials: { AccessKey: hunter2, SecretKey: \"hunter2\" }\n",
        "    Credentials: hunter2\n",
        "    Credentials: [hunter2, { a: hunter2 }]\n",
        "    Credentials:\n      SecretKey: |\n        hunter2\n        hunter2\n      AccessKey: >-\n        hunter2\n",
        "    Credentials: { AccesKey: hunter2, Nested: { Deep: [hunter2] } }\n",
        "    Credentials: { SecretKey: !!str hunter2, AccessKey: !secret hunter2 }\n",
        "    Credentials: { SecretKey: \"env:S3_SECRET_KEY\", SecretKey: hunter2 }\n",
        "    Credentials: { SecretKey: hunter2\n",
        "    Credentials: { SecretKey: \"hunter2 }\n",
        "    Endpiont: http://a:hunter2@minio\n    Region: http://b?hunter2\n",
        "    PathStyle: http://a:hunter2@minio\n    hidden: hunter2\n",
        "    Region: \"env:CANARY_PROSE\"\n    Credentials: &a { SecretKey: &b hunter2, AccessKey: *b }\n",
        "    Region: &a hunter2\n    Credentials: { SecretKey: *a }\n",
        "    Region: &a hunter2\n    Credentials: { SecretKey: &b [*a], AccessKey: *b }\n",
        "    Region: &a hunter2\n    Credentials: { SecretKey: \"env:S3_SECRET_KEY\", SecretKey: *a }\n",
    ] {
        let report = bad(&with_route("ClusterId: web\nMatch: { Path: / }\nOder: 1", &format!("{store}{text}")));
        assert!(!has_leak(&report), "{text}\n{report}");
    }
}

#[test]
fn a_tree_too_deep_is_refused() {
    let report = bad(&format!("{}1{}", "[".repeat(70), "]".repeat(70)));
    assert!(report.contains("nested deeper than 64 levels"), "{report}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = load_text("any.yaml", &text, &environment).map_err(|report| report.to_string());
    }

    #[test]
    fn no_cut_makes_it_panic_or_tell(from in 0usize..5000, length in 1usize..60, filler in "[ \\t\\n:{}\\[\\]\"'*&!|>,#a0-]{0,4}") {
        let mut text: Vec<char> = read(&conf("tidegate.yaml")).chars().collect();
        let from = from.min(text.len());
        let to = (from + length).min(text.len());
        text.splice(from..to, filler.chars());
        let text: String = text.into_iter().collect();
        if let Err(report) = load_text("cut.yaml", &text, &environment) {
            assert!(!has_leak(&report.to_string()), "{report}");
        }
    }
}
