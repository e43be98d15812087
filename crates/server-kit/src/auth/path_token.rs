//! Tokens in a path, `/t/{token}/…`, for players that cannot set headers: they let a user read below one path until a
//! given time, on routes like the one that was checked. Short, so that a token fits wherever a URL does, and verified
//! without any request to another system.
//!
//! Content: version and key id, expiry, the user's generation, the number of segments of the path, a digest of the
//! checks, the claim by which limits count the user, the user's id; HMAC-SHA256 over all of it and the path, truncated
//! to 128 bits (RFC 2104 §5); base64url without padding: at most 120 characters. The path itself is not in the token:
//! it follows it.

use std::fmt;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::AuthenticationError;
use primitives::clock::Clock;
use primitives::secret::Secret;

/// Prefix of a path with a token.
const PATH_PREFIX: &str = "/t/";
/// Longest token, in characters.
pub const MAX_CHARACTERS: usize = 120;
/// Bytes that 120 characters of base64 leave for the user's id and the claim, which are carried as they are.
pub const MAX_IDENTITY_BYTES: usize = MAX_CHARACTERS / 4 * 3 - HEADER_BYTES - DIGEST_BYTES - 1 - TAG_BYTES;
/// Characters of the shortest token, with a user's id of one byte.
const MIN_CHARACTERS: usize = (HEADER_BYTES + DIGEST_BYTES + 1 + 1 + TAG_BYTES) * 4 / 3;
const VERSION: u8 = 2;
/// Version, key id, expiry, generation, depth.
const HEADER_BYTES: usize = 11;
/// Bytes of the digest of what was judged. It is keyed, so it can only be guessed by asking.
const DIGEST_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// Settings of path tokens (`AuthSettings.PathToken`).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The first signs, all verify; empty: a key that lives as long as the process.
    pub keys: Vec<Secret>,
    /// Lifetime of a token.
    pub ttl: Duration,
}

/// Signer and verifier of tokens.
pub struct PathTokenSigner {
    current: ArcSwap<PathTokenKeys>,
    clock: Clock,
}

/// Keys with the lifetime of the tokens that they sign.
#[derive(Clone)]
struct PathTokenKeys {
    keys: Vec<PathTokenKey>,
    /// True where the settings have none, so that one was made here.
    is_generated: bool,
    ttl: Duration,
}

impl PathTokenKeys {
    fn new(settings: &Settings) -> Self {
        let keys = match settings.keys.as_slice() {
            // A key of its own rather than none: the demo and a single node work without configuration.
            [] => {
                tracing::warn!(
                    "Auth.PathToken has no Keys: streaming URLs end with this process, and no other node takes them"
                );
                vec![PathTokenKey::new(&rand::random::<[u8; 32]>())]
            }
            keys => keys.iter().map(|key| PathTokenKey::new(key.expose().as_bytes())).collect(),
        };
        Self { keys, is_generated: settings.keys.is_empty(), ttl: settings.ttl }
    }
}

#[derive(Clone)]
struct PathTokenKey {
    id: u8,
    mac: Hmac<Sha256>,
}

/// Digest of everything that was checked when the token was issued: it is valid only where the same would be checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationDigest([u8; 32]);

impl AuthorizationDigest {
    /// Returns the digest of these parts, in this order.
    pub fn new<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let hash = parts
            .into_iter()
            // Each part after its length, so that `ab` + `c` differs from `a` + `bc`.
            .fold(Sha256::new(), |hash, part| hash.chain_update((part.len() as u64).to_be_bytes()).chain_update(part));
        Self(hash.finalize().into())
    }
}

/// Authorization to read, to be put into a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathAuthorization {
    /// Digest of the checks.
    pub digest: AuthorizationDigest,
    /// The value, as limits write it, of the claim that the route's limit counts by; `None` where it counts by none, or
    /// the user has none.
    pub claim: Option<String>,
}

impl PathAuthorization {
    /// Returns a fingerprint of all of it, to compare two.
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::new().chain_update(self.digest.0).chain_update(self.claim.as_deref().unwrap_or_default());
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }
}

/// The claims of a genuine token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTokenClaims {
    /// The user's id.
    pub user: String,
    /// Generation of the user in which it was issued: a later one revokes it.
    pub generation: u32,
    /// Unix seconds.
    pub expires: u64,
    /// Value of the claim by which limits count, as in [`PathAuthorization`].
    pub claim: Option<String>,
    /// Digest of the checks, by the key with that id.
    digest: [u8; DIGEST_BYTES],
    key: u8,
}

