//! Search of the directory, before a stand-in that speaks the API that radio-browser publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::dns::{DnsServer, SERVICE};
use super::station::Station;
use super::*;
use crate::support::described::Described;
use crate::support::eventually;

const ENTRY: &str = "96202f73-0601-11e8-ae97-52543be04c81";

/// A mirror of the directory at 127.0.0.1, which names two more that are away.
struct Mirror {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<String>>,
    _tasks: JoinSet<()>,
}

impl Mirror {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, answer) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<String>>::default());
        let (mut tasks, seen, given) = (JoinSet::new(), Arc::clone(&asked), Arc::clone(&answer));
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a whole head"));
                }
                let head = String::from_utf8(head).expect("text");
                let target = head.split(' ').nth(1).expect("a target").to_owned();
                let body = match target.as_str() {
                    "/json/servers" => {
                        r#"[{"ip":"127.0.0.3","name":"127.0.0.3"},{"ip":"127.0.0.1","name":"127.0.0.1"}]"#.to_owned()
                    }
                    target if target.starts_with("/json/url/") => {
                        r#"{"ok":true,"message":"retrieved station url"}"#.to_owned()
                    }
                    _ => given.lock().expect("no panic").clone(),
                };
                seen.lock().expect("no panic").push(head);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Self { port, asked, answer, _tasks: tasks }
    }

    fn config(&self, folder: &TempFolder) -> Value {
        let mut config = in_a_file(folder);
        config["Radio"]["AllowedNetworks"] = json!(["127.0.0.1", "127.0.0.3/32"]);
        config["Radio"]["Directory"] = json!(format!("http://127.0.0.1:{}", self.port));
        config
    }

    fn answer(&self, stations: &Value) {
        *self.answer.lock().expect("no panic") = stations.to_string();
    }

    /// The queries of the searches so far.
    fn searches(&self) -> Vec<BTreeMap<String, String>> {
        let asked = self.asked.lock().expect("no panic");
        let queries =
            asked.iter().filter_map(|head| head.strip_prefix("GET /json/stations/search?")?.split(' ').next());
        queries.map(url_pairs).collect()
    }
}

