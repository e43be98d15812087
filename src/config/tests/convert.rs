//! Configurations of other programs, and what comes out of them.

use super::yarp::{FILES, file};
use super::{Settings, environment, load_text};
use crate::config::convert::{SETTINGS, convert_nginx_s3_gateway, convert_yarp};
use crate::config::{ConvertedConfig, ProblemReport};
use crate::proxy::settings::{AuthorizationSettings, HandlerSettings};
use s3::settings::{ProviderKind, StoreCredentials, StoreEndpoint};

fn with_keys(name: &str) -> Option<String> {
    let is_key = matches!(name, "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN");
    is_key.then(|| "canary-key".to_owned()).or_else(|| environment(name))
}

fn converted(name: &str, text: &str) -> ConvertedConfig {
    convert_yarp(name, text, &environment).unwrap_or_else(|report: ProblemReport| panic!("{report}"))
}

fn load(converted: &ConvertedConfig) -> Settings {
    load_text("made.yaml", &converted.yaml, &with_keys).unwrap_or_else(|report| panic!("{report}\n{}", converted.yaml))
}

#[test]
fn what_is_made_of_files_of_yarp_loads_and_names_what_it_leaves_out() {
    for ((name, text), refused) in FILES {
        let made = converted(name, text);
        let settings = load(&made);
        assert!(settings.routes.entries().count() > 0, "{name}");
        for key in *refused {
            assert!(
                made.refused.iter().any(|line| line.contains(&format!("`{key}` is "))),
                "{name}: {key}: {:?}",
                made.refused
            );
            assert!(made.yaml.contains(key), "{name}: {key} stays as a comment: {}", made.yaml);
        }
        if refused.is_empty() {
            assert!(made.refused.is_empty(), "{name}: {:?}", made.refused);
        }
    }
}

#[test]
fn a_line_whose_meaning_changed_has_a_comment() {
    let made = converted("a.json", file("policies"));
    for expected in [
        "DefaultAuthorizationPolicy: Anonymous  # as in YARP: who names no policy is open",
        "Timeout: \"00:01:00\"  # limits the wait for the first byte and each pause",
    ] {
        assert!(made.yaml.contains(expected), "no {expected:?} in\n{}", made.yaml);
    }
    let made = converted("a.json", file("two_routes"));
    for expected in [
        "# line 4: `Kestrel` is .NET's and was skipped",
        "- { Address: \"localhost:7000\" }",
        "Methods: [GET, POST]  # takes HEAD too",
    ] {
        assert!(made.yaml.contains(expected), "no {expected:?} in\n{}", made.yaml);
    }
    let listener = &load(&made).server.http.listeners[0].addresses[0];
    assert_eq!(listener.to_string(), "localhost:7000");
}

#[test]
fn policies_of_the_applications_code_let_nobody_in_until_they_are_written() {
    let text = file("authorization").replace("\"readers\": { \"Require\"", "\"others\": { \"Require\"");
    let without_auth =
        text.replace("\"Auth\": { \"Jwt\": { \"Issuers\": [ { \"Secret\": \"env:JWT_SECRET_KEY\" } ] } },", "");
    for text in [&text, &without_auth] {
        let made = converted("a.json", text);
        assert!(
            made.yaml.contains("readers:  # was code: lets nobody in until its rules are written here"),
            "{}",
            made.yaml
        );
        let settings = load(&made);
        let readers = settings.routes.entries().find(|entry| &*entry.id == "Readers").expect("the route stays");
        let AuthorizationSettings::Policy { claims, .. } = &readers.value.authorization else { panic!("it is closed") };
        assert_eq!((&*claims.name, claims.rules.len()), ("readers", 1));
    }
}

