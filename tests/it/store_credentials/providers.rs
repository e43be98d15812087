//! Where providers look for what the configuration does not say, and whom they ask.

use serde_json::{Value, json};

use super::stand_in::{Keys, TokenService, token_of};
use super::{ROLE, TRACK, probed, web_identity, with_credentials};
use crate::support::fault::Step;
use crate::support::origin::ScriptedOrigin;
use crate::support::origin_http::Answer;
use crate::support::tools::TempFolder;
use crate::support::{Gate, eventually};

fn write(folder: &TempFolder, name: &str, text: &str) -> String {
    let file = folder.path().join(name);
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

/// Serves the track and returns the token that the store saw.
async fn served(gate: &Gate, store: &ScriptedOrigin) -> Option<String> {
    gate.client().get(TRACK, &[]).await.is(200);
    token_of(&store.take_seen()[0])
}

#[tokio::test]
async fn the_variables_of_a_pod_stand_in_for_role_session_and_token_file() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    service.gives(&Keys::new("POD", 3600));
    let folder = TempFolder::new("pod");
    let file = write(&folder, "token", "pod-token\n");
    let environment =
        [("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", &*file), ("AWS_ROLE_SESSION_NAME", "pod-7")];
    let credentials = json!({ "Provider": "web-identity", "StsEndpoint": service.url() });
    let gate = Gate::start_with(&with_credentials(&store, credentials), &environment).await;
    assert_eq!(served(&gate, &store).await.as_deref(), Some("token-of-POD"));
    let asked = service.questions();
    for part in ["role%2Fmedia-reader", "RoleSessionName=pod-7", "WebIdentityToken=pod-token"] {
        assert!(asked[0].contains(part), "{part}: {asked:?}");
    }
}

#[tokio::test]
async fn a_role_is_assumed_with_the_default_keys_and_with_what_its_owner_demands() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    service.does(Step::Answer(Keys::new("ROLE", 3600).of_role()));
    let credentials = json!({
        "Provider": "assume-role",
        "RoleArn": ROLE,
        "ExternalId": "tidegate-7",
        "SessionName": "media",
        "Duration": "30m",
        "StsEndpoint": service.url(),
    });
    let environment = [("AWS_ACCESS_KEY_ID", "BASEKEY"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let gate = Gate::start_with(&with_credentials(&store, credentials), &environment).await;
    assert_eq!(served(&gate, &store).await.as_deref(), Some("token-of-ROLE"));
    let seen = service.take_seen();
    let asked = String::from_utf8_lossy(&seen[0].body);
    for part in ["Action=AssumeRole&", "ExternalId=tidegate-7", "RoleSessionName=media", "DurationSeconds=1800"] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    assert!(seen[0].header("authorization").is_some_and(|text| text.contains("Credential=BASEKEY/")), "{seen:?}");
}

#[tokio::test]
async fn a_profile_with_a_role_assumes_it_with_the_keys_of_another_profile() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    service.does(Step::Answer(Keys::new("ROLE", 3600).of_role()));
    let folder = TempFolder::new("profile");
    let config = write(&folder, "config", &format!("[profile media]\nrole_arn = {ROLE}\nsource_profile = base\n"));
    let keys = write(&folder, "credentials", "[base]\naws_access_key_id = BASEKEY\naws_secret_access_key = secret\n");
    let url = service.url();
    let environment =
        [("AWS_CONFIG_FILE", &*config), ("AWS_SHARED_CREDENTIALS_FILE", &*keys), ("AWS_ENDPOINT_URL_STS", &*url)];
    let credentials = json!({ "Provider": "profile", "Profile": "media" });
    let gate = Gate::start_with(&with_credentials(&store, credentials), &environment).await;
    assert_eq!(served(&gate, &store).await.as_deref(), Some("token-of-ROLE"));
    let seen = service.take_seen();
    assert!(seen[0].header("authorization").is_some_and(|text| text.contains("Credential=BASEKEY/")), "{seen:?}");
}

