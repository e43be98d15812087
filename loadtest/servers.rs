//! The servers and their configurations: the origin, the nginx that Tidegate is compared with, and Tidegate itself.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::load::Request;
use crate::objects::{self, BUCKET, Objects};
use crate::process::{self, Process};

/// Worker threads or processes of everything that serves.
const WORKERS: usize = 2;
/// What hosts and listeners of the share relay show.
pub const SHARE_TOKEN: &str = "the relay's token in the load test";
const TOKEN_SECRET: &str = "a secret of the load test, known to nobody else";
/// The year 2100: a token for any run.
const TOKEN_EXPIRY: u64 = 4_102_444_800;

/// nginx's buffers, chosen by trying (docs/performance.md): the least CPU for ranges, and no more for the rest.
pub const NGINX_BUFFERS: &str = "proxy_buffering off; proxy_buffer_size 256k; proxy_buffers 8 256k; \
                             proxy_busy_buffers_size 512k;";

/// nginx's slices, the better of 256k and 1m for it (docs/performance.md).
const NGINX_SLICE: &str = "256k";
/// What the origin of a stampede sends in a second: half a slice, so that all come while the first one is on its way.
const SLOWLY: &str = "128k";
/// Where Tidegate listens.
pub const LISTENER: &str = r#"{ Address: "127.0.0.1:0" }"#;
/// Every player of a section comes from one address.
pub const MANY_CONNECTIONS: &str = "Limits: { MaxConnectionsPerAddress: 16384 }";
/// Where an origin that writes its requests down does so, in its folder.
const RANGES_LOG: &str = "ranges.log";

/// What Tidegate says of itself while all is well; nginx says the same.
pub const HEALTH: &str = r#"{"status":"healthy","s3":"ok","redis":"disabled","kafka":"disabled","activeSessions":0}"#;

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
    folder: PathBuf,
}

impl Server {
    /// How many requests an origin was sent.
    pub fn asked(&self) -> Result<u64> {
        let mut stream = TcpStream::connect(self.target.address)?;
        stream.write_all(b"GET /status HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        // "server accepts handled requests", and below it the three numbers.
        let numbers = text.lines().skip_while(|line| !line.starts_with("server accepts")).nth(1);
        let asked = numbers.and_then(|line| line.split_whitespace().nth(2)?.parse().ok());
        asked.context("the origin's status has no count of requests")
    }

    /// The configuration file of a Tidegate.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("tidegate.yaml")
    }

    /// Which ranges an origin that writes them down was asked for.
    pub fn ranges(&self) -> Result<Vec<String>> {
        Ok(fs::read_to_string(self.folder.join(RANGES_LOG))?.lines().map(str::to_owned).collect())
    }
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
    pub(crate) subject: Subject,
    token: String,
}

impl Yard {
    /// Makes the folder and the objects.
    pub fn new(folder: PathBuf, subject: Subject) -> Result<Self> {
        objects::make(&folder.join("store").join(BUCKET)).context("making the objects")?;
        Ok(Self { folder, subject, token: token_of("listener")? })
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
        self.nginx("origin", &self.store(), "location = /status { stub_status; }", "/audio")
    }

    /// A store that is slow, and writes down which ranges it was asked for.
    pub fn slow_origin(&self) -> Result<Server> {
        let http = format!("{} log_format range $http_range;", self.store());
        let location = format!("location / {{ limit_rate {SLOWLY}; access_log {RANGES_LOG} range; }}");
        self.nginx("slow", &http, &location, "/audio")
    }

    fn store(&self) -> String {
        format!("root {}; open_file_cache max=1000;", self.folder.join("store").display())
    }

    /// nginx as a proxy, tuned as well as we can.
    pub fn proxy(&self, origin: &Server) -> Result<Server> {
        self.nginx_proxy("nginx", origin, NGINX_BUFFERS)
    }

    /// The same with a cache of slices, empty at first.
    pub fn caching_proxy(&self, origin: &Server) -> Result<Server> {
        self.nginx_cache("nginx-cache", origin)
    }

    /// The compared one.
    pub fn subject(&self, origin: &Server) -> Result<Server> {
        match &self.subject {
            Subject::Tidegate(binary) => self.tidegate_with(binary, &tidegate_yaml(origin.target.address)),
            Subject::Rival(buffers) if buffers.is_empty() => self.nginx_proxy("rival", origin, NGINX_BUFFERS),
            Subject::Rival(buffers) => self.nginx_proxy("rival", origin, buffers),
        }
    }

    /// The same with a cache of slices, empty at first.
    pub fn caching_subject(&self, origin: &Server) -> Result<Server> {
        match &self.subject {
            Subject::Tidegate(binary) => self.tidegate_with(binary, &cached_yaml(origin.target.address)),
            Subject::Rival(_) => self.nginx_cache("rival-cache", origin),
        }
    }

