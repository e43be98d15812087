//! A real ACME server, Pebble, with a DNS server for which every name is this machine.

use std::net::{SocketAddr, TcpStream};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use serde_json::json;

use super::curl::{self, Version};
use super::service::{Service, free_port};
use super::tools::{self, TempFolder};

/// Pebble and its DNS server, ended on drop.
pub struct Pebble {
    /// The server, which a test may kill.
    pub server: Service,
    _dns: Service,
    address: SocketAddr,
    management: SocketAddr,
}

impl Pebble {
    /// Starts it; it verifies names at these ports, and signs for `validity` seconds. `None` where it is missing and not
    /// required.
    pub fn start(http_port: u16, tls_port: u16, validity: u32) -> Option<Self> {
        let (program, dns_program) = (tools::find("pebble")?, tools::find("pebble-challtestsrv")?);
        curl::find()?;
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (address, management, dns) = (local(), local(), local());
        let arguments = ["-dnsserver", &dns.to_string(), "-defaultIPv6", "", "-management", &local().to_string()];
        let off = ["-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", ""];
        let command = std::iter::once(dns_program.into_os_string());
        let command = command.chain(arguments.into_iter().chain(off).map(Into::into)).collect();
        let answers = move |address| move || TcpStream::connect(address).is_ok();
        let dns_server = Service::start(TempFolder::new("dns"), command, answers(dns));

        let folder = TempFolder::new("pebble");
        let file = |name: &str| folder.path().join(name);
        let CertifiedKey::<KeyPair> { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        std::fs::write(file("pebble.pem"), cert.pem()).expect("a file");
        std::fs::write(file("pebble.key"), signing_key.serialize_pem()).expect("a file");
        let config = json!({ "pebble": {
            "listenAddress": address,
            "managementListenAddress": management,
            "certificate": file("pebble.pem"),
            "privateKey": file("pebble.key"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "domainBlocklist": ["blocked.test"],
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            "profiles": { "default": { "description": "for tests", "validityPeriod": validity } },
        } });
        std::fs::write(file("pebble.json"), config.to_string()).expect("a file");
        // It refuses one nonce in twenty, as it does to everybody: clients must ask again.
        let command = ["env", "PEBBLE_VA_NOSLEEP=1"].map(Into::into).into_iter();
        let command = command.chain([program.into_os_string(), "-config".into(), file("pebble.json").into()]);
        let command = command.chain(["-dnsserver".into(), dns.to_string().into()]).collect();
        let server = Service::start(folder, command, answers(management));
        Some(Self { server, _dns: dns_server, address, management })
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The file that its own certificate is verified by.
    pub fn authorities(&self) -> String {
        self.server.folder().join("pebble.pem").display().to_string()
    }

    /// Writes the root of what it signs to a file, and returns the file's path. It is another one after a restart.
    pub async fn root(&self) -> String {
        let answer = curl::get(&format!("https://{}/roots/0", self.management), Version::Http1, &[]).await;
        assert_eq!(answer.exit, 0, "{answer:?}");
        let file = self.server.folder().join("root.pem");
        std::fs::write(&file, answer.body).expect("a file");
        file.display().to_string()
    }
}
