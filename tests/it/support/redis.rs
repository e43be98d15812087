//! A real Redis for one test: it starts in a twentieth of a second, so nobody shares one.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::eventually;
use super::in_time;
use super::service::{Service, free_port};
use super::tools::{self, TempFolder};

/// A Redis on loopback with an append-only file. Its port and its data outlive a stop.
pub struct Redis {
    service: Service,
    port: u16,
}

impl Redis {
    /// Starts one; `None` where it is missing and not required.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`Self::start`], with more arguments, such as `["--cluster-enabled", "yes"]`.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let (folder, port) = (TempFolder::new("redis"), free_port());
        let socket = folder.path().join("redis.sock");
        let own = ["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"];
        let mut command = vec![tools::find("redis-server")?.into_os_string()];
        command.extend(own.into_iter().map(OsString::from));
        command.extend([OsString::from("--dir"), folder.path().into(), OsString::from("--unixsocket"), socket.into()]);
        command.extend(arguments.iter().map(OsString::from));
        Some(Self::run(folder, port, command))
    }

    /// A sentinel that calls `main` by `name`; `None` where Redis is missing and not required.
    pub fn sentinel(main: &Self, name: &str) -> Option<Self> {
        let (folder, port) = (TempFolder::new("sentinel"), free_port());
        let file = folder.path().join("sentinel.conf");
        let lines = format!(
            "port {port}\ndir {}\nsentinel monitor {name} 127.0.0.1 {} 1\n",
            folder.path().display(),
            main.port
        );
        std::fs::write(&file, lines).expect("the file can be written");
        let command = [tools::find("redis-server")?.into_os_string(), file.into(), OsString::from("--sentinel")];
        Some(Self::run(folder, port, command.to_vec()))
    }

    /// A cluster of three, of which the first is given; `None` where Redis is missing and not required.
    pub async fn cluster() -> Option<[Self; 3]> {
        let start = || {
            let bus = free_port().to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-port", &bus];
            Self::start_with(&cluster).map(|redis| (redis, bus))
        };
        let (one, two, three) = (start()?, start()?, start()?);
        for ((redis, bus), slots) in [(&one, "0 5460"), (&two, "5461 10922"), (&three, "10923 16383")] {
            assert!(redis.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}")).starts_with("+OK"));
            // Itself too, which it finds out.
            assert!(one.0.ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", redis.port)).starts_with("+OK"));
        }
        let all = [one.0, two.0, three.0];
        eventually("all three know the whole cluster", async || {
            let knows = |redis: &Self| {
                let info = redis.ask("CLUSTER INFO");
                ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_size:3"].iter().all(|line| info.contains(line))
            };
            all.iter().all(knows).then_some(())
        })
        .await;
        Some(all)
    }

    /// Its address as one of a cluster's.
    pub fn cluster_url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.port)
    }

    fn run(folder: TempFolder, port: u16, command: Vec<OsString>) -> Self {
        let service =
            Service::start(folder, command, move || ask(port, "PING").is_some_and(|said| said.starts_with("+PONG")));
        Self { service, port }
    }

    /// Its address, as `State.Url` wants it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.service.folder().join("redis.sock")
    }

    /// What it says to one inline command, such as `GET key`: the raw reply.
    pub fn ask(&self, command: &str) -> String {
        ask(self.port, command).expect("Redis answers")
    }

    /// What is published on a channel from now on.
    pub async fn subscribe(&self, channel: &str) -> Subscription {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.expect("Redis accepts");
        let mut subscription = Subscription(BufReader::new(stream));
        let command = format!("SUBSCRIBE {channel}\r\n");
        subscription.0.write_all(command.as_bytes()).await.expect("Redis reads");
        assert_eq!(in_time("Redis answers", subscription.reply()).await[0], b"subscribe");
        subscription
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.service.end("TERM");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// Stops it where it stands: connections stay open and nothing is answered, until [`Self::thaw`].
    pub fn freeze(&mut self) {
        self.service.signal("STOP");
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&mut self) {
        self.service.signal("CONT");
    }

    /// Starts it again: same port, same data.
    pub fn restart(&mut self) {
        self.service.restart();
    }
}

/// A subscription of one channel.
pub struct Subscription(BufReader<tokio::net::TcpStream>);

impl Subscription {
    /// The next message, however long that takes.
    pub async fn next(&mut self) -> Vec<u8> {
        self.reply().await.pop().expect("a message has three parts")
    }

    /// An array of bulk strings and numbers.
    async fn reply(&mut self) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        for _ in 0..self.number().await.1 {
            let (kind, number) = self.number().await;
            let mut part = number.to_string().into_bytes();
            if kind == '$' {
                part = vec![0; number];
                self.0.read_exact(&mut part).await.expect("Redis goes on");
                self.0.read_exact(&mut [0; 2]).await.expect("Redis goes on");
            }
            parts.push(part);
        }
        parts
    }

    /// A line of a kind and a number.
    async fn number(&mut self) -> (char, usize) {
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("Redis goes on");
        let number = line.get(1..).and_then(|number| number.trim_end().parse().ok());
        (line.chars().next().expect("a kind"), number.unwrap_or_else(|| panic!("no number: {line:?}")))
    }
}

fn ask(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    // It answers what it has read, and closes.
    stream.shutdown(Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn what_redis_was_told_is_there_after_a_restart() {
    let Some(mut redis) = Redis::start() else { return };
    assert!(redis.ask("SET a 1").starts_with("+OK"));
    redis.stop();
    redis.restart();
    assert!(redis.ask("GET a").contains("\r\n1\r\n"));
}
