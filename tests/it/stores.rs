//! Where real stores differ in what they say to the same wrong configuration, the answer is the same all the same.

use serde_json::{Value, json};

use crate::support::store::StoreBucket;
use crate::support::{Gate, StoreKind, config};

/// What is wrong, status and code.
type Row = (&'static str, fn(&mut Value), u16, &'static str);

const TABLE: [Row; 4] = [
    ("secret", |config| credentials(config)["SecretKey"] = json!("env:OTHER_KEY"), 502, "store_signature"),
    ("access key", |config| credentials(config)["AccessKey"] = json!("env:OTHER_KEY"), 503, "store_credentials"),
    ("region", |config| store(config)["Region"] = json!("eu-west-9"), 502, "store_signature"),
    ("bucket", |config| bucket(config, "none"), 502, "store_configuration"),
];

/// What a store does not mind, and what its answer to HEAD cannot say, which has no body.
fn is_exempt(kind: StoreKind, row: &str, is_head: bool) -> bool {
    match row {
        // 404 is what both say to a key that is not there.
        "bucket" => is_head && kind != StoreKind::Minio,
        "access key" => is_head && kind == StoreKind::Versitygw,
        "region" => kind != StoreKind::Versitygw,
        _ => false,
    }
}

fn credentials(config: &mut Value) -> &mut Value {
    &mut store(config)["Credentials"]
}

fn bucket(config: &mut Value, name: &str) {
    for route in ["stream", "cached"] {
        config["ReverseProxy"]["Routes"][route]["Transforms"][0]["PresignedUrl"]["Bucket"] = json!(name);
    }
}

fn store(config: &mut Value) -> &mut Value {
    &mut config["ObjectStores"]["main"]
}

async fn a_wrong_configuration_is_said(kind: StoreKind) {
    let Some(bucket) = kind.bucket().await else { return };
    bucket.put("track.mp3", "x").await;
    let mut wrong = Vec::new();
    for row in TABLE {
        wrong.extend(deviations(kind, &bucket, row).await);
    }
    assert!(wrong.is_empty(), "{kind:?}: {wrong:#?}");
}

async fn deviations(kind: StoreKind, bucket: &StoreBucket, (name, change, status, code): Row) -> Vec<String> {
    let mut config = config::objects_both_ways(&bucket.url(), bucket.name());
    change(&mut config);
    let gate = Gate::start_with(&config, &[("OTHER_KEY", "another-key")]).await;
    let mut wrong = Vec::new();
    for path in ["/stream/track.mp3", "/cached/track.mp3"] {
        // With a condition the store is asked by HEAD.
        for (header, is_head) in [(("range", "bytes=0-9"), false), (("if-none-match", "\"x\""), true)] {
            if is_exempt(kind, name, is_head) {
                continue;
            }
            let reply = gate.client().get(path, &[header]).await;
            let said: Value = serde_json::from_str(&reply.text()).unwrap_or_default();
            let said = said["code"].clone();
            if (reply.status.as_u16(), said.as_str()) != (status, Some(code)) {
                wrong.push(format!("{name}, {path} with {header:?}: {} {said}", reply.status));
            }
        }
    }
    wrong
}

#[tokio::test]
async fn a_wrong_configuration_is_said_before_minio() {
    a_wrong_configuration_is_said(StoreKind::Minio).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_said_before_versitygw() {
    a_wrong_configuration_is_said(StoreKind::Versitygw).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_said_before_rclone() {
    a_wrong_configuration_is_said(StoreKind::Rclone).await;
}
