//! `tidegate check --probe`: everything that a configuration names is asked, and each answer is a line.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::support::issuer::{JwksServer, Key};
use crate::support::origin::ScriptedOrigin;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::service::free_port;
use crate::support::tools::TempFolder;
use crate::support::{Minio, config, gate, kafka};

async fn probed(all: &Value, folder: &TempFolder) -> gate::Ended {
    let file = folder.path().join("probed.yaml");
    std::fs::write(&file, all.to_string()).expect("a file");
    gate::run(&["check", "--probe", &file.display().to_string()], folder).await
}

#[tokio::test]
async fn everything_that_a_configuration_names_is_asked() {
    let Some(minio) = Minio::bucket().await else { return };
    let (Some(redis), Some(postgres), Some(topic)) = (Redis::start(), Postgres::start(), kafka::topic().await) else {
        return;
    };
    let key = Key::generate("one", Algorithm::ES256);
    let issuer = JwksServer::start(&[&key]).await;
    let folder = TempFolder::new("probe");
    let mut all = config::objects(&minio.url(), minio.name());
    all["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/back/{**rest}", "back");
    all["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[minio.url()]);
    all["State"] = json!({ "Url": redis.url() });
    all["Database"] = json!({ "Url": postgres.url() });
    all["Events"] =
        json!({ "Kafka": { "Brokers": [topic.broker] }, "Outbox": { "Path": folder.path().join("outbox") } });
    all["Auth"] = json!({ "Jwt": { "Issuers": [{ "Issuer": "https://issuer.test", "Jwks": issuer.url(), "Audience": "tidegate" }] } });
    let ended = probed(&all, &folder).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for line in [
        "bucket",
        "cluster `back`",
        "Redis (State)",
        "the database (Database)",
        "Kafka (Events)",
        "`https://issuer.test`",
    ] {
        let found = ended.stdout.lines().find(|it| it.contains(line) && it.contains("  good  "));
        assert!(found.is_some(), "{line}: {}", ended.stdout);
    }
    assert!(ended.stdout.contains("1 keys"), "{}", ended.stdout);
    assert!(!folder.path().join("outbox").exists(), "nothing is written");
}

#[tokio::test]
async fn what_does_not_answer_is_named_with_its_reason() {
    let Some(minio) = Minio::bucket().await else { return };
    let folder = TempFolder::new("probe");
    let dead = format!("http://127.0.0.1:{}", free_port());
    let mut all = config::objects(&minio.url(), "no-such-bucket");
    all["ReverseProxy"]["Routes"]["plain"] = config::plain_route("/back/{**rest}", "back");
    all["ReverseProxy"]["Clusters"]["back"] = config::cluster(&[minio.url(), dead.clone()]);
    all["State"] = json!({ "Url": dead.replace("http", "redis") });
    all["Database"] = json!({ "Url": format!("{}/none", dead.replace("http", "postgres")) });
    all["Auth"] = json!({ "Jwt": { "Issuers": [{ "Issuer": "https://issuer.test", "Jwks": format!("{dead}/keys"), "Audience": "tidegate" }] } });
    let ended = probed(&all, &folder).await;
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    for (line, reason) in [
        ("`no-such-bucket`", "bucket"),
        ("cluster `back`", "d1: "),
        ("Redis (State)", "refused"),
        ("the database (Database)", "refused"),
        ("`https://issuer.test`", "no connection"),
    ] {
        let found = ended.stdout.lines().find(|it| it.contains(line) && it.contains("FAILED"));
        assert!(found.is_some_and(|it| it.to_lowercase().contains(reason)), "{line}: {}", ended.stdout);
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_made() {
    let (origin, folder) = (ScriptedOrigin::with_track("music").await, TempFolder::new("probe"));
    let file = folder.path().join("new/state.db");
    let mut all = config::objects(&origin.url(), "music");
    all["Database"] = json!({ "Url": format!("sqlite://{}", file.display()) });
    let ended = probed(&all, &folder).await;
    assert!(ended.code == Some(0) && !file.exists(), "{}{}", ended.stdout, ended.stderr);
}
