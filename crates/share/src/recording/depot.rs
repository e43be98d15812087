//! Where recordings are put: a bucket of an S3 store. Every request is tried a few times; what is wrong is said without
//! naming the store, the bucket or a signature.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{StatusCode, header};
use reqwest::redirect::Policy;
use tokio::time::sleep;

use super::Failure;
use crate::settings::Recording;
use http_semantics::media_type;
use s3::signer::Signer;
use s3::upload::{self, UploadStep};

/// For one request: a part at 175 KB a second.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one request, the first included.
const TRIES: u32 = 5;
/// After the first try; twice as long after each further one.
const PAUSE: Duration = Duration::from_secs(1);

/// A bucket to put recordings into.
pub struct Depot {
    store: Box<dyn Exchange>,
    /// What is recorded, and where to.
    pub settings: Recording,
}

/// The store behind one thin type: every session can reach it, and the compiler would otherwise go down the whole HTTP
/// client wherever a future that knows a session is to cross threads.
trait Exchange: Send + Sync {
    fn once<'a>(&'a self, key: &'a str, step: &'a UploadStep<'a>) -> BoxFuture<'a, Result<Answer, Failure>>;
}

struct Bucket {
    signer: Arc<Signer>,
    name: String,
    client: reqwest::Client,
}

/// An object that is being stored in parts.
pub struct Upload {
    depot: Arc<Depot>,
    key: String,
    name: Option<String>,
    parts: Vec<String>,
}

/// What the store says.
#[derive(Default)]
struct Answer {
    tag: Option<String>,
    text: String,
}

impl Depot {
    /// The bucket of `settings` in the store that `signer` signs for.
    pub fn open(settings: Recording, signer: Arc<Signer>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        let client = client.redirect(Policy::none()).no_proxy().build()?;
        Ok(Self { store: Box::new(Bucket { signer, name: settings.bucket.clone(), client }), settings })
    }

    async fn send(&self, key: &str, step: &UploadStep<'_>) -> Result<Answer, Failure> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.store.once(key, step).await {
                Err(Failure::Away) => sleep(pause).await,
                outcome => return outcome,
            }
            pause *= 2;
        }
        self.store.once(key, step).await
    }
}

impl Exchange for Bucket {
    fn once<'a>(&'a self, key: &'a str, step: &'a UploadStep<'a>) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(self.exchange(key, step))
    }
}

impl Bucket {
    async fn exchange(&self, key: &str, step: &UploadStep<'_>) -> Result<Answer, Failure> {
        let request = self.signer.sign_upload(&self.name, key, step).map_err(|_| Failure::Refused)?;
        let kind = media_type::from_key_extension(key).unwrap_or("application/octet-stream");
        let sent = self.client.request(request.method, request.url).body(request.body);
        // Neither the error nor its sources are said: they name the store.
        let answer = sent.header(header::CONTENT_TYPE, kind).send().await.map_err(|_| Failure::Away)?;
        let (status, tag) = (answer.status(), answer.headers().get(header::ETAG).cloned());
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let text = answer.text().await.map_err(|_| Failure::Away)?;
        match status {
            _ if status.is_success() => {
                let tag = tag.and_then(|tag| tag.to_str().map(str::to_owned).ok());
                Ok(Answer { tag, text })
            }
            StatusCode::FORBIDDEN => {
                // With another clock or other keys it may be let in.
                let learnt = date.is_some_and(|date| self.signer.learn_clock(date));
                Err(if self.signer.reload_credentials() || learnt { Failure::Away } else { Failure::Refused })
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Failure::Away),
            _ if status.is_server_error() => Err(Failure::Away),
            _ => Err(Failure::Refused),
        }
    }
}

impl Upload {
    /// An object that is to be stored.
    pub fn new(depot: Arc<Depot>, key: String) -> Self {
        Self { depot, key, name: None, parts: Vec::new() }
    }

    /// Begins, so that what is wrong with the store shows at once.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        let answer = self.depot.send(&self.key, &UploadStep::Begin).await?;
        self.name = Some(upload::parse_upload_id(&answer.text).ok_or(Failure::Refused)?);
        Ok(())
    }

    /// Stores the next part.
    pub async fn part(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let upload = self.name.as_deref().ok_or(Failure::Refused)?;
        let number = u16::try_from(self.parts.len() + 1).map_err(|_| Failure::Refused)?;
        let answer = self.depot.send(&self.key, &UploadStep::Part { upload, number, bytes }).await?;
        self.parts.push(answer.tag.ok_or(Failure::Refused)?);
        Ok(())
    }

    /// Makes an object of the parts.
    pub async fn complete(&mut self) -> Result<(), Failure> {
        let upload = self.name.as_deref().ok_or(Failure::Refused)?;
        let answer = self.depot.send(&self.key, &UploadStep::Complete { upload, parts: &self.parts }).await?;
        if !upload::is_completed(&answer.text) {
            return Err(Failure::Refused);
        }
        self.name = None;
        Ok(())
    }

    /// Stores the list of songs beside it.
    pub async fn beside(&self, list: Bytes) -> Result<(), Failure> {
        self.depot.send(&format!("{}.json", self.key), &UploadStep::Whole(list)).await.map(drop)
    }

    /// Drops what was stored of it, so that no half of it stays.
    pub async fn abort(&self) {
        if let Some(upload) = &self.name {
            // A store that is away keeps it; see docs/share.md.
            let _ = self.depot.send(&self.key, &UploadStep::Abort { upload }).await;
        }
    }
}
