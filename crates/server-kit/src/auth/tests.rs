//! Tokens against static keys; against published ones in [`published`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::AUTHORIZATION;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::json;
use tokio::runtime::Handle;

use super::*;
use primitives::secret::Secret;

mod published;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of the tests, 32 bytes or more";
const RSA: &[u8] = include_bytes!("testdata/test_only_rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("testdata/test_only_rsa.pub.pem");
const RSA_PUBLIC_PKCS1: &[u8] = include_bytes!("testdata/test_only_rsa.pkcs1.pub.pem");
const SHORT_RSA_PUBLIC: &[u8] = include_bytes!("testdata/short_rsa.pub.pem");

/// A key pair to sign with, and its public half.
struct Signer {
    algorithm: Algorithm,
    private: EncodingKey,
    public: Vec<u8>,
}

impl Signer {
    fn es256() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key pair");
        let private = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("its private half");
        Self { algorithm: Algorithm::ES256, private, public: pair.public_key_pem().into_bytes() }
    }

    fn eddsa() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key pair");
        let private = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).expect("its private half");
        Self { algorithm: Algorithm::EdDSA, private, public: pair.public_key_pem().into_bytes() }
    }

    fn rs256() -> Self {
        let private = EncodingKey::from_rsa_pem(RSA).expect("the test key");
        Self { algorithm: Algorithm::RS256, private, public: RSA_PUBLIC.to_vec() }
    }

    fn hs256(secret: &[u8]) -> Self {
        Self { algorithm: Algorithm::HS256, private: EncodingKey::from_secret(secret), public: vec![] }
    }

    fn sign(&self, key_id: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: key_id.map(str::to_owned), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.private).expect("a signed token")
    }

    fn jwk(&self, key_id: &str) -> Value {
        let public = match self.algorithm {
            Algorithm::ES256 => DecodingKey::from_ec_pem(&self.public),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(&self.public),
            _ => DecodingKey::from_rsa_pem(&self.public),
        };
        let mut jwk = Jwk::from_decoding_key(&public.expect("a public key"), Some(self.algorithm)).expect("a JWK");
        jwk.common.key_id = Some(key_id.into());
        serde_json::to_value(jwk).expect("a JWK is JSON")
    }
}

fn clock() -> Clock {
    Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
}

