//! A real nginx.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::service::{Service, free_port};
use super::tools::{self, TempFolder};

/// A server.
pub struct Nginx {
    /// Its address.
    pub address: SocketAddr,
    /// Its own folder.
    pub folder: PathBuf,
    /// Its process, which stops when this is dropped.
    pub service: Service,
}

/// Starts nginx with these lines in `http`, in which `{port}` and `{folder}` stand for its port and its own folder; `None`
/// where it is not installed.
pub fn start(lines: &str) -> Option<Nginx> {
    let program = tools::find("nginx")?;
    let (folder, port) = (TempFolder::new("nginx"), free_port());
    let at = folder.path().display().to_string();
    let file = folder.path().join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {at}/{kind};\n"))
        .concat();
    let lines = lines.replace("{port}", &port.to_string()).replace("{folder}", &at);
    let text = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\nhttp {{\n{temporary}  \
         access_log off;\n  {lines}\n}}\n"
    );
    std::fs::write(&file, text).expect("the file can be written");
    let command = [program.into_os_string(), "-p".into(), folder.path().into(), "-c".into(), file.into()];
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let is_ready = move || std::net::TcpStream::connect(address).is_ok();
    let path = folder.path().to_path_buf();
    Some(Nginx { address, folder: path, service: Service::start(folder, command.to_vec(), is_ready) })
}