/// Token of a request's path; kept beside the request, never shown.
#[derive(Clone)]
pub struct PathToken(String);

impl PathToken {
    /// Returns the path of the request, `path` being the rest of it.
    pub fn full_path(&self, path: &str) -> String {
        format!("{PATH_PREFIX}{}{path}", self.0)
    }
}

/// Returns true if a text may contain a token: a run of base64url, at least as long as the shortest token, that begins
/// with the version. For callers that must show no token.
pub fn may_hold_token(text: &str) -> bool {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let first = |run: &str| run.get(..4).and_then(|start| URL_SAFE_NO_PAD.decode(start).ok()?.first().copied());
    text.split(|c| !is_of_token(c)).any(|run| run.len() >= MIN_CHARACTERS && first(run) == Some(VERSION))
}

impl fmt::Debug for PathToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PathToken(***)")
    }
}

impl PathTokenSigner {
    /// Creates a signer with these keys.
    pub fn new(settings: &Settings, clock: Clock) -> Self {
        Self { current: ArcSwap::from_pointee(PathTokenKeys::new(settings)), clock }
    }

    /// Uses the keys and the lifetime of `settings` from now on. Without keys in them, a key that was made here stays.
    pub fn replace(&self, settings: &Settings) {
        self.current.rcu(|current| match settings.keys.is_empty() && current.is_generated {
            true => PathTokenKeys { ttl: settings.ttl, ..PathTokenKeys::clone(current) },
            false => PathTokenKeys::new(settings),
        });
    }

    /// Issues a token. Returns a path below which `user` may read `scope`, whose form is `/a/b`, and the Unix second of
    /// its expiry. `None` if the user's id and the claim are together longer than [`MAX_IDENTITY_BYTES`]: neither is
    /// shortened, since both are needed whole where the token is used.
    pub fn issue(&self, user: &str, generation: u32, scope: &str, leave: &PathAuthorization) -> Option<(String, u64)> {
        let claim = leave.claim.as_deref().unwrap_or_default();
        if user.len() + claim.len() > MAX_IDENTITY_BYTES {
            return None;
        }
        let current = self.current.load();
        let expires = self.clock.unix() + current.ttl.as_secs();
        let depth = u8::try_from(scope.matches('/').count()).unwrap_or(u8::MAX);
        let signer = &current.keys[0];
        let mut bytes = Vec::with_capacity(MAX_CHARACTERS);
        bytes.extend([VERSION, signer.id]);
        // Seconds in 32 bits last until 2106.
        bytes.extend(u32::try_from(expires).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(generation.to_be_bytes());
        bytes.push(depth);
        bytes.extend(&signer.digest_mac(&leave.digest).finalize().into_bytes()[..DIGEST_BYTES]);
        bytes.push(u8::try_from(claim.len()).ok()?);
        bytes.extend(claim.as_bytes());
        bytes.extend(user.as_bytes());
        let tag = signer.mac(&bytes, scope).finalize().into_bytes();
        bytes.extend(&tag[..TAG_BYTES]);
        Some((format!("{PATH_PREFIX}{}{scope}", URL_SAFE_NO_PAD.encode(bytes)), expires))
    }

    /// Returns the claims of `token` if it is genuine and valid for `path`. The digest of its checks is still to be
    /// compared, by [`PathTokenSigner::authorizes`].
    pub fn verify(&self, token: &PathToken, path: &str) -> Result<PathTokenClaims, AuthenticationError> {
        let bytes = URL_SAFE_NO_PAD.decode(&token.0).map_err(|_| AuthenticationError::Malformed)?;
        let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(AuthenticationError::Malformed)?;
        let (&[version, key, e0, e1, e2, e3, g0, g1, g2, g3, depth], rest) =
            signed.split_first_chunk::<HEADER_BYTES>().ok_or(AuthenticationError::Malformed)?;
        if version != VERSION {
            return Err(AuthenticationError::Malformed);
        }
        // A path with fewer segments than the token's cannot be the one that was signed.
        let scope = scope(path, depth).ok_or(AuthenticationError::BadSignature)?;
        // One byte is no unique id, so two configured keys may share it.
        let current = self.current.load();
        let mut candidates = current.keys.iter().filter(|known| known.id == key).peekable();
        candidates.peek().ok_or(AuthenticationError::UnknownKey)?;
        // Compared in constant time by the `hmac` crate.
        if !candidates.any(|key| key.mac(signed, scope).verify_truncated_left(tag).is_ok()) {
            return Err(AuthenticationError::BadSignature);
        }
        let expires = u64::from(u32::from_be_bytes([e0, e1, e2, e3]));
        // After the signature: the time of a forged token means nothing.
        if self.clock.unix() >= expires {
            return Err(AuthenticationError::Expired);
        }
        let (&judged, rest) = rest.split_first_chunk::<DIGEST_BYTES>().ok_or(AuthenticationError::Malformed)?;
        let (&length, rest) = rest.split_first().ok_or(AuthenticationError::Malformed)?;
        let (claim, user) = rest.split_at_checked(length.into()).ok_or(AuthenticationError::Malformed)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| AuthenticationError::Malformed);
        let (claim, user) = (Some(text(claim)?).filter(|claim| !claim.is_empty()), text(user)?);
        Ok(PathTokenClaims {
            user,
            generation: u32::from_be_bytes([g0, g1, g2, g3]),
            expires,
            claim,
            digest: judged,
            key,
        })
    }

