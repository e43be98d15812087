//! Servers behind the gate that tell what they see: nginx by a file, HAProxy by packets to a socket of the test's.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::net::UdpSocket;

use crate::support::nginx;
use crate::support::service::{Service, free_port};
use crate::support::tools::{self, TempFolder};

/// A server, and the request lines that it has logged: method and target.
pub struct BackServer {
    /// Name of its route and its cluster, and first segment of its paths.
    pub name: &'static str,
    /// Its address.
    pub address: SocketAddr,
    log: ServerLog,
    _service: Service,
}

enum ServerLog {
    /// A file, and the number of its lines that were taken.
    File(PathBuf, Mutex<usize>),
    /// A socket, and the lines that came and were not taken.
    Packets(UdpSocket, Mutex<Vec<String>>),
}

impl BackServer {
    /// Takes the lines that were logged, once there is one of `target`; `None` before.
    pub async fn seen_until(&self, target: &str) -> Option<Vec<String>> {
        let is_there = |lines: &[String]| lines.iter().any(|line| line.contains(target));
        match &self.log {
            ServerLog::File(path, taken) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                let mut taken = taken.lock();
                let new = lines[*taken..].to_vec();
                is_there(&new).then(|| {
                    *taken = lines.len();
                    new
                })
            }
            ServerLog::Packets(socket, waiting) => {
                let mut packet = [0; 64 * 1024];
                let mut waiting = waiting.lock();
                while let Ok(length) = socket.try_recv(&mut packet) {
                    let text = String::from_utf8_lossy(&packet[..length]);
                    waiting.extend(text.lines().map(str::to_owned));
                }
                is_there(&waiting).then(|| std::mem::take(&mut *waiting))
            }
        }
    }
}

fn start(folder: TempFolder, command: Vec<OsString>, port: u16) -> (Service, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let is_ready = move || std::net::TcpStream::connect(address).is_ok();
    (Service::start(folder, command, is_ready), address)
}

/// nginx, which answers each request itself; `None` where it is not installed.
pub fn nginx() -> Option<BackServer> {
    let server = nginx::start(
        "log_format seen '$request_method $request_uri';\n  server {\n    listen 127.0.0.1:{port};\n    \
         access_log {folder}/access.log seen;\n    location / { return 200 well; }\n  }",
    )?;
    let log = ServerLog::File(server.folder.join("access.log"), Mutex::new(0));
    Some(BackServer { name: "nginx", address: server.address, log, _service: server.service })
}

/// HAProxy, which answers each request itself; `None` where it is not installed.
pub async fn haproxy() -> Option<BackServer> {
    let program = tools::find("haproxy")?;
    let (folder, port) = (TempFolder::new("haproxy"), free_port());
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let log = socket.local_addr().expect("it is bound");
    let file = folder.path().join("haproxy.cfg");
    let lines = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n  option dontlognull\n\
         frontend seen\n  bind 127.0.0.1:{port}\n  log {log} format raw local0\n  log-format \"%HM %HU\"\n  \
         http-request return status 200 content-type text/plain string well\n"
    );
    std::fs::write(&file, lines).expect("the file can be written");
    let command = [program.into_os_string(), "-db".into(), "-f".into(), file.into()];
    let (service, address) = start(folder, command.to_vec(), port);
    let log = ServerLog::Packets(socket, Mutex::default());
    Some(BackServer { name: "haproxy", address, log, _service: service })
}
