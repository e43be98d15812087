use super::*;
use crate::settings::{CredentialProvider, ProviderKind, SecretSource, StoreEndpoint, StoreKeys};
use primitives::secret::Secret;

fn store(path_style: bool, secret_file: Option<std::path::PathBuf>) -> StoreSettings {
    let source = |value: &str| SecretSource { value: Secret::new(value), file: None };
    let mut secret_key = source("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    secret_key.file = secret_file;
    StoreSettings {
        name: "s3".into(),
        endpoint: StoreEndpoint::Remote("https://s3.amazonaws.com".parse().expect("a URL")),
        region: "us-east-1".into(),
        path_style,
        credentials: StoreCredentials::Keys(StoreKeys {
            access_key: source("AKIAIOSFODNN7EXAMPLE"),
            secret_key,
            session_token: None,
        }),
        presign_expiry: Duration::from_secs(86_400),
    }
}

fn signer(path_style: bool, clock: &Clock) -> Signer {
    Signer::new(store(path_style, None), "https://s3.amazonaws.com".parse().expect("a URL"), clock.clone())
}

fn aws_time() -> Clock {
    Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600))
}

fn text(signature: &SigningOutcome) -> String {
    String::from_utf8(signature.request.head.to_vec()).expect("a request head is ASCII")
}

fn is_same(one: &SigningOutcome, other: &SigningOutcome) -> bool {
    Arc::ptr_eq(&one.request, &other.request) && other.is_cached
}

#[test]
fn signs_the_example_of_the_aws_documentation() {
    let object = UnsignedRequest { head: false, bucket: "examplebucket", key: "test.txt" };
    let signed = signer(false, &aws_time()).sign(&object).expect("signed");
    assert_eq!(
        text(&signed),
        "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n"
    );
}

#[test]
fn keys_are_encoded_once_as_the_store_verifies_them() {
    for (key, path) in [
        ("a b.mp3", "/audio/a%20b.mp3"),
        ("a+b.mp3", "/audio/a%2Bb.mp3"),
        ("100%.mp3", "/audio/100%25.mp3"),
        ("Ünï/c#d?.mp3", "/audio/%C3%9Cn%C3%AF/c%23d%3F.mp3"),
        ("a//b", "/audio/a//b"),
        ("/leading", "/audio//leading"),
        ("~tilde_(1)'.mp3", "/audio/~tilde_%281%29%27.mp3"),
    ] {
        let signed =
            signer(true, &aws_time()).sign(&UnsignedRequest { head: true, bucket: "audio", key }).expect("signed");
        let head = text(&signed);
        assert!(head.starts_with(&format!("HEAD {path}?X-Amz-")), "{key}: {head}");
    }
}

#[test]
fn a_signature_is_kept_until_thirty_seconds_before_it_expires() {
    let clock = aws_time();
    let signer = signer(true, &clock);
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    let first = signer.sign(&object).expect("signed");
    clock.advance(Duration::from_secs(86_400 - 31));
    assert!(is_same(&first, &signer.sign(&object).expect("signed")), "still good");
    clock.advance(Duration::from_secs(1));
    assert!(!is_same(&first, &signer.sign(&object).expect("signed")), "signed anew");
}

#[test]
fn methods_and_forgotten_objects_are_signed_apart() {
    let signer = signer(true, &aws_time());
    let get = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    let first = signer.sign(&get).expect("signed");
    let head = signer.sign(&UnsignedRequest { head: true, ..get }).expect("signed");
    assert_ne!(text(&first), text(&head));
    signer.forget(&get);
    assert!(!is_same(&first, &signer.sign(&get).expect("signed")));
}

