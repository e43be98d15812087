//! The ways to Redis (Unix socket, TLS, cluster, sentinel), and the command that migrates.

use serde_json::json;

use super::{Player, Redis, base, in_a_file};
use crate::support::tools::TempFolder;
use crate::support::{Gate, Postgres, gate};

/// Positions are kept and read at this address, by a gate with this environment.
async fn works_at(url: &str, environment: &[(&str, &str)]) {
    let folder = TempFolder::new("ways");
    let mut config = base(&folder);
    config["State"]["Url"] = json!(url);
    let gate = Gate::start_with(&config, environment).await;
    let player = Player::new(&gate, "u");
    for track in ["one", "two", "three", "four"] {
        player.save(track, json!({ "positionMs": 7, "durationMs": 10_000_000, "kind": "audiobook" })).await;
        let answer = player.json(&format!("/api/v1/tracks/{track}/position?kind=audiobook")).await;
        assert_eq!(answer["positionMs"], 7, "{url}");
    }
    assert_eq!(player.progress("").await.0.len(), 4, "{url}");
    assert!(gate.client().get("/health", &[]).await.text().contains("\"redis\":\"ok\""), "{url}");
}

#[tokio::test]
async fn redis_is_reached_through_a_unix_socket() {
    let Some(redis) = Redis::start() else { return };
    works_at(&format!("redis+unix://{}", redis.socket().display()), &[]).await;
}

#[tokio::test]
async fn redis_is_reached_by_tls() {
    let folder = TempFolder::new("certificates");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let (certificate, key) = (folder.path().join("redis.pem"), folder.path().join("redis.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("it can be written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("it can be written");
    let port = crate::support::service::free_port().to_string();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let tls = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let Some(_redis) = Redis::start_with(&[&["--tls-port", &port], &tls[..]].concat()) else { return };
    works_at(&format!("rediss://localhost:{port}"), &[("SSL_CERT_FILE", &certificate)]).await;
}

#[tokio::test]
async fn redis_is_a_cluster() {
    let Some(cluster) = Redis::cluster().await else { return };
    works_at(&cluster[0].cluster_url(), &[]).await;
    let used = cluster.iter().filter(|redis| !redis.ask("DBSIZE").starts_with(":0")).count();
    assert!(used >= 2, "all keys are on {used} of three");
}

#[tokio::test]
async fn redis_is_named_by_a_sentinel() {
    let Some(redis) = Redis::start() else { return };
    let sentinel = Redis::sentinel(&redis, "main").expect("it is there");
    works_at(&format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=main", sentinel.port()), &[]).await;
}

#[tokio::test]
async fn migrate_makes_the_tables_and_may_be_repeated() {
    let folder = TempFolder::new("migrate");
    let mut configs = vec![in_a_file(&folder)];
    if let Some(url) = Postgres::database().await {
        let mut config = base(&folder);
        config["Database"]["Url"] = json!(url);
        configs.push(config);
    }
    for config in configs {
        let file = gate::write_config(&folder, &config).display().to_string();
        for _ in 0..2 {
            let ended = gate::run(&["migrate", "-c", &file], &folder).await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            assert!(ended.stdout.contains("up to date"), "{}", ended.stdout);
        }
    }
    let file = gate::write_config(&folder, &base(&folder)).display().to_string();
    assert_eq!(gate::run(&["migrate", "-c", &file], &folder).await.code, Some(64));
}
