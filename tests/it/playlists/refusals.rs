//! What is refused, and leaves nothing behind.

use super::*;

#[tokio::test]
async fn what_is_no_playlist_is_refused_and_nothing_is_kept() {
    let folder = TempFolder::new("playlists");
    let gate = Gate::start(&playlists(&folder, &sqlite(&folder))).await;
    let client = Client::new(&gate, "alice");
    let with = |member: &str, value: Value| {
        let mut body = json!({ "name": "One", "items": tracks_of(&["a"]) });
        body[member] = value;
        body
    };
    let item = |member: &str, value: Value| with("items", json!([{ "track_id": "a", member: value }]));
    for (body, status) in [
        (with("name", json!("<script>alert(1)</script>")), 422),
        (with("name", json!("a\nb")), 422),
        (with("name", json!("")), 422),
        (with("name", json!("x".repeat(201))), 422),
        (with("name", json!(5)), 400),
        (with("description", json!("x".repeat(1001))), 422),
        (with("colour", json!("red")), 400),
        (with("items", json!({})), 400),
        (with("items", json!([{}])), 400),
        (item("title", json!("<b>x</b>")), 422),
        (item("title", json!("x".repeat(513))), 422),
        (item("artist", json!("a\u{0}")), 422),
        (item("duration_ms", json!(0)), 422),
        (item("duration_ms", json!(-5)), 422),
        (item("duration_ms", json!(1e300)), 422),
        (item("track_id", json!("")), 400),
        (item("track_id", json!("a\n")), 400),
        (item("track_id", json!("x".repeat(257))), 400),
        (json!([]), 400),
    ] {
        let said = client.send(Method::POST, "", Some(&body)).await.problem(status);
        assert!(!said["detail"].as_str().unwrap_or_default().is_empty(), "{body}");
    }
    let deep = "<a>".repeat(100);
    let bomb =
        "<!DOCTYPE p [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><playlist><title>&b;</title></playlist>";
    for file in ["a\0b", "<playlist>", "<html></html>", bomb, &deep, "#EXTM3U\n", "https://x.example/a.mp3\n", ""] {
        client.send_if(Method::POST, "import", file.into(), "").await.problem(422);
    }
    client.send_if(Method::POST, "import?name=%3Cb%3E", b"a\n".to_vec(), "").await.problem(422);
    client.send(Method::GET, "nothing", None).await.problem(400);
    client.send(Method::GET, "?limit=0", None).await.problem(422);
    client.send(Method::GET, "?cursor=x", None).await.problem(400);
    assert_eq!(gate.client().get("/api/v1/playlists", &[]).await.problem(401)["status"], 401);
    assert_eq!(client.get("").await["items"], json!([]), "nothing is kept");
}

#[tokio::test]
async fn a_user_keeps_so_many_playlists_of_so_many_tracks_and_bytes() {
    let folder = TempFolder::new("playlists");
    let mut config = playlists(&folder, &sqlite(&folder));
    config["Playlists"] = json!({ "MaxPlaylistsPerUser": 2, "MaxItems": 3, "MaxSize": "1KiB" });
    let gate = Gate::start(&config).await;
    let client = Client::new(&gate, "alice");
    let make = async |tracks: &[&str]| {
        let body = json!({ "name": "One", "items": tracks_of(tracks) });
        client.send(Method::POST, "", Some(&body)).await
    };
    make(&["a", "b", "c", "d"]).await.problem(422);
    let long = "x".repeat(256);
    let long = [&*long; 3];
    let made = make(&long).await;
    let titled: Vec<_> = long.iter().map(|id| json!({ "track_id": id, "title": "y".repeat(400) })).collect();
    client.send(Method::POST, "", Some(&json!({ "name": "One", "items": titled }))).await.problem(422);
    let many = "t\n".repeat(4);
    client.send_if(Method::POST, "import", many.into(), "").await.problem(422);
    client.send_if(Method::POST, "import", vec![b'x'; 5000], "").await.problem(413);
    let made = json_of(made.is(201));
    let more = json!({ "items": tracks_of(&["d"]) });
    client.send(Method::POST, &format!("{}/items", id_of(&made)), Some(&more)).await.problem(422);
    make(&["a"]).await.is(201);
    make(&["a"]).await.problem(409);
    client.send_if(Method::POST, "import", b"a\n".to_vec(), "").await.problem(409);
    Client::new(&gate, "bob").create("Mine", &["a"]).await;
    client.send(Method::DELETE, id_of(&made), None).await.is(204);
    make(&["a"]).await.is(201);
}

#[tokio::test]
async fn without_its_section_there_are_no_playlists_and_metrics_are_there_from_the_first_scrape() {
    let folder = TempFolder::new("playlists");
    let mut config = playlists(&folder, &sqlite(&folder));
    let gate = Gate::start(&config).await;
    let page = gate.metrics().await;
    for kind in ["created", "imported", "replaced", "appended", "deleted"] {
        assert!(page.contains(&format!("tidegate_playlists_changes_total{{kind=\"{kind}\"}} 0")), "{kind}");
    }
    for name in ["conflicts", "exports", "skipped_entries"] {
        assert!(page.contains(&format!("tidegate_playlists_{name}_total 0")), "{name}");
    }
    config["Playlists"] = json!({ "Enabled": false });
    let gate = Gate::start(&config).await;
    Client::new(&gate, "alice").send(Method::GET, "", None).await.problem(404);
}

#[tokio::test]
async fn playlists_are_refused_while_the_database_is_away() {
    let Some(mut server) = Postgres::start() else { return };
    let folder = TempFolder::new("playlists");
    let gate = Gate::start(&playlists(&folder, &server.url())).await;
    let client = Client::new(&gate, "alice");
    let made = client.create("One", &["a"]).await;
    server.stop();
    for (method, what) in [(Method::GET, ""), (Method::GET, id_of(&made)), (Method::DELETE, id_of(&made))] {
        let reply = client.send(method, what, None).await;
        assert!(!reply.header("retry-after").is_empty(), "{:?}", reply.problem(503));
    }
    server.restart();
    let back = async || (client.send(Method::GET, "", None).await.status == 200).then_some(());
    crate::support::eventually("playlists are read again", back).await;
    assert_eq!(client.get(id_of(&made)).await, made);
}