#[test]
fn the_clock_of_the_store_is_learnt_and_small_differences_are_left_alone() {
    let clock = aws_time();
    let signer = signer(true, &clock);
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    let before = signer.sign(&object).expect("signed");
    assert!(!signer.learn_clock(clock.now() + Duration::from_secs(20)));
    assert!(signer.learn_clock(clock.now() + Duration::from_secs(3600)));
    assert!(signer.is_outdated(before.request.generation));
    assert!(text(&signer.sign(&object).expect("signed")).contains("X-Amz-Date=20130524T010000Z"));
    assert!(!signer.learn_clock(clock.now() + Duration::from_secs(3600)), "the same offset again changes nothing");
}

#[test]
fn a_clock_that_is_days_or_ages_off_is_not_followed() {
    let clock = aws_time();
    let signer = signer(true, &clock);
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    let hour = Duration::from_secs(3600);
    assert!(signer.learn_clock(clock.now() + hour));
    let year_9999 = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    for absurd in [year_9999, SystemTime::UNIX_EPOCH, clock.now() + 25 * hour, clock.now() - 25 * hour] {
        assert!(!signer.learn_clock(absurd), "{absurd:?}");
        assert!(text(&signer.sign(&object).expect("signed")).contains("X-Amz-Date=20130524T010000Z"), "{absurd:?}");
    }
    assert!(signer.learn_clock(clock.now() - 24 * hour));
    assert!(text(&signer.sign(&object).expect("signed")).contains("X-Amz-Date=20130523T000000Z"));
}

#[test]
fn a_clock_that_did_not_help_is_forgotten_once() {
    let clock = aws_time();
    let signer = signer(true, &clock);
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    let ours = signer.sign(&object).expect("signed");
    assert!(!signer.forget_clock(ours.request.generation), "nothing was learnt");
    assert!(signer.learn_clock(clock.now() + Duration::from_secs(3600)));
    assert!(!signer.forget_clock(ours.request.generation), "that one was signed before");
    let learnt = signer.sign(&object).expect("signed");
    assert!(signer.forget_clock(learnt.request.generation));
    assert_eq!(text(&signer.sign(&object).expect("signed")), text(&ours));
}

#[test]
fn a_clock_at_the_end_of_time_signs_nothing_and_overflows_nowhere() {
    for seconds in [1 << 40, i64::MAX as u64 / 1000] {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let signer = signer(true, &clock);
        signer.learn_clock(clock.now() + Duration::from_secs(3600));
        let signed = signer.sign(&UnsignedRequest { head: false, bucket: "audio", key: "a" });
        assert_eq!(signed.err(), Some(SignError::Clock));
    }
}

#[test]
fn a_denied_signature_is_renewed_once_in_an_interval_for_all() {
    let clock = aws_time();
    let signer = signer(true, &clock);
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    let old = signer.sign(&object).expect("signed").request;
    let renewed = signer.renew_denied(&object, &old).expect("signed").expect("another one");
    let other = signer.renew_denied(&object, &old).expect("signed").expect("another one");
    assert!(Arc::ptr_eq(&renewed, &other), "one for all who were denied");
    assert!(Arc::ptr_eq(&renewed, &signer.sign(&object).expect("signed").request), "and for those who come");
    assert!(signer.renew_denied(&object, &renewed).expect("signed").is_none(), "denied again, and too soon");
    clock.advance(RENEWAL_INTERVAL);
    assert!(signer.renew_denied(&object, &renewed).expect("signed").is_some());
}

#[tokio::test]
async fn credentials_in_a_file_are_read_again() {
    let file = std::env::temp_dir().join(format!("tidegate-signer-{}", std::process::id()));
    std::fs::write(&file, "one\n").expect("written");
    let signer =
        Signer::new(store(true, Some(file.clone())), "http://127.0.0.1:9000".parse().expect("a URL"), aws_time());
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    let before = signer.sign(&object).expect("signed");
    assert!(!signer.renew_credentials(signer.generation()).await, "nothing changed yet");
    std::fs::write(&file, "two\n").expect("written");
    assert!(signer.renew_credentials(signer.generation()).await);
    assert_ne!(text(&before), text(&signer.sign(&object).expect("signed")));
    std::fs::remove_file(file).expect("removed");
}

