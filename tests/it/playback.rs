//! Players of a real MinIO, while it is killed and started again, and while their track is overwritten.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::support::cutter::Cutter;
use crate::support::eventually::settled;
use crate::support::h2::{H2, Stream};
use crate::support::heard::{Ending, Protocol};
use crate::support::minio::OwnMinio;
use crate::support::origin::pattern;
use crate::support::raw::Raw;
use crate::support::{Gate, Minio, config, in_time};

const KIB: usize = 1024;
const TRACK: &str = "/stream/track.mp3";

/// A connection with small buffers: what its player does not read stays in the store.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(32 * 1024).expect("a small buffer");
    socket.connect(address).await.expect("the gate accepts")
}

/// A body that is read piece by piece.
enum Playing {
    H1 { raw: Raw, left: usize, etag: String },
    H2 { stream: Box<Stream>, taken: usize, etag: String, _connection: H2 },
}

impl Playing {
    async fn start(address: SocketAddr, protocol: Protocol, range: Option<&str>) -> Self {
        let stream = narrow(address).await;
        match protocol {
            Protocol::H1 => {
                let mut raw = Raw::over(stream);
                let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
                raw.send(format!("GET {TRACK} HTTP/1.1\r\nHost: gate\r\n{range}\r\n").as_bytes()).await;
                let head = raw.head().await.expect("a head");
                let field = |name: &str| {
                    let lines = head.lines().filter_map(|line| line.split_once(": "));
                    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
                };
                let left = field("content-length").and_then(|text| text.parse().ok()).expect("a length");
                Self::H1 { raw, left, etag: field("etag").expect("an ETag") }
            }
            Protocol::H2 => {
                let connection = H2::over(stream).await.expect("HTTP/2");
                let headers: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
                let stream = connection.open(TRACK, &headers).await;
                let etag = stream.answer().header("etag").to_owned();
                Self::H2 { stream: Box::new(stream), taken: 0, etag, _connection: connection }
            }
        }
    }

    fn etag(&self) -> &str {
        match self {
            Self::H1 { etag, .. } | Self::H2 { etag, .. } => etag,
        }
    }

    /// The next bytes, about `length`; and how it ended, if it did.
    async fn read(&mut self, length: usize) -> (Vec<u8>, Option<Ending>) {
        match self {
            Self::H1 { raw, left, .. } => {
                let (bytes, closed) = raw.up_to(length.min(*left)).await;
                *left -= bytes.len();
                let end = match (*left, closed) {
                    (0, _) => Some(Ending::Whole),
                    (_, true) => Some(Ending::Broken("closed".to_owned())),
                    (_, false) => None,
                };
                (bytes, end)
            }
            Self::H2 { stream, taken, .. } => {
                let end = stream.up_to(*taken + length).await;
                let bytes = stream.answer().body[*taken..].to_vec();
                *taken += bytes.len();
                (bytes, end)
            }
        }
    }
}

fn both_protocols(endpoint: &str, bucket: &str) -> Value {
    let mut config = config::objects(endpoint, bucket);
    config["Server"]["Listeners"][0]["H2c"] = json!(true);
    config
}

