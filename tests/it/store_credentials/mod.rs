//! Temporary keys of stores: each provider before a service that answers as Amazon's do, and before one that stalls, lies
//! and is away; and MinIO's own token service.

mod faults;
mod stand_in;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use self::stand_in::{Keys, TokenService, token_of};
use crate::support::eventually::eventually;
use crate::support::fault::{self, Step};
use crate::support::origin::ScriptedOrigin;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, Minio, config, gate};

const TRACK: &str = "/stream/track.mp3";
const ROLE: &str = "arn:aws:iam::123456789012:role/media-reader";

/// A configuration whose store has these `Credentials`.
fn with_credentials(store: &ScriptedOrigin, credentials: Value) -> Value {
    let mut all = config::objects(&store.url(), "audio");
    all["ObjectStores"]["main"]["Credentials"] = credentials;
    all
}

/// Credentials by the token in `file`, exchanged at `service`.
fn web_identity(service: &TokenService, file: &str) -> Value {
    json!({ "Provider": "web-identity", "RoleArn": ROLE, "TokenFile": file, "StsEndpoint": service.url() })
}

#[tokio::test]
async fn minios_own_token_service_gives_keys_that_read_its_objects() {
    let Some(minio) = Minio::bucket().await else { return };
    minio.put("track.mp3", "sound").await;
    let mut all = config::objects(&minio.url(), minio.name());
    all["ObjectStores"]["main"]["Credentials"] = json!({
        "Provider": "assume-role",
        "RoleArn": ROLE,
        "AccessKey": "env:S3_ACCESS_KEY",
        "SecretKey": "env:S3_SECRET_KEY",
        "Duration": "15m",
        "StsEndpoint": minio.url(),
    });
    let gate = Gate::start(&all).await;
    assert_eq!(gate.client().get(TRACK, &[]).await.is(200).text(), "sound");
    let end = gate.metric("tidegate_store_credentials_expiry_timestamp_seconds", "store=\"main\"").await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!((now + 600.0..=now + 901.0).contains(&end), "{end} at {now}");
    let folder = TempFolder::new("probe");
    let file = gate::write_config(&folder, &all);
    let probed = gate::run(&["check", "--probe", &file.display().to_string()], &folder).await;
    let line = probed.stdout.lines().find(|line| line.contains("credentials of the store `main` (assume-role)"));
    assert!(line.is_some_and(|line| line.contains("  good  valid until ")), "{}{}", probed.stdout, probed.stderr);
}

#[tokio::test]
async fn a_token_in_a_file_is_exchanged_once_for_all_stores_and_again_before_the_keys_end() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let folder = TempFolder::new("token");
    let file = folder.path().join("token");
    std::fs::write(&file, "first-token\n").expect("a file");
    service.gives(&Keys::new("ONE", 6));
    let mut all = with_credentials(&store, web_identity(&service, &file.display().to_string()));
    all["ObjectStores"]["other"] = all["ObjectStores"]["main"].clone();
    all["ReverseProxy"]["Routes"]["other"] = config::object_route("/other/{**key}", "other", "audio", "{**key}");
    let gate = Gate::start(&all).await;
    let asked = service.questions();
    assert_eq!(asked.len(), 1, "one for both stores");
    for part in ["Action=AssumeRoleWithWebIdentity", "RoleSessionName=tidegate", "WebIdentityToken=first-token"] {
        assert!(asked[0].contains(part), "{part}: {}", asked[0]);
    }
    std::fs::write(&file, "second-token\n").expect("a file");
    service.gives(&Keys::new("TWO", 3600));
    for path in [TRACK, "/other/track.mp3"] {
        assert_eq!(gate.client().get(path, &[]).await.is(200).text(), "sound");
    }
    assert!(store.take_seen().iter().all(|seen| token_of(seen).as_deref() == Some("token-of-ONE")));
    eventually("the keys are renewed before they end", async || {
        let reply = gate.client().get(TRACK, &[]).await;
        assert_eq!(reply.is(200).text(), "sound", "nobody notices");
        store.take_seen().iter().any(|seen| token_of(seen).as_deref() == Some("token-of-TWO")).then_some(())
    })
    .await;
    let asked = service.questions();
    assert!(asked.len() == 1 && asked[0].contains("WebIdentityToken=second-token"), "read anew: {asked:?}");
    assert_eq!(gate.metric("tidegate_store_credentials_renewals_total", "outcome=\"failed\"").await, 0.0);
}