    /// Returns true if `ticket`, which this signer verified, was issued after the checks of `judged`.
    pub fn authorizes(&self, ticket: &PathTokenClaims, judged: &AuthorizationDigest) -> bool {
        let current = self.current.load();
        let mut keys = current.keys.iter().filter(|known| known.id == ticket.key);
        keys.any(|key| key.digest_mac(judged).verify_truncated_left(&ticket.digest).is_ok())
    }

    /// Derives a key for another purpose from each of the keys, that of the first one first.
    pub fn derive_keys(&self, purpose: &str) -> Vec<[u8; 32]> {
        let derive =
            |key: &PathTokenKey| key.mac.clone().chain_update(purpose.as_bytes()).finalize().into_bytes().into();
        self.current.load().keys.iter().map(derive).collect()
    }
}

impl PathTokenKey {
    fn new(secret: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self { id: Sha256::digest(secret)[0], mac }
    }

    /// Returns the MAC of both. Each has a fixed form: a scope begins with a slash and its depth is in the head; the
    /// length before them separates the two.
    fn mac(&self, signed: &[u8], scope: &str) -> Hmac<Sha256> {
        let length = u16::try_from(signed.len()).unwrap_or(u16::MAX).to_be_bytes();
        self.mac.clone().chain_update(b"path token").chain_update(length).chain_update(signed).chain_update(scope)
    }

    fn digest_mac(&self, judged: &AuthorizationDigest) -> Hmac<Sha256> {
        self.mac.clone().chain_update(b"leave of a path token").chain_update(judged.0)
    }
}

/// Returns the first `depth` segments of `path`.
fn scope(path: &str, depth: u8) -> Option<&str> {
    let depth = usize::from(depth);
    let end = path.match_indices('/').nth(depth).map_or(path.len(), |(at, _)| at);
    (depth > 0 && path[..end].matches('/').count() == depth).then(|| &path[..end])
}