#[test]
fn a_route_goes_with_a_condition_or_a_policy_that_is_refused_and_never_takes_more_than_before() {
    let header = "\"Headers\": [ { \"Name\": \"X-One\", \"Values\": [ \"\" ] } ]";
    let text = format!(
        "{{ \"ReverseProxy\": {{ \"Routes\": {{ \"a\": {{ \"ClusterId\": \"c\", \"Match\": {{ \"Path\": \"/a\", {header} }} }}, \"b\": {{ \"ClusterId\": \
         \"c\", \"Match\": {{ \"Path\": \"/b\" }}, \"Transforms\": [ {{ \"Custom\": \"x\", \"When\": \"Always\" }}, {{ \"PathPrefix\": \"/p\" }} ] }} }}, \"Clusters\": {{ \
         \"c\": {{ \"Destinations\": {{ \"good\": {{ \"Address\": \"http://one\" }}, \"bad\": {{ \"Address\": \"{{{{name}}}}\" }} }} }} }} }}, \"Custom\": {{}} }}"
    );
    let made = converted("a.json", &text);
    let settings = load(&made);
    let ids: Vec<&str> = settings.routes.entries().map(|entry| &*entry.id).collect();
    assert_eq!(ids, ["b"]);
    let HandlerSettings::Cluster(plain) = &settings.routes.entries().next().expect("a route").value.handler else {
        panic!("plain")
    };
    assert_eq!((plain.transforms.len(), plain.cluster.destinations.len()), (1, 1));
    assert!(made.yaml.contains("# - { Custom: x, When: Always }\n"), "{}", made.yaml);
    assert!(
        made.refused.iter().any(|line| line.starts_with("line 1: ReverseProxy.Clusters.c.Destinations.bad")),
        "{:?}",
        made.refused
    );
}

#[test]
fn what_is_nothing_of_yarps_is_reported_as_check_does() {
    for (text, expected) in [
        ("{", "this is not YAML"),
        ("{ \"ReverseProxy\": {} }", "there is no route"),
        ("{ \"ReverseProxy\": { \"Routes\": [] } }", "found a list"),
        ("[]", "found a list"),
    ] {
        let report = convert_yarp("a.json", text, &environment).expect_err(text).to_string();
        assert!(report.contains(expected), "{text}: {report}");
    }
}

/// Settings of a gateway, each once.
const GATEWAY: &str = "# A gateway
export S3_BUCKET_NAME=\"songs\"
S3_SERVER=s3.eu-central-1.amazonaws.com
S3_SERVER_PORT=443
S3_SERVER_PROTO=https
S3_REGION=eu-central-1
S3_STYLE=virtual-v2
S3_SERVICE=s3
AWS_SIGS_VERSION=4
AWS_ACCESS_KEY_ID=hunter2
AWS_SECRET_ACCESS_KEY=hunter2
AWS_SESSION_TOKEN=hunter2
PROXY_CACHE_MAX_SIZE=10g
PROXY_CACHE_SLICE_SIZE=1m
PROXY_CACHE_VALID_OK=2h
PROXY_CACHE_VALID_NOTFOUND=5m
PROXY_CACHE_VALID_FORBIDDEN=30s
PROXY_CACHE_USE_STALE=off
CORS_ENABLED=true
CORS_ALLOWED_ORIGIN=https://app.example/
STRIP_LEADING_DIRECTORY_PATH=/music
PREFIX_LEADING_DIRECTORY_PATH=/published
PROVIDE_INDEX_PAGE=1
APPEND_SLASH_FOR_POSSIBLE_DIRECTORY=true
ALLOW_DIRECTORY_LIST=true
DEBUG=true
IPV6_ENABLED=true
SOMETHING_ELSE=1
";