fn url_pairs(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn entry(url: &str) -> Value {
    json!({ "changeuuid": "x", "stationuuid": ENTRY, "name": " One <b>FM</b> ", "url": url, "url_resolved": url,
        "homepage": "javascript:alert(1)", "favicon": "", "tags": "jazz,blues", "country": "France", "countrycode": "FR",
        "codec": "MP3", "bitrate": 128, "hls": 0, "lastcheckok": 1, "clickcount": 340, "votes": 12 })
}

#[tokio::test]
async fn stations_are_found_added_and_counted() {
    let folder = TempFolder::new("radio");
    let (mirror, station) = (Mirror::start().await, Station::start().await);
    let gate = Gate::start(&mirror.config(&folder)).await;
    let admin = Client::admin(&gate);
    mirror.answer(&json!([entry(&station.url("/live.mp3")), { "stationuuid": 5 }, entry("ftp://x/")]));
    let what = "directory?name=one%20%26&genre=jazz&country=fr&limit=3";
    let reply = admin.send(Method::GET, what, None).await;
    Described::by(&gate.client()).await.checks("GET", &path(what), &reply);
    let found = json_of(reply.is(200));
    let expected = json!({ "directory_id": ENTRY, "name": "One FM", "url": station.url("/live.mp3"), "codec": "mp3",
        "bitrate_kbps": 128, "hls": false, "genre": "jazz", "country": "FR", "homepage": null, "votes": 12, "clicks": 340 });
    assert_eq!(found["items"], json!([expected]), "what is no station is left out");
    let next = format!("directory?limit=3&cursor={}", found["nextCursor"].as_str().expect("a full page"));
    admin.get(&next).await;
    let searches = mirror.searches();
    let of = |number: usize, name: &str| searches[number].get(name).map(String::as_str);
    assert_eq!((of(0, "name"), of(0, "tag"), of(0, "countrycode")), (Some("one+%26"), Some("jazz"), Some("fr")));
    assert_eq!((of(0, "hidebroken"), of(0, "limit"), of(0, "offset")), (Some("true"), Some("3"), Some("0")));
    assert_eq!(of(1, "offset"), Some("3"));
    let body = json!({ "name": "One", "url": station.url("/live.mp3"), "directory_id": ENTRY });
    admin.add_with(body).await;
    let asked = eventually("it is told of the choice", async || {
        let asked = mirror.asked.lock().expect("no panic").clone();
        asked.iter().any(|head| head.starts_with(&format!("GET /json/url/{ENTRY} "))).then_some(asked)
    })
    .await;
    assert!(asked.iter().all(|head| head.to_lowercase().contains("user-agent: tidegate/")));
}

/// A mirror that hangs up, and how often it did.
async fn broken_mirror() -> (u16, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (mut tasks, tries) = (JoinSet::new(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&tries);
    tasks.spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, tries, tasks)
}

#[tokio::test]
async fn mirrors_are_those_that_dns_names_and_the_next_one_is_asked_where_one_fails() {
    let folder = TempFolder::new("radio");
    let (dns, base, one, two) =
        (DnsServer::start().await, Mirror::start().await, Mirror::start().await, Mirror::start().await);
    let (broken, tries, _broken) = broken_mirror().await;
    let mut config = in_a_file(&folder);
    config["Radio"]["Directory"] = json!(format!("http://localhost:{}", base.port));
    config["Radio"]["DirectoryService"] = json!(SERVICE);
    config["Radio"]["DirectoryDnsServer"] = json!(dns.address.to_string());
    let gate = Gate::start(&config).await;
    let admin = Client::admin(&gate);
    for mirror in [&base, &one, &two] {
        mirror.answer(&json!([entry("http://radio.example/live")]));
    }
    // The foreign name would be first; nobody is asked there.
    dns.name(&[(0, "radio.example", one.port), (1, "localhost", broken), (2, "localhost", one.port)]);
    for _ in 0..2 {
        assert_eq!(admin.get("directory").await["items"][0]["directory_id"], ENTRY);
    }
    assert_eq!((one.searches().len(), tries.load(Ordering::SeqCst), dns.questions()), (2, 2, 1));
    assert_eq!(base.asked.lock().expect("no panic").len(), 0, "the directory itself was not needed");
    // Where none of them answers the directory itself does, and DNS is asked again.
    drop(one);
    admin.get("directory").await;
    assert_eq!(base.searches().len(), 1);
    dns.name(&[(0, "localhost", two.port)]);
    admin.get("directory").await;
    assert_eq!((two.searches().len(), dns.questions()), (1, 2));
    // Where DNS names none they are those of the directory's list, which here is none but itself, for a while.
    drop(two);
    dns.name(&[]);
    for _ in 0..3 {
        admin.get("directory").await;
    }
    assert_eq!((base.searches().len(), dns.questions()), (4, 3));
    drop(base);
    admin.send(Method::GET, "directory", None).await.problem(503);
}

#[tokio::test]
async fn a_directory_that_answers_nonsense_is_away() {
    let folder = TempFolder::new("radio");
    let mirror = Mirror::start().await;
    let gate = Gate::start(&mirror.config(&folder)).await;
    let admin = Client::admin(&gate);
    for nonsense in ["<html>".to_owned(), "{}".to_owned(), format!("[\"{}\"]", "x".repeat(2 << 20))] {
        *mirror.answer.lock().expect("no panic") = nonsense;
        let reply = admin.send(Method::GET, "directory", None).await;
        assert!(!reply.header("retry-after").is_empty());
        reply.problem(503);
    }
    assert_eq!(gate.metric("tidegate_radio_searches_total", "failed").await, 3.0);
    Client::new(&gate, "alice").send(Method::GET, "directory", None).await.problem(403);
    admin.send(Method::GET, "directory?limit=101", None).await.problem(422);
}
