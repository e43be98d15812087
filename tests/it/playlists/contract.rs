//! What holds wherever playlists are kept.

use futures::future::join_all;

use super::*;
use crate::support::described::Described;

#[tokio::test]
async fn playlists_in_a_file() {
    let folder = TempFolder::new("playlists");
    holds(&playlists(&folder, &sqlite(&folder))).await;
}

#[tokio::test]
async fn playlists_in_postgresql() {
    let folder = TempFolder::new("playlists");
    let Some(database) = Postgres::database().await else { return };
    holds(&playlists(&folder, &database)).await;
}

async fn holds(config: &Value) {
    let gate = Gate::start(config).await;
    let kept = they_are_made_changed_and_deleted(&gate).await;
    each_user_has_their_own(&gate).await;
    of_two_editors_the_second_is_told(&gate).await;
    tracks_that_are_added_at_once_are_all_there(&gate).await;
    lists_come_in_pages(&gate).await;
    answers_are_as_described(&gate).await;
    drop(gate);
    let gate = Gate::start(config).await;
    assert_eq!(Client::new(&gate, "ada").get(id_of(&kept)).await, kept, "they outlive the process");
}

async fn they_are_made_changed_and_deleted(gate: &Gate) -> Value {
    let client = Client::new(gate, "ada");
    let first = json!({ "track_id": "so-what", "title": "So What", "artist": "Miles Davis", "duration_ms": 545_000.7 });
    let body = json!({ "name": " Morning ", "description": "for coffee", "items": [first, { "track_id": "ü/:%" }] });
    let reply = client.send(Method::POST, "", Some(&body)).await;
    let made = json_of(reply.is(201));
    assert_eq!(reply.header("etag"), "\"1\"");
    assert_eq!(
        (&made["name"], &made["description"], &made["user_id"], &made["item_count"], &made["revision"]),
        (&json!("Morning"), &json!("for coffee"), &json!("ada"), &json!(2), &json!(1))
    );
    let shown = json!({ "track_id": "so-what", "title": "So What", "artist": "Miles Davis", "duration_ms": 545_000 });
    assert_eq!(made["items"][0], shown);
    let id = id_of(&made);
    assert_eq!(client.get(id).await, made);
    let body = json!({ "name": "Evening", "items": tracks_of(&["b", "a", "b"]) }).to_string();
    let reply = client.send_if(Method::PUT, id, body.into_bytes(), "\"1\"").await;
    let replaced = json_of(reply.is(200));
    assert_eq!((reply.header("etag"), ids(&replaced)), ("\"2\"", vec!["b", "a", "b"]));
    assert_eq!((&replaced["description"], &replaced["created_at"]), (&json!(null), &made["created_at"]));
    let more = json!({ "items": tracks_of(&["c"]) });
    let added = json_of(client.send(Method::POST, &format!("{id}/items"), Some(&more)).await.is(200));
    assert_eq!((ids(&added), &added["name"]), (vec!["b", "a", "b", "c"], &json!("Evening")));
    let gone = client.create("Gone", &["a"]).await;
    client.send(Method::DELETE, id_of(&gone), None).await.is(204);
    client.send(Method::GET, id_of(&gone), None).await.problem(404);
    client.send(Method::DELETE, id_of(&gone), None).await.problem(404);
    added
}