#[test]
fn the_settings_of_nginx_s3_gateway_become_a_configuration_that_loads() {
    let made = convert_nginx_s3_gateway("gateway.env", GATEWAY).unwrap_or_else(|report| panic!("{report}"));
    assert!(!made.yaml.contains("hunter2"), "{}", made.yaml);
    let settings = load(&made);
    let store = &settings.stores[0];
    assert_eq!(
        store.endpoint,
        StoreEndpoint::Remote("https://s3.eu-central-1.amazonaws.com:443".parse().expect("a URL"))
    );
    assert_eq!((&*store.region, store.path_style), ("eu-central-1", false));
    let route = super::route(&settings, "/music/a/b.mp3");
    let HandlerSettings::Object(object) = &route.handler else { panic!("an object route") };
    assert_eq!(&*object.bucket, "songs");
    assert!(made.yaml.contains("Key: \"published/{**key}\""), "{}", made.yaml);
    let policy = object.response.cache.expect("it is cached");
    let times = [policy.ttl, policy.negative_ttl, policy.denied_ttl, policy.stale_if_error];
    assert_eq!(times.map(|time| time.as_secs()), [7200, 60, 30, 0]);
    assert!(route.cors.is_some());
    assert_eq!((object.index.as_deref(), object.lists_folders), (Some("index.html"), true));
    assert_eq!(&*super::route(&settings, "/music/").id, "objects");
    assert_eq!(settings.cache.slice_size, 1 << 20);
    let named: Vec<&str> = made.refused.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(named, ["SOMETHING_ELSE"]);
}

#[test]
fn a_gateway_of_minio_needs_four_lines_and_one_without_a_bucket_is_refused() {
    let few = "S3_BUCKET_NAME=songs\nS3_SERVER=10.0.0.1\nS3_SERVER_PORT=9000\nS3_SERVER_PROTO=http\nS3_STYLE=default\n";
    let made = convert_nginx_s3_gateway("gateway.env", few).unwrap_or_else(|report| panic!("{report}"));
    let settings = load(&made);
    assert!(settings.stores[0].path_style, "an address has no buckets before it");
    assert!(made.yaml.contains("Credentials: { Provider: default }"), "{}", made.yaml);
    assert_eq!(&*super::route(&settings, "/a.mp3").id, "objects");
    let report =
        convert_nginx_s3_gateway("gateway.env", "AWS_SECRET_ACCESS_KEY=hunter2\n").expect_err("no bucket").to_string();
    assert!(report.contains("`S3_BUCKET_NAME` is not set") && report.contains("`S3_SERVER` is not set"), "{report}");
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
#[cfg(feature = "aws-credentials")]
fn a_gateway_with_a_role_asks_the_same_token_service() {
    let role = "S3_BUCKET_NAME=songs\nS3_SERVER=minio\nAWS_ROLE_ARN=arn:aws:iam::123456789012:role/reader\n\
                AWS_WEB_IDENTITY_TOKEN_FILE=/run/token\nSTS_ENDPOINT=http://minio:9000\n";
    let made = convert_nginx_s3_gateway("gateway.env", role).unwrap_or_else(|report| panic!("{report}"));
    assert!(made.refused.is_empty(), "{:?}", made.refused);
    let credentials = &load(&made).stores[0].credentials;
    let StoreCredentials::Temporary(provider) = credentials else { panic!("{credentials:?}") };
    let ProviderKind::WebIdentity { role, token_file } = &provider.kind else { panic!("{provider:?}") };
    assert_eq!((&*role.arn, token_file.to_str()), ("arn:aws:iam::123456789012:role/reader", Some("/run/token")));
    assert_eq!(role.endpoint.as_ref().map(|url| url.as_str()), Some("http://minio:9000/"));
}

#[test]
fn the_table_of_the_documentation_has_every_setting_of_the_gateway() {
    let page = super::read(&super::conf("../docs/migrations/nginx.md"));
    for (name, ours) in SETTINGS {
        assert!(page.contains(&format!("| `{name}` | {ours} |\n")), "docs/migrations/nginx.md: | `{name}` | {ours} |");
    }
    let table = page.split_once("| nginx-s3-gateway | here |").map(|(_, rest)| rest).expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| `"));
    assert_eq!(rows.count(), SETTINGS.len(), "docs/migrations/nginx.md has a row that the conversion does not know");
}
