//! Providers over a scripted service of web identities.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use s3::settings::{AssumedRole, ProviderKind, StoreCredentials, StoreEndpoint, StoreSettings};
use s3::signed_request_cache::UnsignedRequest;
use s3::signer::SignError;
use scripted_server::ScriptedServer;
use url::Url;

/// Wait for an answer of a provider, for a test that would else hang.
const LONG: Duration = Duration::from_secs(60);

struct Stage {
    providers: CredentialProviders,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        // Another test may have installed it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("token"), "canary-token\n").expect("a file");
        Self { providers: CredentialProviders::new(Clock::system(), BackgroundTasks::default()), folder }
    }

    fn token(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Opens a store named `store` whose keys the service at `endpoint` gives.
    fn open(&self, store: &str, endpoint: &Url, region: &str) -> Arc<Signer> {
        let role = AssumedRole {
            arn: "arn:aws:iam::123456789012:role/reader".to_owned(),
            session_name: "tidegate".to_owned(),
            duration: None,
            endpoint: Some(endpoint.clone()),
        };
        let kind = ProviderKind::WebIdentity { role, token_file: self.token() };
        let provider = Arc::new(CredentialProvider { kind, region: region.to_owned() });
        let settings = StoreSettings {
            name: store.into(),
            endpoint: StoreEndpoint::Remote(endpoint.clone()),
            region: region.to_owned(),
            path_style: true,
            credentials: StoreCredentials::Temporary(Arc::clone(&provider)),
            presign_expiry: Duration::from_secs(900),
        };
        let signer = Signer::new(settings, endpoint.clone(), Clock::system());
        self.providers.supply(&provider, signer).expect("a client")
    }
}

/// An answer of the token service, with keys that end in an hour.
fn given(key: &str) -> Option<String> {
    let end = utc(Clock::system().unix() + 3600);
    let body = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{key}</AccessKeyId>\
         <SecretAccessKey>canary-secret</SecretAccessKey><SessionToken>canary-session</SessionToken>\
         <Expiration>{end}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    );
    Some(format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

fn sign(signer: &Signer) -> Result<String, SignError> {
    let signed = signer.sign(&UnsignedRequest { head: false, bucket: "audio", key: "a" })?;
    Ok(String::from_utf8_lossy(&signed.request.head).into_owned())
}

#[tokio::test]
async fn stores_with_equal_providers_share_what_one_question_gave() {
    let (stage, asked) = (Stage::new(), AtomicUsize::new(0));
    let other = move |_: &str, _| given(&format!("KEY{}", asked.fetch_add(1, Ordering::Relaxed)));
    let service = ScriptedServer::start(other).await;
    let url = service.url();
    let stores = [stage.open("one", &url, "eu-1"), stage.open("two", &url, "eu-1"), stage.open("far", &url, "us-1")];
    stage.providers.ready(LONG).await;
    let heads = stores.each_ref().map(|signer| sign(signer).expect("signed"));
    let key = |head: &str| head.split("X-Amz-Credential=").nth(1).map(|rest| rest[..4].to_owned());
    assert_eq!(key(&heads[0]), key(&heads[1]));
    assert_ne!(key(&heads[0]), key(&heads[2]), "another region is another service");
    assert!(heads.iter().all(|head| head.contains("X-Amz-Security-Token=canary-session")));
    assert_eq!(service.received_heads().len(), 2);
    let late = stage.open("late", &url, "eu-1");
    assert_eq!(key(&sign(&late).expect("signed at once")), key(&heads[0]));
    let states = stage.providers.status();
    assert_eq!(states.iter().map(|state| &*state.store).collect::<Vec<_>>(), ["far", "late", "one", "two"]);
    assert!(states.iter().all(|state| state.is_usable && state.renewed == 1 && state.fault().is_none()));
}

#[tokio::test]
async fn what_a_provider_failed_with_is_said_without_what_is_secret() {
    let (stage, service) = (Stage::new(), ScriptedServer::start(|_, _| given("hid den")).await);
    let store = stage.open("main", &service.url(), "eu-1");
    stage.providers.ready(LONG).await;
    assert_eq!(sign(&store), Err(SignError::NoCredentials));
    let states = stage.providers.status();
    let fault = states[0].fault().expect("a fault");
    assert!(fault.starts_with("credentials of main cannot be renewed by the provider web-identity, there are none: "));
    std::fs::remove_file(stage.token()).expect("removed");
    let other = stage.open("other", &service.url(), "eu-2");
    stage.providers.ready(LONG).await;
    assert_eq!(sign(&other), Err(SignError::NoCredentials));
    let said = format!("{fault} {:?}", stage.providers.status());
    assert!(said.contains("token cannot be read"), "{said}");
    assert!(!said.contains("canary") && !said.contains("hid den"), "{said}");
}

#[tokio::test]
async fn a_provider_ends_with_the_last_store_that_it_gives_keys_to() {
    let (stage, service) = (Stage::new(), ScriptedServer::start(|_, _| given("KEY")).await);
    let store = stage.open("main", &service.url(), "eu-1");
    stage.providers.ready(LONG).await;
    assert_eq!(stage.providers.status().len(), 1);
    drop(store);
    assert!(stage.providers.status().is_empty());
    let again = stage.open("main", &service.url(), "eu-1");
    stage.providers.ready(LONG).await;
    assert!(sign(&again).is_ok());
    assert_eq!(service.received_heads().len(), 2, "another provider has asked");
}
