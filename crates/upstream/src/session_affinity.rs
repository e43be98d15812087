//! Session affinity (`SessionAffinity` of a cluster): requests of a session go to the destination that had the first one. A cookie or
//! a header of the response says which, as in YARP: a hash of the destination's id (`HashCookie`, and `ArrCookie` as IIS writes it),
//! or the id encrypted (`Cookie`, `CustomHeader`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash64;

use primitives::secret::Secret;

// XChaCha20's nonce is long enough to be drawn at random without ever repeating (draft-irtf-cfrg-xchacha §2).
const NONCE_BYTES: usize = 24;
/// Longest key that is looked at, in bytes: an id of a few hundred bytes, sealed and in base64.
const MAX_KEY_BYTES: usize = 2048;

/// Settings of session affinity.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionAffinitySettings {
    /// Form of the key.
    pub policy: AffinityPolicy,
    /// Behaviour where the destination of a key is not there.
    pub on_failure: AffinityFailurePolicy,
    /// Name of the cookie, or of the header.
    pub key_name: Arc<str>,
    /// Attributes of the cookie.
    pub cookie: AffinityCookieSettings,
    /// The first seals, all open; empty: a key that lives as long as the process.
    pub keys: Vec<Secret>,
}

/// Form of an affinity key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityPolicy {
    /// Cookie with XXH64 of the id.
    HashCookie,
    /// Cookie with SHA-256 of the id, as IIS's Application Request Routing writes it.
    ArrCookie,
    /// Cookie with the encrypted id.
    Cookie,
    /// Header with the encrypted id.
    CustomHeader,
}

/// Behaviour where the destination of a key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityFailurePolicy {
    /// Another destination has the session from now on.
    Redistribute,
    /// The request is answered with 503.
    Return503,
}

/// Attributes of the cookie (RFC 6265).
#[derive(Clone, Debug, PartialEq)]
pub struct AffinityCookieSettings {
    /// `Path`.
    pub path: String,
    /// `Domain`; `None` is the host alone.
    pub domain: Option<String>,
    /// `SameSite`; `None` leaves it to the browser.
    pub same_site: Option<&'static str>,
    /// True where scripts cannot read it.
    pub http_only: bool,
    /// `Max-Age`.
    pub max_age: Option<Duration>,
    /// Time from now to `Expires`.
    pub expiration: Option<Duration>,
    /// Whether it is `Secure`.
    pub secure: CookieSecurePolicy,
}

impl Default for AffinityCookieSettings {
    /// Returns YARP's defaults.
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            domain: None,
            same_site: None,
            http_only: true,
            max_age: None,
            expiration: None,
            secure: CookieSecurePolicy::None,
        }
    }
}

/// Whether a cookie is sent over TLS alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieSecurePolicy {
    /// Never.
    None,
    /// Always.
    Always,
    /// Where the request came over TLS.
    SameAsRequest,
}

/// Affinity that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedAffinity {
    /// None: the session is new.
    New,
    /// The destination of that id.
    Destination(Arc<str>),
    /// A destination that is none of the cluster's, or a key that cannot be read.
    Unknown,
}

/// Session affinity of a cluster.
pub struct SessionAffinity {
    settings: SessionAffinitySettings,
    cluster: Arc<str>,
    ciphers: Vec<XChaCha20Poly1305>,
}

impl SessionAffinity {
    /// Creates the affinity of `cluster`; `fallback` is the key where the settings have none.
    pub fn new(settings: &SessionAffinitySettings, cluster: &Arc<str>, fallback: &[u8; 32]) -> Self {
        let key = |secret: &Secret| Sha256::digest(secret.expose().as_bytes()).into();
        let keys: Vec<[u8; 32]> =
            if settings.keys.is_empty() { vec![*fallback] } else { settings.keys.iter().map(key).collect() };
        let ciphers = keys.iter().map(|key| XChaCha20Poly1305::new(&(*key).into())).collect();
        Self { settings: settings.clone(), cluster: Arc::clone(cluster), ciphers }
    }

    /// Returns the behaviour where the destination of a key is not there.
    pub fn on_failure(&self) -> AffinityFailurePolicy {
        self.settings.on_failure
    }

