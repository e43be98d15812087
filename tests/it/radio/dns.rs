//! A DNS server on loopback that answers one question, for the servers of a service (SRV, RFC 2782), as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Name that is asked for.
pub const SERVICE: &str = "_api._tcp.radio.test";

/// Bytes of a message's head (RFC 1035 §4.1.1).
const HEAD_BYTES: usize = 12;
/// A response with authority, and recursion as it was wished for.
const ANSWERED: [u8; 2] = [0x85, 0x80];
/// The same where there is no such name.
const NO_SUCH_NAME: [u8; 2] = [0x85, 0x83];

/// A server of the service: its priority, its name and its port.
pub type Named = (u16, &'static str, u16);

/// The DNS server; it ends when it is dropped.
pub struct DnsServer {
    pub address: SocketAddr,
    named: Arc<Mutex<Vec<Named>>>,
    questions: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl DnsServer {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        let (named, questions) = (Arc::<Mutex<Vec<Named>>>::default(), Arc::<AtomicUsize>::default());
        let (mut tasks, answers, counted) = (JoinSet::new(), Arc::clone(&named), Arc::clone(&questions));
        tasks.spawn(async move {
            let mut message = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut message).await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answer(&message[..length], &answers.lock().expect("no panic"));
                let _ = socket.send_to(&answer, from).await;
            }
        });
        Self { address, named, questions, _tasks: tasks }
    }

    /// Names these servers from now on; without any there is no such name.
    pub fn name(&self, servers: &[Named]) {
        *self.named.lock().expect("no panic") = servers.to_vec();
    }

    /// Questions so far.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

fn answer(message: &[u8], named: &[Named]) -> Vec<u8> {
    let question = &message[HEAD_BYTES..];
    let expected = encoded(SERVICE);
    let (name, rest) = question.split_at(expected.len());
    assert_eq!(name, expected, "a question for {SERVICE}");
    assert_eq!(rest[..4], [0, 33, 0, 1], "for servers of it, in the class IN");
    let mut answer = message[..2].to_vec();
    answer.extend(if named.is_empty() { NO_SUCH_NAME } else { ANSWERED });
    for count in [1, named.len(), 0, 0] {
        answer.extend(u16::try_from(count).expect("few").to_be_bytes());
    }
    answer.extend(name);
    answer.extend([0, 33, 0, 1]);
    for (priority, host, port) in named {
        let host = encoded(host);
        // The name of the question, which begins behind the head; and one minute.
        answer.extend([0xC0, 12, 0, 33, 0, 1, 0, 0, 0, 60]);
        for number in [u16::try_from(6 + host.len()).expect("short"), *priority, 0, *port] {
            answer.extend(number.to_be_bytes());
        }
        answer.extend(host);
    }
    answer
}

/// Returns a name as a message has it: each label behind its length.
fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').chain([""]);
    labels.flat_map(|label| std::iter::once(u8::try_from(label.len()).expect("short")).chain(label.bytes())).collect()
}