#[tokio::test]
async fn the_metadata_service_is_asked_with_a_session_token() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, ScriptedOrigin::start().await);
    let text = |body: &str| Answer::new(200, "text/plain", body);
    let ttl = "x-aws-ec2-metadata-token-ttl-seconds";
    service.script([
        Step::Answer(text("metadata-session").with(ttl, "21600")),
        Step::Answer(text("media-role")),
        Step::Answer(Keys::new("MACHINE", 3600).json()),
    ]);
    let credentials = json!({ "Provider": "instance", "MetadataEndpoint": service.url() });
    let gate = Gate::start(&with_credentials(&store, credentials)).await;
    gate.client().get(TRACK, &[]).await.is(200);
    assert_eq!(token_of(&store.seen()[0]).as_deref(), Some("token-of-MACHINE"));
    let seen = service.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].path()), ("PUT", "/latest/api/token"));
    assert!(seen[1..].iter().all(|seen| seen.header("x-aws-ec2-metadata-token") == Some("metadata-session")));
    assert_eq!(seen[2].path(), "/latest/meta-data/iam/security-credentials/media-role");
}

#[tokio::test]
async fn a_containers_endpoint_is_asked_with_its_token() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, ScriptedOrigin::start().await);
    service.always(Step::Answer(Keys::new("POD", 3600).json()));
    let folder = TempFolder::new("pod");
    let file = folder.path().join("token");
    std::fs::write(&file, "pod-token").expect("a file");
    let (address, file) = (format!("{}/v1/credentials", service.url()), file.display().to_string());
    let environment =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*address), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &*file)];
    for provider in ["container", "default"] {
        let gate = Gate::start_with(&with_credentials(&store, json!({ "Provider": provider })), &environment).await;
        gate.client().get(TRACK, &[]).await.is(200);
        assert_eq!(token_of(&store.take_seen()[0]).as_deref(), Some("token-of-POD"), "{provider}");
        let seen = service.take_seen();
        assert_eq!((seen[0].path(), seen[0].header("authorization")), ("/v1/credentials", Some("pod-token")));
    }
}

#[tokio::test]
async fn a_profile_is_read_again_when_the_store_refuses_its_keys() {
    let store = ScriptedOrigin::with_track("sound").await;
    let folder = TempFolder::new("profile");
    let file = folder.path().join("credentials");
    let write = |key: &str| {
        let text = format!("[media]\naws_access_key_id = {key}\naws_secret_access_key = secret\n");
        std::fs::write(&file, text).expect("a file");
    };
    write("OLD");
    let path = file.display().to_string();
    let credentials = json!({ "Provider": "profile", "Profile": "media" });
    let environment = [("AWS_SHARED_CREDENTIALS_FILE", &*path), ("AWS_CONFIG_FILE", "/nonexistent")];
    let gate = Gate::start_with(&with_credentials(&store, credentials), &environment).await;
    gate.client().get(TRACK, &[]).await.is(200);
    assert!(store.take_seen()[0].query().contains("X-Amz-Credential=OLD%2F"));
    write("NEW");
    store.script([fault::refuse(403, "InvalidAccessKeyId", "no such key")]);
    gate.client().get(TRACK, &[]).await.is(200);
    let seen = store.take_seen();
    assert!(seen.len() == 2 && seen[1].query().contains("X-Amz-Credential=NEW%2F"), "{seen:?}");
}

#[tokio::test]
async fn keys_of_the_environment_sign_and_anonymous_requests_carry_none() {
    let store = ScriptedOrigin::with_track("sound").await;
    let environment =
        [("AWS_ACCESS_KEY_ID", "ENVKEY"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_SESSION_TOKEN", "env-token")];
    let gate = Gate::start_with(&with_credentials(&store, json!({ "Provider": "environment" })), &environment).await;
    gate.client().get(TRACK, &[]).await.is(200);
    let seen = store.take_seen();
    assert!(seen[0].query().contains("X-Amz-Credential=ENVKEY%2F"), "{}", seen[0].target);
    assert_eq!(token_of(&seen[0]).as_deref(), Some("env-token"));
    let gate = Gate::start(&with_credentials(&store, json!({ "Provider": "anonymous" }))).await;
    gate.client().get(TRACK, &[]).await.is(200);
    assert_eq!(store.take_seen()[0].target, "/audio/track.mp3");
}

/// Seconds, for keys that outlive a test.
const HOUR: Duration = Duration::from_secs(3600);