/// Hears the beginning of the track, waits until `killed`, hears the rest; says what went wrong. All bytes count in `heard`.
async fn listen(
    mut playing: Playing,
    track: Arc<[u8]>,
    mut killed: watch::Receiver<bool>,
    begun: mpsc::Sender<()>,
    heard: Arc<AtomicUsize>,
) -> Result<(), String> {
    let mut at = 0;
    loop {
        let (bytes, end) = playing.read(64 * KIB).await;
        if !track[at..].starts_with(&bytes) {
            return Err(format!("wrong bytes after {at}"));
        }
        at += bytes.len();
        heard.fetch_add(bytes.len(), Ordering::Relaxed);
        match end {
            None => {
                let _ = begun.try_send(());
                killed.wait_for(|killed| *killed).await.expect("somebody kills");
            }
            Some(Ending::Whole) if at == track.len() => return Ok(()),
            Some(end) => return Err(format!("{end:?} after {at} of {} bytes", track.len())),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_killed_and_comes_back_cuts_nobody() {
    const PLAYERS: usize = 100;
    let Some(mut minio) = OwnMinio::start() else { return };
    let bucket = minio.bucket("audio").await;
    // More than the kernel keeps on the way to a gate that does not read on.
    let track: Arc<[u8]> = pattern(3 * KIB * KIB).into();
    bucket.put("track.mp3", track.to_vec()).await;
    let mut config = both_protocols(&bucket.url(), bucket.name());
    config["Policies"]["Timeout"]["patient"] = json!({ "Idle": "20s" });
    config["ReverseProxy"]["Routes"]["stream"]["TimeoutPolicy"] = json!("patient");
    let gate = Gate::start(&config).await;
    let (kill, killed) = watch::channel(false);
    let (begin, mut begun) = mpsc::channel(PLAYERS);
    let (mut players, heard) = (JoinSet::new(), Arc::<AtomicUsize>::default());
    for player in 0..PLAYERS {
        let protocol = if player % 2 == 0 { Protocol::H1 } else { Protocol::H2 };
        let playing = Playing::start(gate.address(), protocol, None).await;
        players.spawn(listen(playing, Arc::clone(&track), killed.clone(), begin.clone(), Arc::clone(&heard)));
    }
    for _ in 0..PLAYERS {
        in_time("everybody hears something", begun.recv()).await.expect("it goes on");
    }
    minio.kill();
    kill.send_replace(true);
    settled("everybody has run out of what was on its way", async || heard.load(Ordering::Relaxed)).await;
    let minio = tokio::task::spawn_blocking(move || {
        minio.restart();
        minio
    });
    let broken: Vec<_> = players.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(broken.is_empty(), "{} of {PLAYERS} were cut: {broken:?}", broken.len());
    let resumes = gate.metric("tidegate_stream_resumes_total", "").await;
    assert!(resumes >= PLAYERS as f64 * 0.9, "only {resumes} of {PLAYERS} had to be continued");
    drop(minio.await.expect("MinIO starts again"));
}

/// A version of the track, different from every other at every byte.
fn version(base: &[u8], number: u8) -> Vec<u8> {
    base.iter().map(|byte| byte ^ number).collect()
}

#[tokio::test]
async fn a_track_overwritten_under_its_player_is_never_mixed() {
    let Some(minio) = Minio::bucket().await else { return };
    let base = pattern(3 * KIB * KIB);
    let cutter = Cutter::to(minio.address()).await;
    let mut config = both_protocols(&minio.url(), minio.name());
    config["ReverseProxy"]["Clusters"]["store"] = config::cluster(&[cutter.url()]);
    config["ReverseProxy"]["Routes"]["stream"]["ClusterId"] = json!("store");
    let gate = Gate::start(&config).await;
    let mut versions = BTreeMap::new();
    versions.insert(minio.put("track.mp3", version(&base, 0)).await, 0);
    let mut endings = [0; 2];
    for number in 1..=100 {
        let protocol = if number % 2 == 0 { Protocol::H1 } else { Protocol::H2 };
        let first = if number % 3 == 0 { 10_000 } else { 0 };
        let range = format!("bytes={first}-");
        let cut = number % 4 < 2;
        if cut {
            // Beyond what is on its way while the player waits for the overwriting.
            cutter.cut_after(2_000_000);
        }
        let mut playing = Playing::start(gate.address(), protocol, (first > 0).then_some(range.as_str())).await;
        let (mut heard, mut end) = playing.read(32 * KIB).await;
        versions.insert(minio.put("track.mp3", version(&base, number)).await, number);
        while end.is_none() {
            let (bytes, ended) = playing.read(256 * KIB).await;
            heard.extend(bytes);
            end = ended;
        }
        cutter.mend();
        let of = versions[playing.etag()];
        assert_eq!(of, number - 1, "round {number}: the version at its beginning");
        let whole = &version(&base, of)[first..];
        assert!(whole.starts_with(&heard), "round {number}: mixed bytes, {} of them", heard.len());
        match end {
            Some(Ending::Whole) => assert!(heard.len() == whole.len() && !cut, "round {number}: {}", heard.len()),
            Some(Ending::Broken(_)) => assert!(heard.len() < whole.len(), "round {number}"),
            other => panic!("round {number}: {other:?} after {} bytes", heard.len()),
        }
        endings[usize::from(end == Some(Ending::Whole))] += 1;
    }
    assert!(endings[0] >= 50, "only {} of 100 were cut", endings[0]);
}
