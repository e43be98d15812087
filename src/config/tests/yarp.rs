//! Files of the shape of YARP's samples and of the examples in its documentation: `tests/yarp/`, with names and values of our own.

use std::time::Duration;

use http::Method;

use super::{Settings, bad, environment, has_leak, load_text};
use crate::proxy::settings::{AuthorizationSettings, HandlerSettings, RouteSettings};
use routing::load_balancing::LoadBalancing;
use routing::transform::Transform;
use upstream::settings::AvailabilityPolicy;

macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("yarp/", $name, ".json")))
    };
}

/// Name and text of each file, and the keys of it that are refused.
pub const FILES: &[((&str, &str), &[&str])] = &[
    (file!("first_steps"), &[]),
    (file!("authorization"), &[]),
    (file!("two_routes"), &[]),
    (file!("many_clusters"), &[]),
    (file!("lets_encrypt"), &[]),
    (file!("container"), &[]),
    (file!("matchers"), &[]),
    (file!("policies"), &[]),
    (file!("any_case"), &[]),
    (
        file!("every_property"),
        &["SslProtocols", "DangerousAcceptAnyServerCertificate", "MaxConnectionsPerServer", "WebProxy"],
    ),
    (file!("transforms"), &[]),
    (file!("forwarded"), &["ByFormat"]),
    (
        file!("client_and_request"),
        &["SslProtocols", "MaxConnectionsPerServer", "DangerousAcceptAnyServerCertificate", "SslProtocols"],
    ),
    (file!("health_and_affinity"), &[]),
];

/// The file as an operator completes it, who has decided about routes that say nothing.
fn decided(text: &str) -> String {
    let section = "\"ReverseProxy\": {";
    assert_eq!(text.matches(section).count(), 1, "one section");
    text.replace(section, "\"ReverseProxy\": { \"DefaultAuthorizationPolicy\": \"Anonymous\",")
}

fn load(text: &str) -> Settings {
    load_text("appsettings.json", text, &environment).unwrap_or_else(|report| panic!("{report}"))
}

pub fn file(name: &str) -> &'static str {
    FILES.iter().find(|((known, _), _)| *known == name).map(|((_, text), _)| *text).expect("a file of the list")
}

fn route<'s>(settings: &'s Settings, id: &str) -> &'s RouteSettings {
    &settings.routes.entries().find(|entry| &*entry.id == id).expect("the route").value
}

#[test]
fn files_of_yarp_load_as_they_stand_but_for_who_may_use_a_route_and_for_what_is_refused_by_name() {
    for ((name, text), refused) in FILES.iter().filter(|((name, _), _)| *name != "any_case") {
        match load_text(name, &decided(text), &environment) {
            Ok(_) => assert!(refused.is_empty(), "{name}: nothing is refused any more"),
            Err(report) => {
                assert_eq!(report.len(), refused.len(), "{name}: {report}");
                let report = report.to_string();
                refused.iter().for_each(|key| assert!(report.contains(&format!("`{key}` is ")), "{name}: {report}"));
            }
        }
        if !refused.is_empty() {
            continue;
        }
        let Err(undecided) = load_text(name, text, &environment) else {
            assert_eq!(*name, "authorization", "only this one has a token's issuer");
            continue;
        };
        let report = undecided.to_string();
        let silent = report.matches("nothing says who may use this route").count();
        assert_eq!(silent, undecided.len(), "{name}: {report}");
        assert!(report.contains("ReverseProxy.DefaultAuthorizationPolicy"), "{name}: {report}");
    }
}