fn temporary(clock: &Clock) -> Signer {
    let provider = CredentialProvider { kind: ProviderKind::Container, region: "us-east-1".to_owned() };
    let credentials = StoreCredentials::Temporary(Arc::new(provider));
    let settings = StoreSettings { credentials, ..store(true, None) };
    Signer::new(settings, "http://127.0.0.1:9000".parse().expect("a URL"), clock.clone())
}

fn keys(name: &str, expires_at: Option<u64>) -> TemporaryKeys {
    let session_token = Some(Secret::new(format!("token of {name}")));
    TemporaryKeys { access_key: Secret::new(name), secret_key: Secret::new("secret"), session_token, expires_at }
}

#[test]
fn temporary_keys_sign_with_their_token_until_they_end() {
    let clock = aws_time();
    let signer = temporary(&clock);
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    assert_eq!(signer.sign(&object).err(), Some(SignError::NoCredentials));
    signer.set_credentials(&keys("ONE", Some(clock.unix() + 3600)));
    let first = signer.sign(&object).expect("signed");
    let head = text(&first);
    assert!(
        head.contains("X-Amz-Credential=ONE%2F") && head.contains("X-Amz-Security-Token=token%20of%20ONE"),
        "{head}"
    );
    assert!(is_same(&first, &signer.sign(&object).expect("signed")), "a warm credential costs no signature");
    // The URL would be good for a day: its keys are not.
    clock.advance(Duration::from_secs(3570));
    assert!(!signer.sign(&object).expect("signed").is_cached);
    clock.advance(Duration::from_secs(30));
    assert_eq!(signer.sign(&object).err(), Some(SignError::ExpiredCredentials));
    assert_eq!(signer.sign_listing("audio", "", "").err(), Some(SignError::ExpiredCredentials));
    let upload = signer.sign_upload("audio", "a", &upload::UploadStep::Delete);
    assert_eq!(upload.err(), Some(SignError::ExpiredCredentials));
}

#[test]
fn other_keys_take_the_place_of_all_signatures_and_the_same_keep_them() {
    let clock = aws_time();
    let signer = temporary(&clock);
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    let end = clock.unix() + 3600;
    signer.set_credentials(&keys("ONE", Some(end)));
    let first = signer.sign(&object).expect("signed");
    signer.set_credentials(&keys("ONE", Some(end + 60)));
    assert!(is_same(&first, &signer.sign(&object).expect("signed")), "the same keys for longer");
    signer.set_credentials(&keys("TWO", Some(end)));
    let second = signer.sign(&object).expect("signed");
    assert!(!second.is_cached && text(&second).contains("X-Amz-Credential=TWO%2F"));
    assert!(signer.is_outdated(first.request.generation));
}

#[test]
fn a_signature_of_older_keys_is_not_handed_out_however_late_it_was_kept() {
    let clock = aws_time();
    let signer = temporary(&clock);
    let object = UnsignedRequest { head: false, bucket: "audio", key: "a" };
    signer.set_credentials(&keys("ONE", None));
    let old = signer.sign(&object).expect("signed");
    let denied = signer.renew_denied(&object, &old.request).expect("signed").expect("another one");
    signer.set_credentials(&keys("TWO", None));
    // Who signed with the old keys keeps it only now.
    signer.cache.put(&object, old.request);
    assert!(text(&signer.sign(&object).expect("signed")).contains("X-Amz-Credential=TWO%2F"));
    signer.cache.put(&object, Arc::clone(&denied));
    let renewed = signer.renew_denied(&object, &denied).expect("signed").expect("another one");
    assert!(String::from_utf8_lossy(&renewed.head).contains("X-Amz-Credential=TWO%2F"));
}

#[test]
fn an_anonymous_request_has_no_signature() {
    let settings = StoreSettings { credentials: StoreCredentials::Anonymous, ..store(true, None) };
    let signer = Signer::new(settings, "http://127.0.0.1:9000".parse().expect("a URL"), aws_time());
    let signed = signer.sign(&UnsignedRequest { head: false, bucket: "audio", key: "a" }).expect("made");
    assert_eq!(text(&signed), "GET /audio/a HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n");
}

