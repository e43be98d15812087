//! Path of playback events, `POST /api/v1/tracks/{id}/events`.

use axum::extract::{DefaultBodyLimit, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{PlaybackAction, PlaybackReport, PlaybackReporter, ReportError};
use server_kit::api::error::Error;
use server_kit::api::extractors::{BeaconJson, Json};
use server_kit::api::id::PathTrackId;
use server_kit::api::json_values::{Milliseconds, MillisecondsOrText, TimestampInput};
use server_kit::api::user::User;

/// Most events in one request.
const MAX_EVENTS: usize = 100;
/// Largest request body, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Largest position in milliseconds: more than any track has, and exact as a JSON number in every client.
const MAX_POSITION_MILLIS: i64 = 1 << 53;

/// Returns the paths of playback events.
pub fn routes(playback: PlaybackReporter) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(report)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(playback)
}

/// Action of the listener.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PlaybackEventInput {
    /// The action.
    action: PlaybackAction,
    /// Position in the track, in milliseconds.
    #[schema(minimum = 0, example = 42_000, value_type = f64)]
    position_ms: Milliseconds,
    /// Time, in RFC 3339 with an offset or in milliseconds since 1970. Default: now.
    #[schema(example = "2026-11-21T12:00:00+01:00", value_type = Option<MillisecondsOrText>)]
    timestamp: Option<TimestampInput>,
    /// UUID that the player gave to it; sent again, it counts once.
    #[schema(example = "01997b6e-7c5e-7cc1-a1d5-3a2f4f6f0a11")]
    event_id: Option<String>,
}

/// One event, or up to 100 in their order, for a player that was offline.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "stands here for its description: serde's own errors for it say nothing")]
enum PlaybackEventInputs {
    One(PlaybackEventInput),
    Many(Vec<PlaybackEventInput>),
}

/// Outcome of a request.
#[derive(Serialize, ToSchema)]
struct AcceptedEvents {
    /// Events that will be delivered.
    accepted: usize,
    /// Events whose id was sent before.
    duplicates: usize,
}

/// Reports what the listener did with the track: one event, or up to 100 in their order. Once this is answered the
/// event is on this machine's disk, even if the broker is not available.
#[utoipa::path(post, path = "/api/v1/tracks/{id}/events", tag = "playback", security(("bearer" = [])),
    params(("id" = String, Path, description = "The track, at most 256 bytes")),
    request_body(content = PlaybackEventInputs, example = json!({ "action": "Pause", "positionMs": 42000 })),
    responses(
        (status = 202, description = "Taken: it will be delivered, at least once", body = AcceptedEvents,
            example = json!({ "accepted": 1, "duplicates": 0 })),
        (status = 400, description = "Not an event, or an id of a track that cannot be one"),
        (status = 401, description = "No valid token"),
        (status = 413, description = "More than 100 events, or a body of more than 64 KiB"),
        (status = 415, description = "Neither application/json nor text/plain"),
        (status = 422, description = "`positionMs` or `timestamp` is out of range"),
        (status = 503, description = "The outbox is full or cannot be written; see Retry-After")))]
async fn report(
    State(playback): State<PlaybackReporter>,
    user: User,
    PathTrackId(track): PathTrackId,
    BeaconJson(body): BeaconJson<Value>,
) -> Result<(StatusCode, Json<AcceptedEvents>), Error> {
    let reports = reports(body)?;
    let accepted = playback.report(user.id(), &track, &reports).await?;
    Ok((StatusCode::ACCEPTED, Json(AcceptedEvents { accepted, duplicates: reports.len() - accepted })))
}

fn reports(body: Value) -> Result<Vec<PlaybackReport>, Error> {
    let events = match body {
        Value::Array(events) => events,
        event => vec![event],
    };
    if events.len() > MAX_EVENTS {
        return Err(Error::too_large("more than 100 events: send them in several requests"));
    }
    events.into_iter().enumerate().map(|(number, event)| read(number, event)).collect()
}

fn read(number: usize, event: Value) -> Result<PlaybackReport, Error> {
    let malformed = |what: &dyn std::fmt::Display| Error::bad_request(format!("event {number}: {what}"));
    // Read one by one, so that the message names the event that is wrong.
    let given: PlaybackEventInput = serde_json::from_value(event).map_err(|error| malformed(&error))?;
    let Milliseconds(position) = given.position_ms;
    if !(0..=MAX_POSITION_MILLIS).contains(&position) {
        return Err(Error::unprocessable(format!("event {number}: `positionMs` is not 0 or more")));
    }
    let id = given.event_id.map(|text| Uuid::parse_str(&text)).transpose();
    Ok(PlaybackReport {
        action: given.action,
        position_ms: position.unsigned_abs(),
        timestamp: given.timestamp.map(|TimestampInput(at)| at),
        id: id.map_err(|_| malformed(&"`eventId` is not a UUID"))?,
    })
}

impl From<ReportError> for Error {
    fn from(rejected: ReportError) -> Self {
        match rejected {
            ReportError::ClockAhead => Self::unprocessable(rejected.to_string()),
            ReportError::Refused(_) => Self::unavailable("events cannot be kept at the moment: send it again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(body: Value) -> u16 {
        reports(body).map_or_else(|error| error.status().as_u16(), |_| 202)
    }

    #[test]
    fn what_is_no_event_is_refused_and_what_is_out_of_range_too() {
        let pause = json!({ "action": "Pause", "positionMs": 1 });
        for (body, expected) in [
            (pause.clone(), 202),
            (json!([]), 202),
            (json!([pause, { "action": "Seek", "positionMs": 0, "timestamp": "2026-01-02T03:04:05.678+02:00" }]), 202),
            (json!({ "action": "Pause", "positionMs": 1, "eventId": "01997b6e-7c5e-7cc1-a1d5-3a2f4f6f0a11" }), 202),
            (json!(vec![pause.clone(); 100]), 202),
            (json!(vec![pause; 101]), 413),
            (json!({ "action": "Rewind", "positionMs": 1 }), 400),
            (json!({ "action": "Pause" }), 400),
            (json!({ "action": "Pause", "positionMs": "1" }), 400),
            (json!({ "action": "Pause", "positionMs": 1.5, "timestamp": 1_770_000_000_123.5 }), 202),
            (json!({ "action": "Pause", "positionMs": -1 }), 422),
            (json!({ "action": "Pause", "positionMs": i64::MAX }), 422),
            (json!({ "action": "Pause", "positionMs": 1, "timestamp": "yesterday" }), 400),
            (json!({ "action": "Pause", "positionMs": 1, "timestamp": "2026-01-02T03:04:05" }), 400),
            (json!({ "action": "Pause", "positionMs": 1, "eventId": "7" }), 400),
            (json!("Pause"), 400),
            (json!(null), 400),
        ] {
            assert_eq!(status(body.clone()), expected, "{body}");
        }
    }
}
