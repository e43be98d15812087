//! Files of other players, there and back.

use super::*;

#[tokio::test]
async fn a_playlist_goes_out_and_in_again_in_every_format() {
    let folder = TempFolder::new("playlists");
    let gate = Gate::start(&playlists(&folder, &sqlite(&folder))).await;
    let client = Client::new(&gate, "alice");
    let items = json!([
        { "track_id": "so-what", "title": "So What", "artist": "Miles Davis", "duration_ms": 545_123 },
        { "track_id": "dir/ü & <x>", "title": "A - B" },
        { "track_id": "plain" },
    ]);
    let body = json!({ "name": "Утро & <3", "items": items });
    let made = json_of(client.send(Method::POST, "", Some(&body)).await.is(201));
    for (format, media_type) in [
        ("m3u8", "application/vnd.apple.mpegurl; charset=utf-8"),
        ("m3u", "audio/x-mpegurl; charset=utf-8"),
        ("xspf", "application/xspf+xml"),
    ] {
        let file = client.send(Method::GET, &format!("{}/export?format={format}", id_of(&made)), None).await;
        assert_eq!(file.is(200).header("content-type"), media_type);
        let disposition = file.header("content-disposition");
        assert!(
            disposition.contains(&format!("filename=\"playlist.{format}\"; filename*=UTF-8''%D0%A3")),
            "{disposition}"
        );
        let back = client.send_if(Method::POST, "import", file.body.to_vec(), "").await;
        let back = json_of(back.is(201));
        assert_eq!((&back["skipped"], &back["playlist"]["name"]), (&json!(0), &json!("Утро & <3")), "{format}");
        let back = client.get(id_of(&back["playlist"])).await;
        assert_eq!(back["items"], made["items"], "{format}");
    }
    // Of XSPF a reader that is not ours says the same.
    let file = client.send(Method::GET, &format!("{}/export?format=xspf", id_of(&made)), None).await.text();
    let document = roxmltree::Document::parse(&file).expect("it is XML");
    assert_eq!(document.root_element().tag_name().namespace(), Some("http://xspf.org/ns/0/"));
    let texts = |name: &str| {
        let nodes = document.descendants().filter(|node| node.has_tag_name(("http://xspf.org/ns/0/", name)));
        nodes.filter_map(|node| node.text().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(texts("title"), ["Утро & <3", "So What", "A - B"]);
    assert_eq!(texts("location")[0], "/api/v1/tracks/so-what/stream");
    assert_eq!(texts("duration"), ["545123"]);
    assert_eq!(gate.metric("tidegate_playlists_changes_total", "kind=\"imported\"").await, 3.0);
    assert_eq!(gate.metric("tidegate_playlists_exports_total", "").await, 4.0);
}

#[tokio::test]
async fn entries_that_name_no_track_are_left_out_and_told() {
    let folder = TempFolder::new("playlists");
    let gate = Gate::start(&playlists(&folder, &sqlite(&folder))).await;
    let client = Client::new(&gate, "alice");
    let file = "#EXTM3U\r\n#EXTINF:12,Nobody - <b>Nothing</b>\r\nhttps://music.example/api/v1/tracks/t1/stream?access_token=x\r\n\
        https://other.example/live.mp3\r\n/home/alice/x.mp3\r\nt2\r\n";
    let reply = client.send_if(Method::POST, "import?name=From%20afar", file.into(), "").await;
    let told = json_of(reply.is(201));
    assert_eq!((&told["skipped"], &told["skipped_entries"]), (&json!(2), &json!([2, 3])));
    let made = client.get(id_of(&told["playlist"])).await;
    assert_eq!((&made["name"], ids(&made)), (&json!("From afar"), vec!["t1", "t2"]));
    assert_eq!((&made["items"][0]["title"], &made["items"][0]["artist"]), (&json!("Nothing"), &json!("Nobody")));
    assert_eq!(gate.metric("tidegate_playlists_skipped_entries_total", "").await, 2.0);
}
