//! The objects of a bucket, listed page by page: for the import, which runs beside no proxy.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::StartError;
use super::stores::{OpenStores, store_client};
use crate::config::Settings;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::listing::{ListingPage, parse_page};
use s3::signer::Signer;

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
    /// The store refused.
    #[error("the store refused to list the bucket ({0}): check the bucket's name and the rights of the access key")]
    Refused(reqwest::StatusCode),
    /// The store sent a listing that cannot be read.
    #[error("the store's listing cannot be read")]
    Nonsense,
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
            let signed = self.signer.sign_listing(&self.bucket, &self.prefix, &from);
            match self.ask(signed.map_err(|_| ListError::Nonsense)?).await {
                Err(ListError::Exchange(_)) if tries < TRIES => tokio::time::sleep(Duration::from_secs(1)).await,
                outcome => break outcome?,
            }
        };
        let ListingPage { objects, continuation_token: next } = parse_page(&text).ok_or(ListError::Nonsense)?;
        self.continuation_token = next;
        Ok(Some(objects))
    }

    async fn ask(&self, url: Url) -> Result<String, ListError> {
        let failed = |error: reqwest::Error| ListError::Exchange(error.without_url());
        let response = self.client.get(url).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(ListError::Refused(response.status()));
        }
        response.text().await.map_err(failed)
    }
}
