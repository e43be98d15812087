//! Whole files in, settings or reports out: the shipped ones, the wrong ones, and what must never be shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, Method};
use proptest::prelude::{any, proptest};

use super::{ProblemReport, Settings, load, load_text, reference, schema};
use crate::proxy::settings::{AuthorizationSettings, HandlerSettings, RouteSettings, UpstreamTimeouts};
use http_server::connection_limits::DataRate;
use routing::pattern::Separator;
use routing::table::{RouteLookup, RoutingInput};
use s3::settings::StoreEndpoint;
use upstream::settings::{ActiveHealthCheck, AvailabilityPolicy, HealthCheckSettings, PassiveHealthCheck};

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
    ] {
        let report = bad(&with_route("ClusterId: web\nMatch: { Path: / }", &format!("{section}\n")));
        assert!(report.contains(&format!("cargo build --release --features {feature}")), "{report}");
    }
}

#[test]
#[cfg_attr(not(feature = "kafka"), ignore = "its reports are those of a whole build")]
fn every_wrong_file_gets_its_whole_report() {
    let mut files: Vec<_> =
        fs::read_dir(conf("bad")).expect("conf/bad").map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    assert!(files.len() >= 20, "only {} wrong files", files.len());
    let mut wrong = String::new();
    for path in files {
        let report = load_file(&path).map(|_| ()).expect_err(&path.display().to_string());
        let report = format!("{report}\n");
        assert!(!has_leak(&report), "{report}");
        let expected = path.with_extension("expected");
        if fs::read_to_string(&expected).unwrap_or_default() != report {
            wrong.push_str(&report);
        }
    }
    // A report that is better now: `tidegate check conf/bad/NN-name.yaml 2> conf/bad/NN-name.expected`.
    assert!(wrong.is_empty(), "reports that differ from their .expected:\n{wrong}");
}

#[test]
fn every_shipped_file_is_good() {
    for name in ["tidegate.yaml", "minimal.yaml", "yarp.json"] {
        let settings = load_file(&conf(name)).unwrap_or_else(|report| panic!("{report}"));
        assert!(settings.routes.entries().count() > 0, "{name}");
        let masked = format!("{settings:?}");
        let secrets = ["canary-access", "canary-secret", "canary-jwt-secret", "canary-admin", "canary-bearer"];
        assert!(!secrets.iter().any(|secret| masked.contains(secret)), "{name}: {masked}");
    }
}

#[test]
fn every_shipped_yaml_tells_editors_its_schema() {
    for folder in ["", "bad"] {
        for entry in fs::read_dir(conf(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "yaml") {
                assert!(read(&path).starts_with("# yaml-language-server: $schema="), "{}", path.display());
            }
        }
    }
}

#[test]
fn the_shipped_schema_is_that_of_the_program() {
    let made = format!("{:#}\n", schema());
    assert!(read(&conf("schema.json")) == made, "renew it: tidegate schema > conf/schema.json");
}

#[test]
fn the_reference_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = read(&path);
    let (_, rest) = text.split_once("<!-- reference -->\n\n").expect("the reference begins");
    let (tables, _) = rest.split_once("<!-- /reference -->").expect("the reference ends");
    assert!(tables == reference(), "renew it: tidegate schema --reference, between the two marks");
}

