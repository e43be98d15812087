//! Voice messages and audio files: which track of the catalogue they are from.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use tokio::time::sleep;

use crate::bot_api::BotApiError;
use crate::bot_api::client::CALL_TIMEOUT;
use crate::bot_api::types::{GetFile, StoredFile};
use crate::command::show_position;
use crate::conversation::{Asker, NoAccount, Reply};
use crate::incoming::BotRequest;
use crate::metrics::CallOutcome;
use crate::service::TelegramService;
use crate::user_api::{ApiBody, ApiRequest};

/// Largest file, in bytes: as much as recognition takes. The Bot API gives files of 20 MB at most.
const MAX_FILE_BYTES: usize = 10 << 20;
/// Tries of fetching a file.
const MAX_ATTEMPTS: u32 = 3;
/// Longest wait that the Bot API may ask for before a file is fetched.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Outcome of recognition.
#[derive(Deserialize)]
struct Recognised {
    matched: bool,
    title: Option<String>,
    artist: Option<String>,
    offset_ms: Option<i64>,
}

/// Recognises a file.
pub(crate) async fn recognise(
    telegram: &TelegramService,
    request: &BotRequest,
    (file, size): (&str, Option<u64>),
) -> Result<Reply, NoAccount> {
    let asker = &Asker::of(telegram, request).await?;
    let texts = asker.texts();
    // Nothing is fetched that would be refused.
    if size.is_some_and(|size| size > MAX_FILE_BYTES as u64) {
        return Ok(Reply::text(texts.clip_too_large));
    }
    let clip = match fetch(asker, file).await {
        Ok(clip) => clip,
        Err(BotApiError::FileTooLarge) => return Ok(Reply::text(texts.clip_too_large)),
        Err(error) => {
            tracing::info!(%error, "a file of a Telegram user was not fetched");
            return Ok(Reply::text(texts.clip_away));
        }
    };
    // As things are now: a file may have taken minutes.
    let asker = &Asker::of(telegram, request).await?;
    let path = "/api/v1/recognition/identify".to_owned();
    let request = ApiRequest { method: Method::POST, path, body: ApiBody::File(clip) };
    match asker.telegram.0.users.send(&asker.user, request).await.read::<Recognised>() {
        Ok(recognised) => Ok(Reply::text(describe(asker, &recognised))),
        Err(refusal) => Ok(Reply::refusal(texts, &refusal)),
    }
}

fn describe(asker: &Asker<'_>, recognised: &Recognised) -> String {
    let texts = asker.texts();
    if !recognised.matched {
        return texts.no_match.to_owned();
    }
    let names: Vec<&str> = [&recognised.artist, &recognised.title].into_iter().flatten().map(String::as_str).collect();
    let name = if names.is_empty() { texts.unnamed_track.to_owned() } else { names.join(" — ") };
    match recognised.offset_ms {
        Some(offset) => format!("{name}\n{}", show_position(offset)),
        None => name,
    }
}

/// Fetches a file, again after a cut.
async fn fetch(asker: &Asker<'_>, file: &str) -> Result<Bytes, BotApiError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let wait = match fetch_once(asker, file).await {
            Err(BotApiError::Limited(wait)) if wait <= MAX_WAIT => wait,
            Err(error) if error.is_passing() => Duration::from_millis(500) * attempts,
            result => return result,
        };
        if attempts == MAX_ATTEMPTS {
            return Err(BotApiError::BadAnswer("it cannot be fetched"));
        }
        sleep(wait).await;
    }
}

async fn fetch_once(asker: &Asker<'_>, file: &str) -> Result<Bytes, BotApiError> {
    let state = &asker.telegram.0;
    let api = state.sender.api();
    let found = api.call::<StoredFile>("getFile", &GetFile { file_id: file }, CALL_TIMEOUT).await;
    state.metrics.count_call(CallOutcome::of(&found));
    api.download(&found?, MAX_FILE_BYTES).await
}
