//! The servers and their configurations: the origin, the nginx that Tidegate is compared with, and Tidegate itself.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::generator::Request;
use crate::objects::{self, BUCKET, Objects};
use crate::process::{self, Process};

/// Worker threads or processes of everything that serves.
const WORKERS: usize = 2;
const TOKEN_SECRET: &str = "a secret of the load test, known to nobody else";
/// The year 2100: a token for any run.
const TOKEN_EXPIRY: u64 = 4_102_444_800;

/// nginx's buffers, chosen by trying (docs/performance.md): the least CPU for ranges, and no more for the rest.
const NGINX_BUFFERS: &str = "proxy_buffering off; proxy_buffer_size 256k; proxy_buffers 8 256k; \
                             proxy_busy_buffers_size 512k;";

/// Where requests go, and what every one of them carries.
pub struct Target {
    pub address: SocketAddr,
    prefix: &'static str,
    token: String,
}

impl Target {
    /// A GET as players send it, of the whole object or of the range from `first`; `length` bytes must come.
    pub fn get(&self, key: &str, first: Option<u64>, length: u64) -> Request {
        let Self { prefix, token, .. } = self;
        let (range, status) = match first {
            Some(first) => (format!("Range: bytes={first}-{}\r\n", first + length - 1), b"206"),
            None => (String::new(), b"200"),
        };
        let text = format!(
            "GET {prefix}/{key} HTTP/1.1\r\nHost: media.example\r\nUser-Agent: loadtest\r\nAccept: */*\r\n\
             Authorization: Bearer {token}\r\n{range}\r\n"
        );
        Request { text: text.into_bytes(), status, length }
    }

    /// What every request carries.
    pub fn token(&self) -> &str {
        &self.token
    }
}

/// A server that answers.
pub struct Server {
    pub process: Process,
    pub target: Target,
}

/// Who stands against nginx.
pub enum Subject {
    /// The Tidegate binary.
    Tidegate(PathBuf),
    /// A second nginx with these directives for its buffers; nginx's own if empty.
    Rival(String),
}

/// Where everything lies, and how to start it.
pub struct Yard {
    folder: PathBuf,
    subject: Subject,
    token: String,
}

impl Yard {
    /// Makes the folder and the objects.
    pub fn new(folder: PathBuf, subject: Subject) -> Result<Self> {
        objects::make(&folder.join("store").join(BUCKET)).context("making the objects")?;
        let claims = json!({ "iss": "loadtest", "aud": "tidegate", "sub": "listener", "exp": TOKEN_EXPIRY });
        let key = EncodingKey::from_secret(TOKEN_SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::default(), &claims, &key)?;
        Ok(Self { folder, subject, token })
    }

