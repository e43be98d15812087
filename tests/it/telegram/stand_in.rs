//! A stand-in for the Bot API, written from its published description (<https://core.telegram.org/bots/api>): it keeps updates until
//! they are confirmed, checks each request against what the description asks for, and can ask to wait, break, cut and repeat.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::eventually;

/// Token of the bot.
pub const TOKEN: &str = "4839574812:AAFD39kkdpWt3ywyRZergyOLMaJhac60qcK";

/// What is wrong with the next call of a method.
#[derive(Clone, Debug)]
pub enum Fault {
    /// 429, with the seconds to wait.
    Limited(u64),
    /// 502 of a gateway.
    Broken,
    /// A refusal with its status and description.
    Refused(u16, &'static str),
    /// The connection ends amid the answer; nothing was done.
    Cut,
    /// It is done, and the connection ends amid the answer.
    CutWhenDone,
}

/// Call that the bot has made.
#[derive(Clone, Debug)]
pub struct Call {
    /// Method.
    pub method: String,
    /// Its parameters.
    pub request: Value,
    /// True where it was done.
    pub is_done: bool,
}

/// The stand-in; it stops when dropped.
pub struct BotApiStandIn {
    address: SocketAddr,
    state: Arc<StandInState>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct StandInState {
    updates: Mutex<Vec<Value>>,
    last_id: Mutex<i64>,
    /// Batches are given backward, each update twice.
    is_shuffled: Mutex<bool>,
    calls: Mutex<Vec<Call>>,
    faults: Mutex<HashMap<String, VecDeque<Fault>>>,
    files: Mutex<HashMap<String, (Vec<u8>, u64)>>,
    webhook: Mutex<Option<Value>>,
    /// What the bot did against the description.
    breaches: Mutex<Vec<String>>,
    news: Notify,
}

impl BotApiStandIn {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(StandInState::default());
        let router = Router::new()
            .route("/{bot}/{method}", post(call))
            .route("/file/{bot}/{*path}", get(file))
            .with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, state, task }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives batches backward, with each update twice.
    pub fn shuffle(&self) {
        *lock(&self.state.is_shuffled) = true;
    }

    /// A user writes to the bot; returns the update.
    pub fn say(&self, user: i64, text: &str) -> Value {
        self.say_in(user, "en", text)
    }

    /// As [`Self::say`], with the language of the user's program.
    pub fn say_in(&self, user: i64, language: &str, text: &str) -> Value {
        self.message(user, language, json!({ "text": text }))
    }

    /// A user sends a message with these members.
    pub fn message(&self, user: i64, language: &str, content: Value) -> Value {
        self.push(self.message_update(user, language, content))
    }

    /// The update of such a message, which waits for nobody yet.
    pub fn message_update(&self, user: i64, language: &str, content: Value) -> Value {
        let mut message = json!({ "message_id": 1, "date": 1_800_000_000, "chat": { "id": user, "type": "private", "first_name": "A" },
            "from": { "id": user, "is_bot": false, "first_name": "A", "language_code": language } });
        for (name, value) in content.as_object().expect("members") {
            message[name] = value.clone();
        }
        json!({ "update_id": self.next_id(), "message": message })
    }

    /// A user presses a button of the message that the bot has sent last.
    pub fn press(&self, user: i64, data: &str) -> Value {
        self.push(json!({ "update_id": self.next_id(), "callback_query": { "id": format!("q{data}"), "chat_instance": "1", "data": data,
            "from": { "id": user, "is_bot": false, "first_name": "A", "language_code": "en" },
            "message": { "message_id": 77, "date": 1_800_000_000, "chat": { "id": user, "type": "private", "first_name": "A" } } } }))
    }

    /// An update waits for the bot, be it again.
    pub fn push(&self, update: Value) -> Value {
        lock(&self.state.updates).push(update.clone());
        self.state.news.notify_waiters();
        update
    }

    fn next_id(&self) -> i64 {
        let mut last = lock(&self.state.last_id);
        *last = (*last).max(1000) + 1;
        *last
    }

    /// Has the next call of a method go wrong; several calls, one after another.
    pub fn fault(&self, method: &str, fault: Fault) {
        lock(&self.state.faults).entry(method.to_owned()).or_default().push_back(fault);
    }

