//! Fuzz target of tokens in paths.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fuzz_inputs::{FuzzInput, FuzzInputs, check};

use super::path_token::{PathAuthorization, PathTokenSigner, Settings, may_hold_token, split};
use primitives::clock::Clock;
use primitives::secret::Secret;

const MEMBER: &str = env!("CARGO_MANIFEST_DIR");
const SCOPE: &str = "/api/v1/tracks/t1";

#[test]
fn path_tokens() {
    let tokens: &[&[u8]] = &[
        b"/t/",
        b"/",
        b"//",
        b"/api/v1/tracks/t1",
        b"\x01",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"A",
        b"-",
        b"_",
        b"=",
        b"%2F",
        b"\xc3\xa9",
        b"\xff",
    ];
    let inputs = FuzzInputs::new(MEMBER, "path_tokens", tokens);
    let clock = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let settings =
        Settings { keys: vec![Secret::new("a key of the fuzz target, 32 bytes")], ttl: Duration::from_secs(600) };
    let signer = PathTokenSigner::new(&settings, clock);
    let issued = signer.issue("user", 1, SCOPE, &PathAuthorization::default()).expect("a short user").0;
    let genuine = issued.strip_prefix("/t/").and_then(|rest| rest.split('/').next()).expect("a token").to_owned();
    let try_all = |input: &[u8]| {
        path_token(&signer, &genuine, &String::from_utf8_lossy(input));
        // As the bytes of a token, and as what a genuine one is changed by.
        path_token(&signer, &genuine, &format!("/t/{}{SCOPE}", BASE64_URL_SAFE_NO_PAD.encode(input)));
        let mut changed = BASE64_URL_SAFE_NO_PAD.decode(&genuine).expect("base64url");
        changed.iter_mut().zip(input).for_each(|(byte, change)| *byte ^= change);
        path_token(&signer, &genuine, &format!("/t/{}{SCOPE}", BASE64_URL_SAFE_NO_PAD.encode(changed)));
    };
    inputs.each_sample(try_all);
    check!().with_generator(inputs).for_each(|input: &FuzzInput| try_all(input));
}

/// Only the token that was issued is taken, and only for its scope; and it is known as one wherever it is shown.
fn path_token(signer: &PathTokenSigner, genuine: &str, path: &str) {
    let Some((token, rest)) = split(path) else { return };
    assert!(rest.starts_with('/'));
    // A path without a rest has the same meaning with a slash.
    let whole = token.full_path(rest);
    assert!(whole == path || whole == format!("{path}/"), "{path}");
    let claims = signer.verify(&token, rest);
    let is_genuine = path.strip_prefix("/t/").and_then(|text| text.strip_prefix(genuine)) == Some(rest);
    let is_in_scope = rest == SCOPE || rest.strip_prefix(SCOPE).is_some_and(|below| below.starts_with('/'));
    assert_eq!(claims.is_ok(), is_genuine && is_in_scope, "{path}");
    if is_genuine {
        assert!(may_hold_token(path));
    }
}
