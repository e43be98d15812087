//! `GET /api/v1/tracks`: whose tracks it lists, pages, one of them, and what it refuses.

use http::Method;
use serde_json::{Value, json};

use super::{configuration, fill};
use crate::catalogue::{admin, send, sqlite};
use crate::support::described::Described;
use crate::support::tools::TempFolder;
use crate::support::user::ApiUser;
use crate::support::{Gate, Postgres};

async fn ids(gate: &Gate, user: &str, query: &str) -> Vec<String> {
    let reply = ApiUser::new(gate, user).send(Method::GET, &format!("/api/v1/tracks{query}"), None).await;
    let page: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
    let id = |track: &Value| track["id"].as_str().expect("an id").to_owned();
    page["items"].as_array().expect("a page").iter().map(id).collect()
}

async fn start(folder: &TempFolder, database: &str, library: &str) -> Gate {
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    let mut config = configuration(folder.path(), database);
    config["Player"]["Library"] = json!(library);
    let gate = Gate::start(&config).await;
    fill(&gate).await;
    gate
}

/// Asks for one track as a user; returns its status and body.
async fn one(gate: &Gate, described: &Described, user: &str, id: &str) -> (u16, Value) {
    let reply = ApiUser::new(gate, user).send(Method::GET, &format!("/api/v1/tracks/{id}"), None).await;
    described.checks("GET", &format!("/api/v1/tracks/{id}"), &reply);
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).expect("JSON"))
}

async fn tells_of_one_track(gate: &Gate) {
    let described = Described::by(&gate.client()).await;
    let (status, track) = one(gate, &described, "ada", "t3").await;
    let whole = json!({ "id": "t3", "title": "Вітер", "artist": "Мар’яна Гай", "album": "Степ", "kind": "audio",
        "contentType": "audio/wav", "sizeBytes": null });
    assert_eq!((status, track), (200, whole));
    for id in ["t4", "none", "t"] {
        assert_eq!(one(gate, &described, "ada", id).await.0, 404, "{id}: of somebody else, or none");
    }
    let book =
        json!({ "id": "a/book", "store": "main", "bucket": "audio", "key": "Books/Ada/Sea.m4b", "ownerId": "bob" });
    send(gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(book)).await.is(201);
    let grant = json!({ "userId": "ada", "trackId": "a/book" });
    send(gate, Method::POST, "/api/v1/admin/grants", &admin(), Some(grant)).await.is(201);
    let (status, track) = one(gate, &described, "ada", "a%2Fbook").await;
    assert_eq!((status, &track["title"], &track["kind"]), (200, &json!("Sea"), &json!("audiobook")));
    send(gate, Method::DELETE, "/api/v1/admin/tracks/t3", &admin(), None).await.is(204);
    assert_eq!(one(gate, &described, "ada", "t3").await.0, 404, "it was deleted");
    gate.client().get("/api/v1/tracks/t1", &[]).await.is(401);
}

#[tokio::test]
async fn one_track_is_told_to_those_whose_list_has_it_over_sqlite() {
    let folder = TempFolder::new("library");
    tells_of_one_track(&start(&folder, &sqlite(&folder), "Granted").await).await;
}

#[tokio::test]
async fn one_track_is_told_to_those_whose_list_has_it_over_postgresql() {
    let Some(url) = Postgres::database().await else { return };
    tells_of_one_track(&start(&TempFolder::new("library"), &url, "Granted").await).await;
}

async fn lists_own_and_granted_tracks(gate: &Gate) {
    assert_eq!(ids(gate, "ada", "").await, ["t1", "t2", "t3"]);
    assert_eq!(ids(gate, "eve", "").await, [""; 0]);
    for grant in [json!({ "userId": "eve", "trackId": "t2" }), json!({ "userId": "*", "trackPrefix": "t4" })] {
        send(gate, Method::POST, "/api/v1/admin/grants", &admin(), Some(grant)).await.is(201);
    }
    assert_eq!(ids(gate, "eve", "").await, ["t2", "t4"]);
    assert_eq!(ids(gate, "ada", "?q=%D0%B2%D1%96%D1%82%D0%B5%D1%80").await, ["t3"], "in small letters");
    assert_eq!(ids(gate, "ada", "?q=ferry%20harbour").await, ["t2"]);
    assert_eq!(ids(gate, "ada", "?q=%25").await, [""; 0], "a sign of patterns is a sign");
    send(gate, Method::DELETE, "/api/v1/admin/tracks/t2", &admin(), None).await.is(204);
    assert_eq!(ids(gate, "eve", "").await, ["t4"], "what was deleted is not listed");
}

#[tokio::test]
async fn users_see_their_own_and_granted_tracks_over_sqlite() {
    let folder = TempFolder::new("library");
    lists_own_and_granted_tracks(&start(&folder, &sqlite(&folder), "Granted").await).await;
}

#[tokio::test]
async fn users_see_their_own_and_granted_tracks_over_postgresql() {
    let Some(url) = Postgres::database().await else { return };
    lists_own_and_granted_tracks(&start(&TempFolder::new("library"), &url, "Granted").await).await;
}

#[tokio::test]
async fn the_whole_library_is_listed_in_pages_without_gap_or_repetition() {
    let folder = TempFolder::new("library");
    let gate = start(&folder, &sqlite(&folder), "All").await;
    let described = Described::by(&gate.client()).await;
    let user = ApiUser::new(&gate, "eve");
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    for _ in 0..4 {
        let reply = user.send(Method::GET, &format!("/api/v1/tracks?limit=1{cursor}"), None).await;
        described.checks("GET", "/api/v1/tracks", &reply);
        let page: Value = serde_json::from_slice(&reply.is(200).body).expect("JSON");
        seen.push(page["items"][0]["title"].as_str().expect("a title").to_owned());
        cursor = page["nextCursor"].as_str().map(|next| format!("&cursor={next}")).unwrap_or_default();
    }
    assert_eq!(seen, ["Low Tide", "Night Ferry", "Hidden", "Вітер"]);
    assert_eq!(cursor, "", "the last page");
}

#[tokio::test]
async fn a_search_that_is_out_of_range_is_refused() {
    let folder = TempFolder::new("library");
    let gate = start(&folder, &sqlite(&folder), "Granted").await;
    let user = ApiUser::new(&gate, "ada");
    let long = "x".repeat(257);
    for (query, status) in [
        ("limit=0", 422),
        ("limit=201", 422),
        (&*format!("q={long}"), 422),
        ("q=a+b+c+d+e+f+g+h+i", 422),
        ("q=%00", 422),
        ("cursor=none", 400),
        ("unknown=1", 400),
    ] {
        user.send(Method::GET, &format!("/api/v1/tracks?{query}"), None).await.is(status);
    }
    gate.client().get("/api/v1/tracks", &[]).await.is(401);
}

#[tokio::test]
async fn without_the_section_there_is_neither_page_nor_list() {
    let folder = TempFolder::new("library");
    std::fs::create_dir_all(folder.path().join("objects/audio")).expect("a folder");
    let mut config = configuration(folder.path(), &sqlite(&folder));
    config.as_object_mut().expect("a map").remove("Player");
    let gate = Gate::start(&config).await;
    for path in ["/player/", "/player/settings.json", "/api/v1/tracks"] {
        ApiUser::new(&gate, "ada").send(Method::GET, path, None).await.is(404);
    }
}