#[test]
fn the_configuration_of_yarp_is_an_object_route_behind_a_token() {
    let settings = load_file(&conf("yarp.json")).expect("a good file");
    let route = route(&settings, "/stream/a/b.mp3");
    let HandlerSettings::Object(object) = &route.handler else { panic!("{route:?}") };
    assert_eq!((&*object.store.name, &*object.bucket), ("minio", "audio"));
    assert_eq!(object.cluster.as_ref().map(|cluster| &*cluster.id), Some("minio"));
    assert!(matches!(&route.authorization, AuthorizationSettings::Policy { claims, .. } if claims.rules.is_empty()));
    assert_eq!(
        settings.stores[0].endpoint,
        StoreEndpoint::Remote("http://canary-endpoint:9000".parse().expect("a URL"))
    );
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
fn what_is_not_said_has_its_default() {
    let settings = load_file(&conf("minimal.yaml")).expect("a good file");
    let server = &settings.server;
    assert_eq!(server.http.listeners.len(), 1);
    assert_eq!(server.http.listeners[0].address.to_string(), "0.0.0.0:8080");
    let limits = server.http.limits;
    assert_eq!([limits.head, limits.write, limits.body, limits.idle], [10, 30, 30, 75].map(Duration::from_secs));
    assert_eq!((limits.head_bytes, limits.header_lines, limits.streams, limits.requests), (64 << 10, 256, 100, None));
    let rate = DataRate { bytes_per_second: 240, window: Duration::from_secs(60) };
    assert_eq!((limits.response_rate, limits.body_rate, server.request_timeout), (rate, rate, None));
    assert_eq!(server.http.shutdown_grace, Duration::from_secs(30));
    let connections = &server.http.connections;
    assert_eq!((connections.total, connections.per_address, connections.per_network), (16_384, 4096, 4096));
    assert!(server.http.threads > 0 && settings.admin.is_none());
    assert_eq!((settings.cache.slice_size, settings.cache.memory), (256 << 10, 256 << 20));
    assert!(settings.cache.disk.is_none());
    assert_eq!(settings.stores[0].presign_expiry, Duration::from_secs(900));
    assert_eq!(settings.stores[0].endpoint, StoreEndpoint::Embedded("./data/objects".into()));
    assert_eq!(settings.stores[0].credentials.secret_key.value.expose(), "");
    let route = route(&settings, "/stream/x");
    assert!(matches!(route.authorization, AuthorizationSettings::Anonymous));
    let seconds = Duration::from_secs;
    assert_eq!(route.timeouts, UpstreamTimeouts { connect: seconds(2), first_byte: seconds(5), idle: seconds(30) });
    assert_eq!(route.max_request_body, Some(30_000_000));
}

#[test]
fn a_route_is_cached_by_the_policy_that_it_names() {
    let policy = "Policies: { OutputCache: { songs: { Ttl: 1m, HonourCacheControl: true, StaleIfError: 0s } } }\n";
    let store = "ObjectStores: { local: { Embedded: ./objects } }\nCache: { SliceSize: 64KiB, Memory: 1GiB, Disk: { Path: ./c, Size: 1GiB } }\n";
    let default = object_engine::cache::CachePolicy {
        ttl: Duration::from_secs(10),
        honour_cache_control: false,
        stale_while_revalidate: Duration::from_secs(10),
        stale_if_error: Duration::from_secs(86_400),
        negative_ttl: Duration::from_secs(2),
    };
    let songs = object_engine::cache::CachePolicy {
        ttl: Duration::from_secs(60),
        honour_cache_control: true,
        stale_if_error: Duration::ZERO,
        ..default
    };
    let object =
        "Match: { Path: \"/{a}\" }\nTransforms: [{ PresignedUrl: { Store: local, Bucket: abc, Key: \"{a}\" } }]";
    for (line, expected) in [
        ("", None),
        ("OutputCachePolicy: Disable", None),
        ("OutputCachePolicy: Default", Some(default)),
        ("OutputCachePolicy: songs", Some(songs)),
    ] {
        let settings = good(&with_route(&format!("{object}\n{line}"), &format!("{policy}{store}")));
        let HandlerSettings::Object(object) = &route(&settings, "/x").handler else { panic!("an object route") };
        assert_eq!(object.response.cache, expected, "{line}");
        assert_eq!((settings.cache.slice_size, settings.cache.memory), (64 << 10, 1 << 30));
        assert_eq!(settings.cache.disk.map(|disk| disk.size), Some(1 << 30));
    }
}

#[test]
fn a_limit_is_the_routes_then_the_clusters_then_the_default() {
    let seconds = Duration::from_secs;
    let of = |connect, first_byte, idle| UpstreamTimeouts { connect, first_byte, idle };
    let policy = "Policies: { Timeout: { slow: { FirstByte: 1m } } }\n";
    let cluster = "    busy: { HttpRequest: { ActivityTimeout: \"00:01:40\" } }\n  Routes:";
    for (line, expected) in [
        ("ClusterId: web", of(seconds(15), seconds(100), seconds(100))),
        ("ClusterId: web\nTimeoutPolicy: slow", of(seconds(2), seconds(60), seconds(30))),
        ("ClusterId: web\nTimeout: 00:00:01", of(seconds(1), seconds(1), seconds(1))),
        ("ClusterId: busy", of(seconds(15), seconds(100), seconds(100))),
        ("ClusterId: busy\nTimeoutPolicy: slow", of(seconds(2), seconds(60), seconds(30))),
        ("ClusterId: web\nTimeoutPolicy: Disable", of(seconds(15), seconds(86_400), seconds(86_400))),
    ] {
        let text = with_route(&format!("Match: {{ Path: / }}\n{line}"), policy).replace("  Routes:", cluster);
        assert_eq!(route(&good(&text), "/").timeouts, expected, "{line}");
    }
}

#[test]
fn a_number_of_bytes_limits_the_body_and_minus_one_does_not() {
    for (line, expected) in [("-1", None), ("1024", Some(1024)), ("10MiB", Some(10 << 20)), ("\"64KiB\"", Some(65_536))]
    {
        let text = with_route(&format!("ClusterId: web\nMatch: {{ Path: / }}\nMaxRequestBodySize: {line}"), "");
        assert_eq!(route(&good(&text), "/").max_request_body, expected, "{line}");
    }
}

#[test]
fn what_is_switched_off_asks_for_nothing() {
    let off = "ClusterId: web\nMatch: { Path: / }\nRateLimiterPolicy: Disable\nCorsPolicy: Disable\nMetadata: { a: b }";
    let cluster = "one: { Address: http://web:80 } }, SessionAffinity: { Enabled: false, Policy: ArrCookie }, \
                   HealthCheck: { Active: { Enabled: \"false\" } }, HttpClient: { WebProxy: null }";
    let text = with_route(off, "Cache:\n").replace("one: { Address: http://web:80 } }", cluster);
    assert!(route(&good(&text), "/").cors.is_none());
}

#[test]
fn a_disabled_route_is_checked_and_not_served() {
    let text = with_route("ClusterId: web\nMatch: { Path: / }\nEnabled: false", "");
    assert_eq!(good(&text).routes.entries().count(), 0);
    assert!(bad(&text.replace("ClusterId: web", "ClusterId: wbe")).contains("did you mean `web`?"));
}

#[test]
fn destinations_keep_the_order_of_the_file() {
    let more = "two: { Address: http://b }, one: { Address: http://a }, three: { Address: http://c }";
    let text = with_route("ClusterId: web\nMatch: { Path: / }", "").replace("one: { Address: http://web:80 }", more);
    let settings = good(&text);
    let ids: Vec<_> = settings.clusters["web"].destinations.iter().map(|one| &*one.id).collect();
    assert_eq!(ids, ["two", "one", "three"]);
}

#[test]
fn health_checks_are_those_of_yarp_and_a_store_has_a_path_of_its_own() {
    let active = |target: &str| ActiveHealthCheck { target: target.to_owned(), ..ActiveHealthCheck::default() };
    let rate = |failure_rate, seconds| PassiveHealthCheck { failure_rate, reactivation: Duration::from_secs(seconds) };
    for (check, expected) in [
        ("{ Active: { Path: /x }, Passive: {} }", HealthCheckSettings::default()),
        (
            "{ Active: { Enabled: \"true\" }, AvailableDestinationsPolicy: HealthyOrPanic }",
            HealthCheckSettings {
                active: Some(active("/")),
                passive: None,
                available: AvailabilityPolicy::HealthyOrPanic,
            },
        ),
        (
            "{ Active: { Enabled: true, Interval: 00:00:05, Timeout: 2s, Path: up, Query: \"?full=1\" } }, \
             Metadata: { ConsecutiveFailuresHealthPolicy.Threshold: \"3\" }",
            HealthCheckSettings {
                active: Some(ActiveHealthCheck {
                    interval: Duration::from_secs(5),
                    timeout: Duration::from_secs(2),
                    threshold: 3,
                    ..active("/up?full=1")
                }),
                ..HealthCheckSettings::default()
            },
        ),
        (
            "{ Passive: { Enabled: true, Policy: TransportFailureRate, ReactivationPeriod: 00:02:00 } }, \
             Metadata: { TransportFailureRateHealthPolicy.RateLimit: \"0.5\" }",
            HealthCheckSettings { passive: Some(rate(0.5, 120)), ..HealthCheckSettings::default() },
        ),
    ] {
        let cluster = format!("one: {{ Address: http://web:80, Health: http://web:81 }} }}, HealthCheck: {check}");
        let text =
            with_route("ClusterId: web\nMatch: { Path: / }", "").replace("one: { Address: http://web:80 } }", &cluster);
        let web = &good(&text).clusters["web"];
        assert_eq!((&web.health, web.destinations[0].probe.is_some()), (&expected, true), "{check}");
    }
    let shipped = load_file(&conf("tidegate.yaml")).expect("a good file");
    assert_eq!(shipped.clusters["minio"].health.active, Some(active("/minio/health/live")));
    let unsaid = read(&conf("tidegate.yaml")).replace(", Path: /minio/health/live }", " }");
    assert_eq!(good(&unsaid).clusters["minio"].health, shipped.clusters["minio"].health);
}

#[test]
fn every_transform_of_yarp_is_read() {
    let transforms = [
        "PathSet: /a",
        "PathPrefix: /a",
        "PathRemovePrefix: /a",
        "PathPattern: \"/b/{**rest}\"",
        "{ QueryValueParameter: v, Set: \"1\" }",
        "{ QueryRouteParameter: v, Append: rest }",
        "QueryRemoveParameter: v",
        "{ HttpMethodChange: PUT, Set: post }",
        "RequestHeadersCopy: \"false\"",
        "RequestHeaderOriginalHost: true",
        "{ RequestHeader: X-A, Set: \"\" }",
        "{ RequestHeaderRouteValue: X-A, Append: rest }",
        "RequestHeaderRemove: Cookie",
        "RequestHeadersAllowed: Range;If-Range",
        "{ X-Forwarded: Append, Proto: \"Off\", HeaderPrefix: X-F- }",
        "{ Forwarded: \"for, proto\", ForFormat: Ip, Action: Append }",
        "ResponseHeadersCopy: true",
        "{ ResponseHeader: X-A, Append: b, When: Always }",
        "{ ResponseHeaderRemove: Server, When: Failure }",
        "ResponseHeadersAllowed: Content-Type",
    ];
    let list: String = transforms.iter().map(|transform| format!("\n  - {transform}")).collect();
    let settings =
        good(&with_route(&format!("ClusterId: web\nMatch: {{ Path: \"/{{**rest}}\" }}\nTransforms:{list}"), ""));
    let HandlerSettings::Cluster(plain) = &route(&settings, "/x").handler else { panic!("a plain route") };
    assert_eq!(plain.transforms.len(), transforms.len());
}

#[test]
fn texts_come_from_the_environment_where_they_say_so() {
    let text = with_route("ClusterId: web\nMatch: { Path: / }", "Server: { Listeners: [{ Address: \"env:PORT\" }] }\n")
        .replace("http://web:80", "env:S3_ENDPOINT_URL");
    let settings = good(&text);
    assert_eq!(settings.server.http.listeners[0].address.to_string(), "0.0.0.0:8080");
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
