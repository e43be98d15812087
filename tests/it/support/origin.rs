//! A scripted S3 origin on a free port: it can serve, and it can expire, deny, stall, cut and lie, request by request.
//! Every request is kept for the test to look at.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::fault::{End, NO_SUCH_KEY, Step};
use super::origin_http::{Answer, Seen, good_answer, read_request, refusal};

/// The key that readiness asks for.
const READINESS_KEY: &str = "/.tidegate-readiness";

/// An object that the origin serves.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its bytes.
    pub body: Vec<u8>,
    /// Its entity tag, with quotes.
    pub etag: String,
    /// Its type.
    pub content_type: String,
    /// When it was changed, as an HTTP date.
    pub modified: String,
}

impl Object {
    /// An object of these bytes, changed an hour ago, so that its date is a strong validator.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let sum = body.iter().fold(body.len() as u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        Self {
            etag: format!("\"{sum:016x}\""),
            content_type: "audio/mpeg".to_owned(),
            modified: httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(3600)),
            body,
        }
    }
}

/// `length` bytes that differ from place to place, so that a wrong offset shows.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

/// The origin; it stops when dropped.
pub struct ScriptedOrigin {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    objects: Mutex<BTreeMap<String, Object>>,
    script: Mutex<VecDeque<Step>>,
    otherwise: Mutex<Option<Step>>,
    readiness: Mutex<Option<Step>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    hang_up: Notify,
}

impl ScriptedOrigin {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Starts one that has `/audio/track.mp3` with `body`.
    pub async fn with_track(body: impl Into<Vec<u8>>) -> Self {
        let origin = Self::start().await;
        origin.put("/audio/track.mp3", Object::new(body));
        origin
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL without path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an object at the decoded path `/bucket/key`.
    pub fn put(&self, path: &str, object: Object) {
        lock(&self.state.objects).insert(path.to_owned(), object);
    }

    /// What it does with the next requests, one step each; then as [`Self::always`] says.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        lock(&self.state.script).extend(steps);
    }

    /// What it does with every request that the script has no step for; [`Step::Serve`] unless set.
    pub fn always(&self, step: Step) {
        *lock(&self.state.otherwise) = Some(step);
    }

    /// What it does when it is asked whether the bucket can be used; unless set, it says that there is no such object. Such
    /// requests are neither in the script nor among those seen.
    pub fn readiness(&self, step: Step) {
        *lock(&self.state.readiness) = Some(step);
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    /// The requests since the last call of this.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *lock(&self.state.seen))
    }

    /// Forgets script and requests.
    pub fn reset(&self) {
        lock(&self.state.script).clear();
        *lock(&self.state.otherwise) = None;
        self.take_seen();
    }

    /// Closes its side of every connection that waits for a request, as a server does with idle ones.
    pub fn hang_up(&self) {
        self.state.hang_up.notify_waiters();
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // The connections end with the set, hence with the origin.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let number = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
            let _open = Open::count(&state);
            // A broken connection is what many steps are about.
            let _ = converse(stream, &state, number).await;
        });
    }
}

async fn converse(mut stream: TcpStream, state: &State, number: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let asked = tokio::select! {
            asked = read_request(&mut stream, &mut buffer, number) => asked?,
            () = state.hang_up.notified() => {
                stream.shutdown().await?;
                // Until the other side has closed too.
                read_request(&mut stream, &mut buffer, number).await?
            }
        };
        let Some(seen) = asked else { break };
        if seen.target.contains(READINESS_KEY) {
            let step = lock(&state.readiness).clone().unwrap_or(NO_SUCH_KEY);
            play(&mut stream, step, &seen, state).await?;
            // It counts among the open ones no longer than it has to.
            break;
        }
        lock(&state.seen).push(seen.clone());
        let step = lock(&state.script).pop_front().or_else(|| lock(&state.otherwise).clone()).unwrap_or(Step::Serve);
        if !play(&mut stream, step, &seen, state).await? {
            break;
        }
    }
    Ok(())
}

/// Plays one step; `false` when the connection is over.
async fn play(stream: &mut TcpStream, step: Step, seen: &Seen, state: &State) -> io::Result<bool> {
    let good = || good_answer(seen, lock(&state.objects).get(&seen.decoded_path()));
    match step {
        Step::Serve => write(stream, seen, &good()).await,
        Step::Edit(change) => {
            let mut answer = good();
            change(&mut answer);
            write(stream, seen, &answer).await
        }
        Step::Answer(answer) => write(stream, seen, &answer).await,
        Step::Refuse(error) => write(stream, seen, &refusal(seen, &error)).await,
        Step::Body { send, end } => {
            let answer = good();
            stream.write_all(&answer.head()).await?;
            stream.write_all(&answer.body[..send.min(answer.body.len())]).await?;
            finish(stream, end).await
        }
        Step::Trickle { pieces, pause } => {
            let answer = good();
            stream.write_all(&answer.head()).await?;
            for piece in answer.body.chunks(answer.body.len().div_ceil(pieces).max(1)) {
                tokio::time::sleep(pause).await;
                stream.write_all(piece).await?;
            }
            Ok(true)
        }
        Step::Segments(length) => {
            let answer = good();
            stream.write_all(&answer.head()).await?;
            // Another listener's bytes in between, as a busy store has them: no two segments share a page.
            let (mut other, mut listener) = connected().await?;
            let mut bytes = [0; 64];
            for segment in answer.body.chunks(length) {
                stream.write_all(segment).await?;
                other.write_all(&bytes).await?;
                listener.read_exact(&mut bytes).await?;
            }
            Ok(true)
        }
        Step::Silence(end) => finish(stream, end).await,
        Step::Raw(bytes) => {
            stream.write_all(bytes).await?;
            finish(stream, End::Close).await
        }
        Step::Endless(bytes) => {
            let many = bytes.repeat(64 * 1024 / bytes.len());
            loop {
                stream.write_all(&many).await?;
            }
        }
    }
}

async fn write(stream: &mut TcpStream, seen: &Seen, answer: &Answer) -> io::Result<bool> {
    stream.write_all(&answer.head()).await?;
    if seen.method != "HEAD" && answer.status != 304 {
        stream.write_all(&answer.body).await?;
    }
    Ok(true)
}

/// The two ends of a connection.
async fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (one, other) = tokio::try_join!(TcpStream::connect(listener.local_addr()?), listener.accept())?;
    one.set_nodelay(true)?;
    Ok((one, other.0))
}

async fn finish(stream: &mut TcpStream, end: End) -> io::Result<bool> {
    match end {
        End::Close => stream.shutdown().await?,
        End::Reset => stream.set_zero_linger()?,
        End::Stall => {
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await? > 0 {}
        }
    }
    Ok(false)
}

/// Counts an open connection for as long as it lives.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn count(state: &'a State) -> Self {
        state.open.fetch_add(1, Ordering::SeqCst);
        Self(&state.open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A panic of another test thread must not hide what this one wants to say.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
