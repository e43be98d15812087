//! The bucket of backups: objects stored in parts, read and deleted. Every request is tried a few times; errors name neither the
//! store nor a signature.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use reqwest::redirect::Policy;
use tokio::time::sleep;
use url::Url;

use s3::listing::{ListingPage, parse_page};
use s3::refusal::Refusal;
use s3::signer::{SignError, Signer};
use s3::upload::{self, UploadStep};

/// Time for one request but the reading of an object: a part at 140 KB a second.
const TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without a byte after which the reading of an object is begun anew.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of one request, the first included.
const TRIES: u32 = 5;
/// Pause after the first try; twice as long after each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of each part but the last: a store takes 10,000 parts, which are 156 GiB.
pub const PART_BYTES: usize = 16 << 20;

/// Failure of a request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// The store cannot be reached, or fails.
    #[error("the object store did not answer")]
    Unreachable,
    /// The object is not there.
    #[error("the object store has no such object")]
    NotThere,
    /// The store does not do it.
    #[error("the object store refused it: check the bucket's name, the access key and its rights")]
    Refused,
    /// The store's answer cannot be read.
    #[error("the answer of the object store cannot be read")]
    Unreadable,
}

/// Bucket of backups.
#[derive(Clone)]
pub struct ObjectBucket {
    signer: Arc<Signer>,
    name: String,
    client: reqwest::Client,
}

/// Object that is being stored in parts.
pub struct MultipartUpload {
    bucket: ObjectBucket,
    /// Key of the object.
    pub key: String,
    /// Id of the upload.
    pub id: String,
    parts: Vec<String>,
}

/// Object that is being read from its beginning; a connection that breaks is replaced by another one.
pub struct ObjectReader {
    bucket: ObjectBucket,
    key: String,
    offset: u64,
    response: Option<reqwest::Response>,
}

/// Response of the store.
struct StoreResponse {
    tag: Option<String>,
    text: String,
}

impl ObjectBucket {
    /// Creates the bucket `name` of the store that `signer` signs for.
    pub fn new(signer: Arc<Signer>, name: String) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
        // A signature is good for one host, and must not be carried to another.
        let client = client.redirect(Policy::none()).no_proxy().build()?;
        Ok(Self { signer, name, client })
    }

    /// Stores an object in one request.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreFailure> {
        self.send(key, &UploadStep::Whole(bytes)).await.map(drop)
    }

    /// Deletes an object, which need not be there.
    pub async fn delete(&self, key: &str) -> Result<(), StoreFailure> {
        match self.send(key, &UploadStep::Delete).await {
            Ok(_) | Err(StoreFailure::NotThere) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Drops the parts of an upload, which may have ended.
    pub async fn abort(&self, key: &str, upload: &str) -> Result<(), StoreFailure> {
        match self.send(key, &UploadStep::Abort { upload }).await {
            Ok(_) | Err(StoreFailure::NotThere) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Begins an upload in parts.
    pub async fn begin(&self, key: String) -> Result<MultipartUpload, StoreFailure> {
        let answer = self.send(&key, &UploadStep::Begin).await?;
        let id = upload::parse_upload_id(&answer.text).ok_or(StoreFailure::Unreadable)?;
        Ok(MultipartUpload { bucket: self.clone(), key, id, parts: Vec::new() })
    }

    /// Reads an object.
    pub fn read(&self, key: String) -> ObjectReader {
        ObjectReader { bucket: self.clone(), key, offset: 0, response: None }
    }

    /// Reads a whole object of at most `limit` bytes.
    pub async fn read_small(&self, key: String, limit: usize) -> Result<Vec<u8>, StoreFailure> {
        let (mut reader, mut whole) = (self.read(key), Vec::new());
        while let Some(piece) = reader.next().await? {
            whole.extend_from_slice(&piece);
            if whole.len() > limit {
                return Err(StoreFailure::Unreadable);
            }
        }
        Ok(whole)
    }

    /// Lists the keys that begin with `prefix`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreFailure> {
        let (mut keys, mut from) = (Vec::new(), String::new());
        loop {
            let generation = self.signer.generation();
            let url = self.signer.sign_listing(&self.name, prefix, &from).map_err(unsigned)?;
            let answer = self.get(generation, url, None).await?;
            let text = answer.text().await.map_err(|_| StoreFailure::Unreachable)?;
            let ListingPage { objects, continuation_token } = parse_page(&text).ok_or(StoreFailure::Unreadable)?;
            keys.extend(objects.into_iter().map(|object| object.key));
            match continuation_token {
                Some(next) => from = next,
                None => return Ok(keys),
            }
        }
    }

    async fn send(&self, key: &str, step: &UploadStep<'_>) -> Result<StoreResponse, StoreFailure> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.send_once(key, step).await {
                Err(StoreFailure::Unreachable) => sleep(pause).await,
                outcome => return outcome,
            }
            pause *= 2;
        }
        self.send_once(key, step).await
    }

    async fn send_once(&self, key: &str, step: &UploadStep<'_>) -> Result<StoreResponse, StoreFailure> {
        // Before the signature: if the keys change in between, it counts as outdated.
        let generation = self.signer.generation();
        let request = self.signer.sign_upload(&self.name, key, step).map_err(unsigned)?;
        let sent = self.client.request(request.method, request.url).timeout(TIMEOUT).body(request.body);
        let sent = sent.header(header::CONTENT_TYPE, "application/octet-stream");
        // Neither the error nor its sources are said: they name the store.
        let answer = sent.send().await.map_err(|_| StoreFailure::Unreachable)?;
        let answer = self.judge(generation, answer).await?;
        let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().map(str::to_owned).ok());
        let text = answer.text().await.map_err(|_| StoreFailure::Unreachable)?;
        Ok(StoreResponse { tag, text })
    }

    /// Sends a request that was signed with `generation`.
    async fn get(&self, generation: u64, url: Url, offset: Option<u64>) -> Result<reqwest::Response, StoreFailure> {
        let request = self.client.get(url);
        let request = match offset {
            Some(offset) if offset > 0 => request.header(header::RANGE, format!("bytes={offset}-")),
            _ => request,
        };
        let answer = request.send().await.map_err(|_| StoreFailure::Unreachable)?;
        self.judge(generation, answer).await
    }

    /// Fails where the answer to a request that was signed with `generation` is no success; learns from it what may make
    /// the next try one.
    async fn judge(&self, generation: u64, answer: reqwest::Response) -> Result<reqwest::Response, StoreFailure> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let Refusal { error, is_mended } = self.signer.take_refusal(generation, answer).await;
        Err(match status {
            _ if is_mended => StoreFailure::Unreachable,
            _ if error.is_of_signature() => StoreFailure::Refused,
            StatusCode::NOT_FOUND => StoreFailure::NotThere,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => StoreFailure::Unreachable,
            _ if status.is_server_error() => StoreFailure::Unreachable,
            _ => StoreFailure::Refused,
        })
    }
}

