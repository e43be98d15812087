//! Uploads of recordings to a bucket of an S3 store. Every request is tried a few times; errors name neither the store
//! nor the bucket nor a signature.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{StatusCode, header};
use reqwest::redirect::Policy;
use tokio::time::sleep;

use super::RecordingFailure;
use crate::settings::RecordingSettings;
use http_semantics::media_type;
use s3::signer::{SignError, Signer};
use s3::upload::{self, UploadStep};

/// Time for one request: a part at 175 KB a second.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one request, the first included.
const TRIES: u32 = 5;
/// Pause after the first try; twice as long after each further one.
const PAUSE: Duration = Duration::from_secs(1);

/// Uploader of recordings into one bucket.
pub struct RecordingUploader {
    store: Box<dyn UploadTransport>,
    /// Settings of recordings.
    pub settings: RecordingSettings,
}

/// Store behind one thin type: every session can reach it, and the compiler would otherwise go down the whole HTTP
/// client wherever a future that knows a session is to cross threads.
trait UploadTransport: Send + Sync {
    fn send_once<'a>(
        &'a self,
        key: &'a str,
        step: &'a UploadStep<'a>,
    ) -> BoxFuture<'a, Result<StoreResponse, RecordingFailure>>;
}

struct UploadBucket {
    signer: Arc<Signer>,
    name: String,
    client: reqwest::Client,
}

/// Object that is being stored in parts.
pub struct MultipartUpload {
    uploader: Arc<RecordingUploader>,
    key: String,
    upload_id: Option<String>,
    parts: Vec<String>,
}

/// Response of the store.
#[derive(Default)]
struct StoreResponse {
    tag: Option<String>,
    text: String,
}

impl RecordingUploader {
    /// Creates an uploader to the bucket of `settings`, in the store that `signer` signs for.
    pub fn open(settings: RecordingSettings, signer: Arc<Signer>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        // A signature is good for one host, and must not be carried to another.
        let client = client.redirect(Policy::none()).no_proxy().build()?;
        Ok(Self { store: Box::new(UploadBucket { signer, name: settings.bucket.clone(), client }), settings })
    }

    async fn send(&self, key: &str, step: &UploadStep<'_>) -> Result<StoreResponse, RecordingFailure> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.store.send_once(key, step).await {
                Err(RecordingFailure::Unreachable) => sleep(pause).await,
                outcome => return outcome,
            }
            pause *= 2;
        }
        self.store.send_once(key, step).await
    }
}

impl UploadTransport for UploadBucket {
    fn send_once<'a>(
        &'a self,
        key: &'a str,
        step: &'a UploadStep<'a>,
    ) -> BoxFuture<'a, Result<StoreResponse, RecordingFailure>> {
        Box::pin(self.exchange(key, step))
    }
}

impl UploadBucket {
    async fn exchange(&self, key: &str, step: &UploadStep<'_>) -> Result<StoreResponse, RecordingFailure> {
        let refused = |error: SignError| match error.is_temporary() {
            true => RecordingFailure::Unreachable,
            false => RecordingFailure::Refused,
        };
        // Before the signature: if the keys change in between, it counts as outdated.
        let generation = self.signer.generation();
        let request = self.signer.sign_upload(&self.name, key, step).map_err(refused)?;
        let kind = media_type::from_key_extension(key).unwrap_or("application/octet-stream");
        let sent = self.client.request(request.method, request.url).body(request.body);
        // Neither the error nor its sources are said: they name the store.
        let answer = sent.header(header::CONTENT_TYPE, kind).send().await.map_err(|_| RecordingFailure::Unreachable)?;
        let status = answer.status();
        if status.is_success() {
            let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().map(str::to_owned).ok());
            let text = answer.text().await.map_err(|_| RecordingFailure::Unreachable)?;
            return Ok(StoreResponse { tag, text });
        }
        // With another clock or other keys it may be let in.
        let is_mended = self.signer.take_refusal(generation, answer).await.is_mended;
        let is_patient = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(match is_mended || is_patient || status.is_server_error() {
            true => RecordingFailure::Unreachable,
            false => RecordingFailure::Refused,
        })
    }
}