#[test]
fn what_routes_do_not_say_is_the_common_policy_or_a_valid_token() {
    let text = file("authorization");
    let is_open =
        |settings: &Settings, id| matches!(route(settings, id).authorization, AuthorizationSettings::Anonymous);
    let (closed, open) = (load(text), load(&decided(text)));
    assert!(!is_open(&closed, "Others") && is_open(&open, "Others"));
    for settings in [&closed, &open] {
        assert!(is_open(settings, "Open") && !is_open(settings, "SignedIn") && !is_open(settings, "Readers"));
    }
    let named = |policy: &str| {
        decided(text).replace(
            "\"DefaultAuthorizationPolicy\": \"Anonymous\"",
            &format!("\"DefaultAuthorizationPolicy\": \"{policy}\""),
        )
    };
    let readers = load(&named("readers"));
    let AuthorizationSettings::Policy { claims, .. } = &route(&readers, "Others").authorization else {
        panic!("a policy")
    };
    assert_eq!(&*claims.name, "readers");
    let report = bad(&named("reader"));
    assert!(report.contains("ReverseProxy.DefaultAuthorizationPolicy: there is no `reader`"), "{report}");
    assert!(report.ends_with("1 problem"), "{report}");
}

#[test]
fn sections_that_are_not_tidegates_are_named_and_skipped() {
    let settings = load(&decided(file("container")));
    let named = |name: &str| {
        settings.source.notes.iter().any(|note| note.contains(&format!("`{name}` is .NET's and was skipped: ")))
    };
    assert!(
        ["StaticFiles", "NavigationFallback", "Headers", "Redirects", "Rewrites", "ErrorPages"]
            .iter()
            .all(|name| named(name))
    );
    assert_eq!(settings.source.notes.len(), 6);
    let first = load(&decided(file("first_steps")));
    let urls = "line 3: `Urls` is .NET's and was skipped: say where to listen in `Server.Listeners`";
    assert_eq!(first.source.notes[0], urls);
    let typo = bad(&decided(file("first_steps")).replace("\"Urls\"", "\"Urlss\""));
    assert!(typo.contains("unknown key `Urlss`"), "{typo}");
}

#[test]
fn case_means_nothing_and_lists_may_be_numbered_in_json() {
    let settings = load(file("any_case"));
    let entry = settings.routes.entries().next().expect("a route");
    assert_eq!((&*entry.id, entry.order), ("Mixed", 5));
    assert_eq!(entry.matches.methods, [Method::GET, Method::POST]);
    let header = &entry.matches.headers[0];
    assert_eq!((header.values.as_slice(), header.case_sensitive), (["a", "b", "c"].map(String::from).as_slice(), true));
    let route = &entry.value;
    assert!(matches!(route.authorization, AuthorizationSettings::Anonymous));
    assert_eq!((route.max_request_body, route.timeouts.idle), (Some(1000), Duration::from_secs(86_400)));
    let HandlerSettings::Cluster(plain) = &route.handler else { panic!("a plain route") };
    assert_eq!(plain.cluster.load_balancing, LoadBalancing::LeastRequests);
    assert_eq!(plain.cluster.health.available, AvailabilityPolicy::HealthyOrPanic);
    assert_eq!(&*plain.cluster.destinations[0].id, "One");
    assert_eq!(plain.transforms.len(), 5);
    assert!(matches!(&plain.transforms[1], Transform::RequestHeader { value, .. } if value == "12"));
    assert_eq!(settings.source.notes.len(), 2);
}

#[test]
fn keys_that_differ_in_case_alone_are_refused_and_yaml_has_one_spelling() {
    let twice = file("any_case").replace("\"order\": \"5\",", "\"order\": \"5\", \"Order\": 6,");
    let report = bad(&twice);
    assert!(report.contains("the key `Order` stands here a second time"), "{report}");
    assert!(!has_leak(&report), "a password of a section that is not ours is not shown: {report}");
    let ids = file("many_clusters").replace("\"Red\": {", "\"red\": { \"ClusterId\": \"warm\" }, \"Red\": {");
    assert!(bad(&decided(&ids)).contains("stands here a second time"));
    let yaml = "reverseProxy: {}\n";
    assert!(bad(yaml).contains("did you mean `ReverseProxy`?"), "{}", bad(yaml));
}