/// Splits `/t/{token}/rest` into token and `/rest`, or `/` without a rest. `None` if the path does not begin so.
pub fn split(path: &str) -> Option<(PathToken, &str)> {
    let rest = path.strip_prefix(PATH_PREFIX)?;
    let end = rest.find('/').unwrap_or(rest.len());
    let below = if end == rest.len() { "/" } else { &rest[end..] };
    Some((PathToken(rest[..end].to_owned()), below))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const SCOPE: &str = "/api/v1/tracks/t1";

    fn clock() -> Clock {
        Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
    }

    fn tokens(keys: &[&str], clock: &Clock) -> PathTokenSigner {
        let keys = keys.iter().map(|key| Secret::new(*key)).collect();
        PathTokenSigner::new(&Settings { keys, ttl: Duration::from_secs(3600) }, clock.clone())
    }

    fn leave() -> PathAuthorization {
        PathAuthorization { digest: AuthorizationDigest::new(["policy"]), claim: None }
    }

    fn issue(tokens: &PathTokenSigner, user: &str, generation: u32) -> (String, u64) {
        tokens.issue(user, generation, SCOPE, &leave()).expect("the user's id is short")
    }

    fn verify(tokens: &PathTokenSigner, path: &str) -> Result<PathTokenClaims, AuthenticationError> {
        let (token, rest) = split(path).expect("a path with a token");
        tokens.verify(&token, rest)
    }

    #[test]
    fn a_token_says_who_until_when_and_holds_below_its_path_only() {
        let clock = clock();
        let tokens = tokens(&["one"], &clock);
        let (path, expires) = issue(&tokens, "alice", 7);
        for below in ["", "/stream", "/a/b.ts"] {
            let ticket = verify(&tokens, &format!("{path}{below}")).expect("it is good");
            assert_eq!((ticket.user.as_str(), ticket.generation, ticket.expires), ("alice", 7, expires), "{below}");
        }
        for (from, to) in [("t1", "t2"), ("t1", "t1x"), ("/t1", ""), ("v1/tracks", "v2/tracks"), ("/t1", "/%74%31")] {
            let other = path.replace(from, to);
            assert_eq!(verify(&tokens, &other), Err(AuthenticationError::BadSignature), "{other}");
        }
        clock.advance(Duration::from_secs(3600));
        assert_eq!(verify(&tokens, &path), Err(AuthenticationError::Expired));
    }

    #[test]
    fn a_token_is_leave_for_what_was_judged_and_carries_user_and_claim_whole() {
        let tokens = tokens(&["new", "old"], &clock());
        let leave = PathAuthorization { digest: AuthorizationDigest::new(["vip", "a"]), claim: Some("c".repeat(20)) };
        let user = "u".repeat(MAX_IDENTITY_BYTES - 20);
        let (path, _) = tokens.issue(&user, 0, SCOPE, &leave).expect("it has room");
        assert_eq!(path.len() - PATH_PREFIX.len() - SCOPE.len(), MAX_CHARACTERS);
        let ticket = verify(&tokens, &path).expect("it is good");
        assert_eq!((&ticket.user, &ticket.claim), (&user, &leave.claim));
        assert!(tokens.authorizes(&ticket, &leave.digest));
        for other in [vec!["vip"], vec!["vip", "b"], vec!["vipa"], vec![]] {
            assert!(!tokens.authorizes(&ticket, &AuthorizationDigest::new(other.clone())), "{other:?}");
        }
        assert_eq!(tokens.issue(&format!("{user}u"), 0, SCOPE, &leave), None);
    }

    #[test]
    fn a_path_without_a_rest_loses_its_token_too() {
        for (path, rest) in [("/t/x", "/"), ("/t/x/", "/"), ("/t/", "/"), ("/t//y", "/y"), ("/t/x/y/z", "/y/z")] {
            assert_eq!(split(path).map(|(_, rest)| rest), Some(rest), "{path}");
        }
        assert!(split("/tx/y").is_none());
    }

    #[test]
    fn keys_are_rotated_by_putting_the_new_one_first() {
        let clock = clock();
        let (path, _) = issue(&tokens(&["old"], &clock), "alice", 0);
        assert!(verify(&tokens(&["new", "old"], &clock), &path).is_ok());
        assert_eq!(verify(&tokens(&["new"], &clock), &path), Err(AuthenticationError::UnknownKey));
        let (path, _) = issue(&tokens(&["new", "old"], &clock), "alice", 0);
        assert!(verify(&tokens(&["new"], &clock), &path).is_ok());
        assert!(verify(&tokens(&[], &clock), &path).is_err());
    }

    #[test]
    fn no_changed_character_goes_unnoticed() {
        let tokens = tokens(&["one"], &clock());
        let (path, _) = issue(&tokens, "alice", 0);
        let token = path.strip_prefix(PATH_PREFIX).and_then(|rest| rest.split_once('/')).expect("a token").0;
        for at in 0..token.len() {
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{PATH_PREFIX}{}{other}{}{SCOPE}", &token[..at], &token[at + 1..]);
            assert!(verify(&tokens, &changed).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_token_is_longer_than_120_characters(user in "\\PC{1,60}", claim in "\\PC{1,20}", generation in any::<u32>()) {
            let tokens = tokens(&["one"], &clock());
            let leave = PathAuthorization { claim: Some(claim.clone()), ..leave() };
            let issued = tokens.issue(&user, generation, SCOPE, &leave);
            prop_assert_eq!(issued.is_some(), user.len() + claim.len() <= MAX_IDENTITY_BYTES);
            if let Some((path, _)) = issued {
                prop_assert!(path.len() - PATH_PREFIX.len() - SCOPE.len() <= MAX_CHARACTERS);
                let ticket = verify(&tokens, &path);
                prop_assert!(ticket.is_ok_and(|ticket| ticket.user == user && ticket.claim == leave.claim));
            }
        }

        #[test]
        fn any_path_is_read_without_panic(path in "/t/\\PC{0,200}", bytes in any::<Vec<u8>>()) {
            let tokens = tokens(&["one"], &clock());
            for path in [path, format!("{PATH_PREFIX}{}{SCOPE}", URL_SAFE_NO_PAD.encode(bytes))] {
                if let Some((token, rest)) = split(&path) {
                    prop_assert!(tokens.verify(&token, rest).is_err());
                }
            }
        }
    }
}
