//! Tidegate with further settings, and both servers with TLS.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};

use crate::objects::BUCKET;
use crate::process;
use crate::servers::{
    LISTENER, MANY_CONNECTIONS, NGINX_BUFFERS, Server, Subject, Yard, nginx_location, nginx_upstream, tidegate_yaml,
};

impl Yard {
    /// Tidegate for the soak: to the origin by two ways, HTTP/2 beside HTTP/1.1, and the same objects under `/cached`.
    pub fn soaked(&self, origin: &Server, ways: [SocketAddr; 2]) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("the soak is Tidegate's") };
        self.tidegate_with(binary, &soak_yaml(origin.target.address, ways))
    }

    /// Tidegate as it is attacked: every limit has its default, except that idle connections stay to be counted.
    pub fn attacked(&self, origin: &Server) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("what is attacked is Tidegate") };
        let yaml = tidegate_yaml(origin.target.address).replace(MANY_CONNECTIONS, "KeepAliveTimeout: 10m");
        self.tidegate_with(binary, &with_h2c(&yaml))
    }

    /// Tidegate with a database and, where it is named, Redis.
    pub fn keeping(&self, origin: &Server, database: &str, redis: Option<&str>) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("positions are Tidegate's") };
        let state = redis.map(|url| format!("State: {{ Url: \"{url}\" }}\n")).unwrap_or_default();
        let yaml = tidegate_yaml(origin.target.address);
        self.tidegate_with(binary, &format!("{yaml}Database: {{ Url: \"{database}\" }}\n{state}"))
    }

    /// A node whose players share settings with those of other nodes; `file` is the name of its configuration.
    pub fn playing(&self, origin: &Server, file: &str, database: &str, redis: &str) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("playback is Tidegate's") };
        let yaml = tidegate_yaml(origin.target.address);
        let state = format!("State: {{ Url: \"{redis}\" }}\nDatabase: {{ Url: \"{database}\" }}\nPlayback: {{}}\n");
        self.tidegate_of(binary, file, &format!("{yaml}{state}"))
    }

    /// A service that says of every user that there is a subscription.
    pub fn subscriptions(&self) -> Result<Server> {
        let location = "location / { default_type application/json; return 200 '{\"active\":true}'; }";
        self.nginx("users", "", location, "")
    }

    /// A collector of traces that takes whatever it gets.
    pub fn collector(&self) -> Result<Server> {
        let location = "location / { client_max_body_size 64m; return 200; }";
        self.nginx("collector", "", location, "")
    }

    /// Tidegate without traces, and with traces of one request in a hundred.
    pub fn plain_and_traced(&self, origin: &Server, collector: &Server) -> Result<[Server; 2]> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("this is measured with Tidegate") };
        let yaml = tidegate_yaml(origin.target.address);
        // `Telemetry` is the last section.
        let collector = collector.target.address;
        let traced = format!("{yaml}  Otlp: {{ Endpoint: \"http://{collector}\", SampleRate: 0.01 }}\n");
        Ok([
            self.tidegate_of(binary, "tidegate-plain.yaml", &yaml)?,
            self.tidegate_of(binary, "tidegate-traced.yaml", &traced)?,
        ])
    }

    /// Tidegate with films from the origin's bucket, whose subscriptions `users` knows; what it keeps is in `storage`, lines of a
    /// configuration. Objects and films are cached alike, if `cached`.
    pub fn films(&self, origin: &Server, users: &Server, storage: &str, cached: bool) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("films are Tidegate's") };
        let yaml = tidegate_yaml(origin.target.address);
        let (kept, policies) = match cached {
            true => ("kept", "Policies: { OutputCache: { kept: { Ttl: 1h } } }\nCache: { Memory: 512MiB }\n"),
            false => ("Disable", ""),
        };
        let route = format!("AuthorizationPolicy: Default\n      OutputCachePolicy: {kept}");
        let yaml = yaml.replace("AuthorizationPolicy: Default", &route);
        let vod = format!(
            "Vod:\n  Store: origin\n  Bucket: {BUCKET}\n  OutputCachePolicy: {kept}\n  Subscription: {{ Url: \
             \"http://{}/api/v1/users/{{user_id}}/subscription\", CacheFor: 1h }}\n",
            users.target.address
        );
        self.tidegate_of(binary, "tidegate-films.yaml", &format!("{yaml}{policies}{storage}{vod}"))
    }

    /// Tidegate that can be upgraded, with the path of its program; `pid` beside its configuration names the process.
    pub fn upgradable(&self, origin: &Server) -> Result<(Server, PathBuf)> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("upgrades are Tidegate's") };
        let file = self.folder().join("pid").display().to_string();
        let yaml = with_h2c(&tidegate_yaml(origin.target.address));
        let yaml = yaml.replace("ShutdownGrace: 1s", &format!("ShutdownGrace: 30s\n  PidFile: {file}"));
        Ok((self.tidegate_with(binary, &yaml)?, binary.clone()))
    }

    /// Tidegate with an admin address, WebSockets to `echo` under `/echo` and so many routes more, whose file is reloaded
    /// only when it is asked to.
    pub fn reloading(&self, origin: &Server, [admin, echo]: [SocketAddr; 2], routes: usize) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("reloads are Tidegate's") };
        let mut yaml = tidegate_yaml(origin.target.address);
        yaml = yaml.replace(
            "  ShutdownGrace",
            &format!("  ReloadOnChange: false\n  Admin: {{ Address: \"{admin}\" }}\n  ShutdownGrace"),
        );
        let mut more = String::from("\n");
        for number in 0..routes {
            let route = format!(
                "    r{number}:\n      Match: {{ Path: \"/r{number}/{{**key}}\" }}\n      AuthorizationPolicy: Default\n      \
                 Transforms:\n        - PresignedUrl: {{ Store: origin, Bucket: {BUCKET}, Key: \"{{**key}}\" }}\n"
            );
            more.push_str(&route);
        }
        let sockets = format!(
            "    echo:\n      Match: {{ Path: \"/echo\" }}\n      AuthorizationPolicy: Anonymous\n      ClusterId: echo\n  \
             Clusters:\n    echo: {{ Destinations: {{ one: {{ Address: \"http://{echo}\" }} }} }}\n"
        );
        self.tidegate_with(binary, &yaml.replace("\nTelemetry:", &format!("{more}{sockets}Telemetry:")))
    }

    /// Tidegate with these settings of events.
    pub fn publishing(&self, origin: &Server, events: &str) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("events are Tidegate's") };
        let yaml = tidegate_yaml(origin.target.address);
        self.tidegate_with(binary, &format!("{yaml}Events: {{ {events} }}\n"))
    }

    /// Tidegate with sharing, and more settings of it.
    pub fn sharing(&self, origin: &Server, settings: &str) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("sharing is Tidegate's") };
        let yaml = tidegate_yaml(origin.target.address);
        self.tidegate_with(binary, &format!("{yaml}Share: {{ Token: \"env:LOADTEST_SHARE_TOKEN\", {settings} }}\n"))
    }

    /// Tidegate as a relay of radio stations on loopback.
    pub fn relaying(&self, origin: &Server) -> Result<Server> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("radio is Tidegate's") };
        let file = self.folder().join("radio.db");
        for end in ["", "-shm", "-wal"] {
            let _old = fs::remove_file(format!("{}{end}", file.display()));
        }
        let yaml = tidegate_yaml(origin.target.address);
        let database = format!("Database: {{ Url: \"sqlite://{}\" }}", file.display());
        let radio = "Radio: { AllowedNetworks: [127.0.0.1], MaxListenersPerUser: 10000 }";
        self.tidegate_with(binary, &format!("{yaml}{database}\n{radio}\n"))
    }

    /// nginx and Tidegate at their listeners with TLS, with the same certificate (ECDSA, P-256).
    pub fn tls_pair(&self, origin: &Server) -> Result<[Server; 2]> {
        let [nginx, tidegate] = [process::free_address()?, process::free_address()?];
        let Subject::Tidegate(binary) = &self.subject else { bail!("this is measured with Tidegate") };
        let CertifiedKey::<KeyPair> { cert, signing_key } = generate_simple_self_signed(["media.example".to_owned()])?;
        let [certificate, key] = ["tls.pem", "tls.key"].map(|name| self.folder().join(name));
        fs::write(&certificate, cert.pem())?;
        fs::write(&key, signing_key.serialize_pem())?;
        let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
        let http = format!("{} {NGINX_BUFFERS} proxy_max_temp_file_size 0;", nginx_upstream(origin));
        let listener = format!(
            "listen {nginx} ssl reuseport backlog=4096; ssl_protocols TLSv1.3; ssl_certificate {certificate}; \
             ssl_certificate_key {key}; ssl_session_tickets on;"
        );
        let tls = format!("{{ Address: \"{tidegate}\", Tls: {{ Certificate: {certificate}, Key: {key} }} }}");
        let yaml = tidegate_yaml(origin.target.address).replace(LISTENER, &format!("{LISTENER}, {tls}"));
        let mut servers = [
            self.nginx("nginx-tls", &http, &format!("{listener} {}", nginx_location("")), "/stream")?,
            self.tidegate_of(binary, "tidegate-tls.yaml", &yaml)?,
        ];
        // Both have a listener in the clear too, which is the one that they tell of.
        servers[0].target.address = nginx;
        servers[1].target.address = tidegate;
        Ok(servers)
    }

    /// Tidegate with as little as can be, and with everything that a listener can have.
    pub fn plain_and_everything(&self, origin: &Server) -> Result<[Server; 2]> {
        let Subject::Tidegate(binary) = &self.subject else { bail!("this is measured with Tidegate") };
        let yaml = tidegate_yaml(origin.target.address);
        let socket = self.folder().join("tidegate.sock").display().to_string();
        let everything = yaml
            .replace("127.0.0.1:0\"", &format!("127.0.0.1:0\", \"unix:{socket}\"]"))
            .replace("Address: \"127", "H2c: true, SocketMode: \"0600\", Address: [\"127")
            .replace("Limits: {", EVERY_LIMIT);
        Ok([
            self.tidegate_of(binary, "tidegate-plain.yaml", &yaml)?,
            self.tidegate_of(binary, "tidegate-everything.yaml", &everything)?,
        ])
    }
}

/// Limits that the load does not reach, and that are looked at all the same.
const EVERY_LIMIT: &str = "TrustedProxies: [10.0.0.0/8]\n  Limits: { RequestTimeout: 1h, \
    MaxConnectionsPerNetwork: 16384, MaxRequestsPerConnection: 4000000000, MaxRequestHeaderCount: 64, \
    MinResponseDataRate: 1KiB, MinRequestBodyDataRate: 1KiB, DataRateWindow: 10s,";

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
    with_h2c(&yaml)
}

fn with_h2c(yaml: &str) -> String {
    yaml.replace("Address: \"127.0.0.1:0\" }", "Address: \"127.0.0.1:0\", H2c: true }")
}
