//! What is counted of films, from the first scrape on, and what players say of their playback.

use http::Method;
use serde_json::json;

use super::{Cinema, films};
use crate::catalogue::{bearer, send};
use crate::support::{Object, ScriptedOrigin, eventually};

/// Every series of films that has no bucket.
const SERIES: &[&str] = &[
    "tidegate_vod_sessions_active",
    "tidegate_vod_starts_total{manifest=\"hls\",outcome=\"started\"}",
    "tidegate_vod_starts_total{manifest=\"hls\",outcome=\"no_subscription\"}",
    "tidegate_vod_starts_total{manifest=\"dash\",outcome=\"not_found\"}",
    "tidegate_vod_starts_total{manifest=\"dash\",outcome=\"too_many\"}",
    "tidegate_vod_starts_total{manifest=\"dash\",outcome=\"unavailable\"}",
    "tidegate_vod_views_ended_total{cause=\"stopped\"}",
    "tidegate_vod_views_ended_total{cause=\"silent\"}",
    "tidegate_vod_views_ended_total{cause=\"displaced\"}",
    "tidegate_vod_views_ended_total{cause=\"revoked\"}",
    "tidegate_vod_reports_total",
    "tidegate_vod_subscription_checks_total{outcome=\"cached\"}",
    "tidegate_vod_subscription_checks_total{outcome=\"active\"}",
    "tidegate_vod_subscription_checks_total{outcome=\"inactive\"}",
    "tidegate_vod_subscription_checks_total{outcome=\"grace\"}",
    "tidegate_vod_subscription_checks_total{outcome=\"unavailable\"}",
    "tidegate_vod_subscription_purges_total{outcome=\"purged\"}",
    "tidegate_vod_subscription_purges_total{outcome=\"malformed\"}",
    "tidegate_vod_waiting_rows",
    "tidegate_vod_dropped_rows_total",
    "tidegate_vod_cmcd_requests_total{playback=\"smooth\"}",
    "tidegate_vod_cmcd_requests_total{playback=\"stalled\"}",
    "tidegate_vod_cmcd_requests_total{playback=\"malformed\"}",
    "tidegate_vod_bitrate_bits_per_second_count{media=\"audio\"}",
    "tidegate_vod_bitrate_bits_per_second_count{media=\"video\"}",
    "tidegate_vod_bitrate_bits_per_second_count{media=\"muxed\"}",
    "tidegate_vod_throughput_bits_per_second_count",
    "tidegate_vod_buffer_seconds_count",
    "tidegate_positions_backlog",
    "tidegate_positions_backlog_bytes",
];

#[tokio::test]
async fn every_metric_of_films_is_zero_at_the_first_scrape() {
    let cinema = Cinema::open(films("http://127.0.0.1:1", "vod")).await;
    let page = cinema.gate.metrics().await;
    for series in SERIES {
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        assert_eq!(value, Some("0"), "{series}");
    }
}

#[tokio::test]
async fn what_players_say_of_their_playback_is_counted_and_goes_no_further() {
    let origin = ScriptedOrigin::start().await;
    let cinema = Cinema::before(&origin).await;
    for name in ["a.ts", "b.ts"] {
        origin.put(&format!("/vod/movies/b1/{name}"), Object::new("segment"));
    }
    let (client, token) = (cinema.gate.client(), cinema.path("b1", "").await);
    origin.take_seen();
    let get = async |file: &str, headers: &[(&str, &str)]| {
        client.get(&format!("{token}{file}"), headers).await.is(200);
    };
    // As hls.js and shaka write it.
    get("a.ts?CMCD=bl%3D4200%2Cbr%3D3000%2Ccid%3D%22b1%22%2Cd%3D4004%2Cmtp%3D25400%2Cot%3Dv%2Csf%3Dh%2Csid%3D%22canary%22", &[])
        .await;
    // Another position in the query, and another viewer: the same object.
    get("a.ts?x=1&CMCD=bs%2Cot%3Da%2Cbr%3D128", &[]).await;
    let headers = [("cmcd-object", "br=5000,ot=av"), ("cmcd-status", "bs"), ("cmcd-session", "sid=\"canary\"")];
    get("b.ts", &headers).await;
    get("b.ts?CMCD=br%3D-5", &[]).await;
    get("b.ts", &[]).await;
    let gate = &cinema.gate;
    for (playback, expected) in [("smooth", 1.0), ("stalled", 2.0), ("malformed", 1.0)] {
        let labels = format!("playback=\"{playback}\"");
        assert_eq!(gate.metric("tidegate_vod_cmcd_requests_total", &labels).await, expected, "{playback}");
    }
    for (media, expected) in [("audio", 128e3), ("video", 3e6), ("muxed", 5e6)] {
        let labels = format!("media=\"{media}\"");
        assert_eq!(gate.metric("tidegate_vod_bitrate_bits_per_second_sum", &labels).await, expected, "{media}");
    }
    assert_eq!(gate.metric("tidegate_vod_throughput_bits_per_second_sum", "").await, 25.4e6);
    assert_eq!(gate.metric("tidegate_vod_buffer_seconds_sum", "").await, 4.2);
    let seen = origin.seen();
    assert_eq!(seen.iter().filter(|seen| seen.method == "GET").count(), 2, "one copy of each: {seen:?}");
    let told = format!("{seen:?}{}{}", gate.metrics().await, gate.log()).to_lowercase();
    assert!(!told.contains("canary") && !format!("{seen:?}").to_lowercase().contains("cmcd"), "{seen:?}");
    let asked = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "cmcd-object,cmcd-request,cmcd-session,cmcd-status"),
    ];
    let preflight = client.send(Method::OPTIONS, "/v/x/movies/b1/a.ts", &asked).await;
    let allowed = preflight.is(204).header("access-control-allow-headers");
    for name in asked[2].1.split(',') {
        assert!(allowed.contains(name), "{allowed}");
    }
}

#[tokio::test]
async fn sessions_that_play_are_counted_until_they_stop() {
    let origin = ScriptedOrigin::start().await;
    let cinema = Cinema::before(&origin).await;
    let becomes = async |expected: f64| {
        eventually("the sessions are counted", async || {
            (cinema.gate.metric("tidegate_vod_sessions_active", "").await == expected).then_some(())
        })
        .await;
    };
    cinema.start_as("ada", "b1").await;
    cinema.start_as("bob", "b2").await;
    becomes(2.0).await;
    let stop = json!({ "position_seconds": 1 });
    send(&cinema.gate, Method::POST, "/api/v1/stream/b1/stop", &bearer("ada"), Some(stop)).await.is(200);
    becomes(1.0).await;
}