#[tokio::test]
async fn the_default_provider_says_what_became_of_each_where_none_has_keys() {
    let store = ScriptedOrigin::start().await;
    let environment = [("HOME", "/nonexistent"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let all = with_credentials(&store, json!({ "Provider": "default" }));
    let line = probed(&all, "credentials of the store `main` (default)", &environment).await;
    for part in ["FAILED", "no credentials found in chain", "Environment: ", "Profile: ", "WebIdentityToken: "] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[tokio::test]
async fn no_proxy_of_the_environment_sees_a_question_or_a_request() {
    let (store, service) = (ScriptedOrigin::with_track("sound").await, TokenService::start().await);
    let proxy = ScriptedOrigin::start().await;
    service.gives(&Keys::new("ONE", 3600));
    let folder = TempFolder::new("token");
    let file = write(&folder, "token", "a-token");
    let url = proxy.url();
    let environment = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, &*url));
    let gate = Gate::start_with(&with_credentials(&store, web_identity(&service, &file)), &environment).await;
    assert_eq!(served(&gate, &store).await.as_deref(), Some("token-of-ONE"));
    assert!(proxy.seen().is_empty(), "{:?}", proxy.seen());
}

#[tokio::test]
async fn no_request_of_an_anonymous_store_carries_a_signature() {
    let store = ScriptedOrigin::with_track("sound").await;
    let mut all = with_credentials(&store, json!({ "Provider": "anonymous" }));
    all["ReverseProxy"]["Routes"]["stream"]["Transforms"][0]["PresignedUrl"]["DirectoryListing"] = json!(true);
    let gate = Gate::start(&all).await;
    gate.client().head(TRACK, &[]).await.is(200);
    let listing = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    store.script([Step::Answer(Answer::new(200, "application/xml", listing))]);
    gate.client().get("/stream/", &[("accept", "application/json")]).await;
    let seen = store.take_seen();
    assert_eq!(seen[0].method, "HEAD");
    assert!(seen.iter().any(|seen| seen.target.contains("list-type=2")), "{seen:?}");
    assert!(seen.iter().all(|seen| !seen.target.contains("X-Amz-") && seen.header("authorization").is_none()));
}

/// Credentials, and the environment that they need.
type Case = (Value, Vec<(&'static str, String)>);

/// Credentials of each kind, whose keys, tokens and secrets have a canary; and the services that give them.
async fn secretive(folder: &TempFolder) -> (Vec<Case>, Vec<TokenService>) {
    let (tokens, roles, metadata, pod) =
        tokio::join!(TokenService::start(), TokenService::start(), TokenService::start(), TokenService::start());
    let keys = Keys::new("CANARYKEY", 3600);
    tokens.gives(&keys);
    roles.does(Step::Answer(keys.of_role()));
    pod.does(Step::Answer(keys.json()));
    metadata.script(keys.of_instance());
    let token = write(folder, "token", "canary-token");
    let base = "aws_access_key_id = CANARYBASE\naws_secret_access_key = canary-base-secret\n";
    let profiles = write(folder, "credentials", &format!("[plain]\n{base}[base]\n{base}"));
    let config = format!("[profile role]\nrole_arn = {ROLE}\nsource_profile = base\n");
    let files = || {
        vec![
            ("AWS_SHARED_CREDENTIALS_FILE", profiles.clone()),
            ("AWS_CONFIG_FILE", write(folder, "config", &config)),
            ("AWS_ENDPOINT_URL_STS", roles.url()),
        ]
    };
    let pod_variables = vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", pod.url()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-pod-token".to_owned()),
    ];
    let cases = vec![
        (web_identity(&tokens, &token), Vec::new()),
        (json!({ "Provider": "profile", "Profile": "plain" }), files()),
        (json!({ "Provider": "profile", "Profile": "role" }), files()),
        (json!({ "Provider": "instance", "MetadataEndpoint": metadata.url() }), Vec::new()),
        (json!({ "Provider": "container" }), pod_variables.clone()),
        (json!({ "Provider": "default" }), pod_variables),
    ];
    (cases, vec![tokens, roles, metadata, pod])
}

#[tokio::test]
async fn no_line_of_the_log_has_a_key_or_a_token_at_any_level() {
    let (store, folder) = (ScriptedOrigin::with_track("sound").await, TempFolder::new("secrets"));
    let (cases, _services) = secretive(&folder).await;
    for (credentials, environment) in cases {
        let name = credentials.to_string();
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut all = with_credentials(&store, credentials);
        all["Telemetry"]["LogLevel"] = json!("debug");
        let gate = Gate::start_with(&all, &environment).await;
        gate.client().get(TRACK, &[]).await.is(200);
        let log = eventually(&format!("{name} is in the log"), async || {
            Some(gate.log()).filter(|log| log.contains("credentials of main are there"))
        })
        .await;
        let told = log.lines().find(|line| line.to_lowercase().contains("canary"));
        assert_eq!(told, None, "{name}");
    }
}
