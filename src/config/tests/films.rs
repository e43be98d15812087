//! Section `Vod`, and the environment of its document.

use std::collections::HashMap;
use std::time::Duration;

use vod::settings::SubscriptionUrlTemplate;

use super::{Settings, bad, load_text};

const FILMS: &str = "ObjectStores: { files: { Embedded: ./data/objects } }\nDatabase: { Url: \"sqlite://a.db\" }\nVod: { Store: files }\n";

fn with_environment(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let environment = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    load_text("films.yaml", text, &environment).map_err(|report| report.to_string())
}

#[test]
fn films_need_a_store_and_a_place_for_positions_and_no_route() {
    let settings = with_environment(FILMS, &[]).expect("a good file").vod.expect("films are on");
    assert_eq!((&*settings.bucket, &*settings.prefix, &*settings.manifests.hls), ("vod", "movies/", "index.m3u8"));
    assert_eq!((settings.grant.ttl, settings.grant.max_ttl), (Duration::from_secs(3600), Duration::from_secs(43_200)));
    assert_eq!((settings.subscription, settings.max_streams_per_user), (None, Some(5)));
    let nowhere = FILMS.replace("Database: { Url: \"sqlite://a.db\" }\n", "");
    assert!(bad(&nowhere).contains("there is nothing to keep positions in films in"));
    let off = FILMS.replace("Vod: {", "Positions: { Enabled: false }\nVod: {");
    assert!(bad(&off).contains("there is nothing to keep positions in films in"));
}

#[test]
fn what_the_file_leaves_out_is_taken_from_the_documents_environment_and_not_the_other_way_round() {
    let variables = [
        ("S3_BUCKET_NAME", "cinema"),
        ("SIGNED_URL_EXPIRATION", "7200"),
        ("USER_SERVICE_URL", "http://users:8002/"),
        ("USER_SERVICE_TIMEOUT", "2"),
        ("REDIS_SUBSCRIPTION_CACHE_TTL", "60"),
        ("REDIS_PROGRESS_TTL", "7200"),
    ];
    let settings = with_environment(FILMS, &variables).expect("a good file");
    let cache_ttl = settings.positions.expect("positions are on").write_back.cache_ttl;
    assert_eq!(cache_ttl, Duration::from_secs(7200));
    let vod = settings.vod.expect("films are on");
    assert_eq!((&*vod.bucket, vod.grant.ttl), ("cinema", Duration::from_secs(7200)));
    let subscription = vod.subscription.expect("it is asked");
    assert_eq!(Some(&subscription.url), url("http://users:8002/api/v1/users/{user_id}/subscription").as_ref());
    assert_eq!((subscription.timeout, subscription.cache_for), (Duration::from_secs(2), Duration::from_secs(60)));
    let own =
        "Vod: { Bucket: other, Grant: { Ttl: 5m }, Subscription: { Url: \"http://a/{user_id}\", CacheFor: 1m }, Store:";
    let vod = with_environment(&FILMS.replace("Vod: { Store:", own), &variables).expect("a good file").vod;
    let vod = vod.expect("films are on");
    assert_eq!((&*vod.bucket, vod.grant.ttl), ("other", Duration::from_secs(300)));
    assert_eq!(vod.subscription.map(|asked| asked.url), url("http://a/{user_id}"));
    for (name, value) in [
        ("SIGNED_URL_EXPIRATION", "an hour"),
        ("USER_SERVICE_URL", "users:8002"),
        ("USER_SERVICE_TIMEOUT", "99"),
        ("REDIS_HOST", "a/b"),
    ] {
        let report = with_environment(FILMS, &[(name, value)]).map(drop).expect_err(name);
        assert!(report.contains(name) && !report.contains(value), "{report}");
    }
}

#[test]
fn redis_and_kafka_are_found_by_the_names_of_the_document() {
    let events = format!("{FILMS}Events: {{ Kafka: {{}} }}\n");
    assert!(with_environment(&events, &[]).map(drop).expect_err("no broker").contains("there is no broker"));
    let brokers = [("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:9092"), ("REDIS_HOST", "redis")];
    let settings = with_environment(&events, &brokers).expect("a good file");
    assert!(settings.events.is_some());
    assert_eq!(settings.state.expect("there is Redis").url.expose(), "redis://redis");
    // Switched off, it needs no broker; what is written is read all the same.
    for off in [&[brokers[0], ("ENABLE_KAFKA", "False")][..], &[("ENABLE_KAFKA", "false")]] {
        assert!(with_environment(&events, off).expect("a good file").events.is_none());
    }
    let wrong = events.replace("Kafka: {}", "Kafka: { Brokers: [\"a:b:c\"] }");
    let report = with_environment(&wrong, &[("ENABLE_KAFKA", "false")]).map(drop);
    assert!(report.expect_err("no address").contains("HOST:PORT"));
    let own = [("REDIS_HOST", "redis"), ("REDIS_URL", "redis://other:1")];
    let url = with_environment(FILMS, &own).expect("a good file").state.expect("there is Redis").url;
    assert_eq!(url.expose(), "redis://other:1");
}

#[test]
fn films_wait_for_their_store_unless_their_policy_says_otherwise() {
    let policies = "Policies: { Timeout: { slow: { Idle: 1m }, hasty: { Unavailable: 0s } } }\nVod: {";
    for (policy, seconds) in
        [("", 15), ("TimeoutPolicy: slow,", 15), ("TimeoutPolicy: hasty,", 0), ("TimeoutPolicy: Disable,", 15)]
    {
        let text = FILMS.replace("Vod: {", &format!("{policies} {policy}"));
        let films = with_environment(&text, &[]).expect("a good file").films.expect("films are on");
        assert_eq!(films.films.timeouts.unavailable, Duration::from_secs(seconds), "{policy}");
    }
}

#[test]
fn an_answer_about_a_subscription_counts_as_long_as_the_manual_says_unless_set() {
    let text = FILMS.replace("Vod: {", "Vod: { Subscription: { Url: \"http://a/{user_id}\" },");
    let vod = with_environment(&text, &[]).expect("a good file").vod.expect("films are on");
    let subscription = vod.subscription.expect("it is asked");
    let seconds = [
        subscription.timeout,
        subscription.cache_for,
        subscription.deny_cache_for,
        subscription.grace,
        subscription.recheck_interval,
    ]
    .map(|time| time.as_secs());
    assert_eq!(seconds, [5, 300, 15, 86_400, 300]);
}

fn url(text: &str) -> Option<SubscriptionUrlTemplate> {
    SubscriptionUrlTemplate::parse(text)
}

#[test]
fn a_users_id_cannot_choose_the_service_of_subscriptions() {
    for text in ["http://{user_id}/x", "http://{user_id}.users/", "http://users/", "http://users/{user}/{user_id}"] {
        assert_eq!(url(text), None, "{text}");
    }
}