async fn each_user_has_their_own(gate: &Gate) {
    let (mine, other, admin) = (Client::new(gate, "mine"), Client::new(gate, "other"), Client::admin(gate));
    let made = mine.create("Mine", &["a"]).await;
    let id = id_of(&made);
    let body = json!({ "name": "Taken", "items": [] });
    for (method, what, body) in [
        (Method::GET, id.to_owned(), None),
        (Method::GET, format!("{id}/export"), None),
        (Method::DELETE, id.to_owned(), None),
        (Method::POST, format!("{id}/items"), Some(json!({ "items": tracks_of(&["x"]) }))),
    ] {
        other.send(method, &what, body.as_ref()).await.problem(404);
    }
    other.send_if(Method::PUT, id, body.to_string().into_bytes(), "*").await.problem(404);
    assert_eq!(other.get("").await["items"], json!([]));
    other.send(Method::GET, "?user_id=mine", None).await.problem(403);
    assert_eq!(mine.get("?user_id=mine").await["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(admin.get(id).await, made, "administrators have all");
    let listed = admin.get("?user_id=mine").await;
    assert_eq!((listed["items"].as_array().map(Vec::len), &listed["items"][0]["id"]), (Some(1), &made["id"]));
    let all = admin.get("").await;
    assert!(all["items"].as_array().expect("a list").iter().any(|one| one["user_id"] == "ada"), "{all}");
    let kept = json_of(admin.send_if(Method::PUT, id, body.to_string().into_bytes(), "*").await.is(200));
    assert_eq!((&kept["user_id"], &kept["name"]), (&json!("mine"), &json!("Taken")), "the owner stays");
}

async fn of_two_editors_the_second_is_told(gate: &Gate) {
    let client = Client::new(gate, "editors");
    let made = client.create("Two", &["a"]).await;
    let id = id_of(&made);
    let change = |name: &str| json!({ "name": name, "items": tracks_of(&["a", name]) }).to_string().into_bytes();
    let missing = client.send_if(Method::PUT, id, change("none"), "").await.problem(400);
    assert!(missing["detail"].as_str().is_some_and(|detail| detail.contains("If-Match")), "{missing}");
    let changes = ["x", "y", "z"].map(|name| client.send_if(Method::PUT, id, change(name), "\"1\""));
    let replies = join_all(changes).await;
    let (kept, told): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
    assert_eq!(kept.len(), 1, "one of them is kept");
    told.iter().for_each(|reply| drop(reply.problem(412)));
    assert_eq!(client.get(id).await, json_of(&kept[0]));
    for tag in ["\"1\"", "W/\"2\"", "2", "\"2", "\"3\", \"4\""] {
        client.send_if(Method::PUT, id, change("late"), tag).await.problem(412);
        client.send_if(Method::DELETE, id, Vec::new(), tag).await.problem(412);
    }
    assert_eq!(client.get(id).await, json_of(&kept[0]), "what is refused changes nothing");
    client.send_if(Method::PUT, id, change("any"), "\"9\", \"2\"").await.is(200);
    client.send_if(Method::DELETE, id, Vec::new(), "\"3\"").await.is(204);
    assert!(gate.metric("tidegate_playlists_conflicts_total", "").await >= 12.0);
}

async fn tracks_that_are_added_at_once_are_all_there(gate: &Gate) {
    let client = Client::new(gate, "adders");
    let made = client.create("Many", &[]).await;
    let names: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    let what = format!("{}/items", id_of(&made));
    let adds = names.iter().map(async |name| {
        let body = json!({ "items": tracks_of(&[name]) });
        client.send(Method::POST, &what, Some(&body)).await.is(200).status
    });
    join_all(adds).await;
    let there = client.get(id_of(&made)).await;
    let mut there = ids(&there);
    there.sort_unstable();
    assert_eq!(there, names);
}

async fn lists_come_in_pages(gate: &Gate) {
    let client = Client::new(gate, "pages");
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(client.create(&format!("List {number}"), &["a"]).await["id"].clone());
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("?limit=2{cursor}")).await;
        let items = page["items"].as_array().expect("a list").clone();
        assert!(items.iter().all(|item| item.get("items").is_none()), "without their tracks");
        found.extend(items.into_iter().map(|item| item["id"].clone()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, made, "in the order in which they were made");
}

async fn answers_are_as_described(gate: &Gate) {
    let described = Described::by(&gate.client()).await;
    let client = Client::new(gate, "described");
    let body = json!({ "name": "One", "items": tracks_of(&["a"]) });
    let reply = client.send(Method::POST, "", Some(&body)).await;
    described.checks("POST", "/api/v1/playlists", &reply);
    let id = id_of(&json_of(&reply)).to_owned();
    for (method, what, body) in [
        (Method::GET, id.clone(), Vec::new()),
        (Method::GET, format!("{id}/export?format=xspf"), Vec::new()),
        (Method::GET, format!("{id}/export"), Vec::new()),
        (Method::GET, format!("{id}/export?format=pls"), Vec::new()),
        (Method::GET, String::new(), Vec::new()),
        (Method::PUT, id.clone(), body.to_string().into_bytes()),
        (Method::POST, format!("{id}/items"), json!({ "items": [] }).to_string().into_bytes()),
        (Method::POST, "import".to_owned(), b"a\nb\n".to_vec()),
        (Method::GET, "nothing".to_owned(), Vec::new()),
        (Method::DELETE, id.clone(), Vec::new()),
    ] {
        let reply = client.send_if(method.clone(), &what, body, "").await;
        described.checks(method.as_str(), &path(&what), &reply);
    }
}
