//! An issuer of tokens with key pairs of its own, and the server of its JWKS document.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A key pair with a name.
pub struct Key {
    id: String,
    algorithm: Algorithm,
    private: EncodingKey,
    /// The public half in PEM.
    pub public_pem: String,
}

impl Key {
    /// Makes one: RS256, ES256 or EdDSA.
    pub fn generate(id: &str, algorithm: Algorithm) -> Self {
        let kind: &[&str] = match algorithm {
            Algorithm::ES256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Algorithm::EdDSA => &["ED25519"],
            _ => &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        };
        let pem = openssl(&[&["genpkey", "-algorithm"], kind].concat(), "");
        let private = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let public_pem = openssl(&["pkey", "-pubout"], &pem);
        Self { id: id.to_owned(), algorithm, private: private.expect("openssl makes good keys"), public_pem }
    }

    /// A token with these claims, signed by this key and naming it.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.private).expect("claims can be encoded")
    }

    /// The public half as a JWK.
    pub fn jwk(&self) -> Value {
        let mut key = Jwk::from_encoding_key(&self.private, self.algorithm).expect("the key has a public half");
        key.common.key_id = Some(self.id.clone());
        let mut value = serde_json::to_value(&key).expect("a JWK is JSON");
        value["use"] = json!("sig");
        value
    }
}

fn openssl(arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl is installed");
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("openssl reads");
    let output = child.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).expect("PEM is text")
}

/// Writes a public key where a configuration can name it.
pub fn write_public(key: &Key, folder: &Path) -> String {
    let file = folder.join(format!("{}.pem", key.id));
    std::fs::write(&file, &key.public_pem).expect("the file can be written");
    format!("file:{}", file.display())
}

/// A server of a JWKS document that can change and fail.
pub struct JwksServer {
    url: String,
    state: Arc<Served>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Served {
    keys: Mutex<Vec<Value>>,
    down: AtomicBool,
    hung: AtomicBool,
    asked: AtomicUsize,
    /// Questions that nothing was said to and whose connection is open.
    waiting: AtomicUsize,
}

/// A question that hangs.
struct Hanging(Arc<Served>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl JwksServer {
    /// Starts one with these keys on a free port.
    pub async fn start(keys: &[&Key]) -> Self {
        let state = Arc::new(Served::default());
        let router = axum::Router::new().route("/jwks.json", get(serve)).with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("a bound socket has an address"));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let server = Self { url, state, task };
        server.publish(keys);
        server
    }

    /// The document's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Publishes these keys instead.
    pub fn publish(&self, keys: &[&Key]) {
        *self.state.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys.iter().map(|key| key.jwk()).collect();
    }

    /// Answers 500 from now on, or no longer.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// Answers nothing from now on, or no longer.
    pub fn set_hung(&self, hung: bool) {
        self.state.hung.store(hung, Ordering::SeqCst);
    }

    /// Whether somebody waits for an answer.
    pub fn is_waited_for(&self) -> bool {
        self.state.waiting.load(Ordering::SeqCst) > 0
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl Drop for JwksServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(State(served): State<Arc<Served>>) -> Result<axum::Json<Value>, StatusCode> {
    served.asked.fetch_add(1, Ordering::SeqCst);
    if served.hung.load(Ordering::SeqCst) {
        served.waiting.fetch_add(1, Ordering::SeqCst);
        let _hanging = Hanging(Arc::clone(&served));
        return std::future::pending().await;
    }
    if served.down.load(Ordering::SeqCst) {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let keys = served.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(axum::Json(json!({ "keys": keys })))
}