    /// Returns the destination, one of `ids`, that a request with `headers` asks for.
    pub fn find<'i>(&self, headers: &HeaderMap, ids: impl Iterator<Item = &'i Arc<str>>) -> RequestedAffinity {
        let Some(key) = self.key(headers) else { return RequestedAffinity::New };
        if key.len() > MAX_KEY_BYTES {
            return RequestedAffinity::Unknown;
        }
        let opened = self.is_sealed().then(|| self.open(key));
        let mut ids = ids;
        let found = ids.find(|id| match &opened {
            Some(opened) => opened.as_deref().is_some_and(|opened| opened == id.as_bytes()),
            None => self.hash(id) == key,
        });
        found.map_or(RequestedAffinity::Unknown, |id| RequestedAffinity::Destination(Arc::clone(id)))
    }

    /// Writes into the `headers` of a response that the session belongs to `destination`. `is_tls` says how the request came.
    pub fn write(&self, headers: &mut HeaderMap, destination: &str, is_tls: bool, now: SystemTime) {
        let Some(key) = (if self.is_sealed() { self.seal(destination) } else { Some(self.hash(destination)) }) else {
            return;
        };
        let name = &self.settings.key_name;
        if self.settings.policy == AffinityPolicy::CustomHeader {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(&**name), HeaderValue::try_from(key)) {
                headers.insert(name, value);
            }
        } else if let Ok(cookie) = HeaderValue::try_from(self.settings.cookie.line(name, &key, is_tls, now)) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }

    fn is_sealed(&self) -> bool {
        matches!(self.settings.policy, AffinityPolicy::Cookie | AffinityPolicy::CustomHeader)
    }

    /// Returns the key that a request brings.
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let name = &*self.settings.key_name;
        if self.settings.policy == AffinityPolicy::CustomHeader {
            return headers.get(name)?.to_str().ok();
        }
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'))
    }

    /// Returns the hash of an id; over UTF-16, because .NET's strings are.
    fn hash(&self, id: &str) -> String {
        let utf16 = |text: String| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        if self.settings.policy == AffinityPolicy::ArrCookie {
            let digest = Sha256::digest(utf16(id.to_lowercase()));
            return digest.iter().map(|byte| format!("{byte:02X}")).collect();
        }
        // In network order, as .NET writes it.
        format!("{:016x}", XxHash64::oneshot(0, &utf16(id.to_uppercase())))
    }

    fn seal(&self, destination: &str) -> Option<String> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: destination.as_bytes(), aad: self.cluster.as_bytes() };
        let sealed = self.ciphers.first()?.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, key: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(key).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let nonce = XNonce::from(*nonce);
        // The key's own cluster is authenticated: a key of another one opens nothing.
        let payload = || Payload { msg: sealed, aad: self.cluster.as_bytes() };
        self.ciphers.iter().find_map(|cipher| cipher.decrypt(&nonce, payload()).ok())
    }
}

