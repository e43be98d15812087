//! Sign-in: tokens that are refused, and a provider by the code flow with PKCE, before a stand-in.

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Room, looks};
use crate::support::{eventually, token};

type Fields = std::collections::BTreeMap<String, String>;

/// What a provider does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    /// It signs everybody in.
    #[default]
    Good,
    /// It does not describe itself.
    Away,
    /// It says that it is another one.
    OtherIssuer,
    /// It sends the user back with an error (RFC 6749 §4.1.2.1).
    Refuses,
    /// Its token endpoint fails.
    NoTokens,
}

/// Stand-in for a provider: it signs everybody in as ada.
struct Provider {
    url: String,
    mood: Mutex<Mood>,
    /// What the page asked for.
    asked: Mutex<Option<Fields>>,
}

async fn description(State(provider): State<Arc<Provider>>) -> impl IntoResponse {
    let (url, mood) = (&provider.url, *provider.mood.lock());
    let status = if mood == Mood::Away { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let issuer = if mood == Mood::OtherIssuer { "https://other.example" } else { url };
    let found = json!({ "issuer": issuer, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token") });
    (status, [("access-control-allow-origin", "*")], Json(found))
}

async fn authorize(State(provider): State<Arc<Provider>>, Query(fields): Query<Fields>) -> Redirect {
    let answer = if *provider.mood.lock() == Mood::Refuses { "error=access_denied" } else { "code=the-code" };
    let to = format!("{}?{answer}&state={}", fields["redirect_uri"], fields["state"]);
    *provider.asked.lock() = Some(fields);
    Redirect::to(&to)
}

async fn exchange(State(provider): State<Arc<Provider>>, Form(fields): Form<Fields>) -> Response {
    let asked = provider.asked.lock().take();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&fields["code_verifier"]));
    let is_good = asked.is_some_and(|asked| {
        asked["code_challenge"] == challenge
            && asked["code_challenge_method"] == "S256"
            && asked["response_type"] == "code"
            && asked["redirect_uri"] == fields["redirect_uri"]
    }) && *provider.mood.lock() != Mood::NoTokens
        && fields["code"] == "the-code"
        && fields["client_id"] == "the-page";
    let body: (StatusCode, Json<Value>) = match is_good {
        true => (StatusCode::OK, Json(json!({ "access_token": token::of("ada"), "token_type": "Bearer" }))),
        false => (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))),
    };
    ([("access-control-allow-origin", "*")], body).into_response()
}

async fn provider() -> Arc<Provider> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let state = Arc::new(Provider { url, mood: Mutex::default(), asked: Mutex::default() });
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(description))
        .route("/authorize", get(authorize))
        .route("/token", post(exchange))
        .with_state(Arc::clone(&state));
    tokio::spawn(async move { axum::serve(listener, router).await });
    state
}