fn good() -> Value {
    json!({"sub": "user-1", "iss": "https://auth.example", "aud": "tidegate", "exp": NOW + 600})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn issuer(keys: KeySource) -> Issuer {
    Issuer { issuer: Some("https://auth.example".into()), audiences: vec!["tidegate".into()], keys }
}

fn secret(text: &str) -> KeySource {
    KeySource::Secret(Secret::new(text))
}

fn settings(issuers: Vec<Issuer>) -> AuthSettings {
    AuthSettings {
        issuers,
        token_from: vec![TokenSource::Header],
        leeway: Duration::from_secs(30),
        path_token: None,
        end_revoked_streams: false,
    }
}

fn client() -> reqwest::Client {
    // Whichever test is first installs it; the others find it there.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

fn authenticator(issuers: Vec<Issuer>, clock: &Clock) -> Arc<Authenticator> {
    let spawner: TaskSpawner = Arc::new(|task| drop(Handle::current().spawn(task)));
    Arc::new(Authenticator::new(&settings(issuers), client(), clock.clone(), spawner).expect("usable keys"))
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn bearing(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header value");
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

async fn ask(authenticator: &Authenticator, token: &str) -> Result<String, AuthenticationError> {
    authenticator.authenticate(&bearing(token), None).await.map(|claims| claims.subject.as_str().to_owned())
}

fn ok() -> Result<String, AuthenticationError> {
    Ok("user-1".to_owned())
}

fn encode(json: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string())
}

// ---- Claims ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_claim_is_judged() {
    let authenticator = authenticator(vec![issuer(secret(SECRET))], &clock());
    let without = |name: &str| {
        let mut claims = good();
        claims.as_object_mut().expect("an object").remove(name);
        claims
    };
    let table = [
        (good(), ok()),
        (with("exp", json!(NOW - 29)), ok()),
        (with("exp", json!(NOW - 30)), Err(AuthenticationError::Expired)),
        (with("exp", json!(0)), Err(AuthenticationError::Expired)),
        (with("exp", json!(-1)), Err(AuthenticationError::Expired)),
        (with("exp", json!(1e300)), ok()),
        (with("exp", json!(u64::MAX)), ok()),
        (with("exp", json!(NOW as f64 + 0.5)), ok()),
        (with("exp", json!("1800000600")), Err(AuthenticationError::Malformed)),
        (with("exp", json!(null)), Err(AuthenticationError::Malformed)),
        (without("exp"), Err(AuthenticationError::Malformed)),
        (with("nbf", json!(NOW + 30)), ok()),
        (with("nbf", json!(NOW + 31)), Err(AuthenticationError::NotYetValid)),
        (with("nbf", json!(true)), Err(AuthenticationError::Malformed)),
        (with("iss", json!("https://other.example")), Err(AuthenticationError::WrongIssuer)),
        (with("iss", json!(["https://auth.example"])), Err(AuthenticationError::Malformed)),
        (without("iss"), Err(AuthenticationError::WrongIssuer)),
        (with("aud", json!("other")), Err(AuthenticationError::WrongAudience)),
        (with("aud", json!(["other", "tidegate"])), ok()),
        (with("aud", json!([])), Err(AuthenticationError::WrongAudience)),
        (with("aud", json!({"tidegate": 1})), Err(AuthenticationError::WrongAudience)),
        (without("aud"), Err(AuthenticationError::WrongAudience)),
        (with("sub", json!("")), Err(AuthenticationError::NoSubject)),
        (with("sub", json!(7)), Err(AuthenticationError::NoSubject)),
        (without("sub"), Err(AuthenticationError::NoSubject)),
    ];
    let signer = Signer::hs256(SECRET.as_bytes());
    for (claims, expected) in table {
        assert_eq!(ask(&authenticator, &signer.sign(None, &claims)).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn an_issuer_that_asks_for_no_audience_and_no_name_accepts_any() {
    let any = Issuer { issuer: None, audiences: vec![], keys: secret(SECRET) };
    let authenticator = authenticator(vec![any], &clock());
    let signer = Signer::hs256(SECRET.as_bytes());
    for claims in [good(), json!({"sub": "user-1", "exp": NOW + 1}), with("iss", json!("someone"))] {
        assert_eq!(ask(&authenticator, &signer.sign(None, &claims)).await, ok(), "{claims}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_as_malformed() {
    let authenticator = authenticator(vec![issuer(secret(SECRET))], &clock());
    let signer = Signer::hs256(SECRET.as_bytes());
    let token = signer.sign(None, &good());
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let claims = encode(&good());
    let part = |header: Value| format!("{}.{claims}.{signature}", encode(&header));
    let mut table: Vec<String> =
        ["x", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d.e", "e30.e30."].map(Into::into).into();
    table.extend([
        message.to_owned(),
        format!("{token}.x"),
        format!("{}=.{claims}.{signature}", encode(&json!({"alg": "HS256"}))),
        format!("{}.{}.{signature}", encode(&json!({"alg": "HS256"})), encode(&json!([1]))),
        part(json!({"alg": 1})),
        part(json!({"typ": "JWT"})),
        part(json!({"alg": "HS256", "kid": 1})),
        part(json!({"alg": "HS256", "crit": ["b64"], "b64": false})),
        part(json!("HS256")),
        signer.sign(None, &with("filling", json!("x".repeat(8 * 1024)))),
    ]);
    for token in table {
        assert_eq!(ask(&authenticator, &token).await, Err(AuthenticationError::Malformed), "{token}");
    }
}

// ---- Signatures ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn each_algorithm_verifies_with_its_own_kind_of_key() {
    for signer in [Signer::es256(), Signer::eddsa(), Signer::rs256()] {
        let authenticator = authenticator(vec![issuer(KeySource::PublicKey(signer.public.clone()))], &clock());
        let token = signer.sign(Some("whatever"), &good());
        assert_eq!(ask(&authenticator, &token).await, ok(), "{:?}", signer.algorithm);
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let (header, _) = message.split_once('.').expect("three parts");
        let other = encode(&with("sub", json!("admin")));
        for forged in [format!("{header}.{other}.{signature}"), format!("{message}."), format!("{message}.AAAA")] {
            assert_eq!(
                ask(&authenticator, &forged).await,
                Err(AuthenticationError::BadSignature),
                "{:?}",
                signer.algorithm
            );
        }
    }
}

#[tokio::test]
async fn an_rsa_key_may_be_in_its_old_form() {
    let authenticator = authenticator(vec![issuer(KeySource::PublicKey(RSA_PUBLIC_PKCS1.to_vec()))], &clock());
    assert_eq!(ask(&authenticator, &Signer::rs256().sign(None, &good())).await, ok());
}

#[tokio::test]
async fn a_token_cannot_choose_how_it_is_verified() {
    let key = Signer::rs256();
    let by_key = authenticator(vec![issuer(KeySource::PublicKey(key.public.clone()))], &clock());
    let by_secret = authenticator(vec![issuer(secret(SECRET))], &clock());
    let good_signature = Signer::hs256(SECRET.as_bytes()).sign(None, &good());
    let signature = good_signature.rsplit_once('.').expect("three parts").1;
    let named = |algorithm: &str, signature: &str| {
        format!("{}.{}.{signature}", encode(&json!({"alg": algorithm})), encode(&good()))
    };
    // The public key is no secret, so a token signed with it as one must not pass.
    let confused = Signer::hs256(&key.public).sign(None, &good());
    assert_eq!(ask(&by_key, &confused).await, Err(AuthenticationError::UnsupportedAlgorithm));
    assert_eq!(ask(&by_secret, &key.sign(None, &good())).await, Err(AuthenticationError::UnsupportedAlgorithm));
    for algorithm in ["none", "None", "", "hs256", "HS384", "HS512", "RS512", "PS256", "ES384", "ES256K"] {
        for token in [named(algorithm, ""), named(algorithm, signature)] {
            assert_eq!(ask(&by_secret, &token).await, Err(AuthenticationError::UnsupportedAlgorithm), "{algorithm}");
            assert_eq!(ask(&by_key, &token).await, Err(AuthenticationError::UnsupportedAlgorithm), "{algorithm}");
        }
    }
}

#[tokio::test]
async fn several_keys_of_one_issuer_are_all_tried() {
    let other = Issuer { issuer: None, ..issuer(secret("a third secret, also of enough bytes")) };
    let authenticator = authenticator(
        vec![issuer(secret("the old secret, also of enough bytes")), issuer(secret(SECRET)), other],
        &clock(),
    );
    for (key, claims, expected) in [
        ("the old secret, also of enough bytes", good(), ok()),
        (SECRET, good(), ok()),
        (SECRET, with("exp", json!(1)), Err(AuthenticationError::Expired)),
        // A name that is known is not judged by the keys of an issuer without a name, and the other way round.
        ("a third secret, also of enough bytes", good(), Err(AuthenticationError::BadSignature)),
        ("a third secret, also of enough bytes", with("iss", json!("someone")), ok()),
        (SECRET, with("iss", json!("someone")), Err(AuthenticationError::BadSignature)),
    ] {
        let token = Signer::hs256(key.as_bytes()).sign(None, &claims);
        assert_eq!(ask(&authenticator, &token).await, expected, "{key} {claims}");
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused_at_the_start() {
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key pair");
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key pair");
    let url = |text: &str| KeySource::Jwks(text.parse().expect("a URL"));
    for (keys, expected) in [
        (secret(SECRET), Ok(())),
        (secret(""), Err(KeyError::ShortSecret)),
        (secret("31 bytes are not yet a good key"), Err(KeyError::ShortSecret)),
        (KeySource::PublicKey(ec.public_key_pem().into_bytes()), Ok(())),
        (KeySource::PublicKey(RSA_PUBLIC.to_vec()), Ok(())),
        (KeySource::PublicKey(RSA_PUBLIC_PKCS1.to_vec()), Ok(())),
        (
            KeySource::PublicKey(b"-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----".to_vec()),
            Err(KeyError::UnsupportedKind),
        ),
        (KeySource::PublicKey(p384.public_key_pem().into_bytes()), Err(KeyError::UnsupportedKind)),
        (KeySource::PublicKey(SHORT_RSA_PUBLIC.to_vec()), Err(KeyError::ShortRsa)),
        (KeySource::PublicKey(ec.serialize_pem().into_bytes()), Err(KeyError::NotPublicPem)),
        (KeySource::PublicKey(RSA.to_vec()), Err(KeyError::NotPublicPem)),
        (KeySource::PublicKey(b"ssh-ed25519 AAAA".to_vec()), Err(KeyError::NotPublicPem)),
        (url("https://auth.example/jwks"), Ok(())),
        (url("http://127.0.0.1:1/jwks"), Ok(())),
        (url("file:///etc/passwd"), Err(KeyError::InvalidJwksUrl)),
        (url("https://user:pass@auth.example/jwks"), Err(KeyError::InvalidJwksUrl)),
    ] {
        assert_eq!(keys.check(), expected, "{keys:?}");
        let made = Authenticator::new(&settings(vec![issuer(keys)]), client(), clock(), Arc::new(drop));
        assert_eq!(made.err(), expected.err().map(|cause| InvalidIssuerKey { index: 0, cause }));
    }
}

#[test]
fn claims_do_not_show_in_debug_texts() {
    let Value::Object(map) = json!({"sub": "user-1", "email": "a@b.example"}) else { unreachable!() };
    assert_eq!(format!("{:?}", Claims { subject: UserId::parse("user-1").expect("an id"), map }), "Claims(***)");
}

// ---- Verified tokens -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_verified_token_is_remembered_until_it_expires_and_a_refused_one_is_not() {
    let clock = clock();
    let authenticator = authenticator(vec![issuer(secret(SECRET))], &clock);
    let signer = Signer::hs256(SECRET.as_bytes());
    let token = signer.sign(None, &with("exp", json!(NOW + 60)));
    let early = signer.sign(None, &with("nbf", json!(NOW + 90)));
    assert_eq!(ask(&authenticator, &token).await, ok());
    assert_eq!(ask(&authenticator, &early).await, Err(AuthenticationError::NotYetValid));
    assert_eq!(authenticator.verified.entries(), 1);
    clock.advance(seconds(89));
    assert_eq!(ask(&authenticator, &token).await, ok());
    assert_eq!(ask(&authenticator, &early).await, ok());
    clock.advance(seconds(1));
    assert_eq!(ask(&authenticator, &token).await, Err(AuthenticationError::Expired));
}

#[tokio::test]
async fn the_room_for_verified_tokens_is_bounded() {
    let authenticator = authenticator(vec![issuer(secret(SECRET))], &clock());
    let signer = Signer::hs256(SECRET.as_bytes());
    for count in 0..3_000 {
        let token = signer.sign(None, &with("filling", json!(format!("{count}{}", "x".repeat(5_000)))));
        assert_eq!(ask(&authenticator, &token).await, ok());
    }
    assert!(authenticator.verified.usage() <= TOKEN_CACHE_BYTES);
}

// ---- Tokens for development ------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_token_made_for_development_is_accepted() {
    let clock = clock();
    let trusted = issuer(secret(SECRET));
    let made = TokenIssuer::new(&trusted).expect("it has a secret").expect("of enough bytes");
    let authenticator = authenticator(vec![trusted], &clock);
    let Value::Object(claims) = json!({"role": "vip"}) else { unreachable!() };
    let token = made.issue("user-1", seconds(60), &claims, &clock);
    let claims = authenticator.authenticate(&bearing(&token), None).await.expect("a good token");
    assert_eq!(claims.map["role"], "vip");
    assert_eq!(claims.map["exp"], NOW + 60);
}

#[test]
fn tokens_are_made_only_with_a_shared_secret_that_would_be_accepted() {
    assert!(TokenIssuer::new(&issuer(KeySource::PublicKey(RSA_PUBLIC.to_vec()))).is_none());
    assert!(matches!(TokenIssuer::new(&issuer(secret("short"))), Some(Err(KeyError::ShortSecret))));
}