    /// Has a file, whose size is said to be `size`.
    pub fn put_file(&self, id: &str, content: Vec<u8>, size: u64) {
        lock(&self.state.files).insert(id.to_owned(), (content, size));
    }

    /// Calls of a method, in their order.
    pub fn calls(&self, method: &str) -> Vec<Call> {
        lock(&self.state.calls).iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Requests of a method that were done.
    pub fn done(&self, method: &str) -> Vec<Value> {
        self.calls(method).into_iter().filter(|call| call.is_done).map(|call| call.request).collect()
    }

    /// Messages that a user was sent.
    pub fn sent_to(&self, user: i64) -> Vec<String> {
        let messages = self.done("sendMessage").into_iter().filter(|request| request["chat_id"] == user);
        messages.map(|request| request["text"].as_str().expect("a text").to_owned()).collect()
    }

    /// Waits until a user was sent so many messages; gives the last.
    pub async fn message_to(&self, user: i64, number: usize) -> String {
        let what = format!("message {number} to {user}");
        eventually(&what, async || self.sent_to(user).get(number - 1).cloned()).await
    }

    /// A user writes, and is answered: gives the answer.
    pub async fn ask(&self, user: i64, text: &str) -> String {
        let before = self.sent_to(user).len();
        self.say(user, text);
        self.message_to(user, before + 1).await
    }

    /// The webhook that is set.
    pub fn webhook(&self) -> Option<Value> {
        lock(&self.state.webhook).clone()
    }

    /// Fails where the bot did something against the description.
    pub fn check(&self) {
        let breaches = lock(&self.state.breaches).clone();
        assert!(breaches.is_empty(), "against the description: {breaches:#?}");
    }
}

impl Drop for BotApiStandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refusal(status: u16, description: &str, parameters: Option<Value>) -> Response {
    let mut body = json!({ "ok": false, "error_code": status, "description": description });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
}

fn cut() -> Response {
    let pieces = [Ok(Bytes::from_static(b"{\"ok\":tr")), Err(std::io::Error::other("cut"))];
    Response::new(Body::from_stream(stream::iter(pieces)))
}

async fn call(
    State(state): State<Arc<StandInState>>,
    Path((bot, method)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    if bot != format!("bot{TOKEN}") {
        return refusal(401, "Unauthorized", None);
    }
    let request: Value = serde_json::from_slice(&body).expect("the bot sends JSON");
    let fault = lock(&state.faults).get_mut(&method).and_then(VecDeque::pop_front);
    let is_done = matches!(fault, None | Some(Fault::CutWhenDone));
    if let Some(breach) = breach(&method, &request) {
        lock(&state.breaches).push(format!("{method}: {breach}: {request}"));
    }
    lock(&state.calls).push(Call { method: method.clone(), request: request.clone(), is_done });
    match fault {
        Some(Fault::Limited(seconds)) => {
            let text = format!("Too Many Requests: retry after {seconds}");
            return refusal(429, &text, Some(json!({ "retry_after": seconds })));
        }
        Some(Fault::Broken) => return (StatusCode::BAD_GATEWAY, "<html>Bad Gateway</html>").into_response(),
        Some(Fault::Refused(status, description)) => return refusal(status, description, None),
        Some(Fault::Cut | Fault::CutWhenDone) => return cut(),
        None => {}
    }
    let result = match method.as_str() {
        "getUpdates" if lock(&state.webhook).is_some() => {
            return refusal(409, "Conflict: can't use getUpdates method while webhook is active", None);
        }
        "getUpdates" => get_updates(&state, &request).await,
        "getMe" => json!({ "id": 4_839_574_812_i64, "is_bot": true, "first_name": "T", "username": "tidegate_bot" }),
        "setWebhook" => {
            *lock(&state.webhook) = Some(request);
            json!(true)
        }
        "deleteWebhook" => {
            *lock(&state.webhook) = None;
            json!(true)
        }
        "sendMessage" | "editMessageText" => {
            json!({ "message_id": 77, "date": 0, "chat": { "id": request["chat_id"], "type": "private" } })
        }
        "answerCallbackQuery" | "setMyCommands" => json!(true),
        "getFile" => {
            let id = request["file_id"].as_str().unwrap_or_default();
            match lock(&state.files).get(id) {
                Some((_, size)) => {
                    json!({ "file_id": id, "file_unique_id": "u", "file_size": size, "file_path": format!("voice/{id}.oga") })
                }
                None => return refusal(400, "Bad Request: invalid file_id", None),
            }
        }
        _ => return refusal(404, "Not Found", None),
    };
    axum::Json(json!({ "ok": true, "result": result })).into_response()
}

/// Updates from `offset` on; those before it are confirmed and forgotten.
async fn get_updates(state: &StandInState, request: &Value) -> Value {
    let waiting = || {
        let mut updates = lock(&state.updates);
        let id = |update: &Value| update["update_id"].as_i64().expect("an id");
        if let Some(offset) = request["offset"].as_i64() {
            updates.retain(|update| id(update) >= offset);
        }
        let limit = usize::try_from(request["limit"].as_i64().unwrap_or(100)).expect("a limit");
        let mut batch: Vec<Value> = updates.iter().take(limit).cloned().collect();
        if *lock(&state.is_shuffled) {
            batch.reverse();
            batch = batch.iter().chain(&batch).cloned().collect();
        }
        batch
    };
    let wait = Duration::from_secs(request["timeout"].as_u64().unwrap_or(0));
    let changed = async {
        loop {
            let news = state.news.notified();
            let batch = waiting();
            if !batch.is_empty() {
                return batch;
            }
            news.await;
        }
    };
    json!(timeout(wait, changed).await.unwrap_or_default())
}

async fn file(State(state): State<Arc<StandInState>>, Path((bot, path)): Path<(String, String)>) -> Response {
    let fault = lock(&state.faults).get_mut("file").and_then(VecDeque::pop_front);
    let id = path.trim_start_matches("voice/").trim_end_matches(".oga");
    let known = lock(&state.files).get(id).cloned();
    match (known.filter(|_| bot == format!("bot{TOKEN}")), fault) {
        (_, Some(Fault::Cut)) => cut(),
        (_, Some(_)) => StatusCode::BAD_GATEWAY.into_response(),
        (Some((content, _)), None) => {
            // In pieces, as a file comes from afar.
            let pieces: Vec<_> =
                content.chunks(16 << 10).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
            Response::new(Body::from_stream(stream::iter(pieces)))
        }
        (None, None) => refusal(404, "Not Found", None),
    }
}

/// What of a request is against the description.
fn breach(method: &str, request: &Value) -> Option<String> {
    let (required, optional): (&[&str], &[&str]) = match method {
        "getMe" => (&[], &[]),
        "getUpdates" => (&[], &["offset", "limit", "timeout", "allowed_updates"]),
        "setWebhook" => (&["url"], &["secret_token", "allowed_updates", "max_connections", "drop_pending_updates"]),
        "deleteWebhook" => (&[], &["drop_pending_updates"]),
        "sendMessage" => (&["chat_id", "text"], &["reply_markup", "link_preview_options"]),
        "editMessageText" => (&["text", "chat_id", "message_id"], &["reply_markup", "link_preview_options"]),
        "answerCallbackQuery" => (&["callback_query_id"], &["text", "show_alert"]),
        "setMyCommands" => (&["commands"], &["scope", "language_code"]),
        "getFile" => (&["file_id"], &[]),
        _ => return Some("there is no such method".to_owned()),
    };
    let members = request.as_object().cloned().unwrap_or_default();
    let missing = required.iter().find(|name| !members.contains_key(**name)).map(|name| format!("`{name}` is missing"));
    let strange = members.keys().find(|name| !required.contains(&name.as_str()) && !optional.contains(&name.as_str()));
    let text = request["text"].as_str().map(|text| text.encode_utf16().count());
    let buttons = request["reply_markup"]["inline_keyboard"].as_array().into_iter().flatten();
    let mut buttons = buttons.flat_map(|row| row.as_array().into_iter().flatten());
    let wrong_button = buttons.find(|button| {
        let data = button["callback_data"].as_str().map_or(0, str::len);
        !(1..=64).contains(&data) || button["text"].as_str().is_none_or(str::is_empty)
    });
    missing
        .or_else(|| strange.map(|name| format!("there is no `{name}`")))
        .or_else(|| text.filter(|units| !(1..=4096).contains(units)).map(|units| format!("a text of {units} units")))
        .or_else(|| wrong_button.map(|button| format!("a button {button}")))
}