#[tokio::test]
async fn a_provider_signs_in_by_the_code_flow_with_pkce() {
    let provider = provider().await;
    let sign_in = json!({ "Issuer": provider.url, "ClientId": "the-page" });
    let Some(room) = Room::open(|config| config["Player"]["SignIn"] = sign_in).await else { return };
    room.open_page().await;
    room.run(r#"await until("the button", () => element("provider")); element("provider").click(); return null;"#)
        .await;
    let seen = r#"await until("the list", () => document.querySelector(".track")); return [listed().length, location.search];"#;
    assert_eq!(room.run(seen).await, json!([3, ""]));
    // What comes back without having been asked for is not taken.
    room.run(r#"sessionStorage.clear(); return null;"#).await;
    room.browser.open(&format!("{}/player/?code=stolen&state=other", room.gate.url())).await;
    let refused = r#"await state("signin"); return [Boolean(element("signin-refused").textContent), location.search];"#;
    assert_eq!(room.run(refused).await, json!([true, ""]));
    room.browser.close().await;
}

#[tokio::test]
async fn a_provider_that_fails_is_told_and_the_next_try_signs_in() {
    let provider = provider().await;
    let sign_in = json!({ "Issuer": provider.url, "ClientId": "the-page" });
    let Some(room) = Room::open(|config| config["Player"]["SignIn"] = sign_in).await else { return };
    let (away, failed) =
        ("The sign-in service does not answer. Try again later.", "The sign-in was not completed. Try again.");
    for (mood, words) in
        [(Mood::Away, away), (Mood::OtherIssuer, away), (Mood::Refuses, failed), (Mood::NoTokens, failed)]
    {
        *provider.mood.lock() = mood;
        room.open_page().await;
        room.run(r#"(await until("the button", () => element("provider"))).click(); return null;"#).await;
        let told = r#"const told = document.getElementById("signin-refused");
            return told && [told.textContent, location.search, sessionStorage.length];"#;
        // On the way to the provider and back there is no page to ask.
        let told = async || room.browser.run_where_there_is_one(told).await.ok().filter(Value::is_array);
        assert_eq!(eventually("the page says so", told).await, json!([words, "", 0]), "{mood:?}");
        looks::assert_accessible(&room, &format!("{mood:?}")).await;
    }
    *provider.mood.lock() = Mood::Good;
    room.run(r#"element("provider").click(); return null;"#).await;
    let seen = r#"await until("the list", () => document.querySelector(".track")); return listed().length;"#;
    assert_eq!(room.run(seen).await, json!(3));
    room.browser.close().await;
}

#[tokio::test]
async fn a_token_that_is_refused_says_so_and_the_next_one_is_taken() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.open_page().await;
    let wrong = r#"await state("signin"); element("token").value = "none"; element("signin").requestSubmit();
        return await until("words", () => element("signin-refused")?.textContent);"#;
    assert_eq!(room.run(wrong).await, json!("The token is not accepted, or no longer."));
    looks::assert_accessible(&room, "a token that is refused").await;
    room.visit("ada").await;
    assert_eq!(room.run(r#"await until("the list", () => listed().length === 3); return true;"#).await, json!(true));
    room.browser.close().await;
}

#[tokio::test]
async fn the_next_user_sees_and_hears_nothing_of_the_one_before() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    // Whoever is refused from now on is signed out.
    let refused = r#"await plays("Low Tide");
        choose("speed", "1.5");
        await until("the speed", () => audio.playbackRate === 1.5 && localStorage.getItem("tidegate.player.sound.ada"));
        const asks = window.fetch;
        window.fetch = async () => new Response("{}", { status: 401 });
        element("search").value = "x";
        element("search").dispatchEvent(new Event("input"));
        await state("signin");
        window.fetch = asks;
        return [audio.paused, audio.getAttribute("src"), localStorage.getItem("tidegate.player.queue.ada").includes("t1")];"#;
    assert_eq!(room.run(refused).await, json!([true, null, true]));
    let other = format!(
        r#"element("token").value = "{}"; element("signin").requestSubmit();
        await until("the list", () => listed().join() === "Hidden");
        await plays("Hidden");
        return [element("speed").value, Object.keys(localStorage).filter(key => key.endsWith(".bob") && localStorage[key].includes("t1"))];"#,
        token::of("bob")
    );
    assert_eq!(room.run(&other).await, json!(["1", []]));
    let kept = r#"return Object.keys(localStorage).filter(key => key.endsWith(".bob")).length > 0;"#;
    assert_eq!(room.run(kept).await, json!(true));
    // The answer to a request of before comes when the user has left.
    let forgotten = r#"const asks = window.fetch;
        let answer, isAsked, isTold;
        const late = new Promise(done => { answer = done; });
        const refusal = () => { isTold = true; return new Response("{}", { status: 401 }); };
        window.fetch = async (path, ...rest) => {
            if (!String(path).includes("q=zzz")) return asks(path, ...rest);
            isAsked = true;
            return late.then(refusal);
        };
        slide("search", "zzz");
        await until("the question", () => isAsked);
        element("sign-out").click();
        await state("signin");
        const left = [audio.getAttribute("src"), Object.keys(localStorage).filter(key => key.endsWith(".bob")), sessionStorage.length, Boolean(element("signin-refused"))];
        answer();
        await until("the answer", () => isTold);
        return [...left, Object.keys(localStorage).filter(key => key.endsWith(".bob")), document.body.dataset.state];"#;
    assert_eq!(room.run(forgotten).await, json!([null, [], 0, false, [], "signin"]));
    room.visit("ada").await;
    let back = r#"return await until("the queue", () => element("title")?.textContent === "Low Tide");"#;
    assert_eq!(room.run(back).await, json!(true));
    room.browser.close().await;
}
