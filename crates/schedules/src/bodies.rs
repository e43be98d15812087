//! Bodies and queries of requests, and what is refused in them.

use std::time::Duration;

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::action::{ActionKind, ScheduledAction};
use crate::rule::{RuleText, ScheduleTimes};
use crate::schedule::ScheduleContent;
use crate::sentence::SentenceLanguage;
use server_kit::api::error::Error;
use server_kit::api::extractors::Query;
use server_kit::api::id;
use server_kit::api::json_values::ChannelName;
use server_kit::api::plain_text::parse_line;

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 200;
/// Longest grace: a day.
const MAX_GRACE_SECONDS: u32 = 86_400;
/// Zone where none is named.
const DEFAULT_ZONE: &str = "UTC";

/// Schedule that is made, or that another one is replaced with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Morning news", "stream_id": "0199a3f0-0000-7000-8000-000000000000",
    "timezone": "Europe/Kyiv", "recurrence": "weekly", "time": "07:30", "days": ["mon", "fri"] }))]
pub struct ScheduleRequest {
    /// Its name, plain text of at most 200 bytes.
    name: String,
    /// The playlist that begins; one of `playlist_id`, `stream_id` and `track_id`.
    #[schema(value_type = Option<String>)]
    playlist_id: Option<Uuid>,
    /// The radio station that begins.
    #[schema(value_type = Option<String>)]
    stream_id: Option<Uuid>,
    /// The track of the catalogue that begins.
    track_id: Option<String>,
    /// Of a station one of the user's channels, else one of those that everybody hears. Default: `main`.
    channel_id: Option<ChannelName>,
    /// Zone of the IANA database. Default: `UTC`.
    timezone: Option<String>,
    /// Cron expression of five to seven fields; one of `cron`, `run_at` and `recurrence`.
    cron: Option<String>,
    /// A single time: RFC 3339, or without an offset in `timezone`.
    run_at: Option<String>,
    /// `daily` or `weekly`.
    recurrence: Option<String>,
    /// Time of day of a recurrence: `18:30` or `18:30:15`.
    time: Option<String>,
    /// Days of a weekly recurrence: some of `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`.
    days: Option<Vec<String>>,
    /// False: it is paused. Default: true.
    enabled: Option<bool>,
    /// Seconds for which an instant that was missed is made good, 0 to 86400. Default: 300, unless configured otherwise.
    #[schema(minimum = 0, maximum = 86400)]
    misfire_grace_seconds: Option<u32>,
    /// True: several such instants become one run. Default: true.
    coalesce: Option<bool>,
}

/// Rule that is tried out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "timezone": "Europe/Kyiv", "cron": "30 7 * * MON-FRI" }))]
pub struct PreviewRequest {
    /// Zone of the IANA database. Default: `UTC`.
    timezone: Option<String>,
    /// Cron expression; one of `cron`, `run_at` and `recurrence`.
    cron: Option<String>,
    /// A single time.
    run_at: Option<String>,
    /// `daily` or `weekly`.
    recurrence: Option<String>,
    /// Time of day of a recurrence.
    time: Option<String>,
    /// Days of a weekly recurrence.
    days: Option<Vec<String>>,
}

/// Page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Administrators: only the schedules of this user.
    pub user_id: Option<String>,
    /// Entries of a page, 1 to 100. Default: 50.
    pub limit: Option<u32>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
    /// Language of the sentences: `en`, `ru`, `uk` or `es`. Default: that of `Accept-Language`.
    pub lang: Option<String>,
}

/// Language of an answer.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LanguageQuery {
    /// Language of the sentence: `en`, `ru`, `uk` or `es`. Default: that of `Accept-Language`.
    pub lang: Option<String>,
}

/// Language that the client accepts.
pub struct AcceptedLanguage(SentenceLanguage);

/// Language of an answer: that of the query, else the one that the client accepts.
pub struct AnswerLanguage(pub SentenceLanguage);

impl<S: Send + Sync> FromRequestParts<S> for AcceptedLanguage {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let header = parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Ok(Self(SentenceLanguage::from_accept_language(header.unwrap_or_default())))
    }
}

impl AcceptedLanguage {
    /// Returns the language of an answer.
    pub fn or(&self, asked: Option<&str>) -> Result<SentenceLanguage, Error> {
        let Some(asked) = asked else { return Ok(self.0) };
        SentenceLanguage::from_tag(asked).ok_or_else(|| Error::unprocessable("`lang` must be `en`, `ru`, `uk` or `es`"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnswerLanguage {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let Query(LanguageQuery { lang }) = Query::from_request_parts(parts, state).await?;
        let accepted = AcceptedLanguage::from_request_parts(parts, state).await?;
        Ok(Self(accepted.or(lang.as_deref())?))
    }
}

impl ScheduleRequest {
    /// Returns the content; `grace` is that of schedules which name none.
    pub fn content(self, grace: Duration) -> Result<ScheduleContent, Error> {
        let Self { cron, run_at, recurrence, time, days, .. } = self;
        let rule = RuleText { cron, run_at, recurrence, time, days };
        let times = ScheduleTimes::parse(self.timezone.as_deref().unwrap_or(DEFAULT_ZONE), &rule);
        let grace = match self.misfire_grace_seconds {
            None => grace,
            Some(seconds) if seconds <= MAX_GRACE_SECONDS => Duration::from_secs(seconds.into()),
            Some(seconds) => {
                let expected = format!("expected 0 to {MAX_GRACE_SECONDS}");
                return Err(Error::unprocessable(format!("`misfire_grace_seconds` is {seconds}; {expected}")));
            }
        };
        Ok(ScheduleContent {
            name: parse_line("name", &self.name, MAX_NAME_BYTES)?,
            action: action(self.playlist_id, self.stream_id, self.track_id)?,
            channel: ChannelName::id_or_main(self.channel_id)?,
            times: times.map_err(crate::Error::from)?,
            misfire_grace: grace,
            is_coalesced: self.coalesce.unwrap_or(true),
            enabled: self.enabled.unwrap_or(true),
        })
    }
}

impl PreviewRequest {
    /// Returns the instants.
    pub fn times(self) -> Result<ScheduleTimes, Error> {
        let Self { timezone, cron, run_at, recurrence, time, days } = self;
        let rule = RuleText { cron, run_at, recurrence, time, days };
        let times = ScheduleTimes::parse(timezone.as_deref().unwrap_or(DEFAULT_ZONE), &rule);
        Ok(times.map_err(crate::Error::from)?)
    }
}

fn action(playlist: Option<Uuid>, station: Option<Uuid>, track: Option<String>) -> Result<ScheduledAction, Error> {
    let (kind, target) = match (playlist, station, track) {
        (Some(playlist), None, None) => (ActionKind::Playlist, playlist.to_string()),
        (None, Some(station), None) => (ActionKind::Radio, station.to_string()),
        (None, None, Some(track)) => (ActionKind::Track, id::parse_track("track_id", &track)?.as_str().to_owned()),
        _ => return Err(Error::bad_request("send one of `playlist_id`, `stream_id` and `track_id`")),
    };
    Ok(ScheduledAction { kind, target })
}
