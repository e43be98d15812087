//! A scripted station: HTTP and SHOUTcast v1 on one port of loopback, with sound that is silence in MP3, and with whatever a
//! hostile server might answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

/// Bytes of sound between two titles.
const META_INTERVAL: usize = 4096;
/// Bytes of a frame of MPEG-1 layer III at 128 kbit/s and 44.1 kHz.
const FRAME_BYTES: usize = 417;

/// Time between two pieces of sound: some four times as fast as it plays.
const PACE: Duration = Duration::from_millis(60);

/// Time between two pieces of 13 kB of what has no end.
const FLOOD_PACE: Duration = Duration::from_millis(5);

/// The station; it ends when it is dropped.
pub struct Station {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    address: SocketAddr,
    title: Mutex<Vec<u8>>,
    is_down: AtomicBool,
    is_held: AtomicBool,
    is_aac: AtomicBool,
    /// Connections that got sound.
    plays: AtomicUsize,
    open: AtomicUsize,
    /// Bytes of the endless playlist that were taken.
    flooded: AtomicUsize,
    /// Byte that the frames of sound are filled with.
    filling: AtomicU8,
    /// Times of all connections.
    connections: Mutex<Vec<Instant>>,
    cut: watch::Sender<u32>,
}

impl Station {
    /// Starts it at 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            address,
            title: Mutex::default(),
            is_down: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            is_aac: AtomicBool::new(false),
            plays: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            flooded: AtomicUsize::new(0),
            filling: AtomicU8::new(0x55),
            connections: Mutex::default(),
            cut: watch::Sender::new(0),
        });
        let (mut tasks, state) = (JoinSet::new(), Arc::clone(&shared));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                state.connections.lock().expect("no panic").push(Instant::now());
                if state.is_down.load(Ordering::SeqCst) {
                    continue;
                }
                let (state, mut cut) = (Arc::clone(&state), state.cut.subscribe());
                connections.spawn(async move {
                    tokio::select! {
                        () = serve(stream, &state) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    /// The address of `path` there.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Connections that got sound so far.
    pub fn plays(&self) -> usize {
        self.shared.plays.load(Ordering::SeqCst)
    }

    /// Those that are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Bytes of the endless playlist that were taken.
    pub fn flooded(&self) -> usize {
        self.shared.flooded.load(Ordering::SeqCst)
    }

    /// Tells another title, in the bytes of whatever character set.
    pub fn set_title(&self, title: &[u8]) {
        *self.shared.title.lock().expect("no panic") = title.to_vec();
    }

    /// Ends all connections; with `down` nobody is served until [`Self::come_back`].
    pub fn cut(&self, down: bool) {
        self.shared.is_down.store(down, Ordering::SeqCst);
        self.shared.cut.send_modify(|number| *number += 1);
    }

    /// Sends nothing more, and keeps its connections.
    pub fn hold(&self) {
        self.shared.is_held.store(true, Ordering::SeqCst);
    }

    /// Times between the connections to it so far.
    pub fn waits(&self) -> Vec<Duration> {
        let times = self.shared.connections.lock().expect("no panic");
        times.windows(2).map(|two| two[1].duration_since(two[0])).collect()
    }

    /// Fills the frames of its sound with `byte`, which is heard by this and by no other station.
    pub fn fill_with(&self, byte: u8) {
        self.shared.filling.store(byte, Ordering::SeqCst);
    }

    /// Sends AAC from now on, whatever it says.
    pub fn become_aac(&self) {
        self.shared.is_aac.store(true, Ordering::SeqCst);
    }

    /// Serves again.
    pub fn come_back(&self) {
        self.shared.is_down.store(false, Ordering::SeqCst);
        self.shared.is_held.store(false, Ordering::SeqCst);
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let answer = match path.as_str() {
        "/live.mp3" | "/other.mp3" | "/second.mp3" => {
            let head =
                "HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nicy-name: One <b>FM</b>\r\nicy-metaint: 4096\r\n\r\n";
            return play(stream, shared, head.as_bytes(), PACE).await;
        }
        "/shoutcast" => {
            let head = b"ICY 200 OK\r\nicy-notice1:<BR>This stream requires Winamp<BR>\r\nicy-name:Caf\xe9\r\nicy-br:128\r\nicy-metaint:4096\r\ncontent-type:audio/mpeg\r\n\r\n";
            return play(stream, shared, head, PACE).await;
        }
        "/fast.mp3" => {
            let head = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n";
            return play(stream, shared, head, PACE / 10).await;
        }
        "/lying" => {
            let head = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: station=1; Domain=127.0.0.1\r\n\r\n";
            return play(stream, shared, head, PACE).await;
        }
        "/endless.pls" => {
            return flood(stream, shared, b"HTTP/1.0 200 OK\r\nContent-Type: audio/x-scpls\r\n\r\n[playlist]\n").await;
        }
        "/endless-head" => return flood(stream, shared, b"HTTP/1.0 200 OK\r\n").await,
        path => answer(path, shared.address),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    // So that the answer is not cut by what was not read.
    let _ = stream.shutdown().await;
    let _ = stream.read(&mut [0; 1]).await;
}

/// The whole answer at a path.
fn answer(path: &str, own: SocketAddr) -> String {
    let redirect = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let whole = |kind: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let hls = |segment: &str| {
        let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:1\n#EXTINF:6,\n{segment}\n");
        whole("application/vnd.apple.mpegurl", &text)
    };
    let variants = |variant: &str| {
        whole("application/vnd.apple.mpegurl", &format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=128000\n{variant}\n"))
    };
    match path {
        "/listen.pls" => whole(
            "audio/x-scpls",
            &format!("[playlist]\nNumberOfEntries=1\nFile1=http://{own}/dead\nFile2=http://{own}/live.mp3\n"),
        ),
        "/listen.m3u" => whole("audio/x-mpegurl", "#EXTM3U\n#EXTINF:-1,One\n/other.mp3\n"),
        "/moved" => redirect("/second.mp3"),
        "/loop" => redirect("/loop"),
        "/loop.m3u" => whole("audio/x-mpegurl", "#EXTM3U\n/loop.m3u\n"),
        "/to-loopback" => redirect(&format!("http://127.0.0.2:{}/live.mp3", own.port())),
        "/to-mapped" => redirect(&format!("http://[::ffff:127.0.0.2]:{}/live.mp3", own.port())),
        "/to-metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/to-file" => redirect("file:///etc/passwd"),
        "/to-user" => redirect(&format!("http://user:secret@{own}/live.mp3")),
        "/to-loopback.pls" => {
            whole("audio/x-scpls", &format!("[playlist]\nFile1=http://127.0.0.2:{}/live.mp3\n", own.port()))
        }
        "/hls.m3u8" => hls("/fast.mp3"),
        "/variants.m3u8" => variants("/hls.m3u8"),
        "/hls-to-loopback.m3u8" => hls(&format!("http://127.0.0.2:{}/fast.mp3", own.port())),
        "/hls-to-metadata.m3u8" => hls("http://169.254.169.254/latest/meta-data/"),
        "/hls-moved.m3u8" => hls("/to-loopback"),
        "/variants-to-loopback.m3u8" => variants(&format!("http://127.0.0.2:{}/hls.m3u8", own.port())),
        "/variants-moved.m3u8" => variants("/to-mapped"),
        "/page" => whole("text/html", "<!DOCTYPE html><html><body>Radio</body></html>"),
        "/empty" => whole("audio/mpeg", ""),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    }
}

/// Sends a head and then lines without an end; at a pace at which what is sent is what is taken, and no buffer fills.
async fn flood(mut stream: TcpStream, shared: &Shared, head: &[u8]) {
    let lines = "x-filler: x\r\n".repeat(1000);
    let (mut pace, mut next) = (interval(FLOOD_PACE), stream.write_all(head).await);
    while next.is_ok() {
        pace.tick().await;
        next = stream.write_all(lines.as_bytes()).await;
        shared.flooded.fetch_add(lines.len(), Ordering::SeqCst);
    }
}

/// Sends a head and then sound with titles in it.
async fn play(mut stream: TcpStream, shared: &Shared, head: &[u8], pace: Duration) {
    let _open = Open::new(shared);
    shared.plays.fetch_add(1, Ordering::SeqCst);
    if stream.write_all(head).await.is_err() {
        return;
    }
    let has_titles = head.windows(11).any(|word| word == b"icy-metaint");
    let (mut pace, mut told, mut rest) = (interval(pace), Vec::new(), Vec::new());
    loop {
        pace.tick().await;
        if shared.is_held.load(Ordering::SeqCst) {
            continue;
        }
        while rest.len() < META_INTERVAL {
            let filling = shared.filling.load(Ordering::SeqCst);
            rest.extend(if shared.is_aac.load(Ordering::SeqCst) { aac_frame() } else { frame(filling) });
        }
        let mut piece: Vec<u8> = rest.drain(..META_INTERVAL).collect();
        if has_titles {
            let title = shared.title.lock().expect("no panic").clone();
            let mut block = Vec::new();
            if title != told {
                block = [&b"StreamTitle='"[..], &title, b"';StreamUrl='';"].concat();
                block.resize(block.len().div_ceil(16) * 16, 0);
                told = title;
            }
            piece.push(u8::try_from(block.len() / 16).expect("short"));
            piece.extend(block);
        }
        if stream.write_all(&piece).await.is_err() {
            return;
        }
    }
}

fn frame(filling: u8) -> Vec<u8> {
    let mut frame = vec![0xFF, 0xFB, 0x90, 0x00];
    frame.resize(FRAME_BYTES, filling);
    frame
}

/// A frame of AAC-LC in ADTS, of two channels at 44.1 kHz.
fn aac_frame() -> Vec<u8> {
    let length = u32::try_from(FRAME_BYTES).expect("short");
    let byte = |bits: u32| u8::try_from(bits & 0xFF).expect("eight bits");
    let mut frame =
        vec![0xFF, 0xF1, 0x50, 0x80 | byte(length >> 11), byte(length >> 3), byte(length << 5) | 0x1F, 0xFC];
    frame.resize(FRAME_BYTES, 0x55);
    frame
}

/// Counts an open connection.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