#[tokio::test(start_paused = true)]
async fn refusals_ask_the_provider_once_and_wait_for_its_answer() {
    let clock = aws_time();
    let renewal = Arc::new(CredentialRenewal::default());
    let signer = Arc::new(temporary(&clock).renewed_by(Arc::clone(&renewal)));
    let provider = {
        let (renewal, signer) = (Arc::clone(&renewal), Arc::clone(&signer));
        async move {
            renewal.wanted().await;
            signer.set_credentials(&keys("TWO", None));
            renewal.attempted();
        }
    };
    let ((), one, other) = tokio::join!(provider, signer.renew_credentials(1), signer.renew_credentials(1));
    assert!(one && other, "both have the new keys");
    assert!(signer.renew_credentials(1).await, "at once, for a request of the old keys");
    // Refused again: the store means something else, and the provider is left alone.
    assert!(!signer.renew_credentials(signer.generation()).await);
    tokio::time::advance(Duration::from_secs(30)).await;
    let begun = primitives::clock::monotonic_now();
    let (asked, changed) = tokio::join!(
        tokio::time::timeout(RENEWAL_INTERVAL, renewal.wanted()),
        signer.renew_credentials(signer.generation())
    );
    assert!(asked.is_ok() && !changed);
    assert_eq!(
        primitives::clock::monotonic_now() - begun,
        Duration::from_secs(2),
        "a provider that hangs holds nobody up"
    );
}

#[tokio::test]
async fn only_what_a_store_says_of_the_keys_asks_for_others() {
    for (status, code, is_asked) in [
        (403, "AccessDenied", false),
        (403, "", false),
        (401, "", false),
        (404, "NoSuchKey", false),
        (400, "InvalidArgument", false),
        (503, "SlowDown", false),
        (400, "ExpiredToken", true),
        (400, "InvalidToken", true),
        (403, "InvalidAccessKeyId", true),
        (401, "InvalidAccessKeyId", true),
        (404, "XAdminUserNotFound", true),
        (403, "SignatureDoesNotMatch", true),
    ] {
        let clock = aws_time();
        let renewal = Arc::new(CredentialRenewal::default());
        let signer = temporary(&clock).renewed_by(Arc::clone(&renewal));
        signer.set_credentials(&keys("ONE", None));
        let provider = async {
            renewal.wanted().await;
            signer.set_credentials(&keys("TWO", None));
            renewal.attempted();
            std::future::pending::<()>().await;
        };
        let answer = http::Response::builder().status(status).body(format!("<Error><Code>{code}</Code></Error>"));
        let answer = reqwest::Response::from(answer.expect("an answer"));
        let generation = signer.generation();
        let refusal = tokio::select! {
            refusal = signer.take_refusal(generation, answer) => refusal,
            () = provider => unreachable!("it never ends"),
        };
        assert_eq!((refusal.is_mended, signer.is_outdated(generation)), (is_asked, is_asked), "{status} {code}");
    }
}

#[tokio::test]
async fn the_clock_is_learnt_from_a_refusal_that_speaks_of_time_and_from_no_other() {
    let clock = aws_time();
    let signer = signer(true, &clock);
    for (message, is_learnt) in [("Access Denied.", false), ("Request has expired", true)] {
        let answer = http::Response::builder().status(403).header("date", "Fri, 24 May 2013 01:00:00 GMT");
        let text = format!("<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>");
        let answer = reqwest::Response::from(answer.body(text).expect("an answer"));
        assert_eq!(signer.take_refusal(signer.generation(), answer).await.is_mended, is_learnt, "{message}");
    }
    let signed = signer.sign(&UnsignedRequest { head: false, bucket: "audio", key: "a" }).expect("signed");
    assert!(text(&signed).contains("X-Amz-Date=20130524T010000Z"));
}
