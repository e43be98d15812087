//! Tokens that stand in a path, `/t/{token}/…`, for players that cannot set headers: a user's leave, until a moment, to
//! read what is below one path. Short, so that it fits wherever a URL does, and checked without asking anybody.
//!
//! version and key id, expiry, the user's generation, how many segments the path has, the user's id; HMAC-SHA256 over all
//! of it and the path, truncated to 128 bits (RFC 2104 §5); base64url without padding: at most 120 characters. The path
//! itself is not in the token: it follows it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::Refusal;
use crate::clock::Clock;
use crate::secret::Secret;

/// What a path with a token begins with.
const START: &str = "/t/";
/// Longest token, in characters.
pub const MAX_CHARACTERS: usize = 120;
/// A user's id that is longer stands in a token by its digest.
const LONGEST_USER: usize = 63;
const VERSION: u8 = 1;
/// Version, key id, expiry, generation, depth.
const HEAD: usize = 11;
const TAG: usize = 16;

/// What path tokens are told (`Auth.PathToken`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The first signs, all verify; empty: a key that lives as long as the process.
    pub keys: Vec<Secret>,
    /// How long a token is good.
    pub ttl: Duration,
}

/// Makes and verifies tokens.
pub struct PathTokens {
    keys: Vec<Key>,
    ttl: Duration,
    clock: Clock,
}

struct Key {
    id: u8,
    mac: Hmac<Sha256>,
}

/// What a genuine token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The user, as [`short`] names him.
    pub user: String,
    /// Which of the user's generations it is of: a later one revokes it.
    pub generation: u32,
    /// Unix seconds.
    pub expires: u64,
}

/// A token as it stood in a request's path; kept beside the request, never shown.
#[derive(Clone)]
pub struct PathToken(String);

impl PathToken {
    /// The path that the request was sent to, `path` being what is left of it.
    pub fn before(&self, path: &str) -> String {
        format!("{START}{}{path}", self.0)
    }
}

impl fmt::Debug for PathToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PathToken(***)")
    }
}

impl PathTokens {
    /// Tokens by these keys.
    pub fn new(settings: &Settings, clock: Clock) -> Self {
        let keys = match settings.keys.as_slice() {
            [] => {
                tracing::warn!(
                    "Auth.PathToken has no Keys: streaming URLs end with this process, and no other node takes them"
                );
                vec![Key::new(&rand::random::<[u8; 32]>())]
            }
            keys => keys.iter().map(|key| Key::new(key.expose().as_bytes())).collect(),
        };
        Self { keys, ttl: settings.ttl, clock }
    }

    /// A path below which `user` may read `scope`, whose form is `/a/b`, and until when, in Unix seconds.
    pub fn issue(&self, user: &str, generation: u32, scope: &str) -> (String, u64) {
        let expires = self.clock.unix() + self.ttl.as_secs();
        let user = short(user);
        let depth = u8::try_from(scope.matches('/').count()).unwrap_or(u8::MAX);
        let signer = &self.keys[0];
        let mut bytes = Vec::with_capacity(HEAD + user.len() + TAG);
        bytes.extend([VERSION, signer.id]);
        bytes.extend(u32::try_from(expires).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(generation.to_be_bytes());
        bytes.push(depth);
        bytes.extend(user.as_bytes());
        let tag = signer.mac(&bytes, scope).finalize().into_bytes();
        bytes.extend(&tag[..TAG]);
        (format!("{START}{}{scope}", URL_SAFE_NO_PAD.encode(bytes)), expires)
    }

    /// What `token` says, if it is genuine and in force for `path`.
    pub fn verify(&self, token: &PathToken, path: &str) -> Result<Ticket, Refusal> {
        let bytes = URL_SAFE_NO_PAD.decode(&token.0).map_err(|_| Refusal::Malformed)?;
        let (signed, tag) = bytes.split_last_chunk::<TAG>().ok_or(Refusal::Malformed)?;
        let (&[version, key, e0, e1, e2, e3, g0, g1, g2, g3, depth], user) =
            signed.split_first_chunk::<HEAD>().ok_or(Refusal::Malformed)?;
        if version != VERSION {
            return Err(Refusal::Malformed);
        }
        let scope = scope(path, depth).ok_or(Refusal::BadSignature)?;
        let mut candidates = self.keys.iter().filter(|known| known.id == key).peekable();
        candidates.peek().ok_or(Refusal::UnknownKey)?;
        if !candidates.any(|key| key.mac(signed, scope).verify_truncated_left(tag).is_ok()) {
            return Err(Refusal::BadSignature);
        }
        let expires = u64::from(u32::from_be_bytes([e0, e1, e2, e3]));
        if self.clock.unix() >= expires {
            return Err(Refusal::Expired);
        }
        let user = String::from_utf8(user.to_vec()).map_err(|_| Refusal::Malformed)?;
        Ok(Ticket { user, generation: u32::from_be_bytes([g0, g1, g2, g3]), expires })
    }

    /// A key for something else than tokens, named by `purpose`, from each of the keys: the first one's first.
    pub fn derived(&self, purpose: &str) -> Vec<[u8; 32]> {
        let derive = |key: &Key| key.mac.clone().chain_update(purpose.as_bytes()).finalize().into_bytes().into();
        self.keys.iter().map(derive).collect()
    }
}

impl Key {
    fn new(secret: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self { id: Sha256::digest(secret)[0], mac }
    }

