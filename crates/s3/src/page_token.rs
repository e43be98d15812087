//! Continuation tokens of listings as clients get them: sealed, for a store's token may say keys of the bucket, and only good for
//! the folder that they were given for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};

// XChaCha20's nonce is long enough to be drawn at random without ever repeating (draft-irtf-cfrg-xchacha §2).
const NONCE_BYTES: usize = 24;
/// Longest token that is looked at, in bytes: a store's token holds a key, of 1,024 bytes at most, in base64.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// Seals and opens continuation tokens.
pub struct PageTokenCipher(XChaCha20Poly1305);

impl PageTokenCipher {
    /// The cipher of a store, by its secret key: all nodes that read from it have the same.
    pub(crate) fn new(secret_key: &str) -> Self {
        let key = Sha256::new().chain_update(b"tidegate page token\0").chain_update(secret_key).finalize();
        Self(XChaCha20Poly1305::new(&key))
    }

    /// Seals the store's `token` for the folder `prefix` of `bucket`; `None` where it is too long for a URL.
    pub fn seal(&self, bucket: &str, prefix: &str, token: &str) -> Option<String> {
        let nonce = rand::random::<[u8; NONCE_BYTES]>();
        let payload = Payload { msg: token.as_bytes(), aad: &place(bucket, prefix) };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).ok()?;
        let text = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        (text.len() <= MAX_TOKEN_BYTES).then_some(text)
    }

    /// Opens what [`PageTokenCipher::seal`] made for the same folder; `None` for everything else.
    pub fn open(&self, bucket: &str, prefix: &str, text: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(Some(text).filter(|text| text.len() <= MAX_TOKEN_BYTES)?).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: &place(bucket, prefix) };
        String::from_utf8(self.0.decrypt(&XNonce::from(*nonce), payload).ok()?).ok()
    }
}

/// The folder that a token is for. No bucket has a NUL in its name.
fn place(bucket: &str, prefix: &str) -> Vec<u8> {
    [bucket.as_bytes(), b"\0", prefix.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_nothing_and_is_good_for_one_folder_of_one_store() {
        let cipher = PageTokenCipher::new("secret");
        let sealed = cipher.seal("bucket", "a/", "a/key.mp3[minio_cache]").expect("it is short");
        assert!(sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert!(!String::from_utf8_lossy(&URL_SAFE_NO_PAD.decode(&sealed).expect("base64")).contains("key"));
        let again = PageTokenCipher::new("secret");
        assert_eq!(again.open("bucket", "a/", &sealed).as_deref(), Some("a/key.mp3[minio_cache]"));
        for (bucket, prefix, text) in
            [("bucket", "b/", &*sealed), ("other", "a/", &sealed), ("bucket", "a/", ""), ("bucket", "a/", &sealed[1..])]
        {
            assert_eq!(again.open(bucket, prefix, text), None, "{bucket} {prefix}");
        }
        assert_eq!(PageTokenCipher::new("other").open("bucket", "a/", &sealed), None);
        assert_eq!(cipher.seal("bucket", "a/", &"x".repeat(MAX_TOKEN_BYTES)), None);
    }
}
