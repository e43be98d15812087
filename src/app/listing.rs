//! The objects of a bucket, listed page by page: for the import, which runs beside no proxy.

use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::stores::{OpenStores, store_client};
use crate::config::Settings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::listing::{ListingPage, parse_page};
use s3::signer::{SignError, Signer};

/// Time limit of one page.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of one page, the first included.
const TRIES: u32 = 3;

pub use s3::listing::ListedObject as Listed;

/// Failure to list a bucket; names neither the store's address nor the signature.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A store cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store cannot be asked.
    #[error("the store cannot be asked: {0}")]
    Exchange(reqwest::Error),
    /// No request can be signed.
    #[error("the store cannot be asked: {0}")]
    Unsigned(SignError),
    /// The store refused.
    #[error(
        "the store refused to list the bucket ({status}): check the bucket's name and the rights of the access key"
    )]
    Refused {
        /// Status of its answer.
        status: reqwest::StatusCode,
        /// True where it may do so with other keys or another clock, which are there since.
        is_mended: bool,
    },
    /// The store sent a listing that cannot be read.
    #[error("the store's listing cannot be read")]
    Nonsense,
}

impl ListError {
    /// Returns true where the next try may succeed.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Exchange(_) => true,
            Self::Unsigned(error) => error.is_temporary(),
            Self::Refused { is_mended, .. } => *is_mended,
            Self::Start(_) | Self::Nonsense => false,
        }
    }
}

/// A listing under way.
pub struct BucketListing {
    signer: Arc<Signer>,
    bucket: String,
    prefix: String,
    client: reqwest::Client,
    /// Token of the next page; `None`: there is none.
    continuation_token: Option<String>,
}

impl BucketListing {
    /// Opens a listing of the objects in `bucket` whose keys begin with `prefix`; an embedded store is served by `tasks` meanwhile.
    pub async fn open(
        settings: &Settings,
        store: &str,
        bucket: &str,
        prefix: &str,
        clock: &Clock,
        tasks: &BackgroundTasks,
    ) -> Result<Self, ListError> {
        let store = settings.stores.iter().find(|known| *known.name == *store).ok_or(ListError::Nonsense)?;
        let stores = OpenStores::new(clock.clone(), tasks.clone());
        let signer = stores.signer(store)?;
        stores.ready().await;
        let client = store_client().timeout(TIMEOUT).build().map_err(ListError::Exchange)?;
        Ok(Self {
            signer,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            client,
            continuation_token: Some(String::new()),
        })
    }

    /// The next page; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Listed>>, ListError> {
        let Some(from) = self.continuation_token.take() else { return Ok(None) };
        let mut tries = 0;
        let text = loop {
            tries += 1;
            match self.ask(&from).await {
                Err(error) if error.is_temporary() && tries < TRIES => tokio::time::sleep(Duration::from_secs(1)).await,
                outcome => break outcome?,
            }
        };
        let ListingPage { objects, continuation_token: next } = parse_page(&text).ok_or(ListError::Nonsense)?;
        self.continuation_token = next;
        Ok(Some(objects))
    }

    async fn ask(&self, from: &str) -> Result<String, ListError> {
        // Before the signature: if the keys change in between, it counts as outdated.
        let generation = self.signer.generation();
        let url = self.signer.sign_listing(&self.bucket, &self.prefix, from).map_err(ListError::Unsigned)?;
        let failed = |error: reqwest::Error| ListError::Exchange(error.without_url());
        let response = self.client.get(url).send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let is_mended = self.signer.take_refusal(generation, response).await.is_mended;
            return Err(ListError::Refused { status, is_mended });
        }
        response.text().await.map_err(failed)
    }
}