impl MultipartUpload {
    /// Prepares an upload to this key.
    pub fn new(uploader: Arc<RecordingUploader>, key: String) -> Self {
        Self { uploader, key, upload_id: None, parts: Vec::new() }
    }

    /// Begins the upload, so that what is wrong with the store shows at once.
    pub async fn begin(&mut self) -> Result<(), RecordingFailure> {
        let answer = self.uploader.send(&self.key, &UploadStep::Begin).await?;
        self.upload_id = Some(upload::parse_upload_id(&answer.text).ok_or(RecordingFailure::Refused)?);
        Ok(())
    }

    /// Stores the next part.
    pub async fn store_part(&mut self, bytes: Bytes) -> Result<(), RecordingFailure> {
        let upload = self.upload_id.as_deref().ok_or(RecordingFailure::Refused)?;
        let number = u16::try_from(self.parts.len() + 1).map_err(|_| RecordingFailure::Refused)?;
        let answer = self.uploader.send(&self.key, &UploadStep::Part { upload, number, bytes }).await?;
        self.parts.push(answer.tag.ok_or(RecordingFailure::Refused)?);
        Ok(())
    }

    /// Makes an object of the parts.
    pub async fn complete(&mut self) -> Result<(), RecordingFailure> {
        let upload = self.upload_id.as_deref().ok_or(RecordingFailure::Refused)?;
        let answer = self.uploader.send(&self.key, &UploadStep::Complete { upload, parts: &self.parts }).await?;
        // S3 answers 200 before it has put the parts together, and says in the body that it failed.
        if !upload::is_completed(&answer.text) {
            return Err(RecordingFailure::Refused);
        }
        self.upload_id = None;
        Ok(())
    }

    /// Stores the list of songs beside it.
    pub async fn store_index(&self, list: Bytes) -> Result<(), RecordingFailure> {
        self.uploader.send(&format!("{}.json", self.key), &UploadStep::Whole(list)).await.map(drop)
    }

    /// Drops the parts that were stored, so that no half of an object stays.
    pub async fn abort(&self) {
        if let Some(upload) = &self.upload_id {
            // A store that is away keeps it; see docs/share.md.
            let _ = self.uploader.send(&self.key, &UploadStep::Abort { upload }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use scripted_server::{EndedKeys, ScriptedServer, ended_keys_response, store_refusal};

    /// A store that denies the key `denied`, and says of the keys `OLD` that they have ended.
    fn answer(head: &str) -> String {
        if head.contains("/denied?") {
            return store_refusal(403, "AccessDenied");
        }
        ended_keys_response(head).unwrap_or_else(|| {
            let body = "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                        <Bucket>recordings</Bucket><Key>old</Key><UploadId>1</UploadId>\
                        </InitiateMultipartUploadResult>";
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        })
    }

    #[tokio::test]
    async fn a_denial_asks_for_no_other_keys_and_ended_ones_are_replaced() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = ScriptedServer::start(|head, _| Some(answer(head))).await;
        let keys = EndedKeys::at(server.url());
        let asked = async {
            let settings = RecordingSettings {
                store: "store".into(),
                bucket: "recordings".to_owned(),
                prefix: String::new(),
                max_duration: Duration::from_secs(1),
                max_size: 1,
            };
            let uploader = Arc::new(RecordingUploader::open(settings, Arc::clone(&keys.signer)).expect("a client"));
            let mut denied = MultipartUpload::new(Arc::clone(&uploader), "denied".to_owned());
            assert!(matches!(denied.begin().await, Err(RecordingFailure::Refused)));
            assert_eq!(keys.questions(), 0);
            let mut old = MultipartUpload::new(uploader, "old".to_owned());
            assert!(old.begin().await.is_ok());
            assert_eq!(keys.questions(), 1);
        };
        keys.beside(asked).await;
    }
}
