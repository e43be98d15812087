//! Client of the Bot API. The token stands in the path of each address, so that no address comes into an error or a log.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::BotApiError;
use super::types::{Answer, StoredFile};
use crate::settings::Settings;
use primitives::failure_log::{chain, line};
use primitives::secret::Secret;

/// Time limit of a call that need not wait.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit of fetching a file.
const FILE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer, in bytes: a hundred updates have a few hundred kilobytes.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Longest description that is repeated, in characters.
const MAX_DESCRIPTION: usize = 200;
/// Longest time that is waited for where the Bot API asks for it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Characters of a file's path that are sent as they are.
const PATH_CHARACTERS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Client of one bot.
#[derive(Clone)]
pub struct BotApi {
    client: Client,
    base: Url,
    token: Secret,
}

impl BotApi {
    /// Creates the client of the bot of `settings`; `client` follows no redirects, which would carry the token elsewhere.
    pub fn new(client: Client, settings: &Settings) -> Self {
        Self { client, base: settings.api_url.clone(), token: settings.token.clone() }
    }

    /// Calls a method; the whole answer comes within `limit`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: &(impl Serialize + Sync),
        limit: Duration,
    ) -> Result<T, BotApiError> {
        let url = self.url(&format!("bot{}/{method}", self.token.expose()));
        let response = self.client.post(url).timeout(limit).json(request).send().await.map_err(unanswered)?;
        let status = response.status();
        let body = read(response, MAX_ANSWER_BYTES, || BotApiError::BadAnswer("it is too large")).await?;
        match serde_json::from_slice::<Answer<T>>(&body) {
            Ok(Answer { ok: true, result: Some(result), .. }) => Ok(result),
            Ok(answer) => {
                Err(self.refusal(status, answer.description, answer.parameters.and_then(|it| it.retry_after)))
            }
            Err(_) if status.is_success() => Err(BotApiError::BadAnswer("it is no answer of the Bot API")),
            // A gateway before the Bot API.
            Err(_) => Err(self.refusal(status, None, None)),
        }
    }

    /// Fetches a file of at most `most` bytes.
    pub async fn download(&self, file: &StoredFile, most: usize) -> Result<Bytes, BotApiError> {
        if file.file_size.is_some_and(|size| size > most as u64) {
            return Err(BotApiError::FileTooLarge);
        }
        let path = file.file_path.as_deref().filter(|path| is_file_path(path));
        let path = path.ok_or(BotApiError::BadAnswer("it has no path of a file"))?;
        let segments = path.split('/').map(|segment| utf8_percent_encode(segment, PATH_CHARACTERS).to_string());
        let path = segments.collect::<Vec<_>>().join("/");
        let url = self.url(&format!("file/bot{}/{path}", self.token.expose()));
        let response = self.client.get(url).timeout(FILE_TIMEOUT).send().await.map_err(unanswered)?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response.status(), None, None));
        }
        read(response, most, || BotApiError::FileTooLarge).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base.as_str().trim_end_matches('/'))
    }

    fn refusal(&self, status: StatusCode, description: Option<String>, retry_after: Option<u64>) -> BotApiError {
        // Whoever answers has seen the token.
        let text: String = description.unwrap_or_default().chars().filter(|it| !it.is_control()).collect();
        let text = text.replace(self.token.expose(), "***").chars().take(MAX_DESCRIPTION).collect();
        match status.as_u16() {
            429 => BotApiError::Limited(Duration::from_secs(retry_after.unwrap_or(1).max(1)).min(MAX_RETRY_AFTER)),
            409 => BotApiError::Conflict(text),
            code @ 500.. => BotApiError::Broken(code, text),
            code => BotApiError::Refused(code, text),
        }
    }
}

/// Reads a body of at most `most` bytes.
async fn read(mut response: Response, most: usize, too_large: fn() -> BotApiError) -> Result<Bytes, BotApiError> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(unanswered)? {
        if body.len() + piece.len() > most {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

fn unanswered(error: reqwest::Error) -> BotApiError {
    BotApiError::Unanswered(line(&chain(&error.without_url())).to_owned())
}

/// Returns true for a path below that of the bot's files; a server in local mode gives paths of its own disk.
fn is_file_path(path: &str) -> bool {
    !path.is_empty() && path.len() <= 1024 && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_bots_files_are_fetched() {
        for (path, expected) in [
            ("voice/file_7.oga", true),
            ("file", true),
            ("/var/lib/file", false),
            ("a/../b", false),
            ("a//b", false),
            ("", false),
        ] {
            assert_eq!(is_file_path(path), expected, "{path}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_and_never_the_token() {
        let settings = Settings::new(Secret::new("1:abcdefghijklmnopqrstuvwxyz"), "http://localhost".parse().unwrap());
        let api = BotApi::new(crate::tests::client(), &settings);
        let refusal = |status: u16, text: &str, wait| {
            api.refusal(StatusCode::from_u16(status).unwrap(), Some(text.to_owned()), wait)
        };
        assert_eq!(refusal(429, "", Some(7)), BotApiError::Limited(Duration::from_secs(7)));
        assert_eq!(refusal(429, "", Some(u64::MAX)), BotApiError::Limited(MAX_RETRY_AFTER));
        let text = "no bot 1:abcdefghijklmnopqrstuvwxyz\n here";
        assert_eq!(refusal(404, text, None), BotApiError::Refused(404, "no bot *** here".to_owned()));
        assert!(refusal(409, "x", None).is_passing() && refusal(502, "x", None).is_passing());
        assert!(!refusal(403, "x", None).is_passing());
    }
}
