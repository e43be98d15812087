//! Whole files in, settings or reports out: the shipped ones, the wrong ones, routes, and what must never be shown.

mod convert;
mod films;
mod fuzz;
mod routes;
mod shipped;
mod texts;
mod yarp;

use std::fs;
use std::path::{Path, PathBuf};

use http::{HeaderMap, Method};

use super::{ProblemReport, Settings, load_text};
use crate::proxy::settings::RouteSettings;
use routing::pattern::Separator;
use routing::table::{RouteLookup, RoutingInput};

/// The variables that the shipped files and the wrong ones name; the values must never be seen in a report.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "S3_ENDPOINT_URL" => "http://canary-endpoint:9000",
        "S3_ACCESS_KEY" => "canary-access",
        "S3_SECRET_KEY" => "canary-secret",
        "S3_BUCKET_NAME" => "canary-bucket",
        "JWT_SECRET_KEY" => "canary-jwt-secret-of-32-characters",
        "ADMIN_TOKEN" => "canary-admin-of-metrics",
        "BEARER_TOKEN" => "canary-bearer-of-sharing",
        "PORT" => "8080",
        "LOG_LEVEL" => "INFO",
        "CANARY_PROSE" => "canary words",
        "CANARY_SHORT" => "canary-short",
        "CANARY_BOT" | "TELEGRAM_TOKEN" => "1:canary-token-of-a-bot",
        "CANARY_EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn load_file(path: &Path) -> Result<Settings, ProblemReport> {
    let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("a file of this repository");
    load_text(&name.display().to_string(), &read(path), &environment)
}

fn good(text: &str) -> Settings {
    load_text("good.yaml", text, &environment).unwrap_or_else(|report| panic!("{report}"))
}

fn bad(text: &str) -> String {
    load_text("bad.yaml", text, &environment).map(|_| ()).expect_err("something is wrong").to_string()
}

/// A file with one open route whose lines are `route`, and `more` at the root.
fn with_route(route: &str, more: &str) -> String {
    let route: String = route.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "ReverseProxy:\n  Clusters:\n    web: {{ Destinations: {{ one: {{ Address: http://web:80 }} }} }}\n  Routes:\n    \
         r:\n      AuthorizationPolicy: Anonymous\n{route}{more}"
    )
}

/// Returns true if a report shows a secret, wherever it comes from.
fn has_leak(report: &str) -> bool {
    ["canary", "hunter2"].iter().any(|secret| report.contains(secret))
}

/// The route that a GET of `path` takes.
fn route<'s>(settings: &'s Settings, path: &str) -> &'s RouteSettings {
    let headers = HeaderMap::new();
    let request = RoutingInput { method: &Method::GET, host: Some("localhost"), path, query: None, headers: &headers };
    match settings.routes.find(&request, Separator::Slash) {
        RouteLookup::Found(found) => found.value,
        _ => panic!("no route for {path}"),
    }
}

#[test]
#[cfg(not(feature = "kafka-tls"))]
fn what_librdkafka_is_built_without_is_refused_with_the_way_to_get_it() {
    for (kafka, feature) in [
        ("Tls: {}", "kafka-tls"),
        ("Sasl: { Mechanism: SCRAM-SHA-512, Username: tidegate, Password: \"env:S3_SECRET_KEY\" }", "kafka-tls"),
        ("Compression: zstd", "kafka-zstd"),
        ("Compression: gzip", "kafka-gzip"),
    ] {
        let events = format!("Events: {{ Kafka: {{ Brokers: [\"kafka:9092\"], {kafka} }} }}\n");
        let report = bad(&with_route("ClusterId: web\nMatch: { Path: / }", &events));
        assert!(report.contains(&format!("cargo build --release --features {feature}")), "{report}");
    }
}

#[test]
#[cfg(not(any(feature = "demo", feature = "kafka", feature = "share")))]
fn a_lean_build_refuses_what_it_lacks_and_names_the_feature() {
    for (section, feature) in [
        ("Share: { Token: \"a-token-of-more-than-sixteen-characters\" }", "share"),
        ("Events: { Kafka: { Brokers: [\"kafka:9092\"] } }", "kafka"),
        ("ObjectStores: { files: { Embedded: ./media } }", "demo"),
        ("Telemetry: { Otlp: { Endpoint: \"http://collector:4318\" } }", "otlp"),
    ] {
        let report = bad(&with_route("ClusterId: web\nMatch: { Path: / }", &format!("{section}\n")));
        assert!(report.contains(&format!("cargo build --release --features {feature}")), "{report}");
    }
}

#[test]
fn a_prefix_may_name_a_node_of_a_cluster_and_may_not_scatter_what_belongs_together() {
    let prefix = |prefix| {
        with_route(
            "ClusterId: web\nMatch: { Path: / }",
            &format!("State: {{ Url: \"redis://redis:6379\", Prefix: \"{prefix}\" }}\n"),
        )
    };
    let report = bad(&prefix("tide{}:"));
    assert!(report.contains("State.Prefix") && report.contains("the braces are empty"), "{report}");
    assert!(
        !load_text("x.yaml", &prefix("{tide}:"), &environment)
            .is_err_and(|report| report.to_string().contains("Prefix"))
    );
}
