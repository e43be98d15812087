//! Routes and clusters, from their lines to their settings.

use std::time::Duration;

use http_server::connection_limits::DataRate;
use s3::settings::{StoreCredentials, StoreEndpoint};
use upstream::settings::{ActiveHealthCheck, AvailabilityPolicy, HealthCheckSettings, PassiveHealthCheck};

use super::{bad, conf, good, load_file, read, route, with_route};
use crate::proxy::settings::{AuthorizationSettings, HandlerSettings, UpstreamTimeouts};

#[test]
fn what_is_not_said_has_its_default() {
    let settings = load_file(&conf("minimal.yaml")).expect("a good file");
    let server = &settings.server;
    assert_eq!(server.http.listeners.len(), 1);
    assert_eq!(server.http.listeners[0].addresses[0].to_string(), "0.0.0.0:8080");
    let limits = server.http.limits;
    assert_eq!([limits.head, limits.write, limits.body, limits.idle], [10, 30, 30, 75].map(Duration::from_secs));
    assert_eq!((limits.head_bytes, limits.header_lines, limits.streams, limits.requests), (64 << 10, 256, 100, None));
    let rate = DataRate { bytes_per_second: 240, window: Duration::from_secs(60) };
    assert_eq!((limits.response_rate, limits.body_rate, server.request_timeout), (rate, rate, None));
    assert_eq!(server.http.shutdown_grace, Duration::from_secs(30));
    let connections = server.http.connections;
    assert_eq!((connections.total, connections.per_address, connections.per_network), (16_384, 4096, 4096));
    assert!(server.http.worker_threads() > 0 && settings.admin.is_none());
    assert_eq!((settings.cache.slice_size, settings.cache.memory), (256 << 10, 256 << 20));
    assert!(settings.cache.disk.is_none());
    assert_eq!(settings.stores[0].presign_expiry, Duration::from_secs(900));
    assert_eq!(settings.stores[0].endpoint, StoreEndpoint::Embedded("./data/objects".into()));
    assert_eq!(settings.stores[0].credentials, StoreCredentials::Anonymous);
    let route = route(&settings, "/stream/x");
    assert!(matches!(route.authorization, AuthorizationSettings::Anonymous));
    let seconds = Duration::from_secs;
    let at_once = seconds(0);
    assert_eq!(
        route.timeouts,
        UpstreamTimeouts { connect: seconds(2), first_byte: seconds(5), idle: seconds(30), unavailable: at_once }
    );
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
        denied_ttl: Duration::ZERO,
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
    let of = |connect, first_byte, idle| UpstreamTimeouts { connect, first_byte, idle, unavailable: seconds(0) };
    let policy = "Policies: { Timeout: { slow: { FirstByte: 1m }, patient: { Unavailable: 20s } } }\n";
    let cluster = "    busy: { HttpRequest: { ActivityTimeout: \"00:01:40\" } }\n  Routes:";
    for (line, expected) in [
        ("ClusterId: web", of(seconds(15), seconds(100), seconds(100))),
        ("ClusterId: web\nTimeoutPolicy: slow", of(seconds(2), seconds(60), seconds(30))),
        (
            "ClusterId: web\nTimeoutPolicy: patient",
            UpstreamTimeouts { unavailable: seconds(20), ..of(seconds(2), seconds(5), seconds(30)) },
        ),
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
        "ClientCert: X-Client-Cert",
        "RequestHeadersAllowed: Range;If-Range",
        "{ X-Forwarded: Append, Proto: \"Off\", HeaderPrefix: X-F- }",
        "{ Forwarded: \"for, proto\", ForFormat: Ip, Action: Append }",
        "ResponseHeadersCopy: true",
        "{ ResponseHeader: X-A, Append: b, When: Always }",
        "{ ResponseHeaderRemove: Server, When: Failure }",
        "ResponseHeadersAllowed: Content-Type",
        "ResponseTrailersCopy: \"false\"",
        "{ ResponseTrailer: X-A, Append: b, When: Always }",
        "{ ResponseTrailerRemove: X-B, When: Failure }",
        "ResponseTrailersAllowed: grpc-status;grpc-message",
    ];
    let list: String = transforms.iter().map(|transform| format!("\n  - {transform}")).collect();
    let settings =
        good(&with_route(&format!("ClusterId: web\nMatch: {{ Path: \"/{{**rest}}\" }}\nTransforms:{list}"), ""));
    let HandlerSettings::Cluster(plain) = &route(&settings, "/x").handler else { panic!("a plain route") };
    assert_eq!(plain.transforms.len(), transforms.len());
}