impl AffinityCookieSettings {
    /// Returns the value of `Set-Cookie`.
    fn line(&self, name: &str, value: &str, is_tls: bool, now: SystemTime) -> String {
        let mut line = format!("{name}={value}");
        if let Some(expires) = self.expiration.and_then(|time| now.checked_add(time)) {
            line.push_str(&format!("; expires={}", httpdate::fmt_http_date(expires)));
        }
        if let Some(max_age) = self.max_age {
            line.push_str(&format!("; max-age={}", max_age.as_secs()));
        }
        if let Some(domain) = &self.domain {
            line.push_str(&format!("; domain={domain}"));
        }
        line.push_str(&format!("; path={}", self.path));
        let is_secure = match self.secure {
            CookieSecurePolicy::None => false,
            CookieSecurePolicy::Always => true,
            CookieSecurePolicy::SameAsRequest => is_tls,
        };
        if is_secure {
            line.push_str("; secure");
        }
        if let Some(same_site) = self.same_site {
            line.push_str(&format!("; samesite={same_site}"));
        }
        if self.http_only {
            line.push_str("; httponly");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affinity(policy: AffinityPolicy, cluster: &str, keys: &[&str]) -> SessionAffinity {
        let settings = SessionAffinitySettings {
            policy,
            on_failure: AffinityFailurePolicy::Redistribute,
            key_name: "key".into(),
            cookie: AffinityCookieSettings::default(),
            keys: keys.iter().map(|key| Secret::new((*key).to_owned())).collect(),
        };
        SessionAffinity::new(&settings, &cluster.into(), &[7; 32])
    }

    fn ids() -> [Arc<str>; 2] {
        ["one".into(), "two".into()]
    }

    /// Headers of the next request of a session whose response had `headers`.
    fn next(headers: &HeaderMap) -> HeaderMap {
        let mut request = HeaderMap::new();
        if let Some(key) = headers.get("key") {
            request.insert("key", key.clone());
        }
        for cookie in headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().expect("text").split(';').next().expect("a pair");
            request.append(header::COOKIE, format!("other=1; {pair}").parse().expect("a header"));
        }
        request
    }

    fn written(affinity: &SessionAffinity, destination: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        affinity.write(&mut headers, destination, false, SystemTime::UNIX_EPOCH);
        headers
    }

    #[test]
    fn a_key_leads_back_to_its_destination() {
        for policy in [
            AffinityPolicy::HashCookie,
            AffinityPolicy::ArrCookie,
            AffinityPolicy::Cookie,
            AffinityPolicy::CustomHeader,
        ] {
            let affinity = affinity(policy, "c", &[]);
            assert_eq!(affinity.find(&HeaderMap::new(), ids().iter()), RequestedAffinity::New);
            let request = next(&written(&affinity, "two"));
            let found = RequestedAffinity::Destination("two".into());
            assert_eq!(affinity.find(&request, ids().iter()), found, "{policy:?}");
            assert_eq!(affinity.find(&request, ids()[..1].iter()), RequestedAffinity::Unknown, "{policy:?}");
        }
    }

    #[test]
    fn hashes_are_those_of_yarp_and_iis() {
        let hash = |policy, id| affinity(policy, "c", &[]).hash(id);
        // XXH64 of nothing, and SHA-256 of nothing, from their specifications.
        assert_eq!(hash(AffinityPolicy::HashCookie, ""), "ef46db3751d8e999");
        assert_eq!(
            hash(AffinityPolicy::ArrCookie, ""),
            "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
        );
        assert_eq!(hash(AffinityPolicy::HashCookie, "One"), hash(AffinityPolicy::HashCookie, "oNE"));
    }

    #[test]
    fn a_sealed_key_is_good_for_its_cluster_and_its_keys_alone() {
        let policy = AffinityPolicy::Cookie;
        let request = next(&written(&affinity(policy, "c", &["old"]), "one"));
        let found = |cluster, keys: &[&str]| affinity(policy, cluster, keys).find(&request, ids().iter());
        assert_eq!(found("c", &["new", "old"]), RequestedAffinity::Destination("one".into()));
        for (cluster, keys) in [("d", &["old"][..]), ("c", &["new"]), ("c", &[])] {
            assert_eq!(found(cluster, keys), RequestedAffinity::Unknown, "{cluster} {keys:?}");
        }
        for forged in ["", "one", "AAAA", &"A".repeat(5000)] {
            let mut request = HeaderMap::new();
            request.insert(header::COOKIE, format!("key={forged}").parse().expect("a header"));
            let found = affinity(policy, "c", &[]).find(&request, ids().iter());
            assert_eq!(found, RequestedAffinity::Unknown, "{forged}");
        }
    }

    #[test]
    fn a_cookie_has_the_attributes_that_are_configured() {
        let all = AffinityCookieSettings {
            path: "/shop".to_owned(),
            domain: Some("shop.example".to_owned()),
            same_site: Some("none"),
            http_only: true,
            max_age: Some(Duration::from_secs(60)),
            expiration: Some(Duration::from_secs(60)),
            secure: CookieSecurePolicy::Always,
        };
        let line = all.line("k", "v", false, SystemTime::UNIX_EPOCH);
        let expected = "k=v; expires=Thu, 01 Jan 1970 00:01:00 GMT; max-age=60; domain=shop.example; path=/shop; secure; \
                        samesite=none; httponly";
        assert_eq!(line, expected);
        let few =
            AffinityCookieSettings { secure: CookieSecurePolicy::SameAsRequest, ..AffinityCookieSettings::default() };
        for (is_tls, expected) in [(false, "k=v; path=/; httponly"), (true, "k=v; path=/; secure; httponly")] {
            assert_eq!(few.line("k", "v", is_tls, SystemTime::UNIX_EPOCH), expected);
        }
    }
}
