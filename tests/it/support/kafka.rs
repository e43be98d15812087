//! A real Kafka: one for all tests of this binary, with a topic for each; and one that a test owns, stops and starts
//! again on the same port and data.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::eventually::becomes_ready;
use super::service::free_port;
use super::tools::{self, TempFolder};
use primitives::clock::monotonic_now;

/// Kafka's own id of a cluster; any will do.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";
/// For Kafka to start, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// A topic of the test's own in the Kafka of this binary; `None` where Kafka is missing and not required.
pub async fn topic() -> Option<Topic> {
    static SERVER: OnceLock<Option<OwnKafka>> = OnceLock::new();
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let started =
        tokio::task::spawn_blocking(|| SERVER.get_or_init(|| OwnKafka::begin(true)).as_ref().map(OwnKafka::broker));
    let broker = started.await.expect("Kafka starts")?;
    let name = format!("playback.events.{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    Some(Topic { broker, name })
}

/// A topic, to be read from its beginning.
pub struct Topic {
    /// Where its broker is.
    pub broker: String,
    /// Its name.
    pub name: String,
}

/// A message as a consumer sees it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its key.
    pub key: String,
    /// Its body.
    pub body: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

impl Received {
    /// The header `name`.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

impl Topic {
    /// Everything that is in the topic now, each partition in its order.
    pub async fn read(&self) -> Vec<Received> {
        let (broker, name) = (self.broker.clone(), self.name.clone());
        tokio::task::spawn_blocking(move || read(&broker, &name)).await.expect("the topic is read")
    }

    /// Publishes a message, and waits until the broker has it; the first one makes the topic.
    pub async fn publish(&self, body: &str) {
        let (broker, name, body) = (self.broker.clone(), self.name.clone(), body.to_owned());
        let publish = move || {
            let producer: BaseProducer =
                ClientConfig::new().set("bootstrap.servers", broker).create().expect("a producer");
            let record: BaseRecord<'_, str, str> = BaseRecord::to(&name).payload(&body);
            producer.send(record).map_err(|(error, _)| error).expect("it is taken");
            producer.flush(START_DEADLINE).expect("the broker has it");
        };
        tokio::task::spawn_blocking(publish).await.expect("it is published");
    }
}

fn read(broker: &str, topic: &str) -> Vec<Received> {
    const ANSWER: Duration = Duration::from_secs(10);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("group.id", "tests").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), ANSWER) else { return Vec::new() };
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let Ok((low, high)) = consumer.fetch_watermarks(topic, partition.id(), ANSWER) else { return Vec::new() };
        left += high - low;
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("a partition");
    }
    // Not by a group: that would have to wait for its others.
    consumer.assign(&assignment).expect("partitions are assigned");
    let mut received = Vec::new();
    let begun = monotonic_now();
    while left > 0 && begun.elapsed() < ANSWER {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        left -= 1;
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect());
        received.push(Received {
            key: text(message.key()),
            body: text(message.payload()),
            headers: headers.unwrap_or_default(),
        });
    }
    received
}

/// A Kafka whose port and data outlive it.
pub struct OwnKafka {
    jars: PathBuf,
    folder: TempFolder,
    address: SocketAddr,
    server: Option<Child>,
    /// Whether its folder goes with the process: nobody drops what all tests share.
    shared: bool,
}

impl OwnKafka {
    /// Starts one; `None` where Kafka is missing and not required.
    pub fn start() -> Option<Self> {
        Self::begin(false)
    }

    fn begin(shared: bool) -> Option<Self> {
        let (jars, _) = (tools::find_kafka()?, tools::find("java")?);
        let folder = TempFolder::new("kafka");
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let address = local(free_port());
        std::fs::write(folder.path().join("server.properties"), properties(address, local(free_port()), folder.path()))
            .expect("the file can be written");
        let mut this = Self { jars, folder, address, server: None, shared };
        let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c", "server.properties"];
        let formatted =
            this.java().args(format).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("java runs");
        assert!(formatted.success(), "Kafka's folder cannot be made");
        this.restart();
        Some(this)
    }

    /// Its address, as `HOST:PORT`.
    pub fn broker(&self) -> String {
        self.address.to_string()
    }

    /// A topic in it.
    pub fn topic(&self, name: &str) -> Topic {
        Topic { broker: self.broker(), name: name.to_owned() }
    }

    /// Stops it where it stands: connections stay open and nothing is answered, until [`Self::thaw`].
    pub fn freeze(&mut self) {
        self.signal("STOP");
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&mut self) {
        self.signal("CONT");
    }

    fn signal(&mut self, signal: &str) {
        let shell = self.server.as_mut().and_then(|shell| shell.stdin.as_mut()).expect("it runs");
        shell.write_all(format!("{signal}\n").as_bytes()).expect("the shell reads");
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        drop(server.stdin.take());
        let _ = server.wait();
    }

    /// Starts it again, and waits until it answers.
    pub fn restart(&mut self) {
        // A shell that waits for the end of its standard input: however this process ends, Kafka goes too.
        const SCRIPT: &str = r#"
            folder=$1; shift
            "$@" >server.log 2>&1 </dev/null &
            while read -r signal; do kill "-$signal" $!; done
            kill -9 $! 2>/dev/null; wait; [ -z "$folder" ] || rm -rf "$folder"
        "#;
        let java = self.java();
        let mut shell = Command::new("sh");
        let goes = if self.shared { self.folder.path() } else { Path::new("") };
        shell.args(["-c", SCRIPT, "sh"]).arg(goes).arg(java.get_program()).args(java.get_args());
        shell.args(["-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        shell.args(["kafka.Kafka", "server.properties"]).current_dir(self.folder.path()).stdin(Stdio::piped());
        self.server = Some(shell.spawn().expect("sh starts"));
        assert!(becomes_ready(START_DEADLINE, || is_ready(self.address)), "Kafka does not start:\n{}", self.log());
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
        log.lines().rev().take(30).collect::<Vec<_>>().join("\n")
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.arg("-cp").arg(self.jars.join("*")).current_dir(self.folder.path());
        java
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        // Before its folder goes.
        if self.server.is_some() {
            self.kill();
        }
    }
}

fn is_ready(address: SocketAddr) -> bool {
    let config: Result<BaseConsumer, _> = ClientConfig::new()
        .set("bootstrap.servers", address.to_string())
        .set("log_level", "0")
        .create_with_context(rdkafka::consumer::DefaultConsumerContext);
    config.is_ok_and(|client: BaseConsumer| client.fetch_metadata(None, Duration::from_secs(1)).is_ok())
}

fn properties(address: SocketAddr, controller: SocketAddr, folder: &Path) -> String {
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers={controller}\n\
         log.dirs={}\nlisteners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nnum.partitions=3\n\
         offsets.topic.num.partitions=4\noffsets.topic.replication.factor=1\ngroup.initial.rebalance.delay.ms=0\n\
         transaction.state.log.num.partitions=4\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\nauto.create.topics.enable=true\n\
         log.cleaner.dedupe.buffer.size=8388608\n",
        folder.join("logs").display()
    )
}