    /// The name of the compared one.
    pub fn subject_name(&self) -> &'static str {
        match self.subject {
            Subject::Tidegate(_) => "Tidegate",
            Subject::Rival(_) => "rival nginx",
        }
    }

    /// The store: a plain file server that knows the bucket's path and ignores the query.
    pub fn origin(&self) -> Result<Server> {
        let http = format!("root {}; open_file_cache max=1000;", self.folder.join("store").display());
        self.nginx("origin", &http, "", "/audio")
    }

    /// nginx as a proxy, tuned as well as we can.
    pub fn proxy(&self, origin: &Server) -> Result<Server> {
        self.nginx_proxy("nginx", origin, NGINX_BUFFERS)
    }

    /// The compared one.
    pub fn subject(&self, origin: &Server) -> Result<Server> {
        match &self.subject {
            Subject::Tidegate(binary) => self.tidegate(binary, origin),
            Subject::Rival(buffers) if buffers.is_empty() => self.nginx_proxy("rival", origin, NGINX_BUFFERS),
            Subject::Rival(buffers) => self.nginx_proxy("rival", origin, buffers),
        }
    }

    fn nginx_proxy(&self, name: &'static str, origin: &Server, buffers: &str) -> Result<Server> {
        let address = origin.target.address;
        let http = format!(
            "upstream store {{ server {address}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 1h; }}
             {buffers} proxy_max_temp_file_size 0;"
        );
        let location = format!(
            "location /stream/ {{ proxy_pass http://store/{BUCKET}/; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; }}"
        );
        self.nginx(name, &http, &location, "/stream")
    }

    fn nginx(&self, name: &'static str, http: &str, location: &str, prefix: &'static str) -> Result<Server> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        let address = process::free_address()?;
        // A root's workers would run as another user, who may not reach the folder; other users can't choose.
        let user = if fs::metadata("/proc/self")?.uid() == 0 { "user root root;" } else { "" };
        let configuration = format!(
            "{user} worker_processes {WORKERS}; worker_rlimit_nofile 20000; pid nginx.pid; error_log stderr crit;
             events {{ worker_connections 16384; }}
             http {{
               access_log off; default_type audio/flac;
               client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
               uwsgi_temp_path uwsgi; scgi_temp_path scgi;
               sendfile on; tcp_nopush on; tcp_nodelay on;
               keepalive_requests 1000000000; keepalive_timeout 1h; keepalive_time 24h;
               {http}
               server {{ listen {address} reuseport backlog=4096; {location} }}
             }}"
        );
        fs::write(folder.join("nginx.conf"), configuration)?;
        let path = folder.display().to_string();
        let arguments = ["nginx", "-e", "stderr", "-g", "daemon off;", "-c", "nginx.conf", "-p", &path];
        let process = Process::start(name, &arguments.map(str::to_owned), &[])?;
        process.wait_for(address)?;
        Ok(self.server(process, address, prefix))
    }

    fn tidegate(&self, binary: &Path, origin: &Server) -> Result<Server> {
        self.tidegate_with(binary, &tidegate_yaml(origin.target.address))
    }

    /// Tidegate for the soak: to the origin by two ways, HTTP/2 beside HTTP/1.1, and the same objects under `/cached`.
    pub fn soaked(&self, origin: &Server, ways: [SocketAddr; 2]) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("the soak is Tidegate's") };
        self.tidegate_with(binary, &soak_yaml(origin.target.address, ways))
    }

    /// Tidegate with a database and, where it is named, Redis.
    pub fn keeping(&self, origin: &Server, database: &str, redis: Option<&str>) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("positions are Tidegate's") };
        let state = redis.map(|url| format!("State: {{ Url: \"{url}\" }}\n")).unwrap_or_default();
        let yaml = tidegate_yaml(origin.target.address);
        self.tidegate_with(binary, &format!("{yaml}Database: {{ Url: \"{database}\" }}\n{state}"))
    }

    /// Where what is measured may write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The bytes of all objects of a kind.
    pub fn contents(&self, objects: Objects) -> Result<Vec<Arc<[u8]>>> {
        let folder = self.folder.join("store").join(BUCKET);
        let file = |number| Ok(fs::read(folder.join(objects.key(number)))?.into());
        (0..objects.count()).map(file).collect()
    }

    fn tidegate_with(&self, binary: &Path, yaml: &str) -> Result<Server> {
        let path = self.folder.join("tidegate.yaml");
        fs::write(&path, yaml)?;
        let command = [binary, Path::new("serve"), Path::new("-c"), &path].map(|part| part.display().to_string());
        let environment = [
            ("LOADTEST_TOKEN_SECRET", TOKEN_SECRET),
            ("LOADTEST_ACCESS_KEY", "loadtest"),
            ("LOADTEST_SECRET_KEY", "a key that the origin does not check"),
        ];
        let (process, ready) = Process::start_until("tidegate", &command, &environment, "ready")?;
        let ready: Value = serde_json::from_str(&ready).context("reading the line `ready`")?;
        let address = ready["listeners"][0].as_str().and_then(|text| text.parse().ok());
        Ok(self.server(process, address.context("no listener in the line `ready`")?, "/stream"))
    }

    fn server(&self, process: Process, address: SocketAddr, prefix: &'static str) -> Server {
        Server { process, target: Target { address, prefix, token: self.token.clone() } }
    }
}

/// Signing, tokens and range checks on; no access log.
fn tidegate_yaml(origin: SocketAddr) -> String {
    format!(
        r#"Server:
  Listeners: [{{ Address: "127.0.0.1:0" }}]
  Threads: {WORKERS}
  ShutdownGrace: 1s
ObjectStores:
  origin:
    Endpoint: http://{origin}
    Region: us-east-1
    PathStyle: true
    Credentials: {{ AccessKey: "env:LOADTEST_ACCESS_KEY", SecretKey: "env:LOADTEST_SECRET_KEY" }}
    PresignExpiry: 1h
Auth:
  Jwt:
    Issuers: [{{ Issuer: loadtest, Audience: tidegate, Secret: "env:LOADTEST_TOKEN_SECRET" }}]
    TokenFrom: [Header]
ReverseProxy:
  Routes:
    stream:
      Match: {{ Path: "/stream/{{**key}}" }}
      AuthorizationPolicy: Default
      Transforms:
        - PresignedUrl: {{ Store: origin, Bucket: {BUCKET}, Key: "{{**key}}" }}
Telemetry:
  LogLevel: warn
  AccessLog: {{ Format: "off" }}
"#
    )
}

/// As [`tidegate_yaml`], with what the soak needs besides. The cache is too small for all, so that it fills on and on.
fn soak_yaml(origin: SocketAddr, [one, two]: [SocketAddr; 2]) -> String {
    let more = format!(
        r#"
      ClusterId: ways
      TimeoutPolicy: soak
    cached:
      Match: {{ Path: "/cached/{{**key}}" }}
      AuthorizationPolicy: Default
      ClusterId: ways
      TimeoutPolicy: soak
      OutputCachePolicy: Default
      Transforms:
        - PresignedUrl: {{ Store: origin, Bucket: {BUCKET}, Key: "{{**key}}" }}
  Clusters:
    ways:
      LoadBalancingPolicy: RoundRobin
      Destinations:
        one: {{ Address: "http://{one}" }}
        two: {{ Address: "http://{two}" }}
Policies:
  Timeout:
    soak: {{ Connect: 2s, FirstByte: 3s, Idle: 3s }}
Cache:
  Memory: 16MiB
Telemetry:"#
    );
    let yaml = tidegate_yaml(origin).replace("\nTelemetry:", &more);
    yaml.replace("Address: \"127.0.0.1:0\" }", "Address: \"127.0.0.1:0\", H2c: true }")
}