    /// `signed` and `scope` have a fixed form each: a scope begins with a slash and its depth is in the head; the length
    /// before them parts the two.
    fn mac(&self, signed: &[u8], scope: &str) -> Hmac<Sha256> {
        let length = u16::try_from(signed.len()).unwrap_or(u16::MAX).to_be_bytes();
        self.mac.clone().chain_update(b"path token").chain_update(length).chain_update(signed).chain_update(scope)
    }
}

/// The first `depth` segments of `path`.
fn scope(path: &str, depth: u8) -> Option<&str> {
    let depth = usize::from(depth);
    let end = path.match_indices('/').nth(depth).map_or(path.len(), |(at, _)| at);
    (depth > 0 && path[..end].matches('/').count() == depth).then(|| &path[..end])
}

/// The user's id as it stands in tokens, and wherever a token's user is looked up: as it is, or where that would make the
/// token too long, its digest.
pub fn short(user: &str) -> Cow<'_, str> {
    if user.len() <= LONGEST_USER && !user.starts_with('~') {
        return Cow::Borrowed(user);
    }
    let digest = Sha256::digest(user.as_bytes());
    Cow::Owned(format!("~{}", URL_SAFE_NO_PAD.encode(&digest[..24])))
}

/// Whether `user` is what [`short`] made of a longer id: then nobody else knows him by it.
pub fn is_digest(user: &str) -> bool {
    user.starts_with('~')
}

/// Parts `/t/{token}/rest` into token and `/rest`.
pub fn split(path: &str) -> Option<(PathToken, &str)> {
    let rest = path.strip_prefix(START)?;
    let (token, _) = rest.split_once('/')?;
    (!token.is_empty()).then(|| (PathToken(token.to_owned()), &rest[token.len()..]))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    const SCOPE: &str = "/api/v1/tracks/t1";

    fn clock() -> Clock {
        Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
    }

    fn tokens(keys: &[&str], clock: &Clock) -> PathTokens {
        let keys = keys.iter().map(|key| Secret::new(*key)).collect();
        PathTokens::new(&Settings { keys, ttl: Duration::from_secs(3600) }, clock.clone())
    }

    fn verify(tokens: &PathTokens, path: &str) -> Result<Ticket, Refusal> {
        let (token, rest) = split(path).expect("a path with a token");
        tokens.verify(&token, rest)
    }

    #[test]
    fn a_token_says_who_until_when_and_holds_below_its_path_only() {
        let clock = clock();
        let tokens = tokens(&["one"], &clock);
        let (path, expires) = tokens.issue("alice", 7, SCOPE);
        let ticket = Ticket { user: "alice".into(), generation: 7, expires };
        for below in ["", "/stream", "/a/b.ts"] {
            assert_eq!(verify(&tokens, &format!("{path}{below}")), Ok(ticket.clone()), "{below}");
        }
        for (from, to) in [("t1", "t2"), ("t1", "t1x"), ("/t1", ""), ("v1/tracks", "v2/tracks"), ("/t1", "/%74%31")] {
            let other = path.replace(from, to);
            assert_eq!(verify(&tokens, &other), Err(Refusal::BadSignature), "{other}");
        }
        clock.advance(Duration::from_secs(3600));
        assert_eq!(verify(&tokens, &path), Err(Refusal::Expired));
    }

    #[test]
    fn keys_are_rotated_by_putting_the_new_one_first() {
        let clock = clock();
        let (path, _) = tokens(&["old"], &clock).issue("alice", 0, SCOPE);
        assert!(verify(&tokens(&["new", "old"], &clock), &path).is_ok());
        assert_eq!(verify(&tokens(&["new"], &clock), &path), Err(Refusal::UnknownKey));
        let (path, _) = tokens(&["new", "old"], &clock).issue("alice", 0, SCOPE);
        assert!(verify(&tokens(&["new"], &clock), &path).is_ok());
        assert!(verify(&tokens(&[], &clock), &path).is_err());
    }

    #[test]
    fn no_changed_character_goes_unnoticed() {
        let tokens = tokens(&["one"], &clock());
        let (path, _) = tokens.issue("alice", 0, SCOPE);
        let token = path.strip_prefix(START).and_then(|rest| rest.split_once('/')).expect("a token").0;
        for at in 0..token.len() {
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{START}{}{other}{}{SCOPE}", &token[..at], &token[at + 1..]);
            assert!(verify(&tokens, &changed).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_token_is_longer_than_120_characters(user in "\\PC{1,300}", generation in any::<u32>()) {
            let tokens = tokens(&["one"], &clock());
            let (path, _) = tokens.issue(&user, generation, SCOPE);
            prop_assert!(path.len() - START.len() - SCOPE.len() <= MAX_CHARACTERS);
            prop_assert!(verify(&tokens, &path).is_ok_and(|ticket| ticket.user == short(&user)));
        }

        #[test]
        fn any_path_is_read_without_panic(path in "/t/\\PC{0,200}", bytes in any::<Vec<u8>>()) {
            let tokens = tokens(&["one"], &clock());
            for path in [path, format!("{START}{}{SCOPE}", URL_SAFE_NO_PAD.encode(bytes))] {
                if let Some((token, rest)) = split(&path) {
                    prop_assert!(tokens.verify(&token, rest).is_err());
                }
            }
        }
    }
}
