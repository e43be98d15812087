//! The objects of a bucket, listed page by page: for the import, which runs beside no proxy.

use std::time::Duration;

use url::Url;

use super::{StartError, open_stores};
use crate::config::Settings;
use crate::proxy::world::Store;
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use s3::listing::{ListingPage, parse_page};

/// For one page.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of one page, the first included.
const TRIES: u32 = 3;

pub use s3::listing::ListedObject as Listed;

/// Why a bucket cannot be listed; names neither the store's address nor the signature.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A store cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store cannot be asked.
    #[error("the store cannot be asked: {0}")]
    Exchange(reqwest::Error),
    /// It refused.
    #[error("the store refused to list the bucket ({0}): check the bucket's name and the rights of the access key")]
    Refused(reqwest::StatusCode),
    /// It said what no store should.
    #[error("the store's listing cannot be read")]
    Nonsense,
}

/// A listing under way.
pub struct Listing {
    store: Store,
    bucket: String,
    prefix: String,
    client: reqwest::Client,
    /// Where the next page begins; `None`: there is none.
    next: Option<String>,
}

impl Listing {
    /// Of the objects in `bucket` whose keys begin with `prefix`; an embedded store is served by `tasks` meanwhile.
    pub async fn open(
        settings: &Settings,
        store: &str,
        bucket: &str,
        prefix: &str,
        clock: &Clock,
        tasks: &BackgroundTasks,
    ) -> Result<Self, ListError> {
        let wanted: Vec<_> = settings.stores.iter().filter(|known| *known.name == *store).cloned().collect();
        let store = open_stores(&wanted, clock, tasks).await?.into_values().next().ok_or(ListError::Nonsense)?;
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.build().map_err(ListError::Exchange)?;
        Ok(Self { store, bucket: bucket.to_owned(), prefix: prefix.to_owned(), client, next: Some(String::new()) })
    }

    /// The next page; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Listed>>, ListError> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let mut tries = 0;
        let text = loop {
            tries += 1;
            let signed = self.store.signer.sign_listing(&self.bucket, &self.prefix, &from);
            match self.ask(signed.map_err(|_| ListError::Nonsense)?).await {
                Err(ListError::Exchange(_)) if tries < TRIES => tokio::time::sleep(Duration::from_secs(1)).await,
                outcome => break outcome?,
            }
        };
        let ListingPage { objects, continuation_token: next } = parse_page(&text).ok_or(ListError::Nonsense)?;
        self.next = next;
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