impl MultipartUpload {
    /// Returns true where the store takes no further part.
    pub fn is_full(&self) -> bool {
        self.parts.len() >= 10_000
    }

    /// Stores the next part.
    pub async fn store_part(&mut self, bytes: Bytes) -> Result<(), StoreFailure> {
        let number = u16::try_from(self.parts.len() + 1).map_err(|_| StoreFailure::Refused)?;
        let step = UploadStep::Part { upload: &self.id, number, bytes };
        let answer = self.bucket.send(&self.key, &step).await?;
        self.parts.push(answer.tag.ok_or(StoreFailure::Unreadable)?);
        Ok(())
    }

    /// Makes an object of the parts.
    pub async fn complete(&self) -> Result<(), StoreFailure> {
        let step = UploadStep::Complete { upload: &self.id, parts: &self.parts };
        let answer = self.bucket.send(&self.key, &step).await?;
        // S3 answers 200 before it has put the parts together, and says in the body that it failed.
        upload::is_completed(&answer.text).then_some(()).ok_or(StoreFailure::Refused)
    }
}

impl ObjectReader {
    /// Returns the next bytes; `None` at the end. A connection that broke is tried anew from where it was.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreFailure> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.next_once().await {
                Err(StoreFailure::Unreachable) => sleep(pause).await,
                outcome => return outcome,
            }
            pause *= 2;
        }
        self.next_once().await
    }

    async fn next_once(&mut self) -> Result<Option<Bytes>, StoreFailure> {
        if self.response.is_none() {
            let generation = self.bucket.signer.generation();
            let url = self.bucket.signer.sign_download(&self.bucket.name, &self.key);
            let url = url.map_err(unsigned)?;
            let response = self.bucket.get(generation, url, Some(self.offset)).await?;
            // A store that does not know ranges begins anew, which would put the beginning into the middle.
            if self.offset > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
                return Err(StoreFailure::Unreadable);
            }
            self.response = Some(response);
        }
        let Some(response) = &mut self.response else { return Ok(None) };
        match response.chunk().await {
            Ok(piece) => {
                self.offset += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Ok(piece)
            }
            Err(_) => {
                self.response = None;
                Err(StoreFailure::Unreachable)
            }
        }
    }
}

/// Returns the failure of a request that cannot be signed: other keys may come, the bucket's name stays wrong.
fn unsigned(error: SignError) -> StoreFailure {
    if error.is_temporary() { StoreFailure::Unreachable } else { StoreFailure::Refused }
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
        ended_keys_response(head).unwrap_or_else(|| "HTTP/1.1 204 No Content\r\n\r\n".to_owned())
    }

    #[tokio::test]
    async fn a_denial_asks_for_no_other_keys_and_ended_ones_are_replaced() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = ScriptedServer::start(|head, _| Some(answer(head))).await;
        let keys = EndedKeys::at(server.url());
        let asked = async {
            let bucket = ObjectBucket::new(Arc::clone(&keys.signer), "backups".to_owned()).expect("a client");
            assert_eq!(bucket.delete("denied").await, Err(StoreFailure::Refused));
            assert_eq!(keys.questions(), 0);
            assert_eq!(bucket.delete("old").await, Ok(()));
            assert_eq!(keys.questions(), 1);
        };
        keys.beside(asked).await;
    }
}
