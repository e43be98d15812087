//! How long answers count, with a clock that is moved by hand.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus::Registry;
use scripted_server::{ScriptedServer, empty_response};

use super::*;
use crate::settings::SubscriptionUrlTemplate;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn says(body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

#[tokio::test]
async fn a_yes_counts_for_five_minutes_a_no_for_fifteen_seconds_and_the_last_yes_for_a_day() {
    let answer = Arc::new(Mutex::new(says(r#"{"active":true}"#)));
    let current = Arc::clone(&answer);
    let server = ScriptedServer::start(move |_, _| current.lock().clone()).await;
    let clock = Clock::manual(SystemTime::UNIX_EPOCH + seconds(1_800_000_000));
    let url = SubscriptionUrlTemplate::parse(&format!("{}u/{{user_id}}", server.url())).expect("a template");
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let metrics = VodMetrics::register(&Registry::new()).expect("new names");
    let service = SubscriptionService::new(SubscriptionSettings::new(url), client, None, clock.clone(), metrics);
    let user = UserId::parse("ada").expect("an id");
    // The verdict after `wait`, and how often the service was asked in all.
    let after = async |wait: u64| {
        clock.advance(seconds(wait));
        (service.is_active(&user).await, server.received_heads().len())
    };
    assert_eq!(after(0).await, (Some(true), 1));
    assert_eq!(after(299).await, (Some(true), 1));
    *answer.lock() = says(r#"{"active":false}"#);
    assert_eq!(after(1).await, (Some(false), 2), "the yes is five minutes old");
    *answer.lock() = says(r#"{"active":true}"#);
    assert_eq!(after(14).await, (Some(false), 2));
    assert_eq!(after(1).await, (Some(true), 3), "who has just paid gets in");
    // The service is away: asked again each time, twice, and the last yes counts.
    *answer.lock() = empty_response(503);
    assert_eq!(after(300).await, (Some(true), 5));
    assert_eq!(after(86_400 - 301).await.0, Some(true), "a second less than a day");
    assert_eq!(after(1).await.0, None, "a day");
}
