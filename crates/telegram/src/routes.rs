//! Paths of the bot: links of accounts, and the webhook.

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::TelegramService;
use crate::user_api::LinkedUser;
use server_kit::api::error::Error as ApiError;
use server_kit::api::extractors::Json;
use server_kit::api::timestamps::to_rfc3339;
use server_kit::api::user::User;

/// Largest update, in bytes.
const MAX_UPDATE_BYTES: usize = 256 << 10;
/// Header with the secret of the webhook.
const SECRET_HEADER: &str = "x-telegram-bot-api-secret-token";

/// Returns the paths of links.
pub fn routes(telegram: TelegramService) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(make_code, unlink)).with_state(telegram)
}

/// Returns the path of the webhook; `None` where updates are asked for.
pub fn webhook_routes(telegram: TelegramService) -> Option<OpenApiRouter> {
    telegram.0.settings.webhook.as_ref()?;
    let routes = OpenApiRouter::new().routes(routes!(webhook)).layer(DefaultBodyLimit::max(MAX_UPDATE_BYTES));
    Some(routes.with_state(telegram))
}

/// Code that links a Telegram account.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "code": "7KQ2M-X0ZRB", "expires_at": "2026-01-31T18:10:00Z", "url": "https://t.me/tidegate_bot?start=7KQ2M-X0ZRB" }))]
struct LinkCodeView {
    /// The code, which the user sends to the bot as `/link CODE`.
    code: String,
    /// Time until which it links, once.
    expires_at: String,
    /// Address that opens the chat and sends it; null where the bot's name is not known yet.
    url: Option<String>,
}

/// Make a code that links the caller's account with the Telegram account that sends it to the bot. The code before it is good no
/// more.
#[utoipa::path(post, path = "/api/v1/telegram/link", tag = "telegram", security(("bearer" = [])), responses(
    (status = 201, description = "The code", body = LinkCodeView),
    (status = 401, description = "No valid token"),
    (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn make_code(
    State(telegram): State<TelegramService>,
    user: User,
) -> Result<(StatusCode, Json<LinkCodeView>), ApiError> {
    let made = telegram.new_code(LinkedUser { id: user.id().clone(), role: user.role() }).await?;
    let code = made.code.show();
    let url = made.bot.map(|bot| format!("https://t.me/{bot}?start={code}"));
    Ok((StatusCode::CREATED, Json(LinkCodeView { code, expires_at: to_rfc3339(made.until), url })))
}

/// End the link of the caller's account: the Telegram account can do nothing more.
#[utoipa::path(delete, path = "/api/v1/telegram/link", tag = "telegram", security(("bearer" = [])), responses(
    (status = 204, description = "It is ended"), (status = 401, description = "No valid token"),
    (status = 404, description = "No account is linked"),
    (status = 503, description = "Not done: send it again after Retry-After")))]
async fn unlink(State(telegram): State<TelegramService>, user: User) -> Result<StatusCode, ApiError> {
    telegram.unlink_user(user.id()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sender of an update who knows the webhook's secret.
struct WebhookSender;

impl FromRequestParts<TelegramService> for WebhookSender {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, telegram: &TelegramService) -> Result<Self, ApiError> {
        let given = parts.headers.get(SECRET_HEADER).map(|value| value.as_bytes()).unwrap_or_default();
        let webhook = telegram.0.settings.webhook.as_ref();
        match webhook.is_some_and(|webhook| webhook.secret.matches(given)) {
            true => Ok(Self),
            false => Err(ApiError::unauthorized("send the secret of the webhook in X-Telegram-Bot-Api-Secret-Token")),
        }
    }
}

/// Take an update of the Bot API. It is kept before the answer, and done once, however often it comes.
#[utoipa::path(post, path = "/api/v1/telegram/webhook", tag = "telegram",
    params(("X-Telegram-Bot-Api-Secret-Token" = String, Header, description = "The secret of the webhook")),
    request_body(content = Object, description = "An `Update` of the Bot API, at most 256 KiB"), responses(
    (status = 200, description = "It is kept"), (status = 400, description = "No JSON, or no update"),
    (status = 401, description = "Not the secret"), (status = 413, description = "More than 256 KiB"),
    (status = 503, description = "Not kept: send it again after Retry-After")))]
async fn webhook(
    State(telegram): State<TelegramService>,
    _: WebhookSender,
    Json(update): Json<Value>,
) -> Result<StatusCode, ApiError> {
    if update.get("update_id").and_then(Value::as_i64).is_none() {
        return Err(ApiError::bad_request("`update_id` must be a whole number"));
    }
    telegram.receive_pushed(update).await?;
    Ok(StatusCode::OK)
}