    fn nginx_proxy(&self, name: &'static str, origin: &Server, buffers: &str) -> Result<Server> {
        let http = format!("{} {buffers} proxy_max_temp_file_size 0;", nginx_upstream(origin));
        self.nginx(name, &http, &nginx_location(""), "/stream")
    }

    fn nginx_cache(&self, name: &'static str, origin: &Server) -> Result<Server> {
        let kept = self.folder.join(name).join("kept");
        if kept.exists() {
            fs::remove_dir_all(&kept)?;
        }
        let http = format!(
            "{} proxy_buffers 8 64k; open_file_cache max=8000 inactive=1h; open_file_cache_valid 1h;
             proxy_cache_path kept levels=1:2 keys_zone=slices:16m max_size=4g inactive=1h use_temp_path=off;",
            nginx_upstream(origin)
        );
        let location = nginx_location(&format!(
            "slice {NGINX_SLICE}; proxy_cache slices; proxy_cache_key $uri$slice_range; proxy_cache_lock on;
             proxy_set_header Range $slice_range; proxy_cache_valid 200 206 1h;"
        ));
        self.nginx(name, &http, &location, "/stream")
    }

    pub(crate) fn nginx(&self, name: &'static str, http: &str, location: &str, prefix: &'static str) -> Result<Server> {
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
        Ok(self.server(process, address, prefix, folder))
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

    pub(crate) fn tidegate_with(&self, binary: &Path, yaml: &str) -> Result<Server> {
        self.tidegate_of(binary, "tidegate.yaml", yaml)
    }

    /// Tidegate with a configuration file of this name.
    pub(crate) fn tidegate_of(&self, binary: &Path, file: &str, yaml: &str) -> Result<Server> {
        let path = self.folder.join(file);
        fs::write(&path, yaml)?;
        let command = [binary, Path::new("serve"), Path::new("-c"), &path].map(|part| part.display().to_string());
        let environment = [
            ("LOADTEST_TOKEN_SECRET", TOKEN_SECRET),
            ("LOADTEST_SHARE_TOKEN", SHARE_TOKEN),
            ("LOADTEST_ACCESS_KEY", "loadtest"),
            ("LOADTEST_SECRET_KEY", "a key that the origin does not check"),
        ];
        let (process, ready) = Process::start_until("tidegate", &command, &environment, "ready")?;
        let ready: Value = serde_json::from_str(&ready).context("reading the line `ready`")?;
        let address = ready["listeners"][0].as_str().and_then(|text| text.parse().ok());
        let address = address.context("no listener in the line `ready`")?;
        Ok(self.server(process, address, "/stream", self.folder.clone()))
    }

    fn server(&self, process: Process, address: SocketAddr, prefix: &'static str, folder: PathBuf) -> Server {
        Server { process, target: Target { address, prefix, token: self.token.clone() }, folder }
    }
}

/// The token of a user.
pub fn token_of(user: &str) -> Result<String> {
    let claims = json!({ "iss": "loadtest", "aud": "tidegate", "sub": user, "exp": TOKEN_EXPIRY });
    let key = EncodingKey::from_secret(TOKEN_SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

/// The token of an administrator.
pub fn admin_token() -> Result<String> {
    let claims = json!({ "iss": "loadtest", "aud": "tidegate", "sub": "root", "role": "admin", "exp": TOKEN_EXPIRY });
    let key = EncodingKey::from_secret(TOKEN_SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

pub fn nginx_upstream(origin: &Server) -> String {
    let address = origin.target.address;
    format!(
        "upstream store {{ server {address}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 1h; }}"
    )
}

pub fn nginx_location(more: &str) -> String {
    format!(
        "location = /health {{ default_type application/json; return 200 '{HEALTH}'; }}
         location /stream/ {{ proxy_pass http://store/{BUCKET}/; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; {more} }}"
    )
}

/// Signing, tokens and range checks on; no access log.
pub fn tidegate_yaml(origin: SocketAddr) -> String {
    format!(
        r#"Server:
  Listeners: [{LISTENER}]
  Threads: {WORKERS}
  ShutdownGrace: 1s
  {MANY_CONNECTIONS}
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

/// As [`tidegate_yaml`], with a cache that has room for every object that is read in ranges.
fn cached_yaml(origin: SocketAddr) -> String {
    let policy = "AuthorizationPolicy: Default\n      OutputCachePolicy: kept";
    let more = "\nPolicies:\n  OutputCache:\n    kept: { Ttl: 1h }\nCache:\n  Memory: 512MiB\nTelemetry:";
    let yaml = tidegate_yaml(origin).replace("AuthorizationPolicy: Default", policy);
    yaml.replace("\nTelemetry:", more)
}
