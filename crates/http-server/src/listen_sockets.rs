//! Listening sockets of the process. A socket is bound, or taken over from the process that has started this one: from
//! systemd (sd_listen_fds(3)), or from the process that this one replaces, which names its sockets in the same way. The
//! open ones are known here, to be handed over in turn.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use listenfd::ListenFd;
use parking_lot::Mutex;
use socket2::SockRef;

use crate::bind::{BoundAddress, SystemSocket, UnixSocketError, set_socket_mode};
use crate::listener::{BACKLOG, ListenError, MAX_UNSENT_BYTES};

/// Beginning of the name under which a socket of this program's own is handed over where the settings give it a name, so
/// that it is not taken for a supervisor's.
const OWN_PREFIX: &str = "tidegate-own/";

/// Purpose of a socket, which is its name where it has no other: the addresses of two may look alike (port 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketRole {
    /// For clients.
    Listener,
    /// For the operator.
    Admin,
}

impl SocketRole {
    /// Names of both, for sockets that are handed over.
    const NAMES: [&'static str; 2] = ["tidegate-listener", "tidegate-admin"];

    fn name(self) -> &'static str {
        match self {
            Self::Listener => Self::NAMES[0],
            Self::Admin => Self::NAMES[1],
        }
    }
}

/// Listening sockets, open and inherited. Clones share them.
#[derive(Clone, Default)]
pub struct ListenSockets {
    state: Arc<Mutex<SocketTable>>,
}

#[derive(Default)]
struct SocketTable {
    inherited: Vec<NamedSocket>,
    open: Vec<(u64, NamedSocket)>,
    next: u64,
}

/// A listening socket with the name by which a listener asks for it.
struct NamedSocket {
    name: String,
    /// A supervisor has made it, and keeps it open.
    is_supervised: bool,
    socket: SystemSocket,
    address: BoundAddress,
}

/// A TCP socket that listens.
pub struct BoundTcpSocket {
    /// The socket, in the mode that tokio wants.
    pub listener: TcpListener,
    /// Its address, with the port that it got.
    pub address: SocketAddr,
    /// Keeps the socket known; to be dropped with it.
    pub registration: SocketRegistration,
}

/// Entry of an open socket in [`ListenSockets`], until it is dropped.
pub struct SocketRegistration {
    sockets: ListenSockets,
    id: u64,
    is_supervised: bool,
}

impl SocketRegistration {
    /// Returns true where a supervisor has passed the socket, which goes on listening when this process closes it.
    pub fn is_supervised(&self) -> bool {
        self.is_supervised
    }

    /// Has a listener's socket be handed over under the name `wanted`, by which a new process looks for it; without one it
    /// is looked for by its address.
    pub fn rename(&self, wanted: Option<&str>) {
        let of_listeners = (!self.is_supervised).then(|| SocketRole::Listener.name());
        let mut state = self.sockets.state.lock();
        if let Some(name) = wanted.or(of_listeners)
            && let Some((_, socket)) = state.open.iter_mut().find(|(id, _)| *id == self.id)
        {
            name.clone_into(&mut socket.name);
        }
    }
}

impl Drop for SocketRegistration {
    fn drop(&mut self) {
        self.sockets.state.lock().open.retain(|(id, _)| *id != self.id);
    }
}

impl ListenSockets {
    /// Takes over the sockets that the environment names (`LISTEN_FDS`); `names` is the value of `LISTEN_FDNAMES`. Once
    /// per process, at its start. Fails where a descriptor is neither a TCP socket nor a Unix socket that listens.
    pub fn inherit(names: Option<&str>) -> Result<Self, ListenError> {
        let mut passed = ListenFd::from_env();
        let mut names = names.unwrap_or_default().split(':');
        let mut inherited = Vec::new();
        for index in 0..passed.len() {
            let (name, is_supervised) = passed_name(names.next().unwrap_or_default());
            let taken = take_socket(&mut passed, index);
            let taken = taken.map_err(|source| ListenError::Inherited { name: name.clone(), source })?;
            inherited.extend(taken.map(|(socket, address)| NamedSocket { name, is_supervised, socket, address }));
        }
        Ok(Self { state: Arc::new(Mutex::new(SocketTable { inherited, ..SocketTable::default() })) })
    }

    /// Opens a socket that listens on `address`, or takes it over: the inherited one of the name `wanted`, where it is
    /// given, else the one with this address. Fails where the address is taken, not this machine's, or not allowed.
    pub fn open(
        &self,
        role: SocketRole,
        address: SocketAddr,
        wanted: Option<&str>,
    ) -> Result<BoundTcpSocket, ListenError> {
        let failed = |source| ListenError::Bind { address, source };
        let inherited = self.state.lock().take_tcp(role, address, wanted);
        let (name, is_supervised, listener) = match inherited {
            Some(inherited) => inherited,
            None => (wanted.unwrap_or(role.name()).to_owned(), false, TcpListener::bind(address).map_err(failed)?),
        };
        // tokio takes over sockets only in this mode.
        listener.set_nonblocking(true).map_err(failed)?;
        let socket = SockRef::from(&listener);
        // Again, since the standard library listens with a short queue.
        socket.listen(BACKLOG).map_err(failed)?;
        // Accepted sockets take this over from the listening one.
        socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES as u32).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let kept = SystemSocket::Tcp(listener.try_clone().map_err(failed)?);
        let registration =
            self.register(NamedSocket { name, is_supervised, socket: kept, address: BoundAddress::Tcp(address) });
        Ok(BoundTcpSocket { listener, address, registration })
    }

    /// Takes over the inherited Unix socket at `path`, or of the name `wanted`, where it is given; opens one by `open`
    /// where there is none. One that a process of this program has opened before gets the `mode` of the settings. Fails as
    /// `open` does, where the mode cannot be set, and where the system has no more descriptors.
    pub(crate) fn open_unix(
        &self,
        path: &Path,
        (wanted, mode): (Option<&str>, Option<u32>),
        open: impl FnOnce() -> Result<UnixListener, UnixSocketError>,
    ) -> Result<(UnixListener, SocketRegistration), UnixSocketError> {
        let failed = |source| UnixSocketError::System { path: path.to_owned(), source };
        let inherited = self.state.lock().take_unix(path, wanted);
        let (name, is_supervised, listener) = match inherited {
            Some((name, is_supervised, listener)) => {
                // Those of a supervisor have the mode that it was told.
                if let Some(mode) = mode.filter(|_| !is_supervised) {
                    set_socket_mode(path, mode).map_err(failed)?;
                }
                (name, is_supervised, listener)
            }
            None => (wanted.unwrap_or(SocketRole::Listener.name()).to_owned(), false, open()?),
        };
        // tokio takes over sockets only in this mode.
        listener.set_nonblocking(true).map_err(failed)?;
        let kept = SystemSocket::Unix(listener.try_clone().map_err(failed)?);
        let kept = NamedSocket { name, is_supervised, socket: kept, address: BoundAddress::Unix(path.to_owned()) };
        Ok((listener, self.register(kept)))
    }

    fn register(&self, socket: NamedSocket) -> SocketRegistration {
        let (mut state, is_supervised) = (self.state.lock(), socket.is_supervised);
        state.next += 1;
        let id = state.next;
        state.open.push((id, socket));
        SocketRegistration { sockets: self.clone(), id, is_supervised }
    }

    /// Drops the inherited sockets that nobody has taken over; returns their names and addresses.
    pub fn drop_unused(&self) -> Vec<String> {
        let unused = std::mem::take(&mut self.state.lock().inherited);
        unused.iter().map(|socket| format!("{} ({})", socket.name, socket.address)).collect()
    }

    /// Returns the open sockets, to be handed over: a name and a descriptor of each.
    pub fn duplicate(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let state = self.state.lock();
        let duplicate = |(_, open): &(u64, NamedSocket)| Ok((open.name_to_pass(), open.socket.try_clone()?.into()));
        state.open.iter().map(duplicate).collect()
    }
}

impl SocketTable {
    /// Takes the inherited TCP socket that fits, with its name, out of the table.
    fn take_tcp(
        &mut self,
        role: SocketRole,
        address: SocketAddr,
        wanted: Option<&str>,
    ) -> Option<(String, bool, TcpListener)> {
        let is_for_role = |socket: &NamedSocket| socket.name == role.name() || !is_role_name(&socket.name);
        let place = match wanted {
            Some(wanted) => {
                self.inherited.iter().position(|socket| socket.name == wanted && socket.address.tcp().is_some())
            }
            None => {
                let is_same = |socket: &NamedSocket| {
                    is_for_role(socket) && socket.address.tcp().is_some_and(|known| known == address)
                };
                // Any port was asked for, and one was found before: it is kept.
                let was_any = |socket: &NamedSocket| {
                    address.port() == 0
                        && socket.name == role.name()
                        && socket.address.tcp().is_some_and(|known| known.ip() == address.ip())
                };
                self.inherited.iter().position(is_same).or_else(|| self.inherited.iter().position(was_any))
            }
        };
        match self.inherited.remove(place?) {
            NamedSocket { name, is_supervised, socket: SystemSocket::Tcp(socket), .. } => {
                Some((name, is_supervised, socket))
            }
            NamedSocket { socket: SystemSocket::Unix(_), .. } => None,
        }
    }

    /// Takes the inherited Unix socket that fits, with its name, out of the table.
    fn take_unix(&mut self, path: &Path, wanted: Option<&str>) -> Option<(String, bool, UnixListener)> {
        let fits = |socket: &NamedSocket| match (&socket.address, wanted) {
            (BoundAddress::Unix(_), Some(wanted)) => socket.name == wanted,
            (BoundAddress::Unix(known), None) => known == path,
            (BoundAddress::Tcp(_), _) => false,
        };
        let place = self.inherited.iter().position(fits)?;
        match self.inherited.remove(place) {
            NamedSocket { name, is_supervised, socket: SystemSocket::Unix(socket), .. } => {
                Some((name, is_supervised, socket))
            }
            NamedSocket { socket: SystemSocket::Tcp(_), .. } => None,
        }
    }
}

impl NamedSocket {
    /// Returns the name under which the process that follows gets the socket.
    fn name_to_pass(&self) -> String {
        let is_plain = self.is_supervised || is_role_name(&self.name);
        if is_plain { self.name.clone() } else { format!("{OWN_PREFIX}{}", self.name) }
    }
}

/// Returns the name of a socket that was passed as `name`, and whether it is a supervisor's: what a process of this program
/// has made tells so by its name.
fn passed_name(name: &str) -> (String, bool) {
    match name.strip_prefix(OWN_PREFIX) {
        Some(own) => (own.to_owned(), false),
        None => (name.to_owned(), !is_role_name(name)),
    }
}

/// Returns true for the name of a socket that the settings give none.
fn is_role_name(name: &str) -> bool {
    SocketRole::NAMES.contains(&name)
}

/// Takes the passed descriptor at `index`, whatever kind of socket it is; `None` where it was taken before.
fn take_socket(passed: &mut ListenFd, index: usize) -> io::Result<Option<(SystemSocket, BoundAddress)>> {
    match passed.take_tcp_listener(index) {
        Ok(Some(socket)) => {
            let address = socket.local_addr()?;
            Ok(Some((SystemSocket::Tcp(socket), BoundAddress::Tcp(address))))
        }
        Ok(None) => Ok(None),
        Err(not_tcp) => match passed.take_unix_listener(index) {
            Ok(Some(socket)) => {
                let address = socket.local_addr()?;
                let path = address.as_pathname().map(Path::to_owned).ok_or(not_tcp)?;
                Ok(Some((SystemSocket::Unix(socket), BoundAddress::Unix(path))))
            }
            Ok(None) => Ok(None),
            Err(_) => Err(not_tcp),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &str = "127.0.0.1:0";

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Sockets of these names, as a process finds them that inherits them, and their addresses.
    fn inherited(names: &[&str]) -> (ListenSockets, Vec<SocketAddr>) {
        let sockets = ListenSockets::default();
        for name in names {
            let socket = TcpListener::bind(ANY).expect("a free port");
            let address = socket.local_addr().expect("it is bound");
            let (socket, address) = (SystemSocket::Tcp(socket), BoundAddress::Tcp(address));
            let (name, is_supervised) = passed_name(name);
            sockets.state.lock().inherited.push(NamedSocket { name, is_supervised, socket, address });
        }
        let addresses = sockets.state.lock().inherited.iter().filter_map(|socket| socket.address.tcp()).collect();
        (sockets, addresses)
    }

    fn open(sockets: &ListenSockets, role: SocketRole, at: SocketAddr, wanted: Option<&str>) -> BoundTcpSocket {
        sockets.open(role, at, wanted).expect("it can be opened")
    }

    #[test]
    fn an_inherited_socket_is_found_by_its_address_and_in_its_role() {
        let (sockets, at) = inherited(&["tidegate-listener", "tidegate-admin", "web"]);
        assert_eq!(open(&sockets, SocketRole::Admin, address(ANY), None).address, at[1]);
        assert_eq!(open(&sockets, SocketRole::Listener, at[2], None).address, at[2]);
        assert_eq!(open(&sockets, SocketRole::Listener, address(ANY), None).address, at[0]);
        let new = open(&sockets, SocketRole::Listener, address(ANY), None);
        assert!(!at.contains(&new.address), "all were taken");
        assert_eq!(sockets.drop_unused(), [""; 0]);
    }

    #[test]
    fn a_name_that_is_asked_for_decides_alone() {
        let (sockets, at) = inherited(&["http", "https", "other"]);
        assert_eq!(open(&sockets, SocketRole::Listener, address(ANY), Some("https")).address, at[1]);
        let absent = open(&sockets, SocketRole::Listener, address(ANY), Some("absent"));
        assert!(!at.contains(&absent.address));
        // Any port is no wish for a socket of systemd's.
        assert!(!at.contains(&open(&sockets, SocketRole::Listener, address(ANY), None).address));
        assert_eq!(sockets.drop_unused(), [format!("http ({})", at[0]), format!("other ({})", at[2])]);
    }

    #[test]
    fn open_sockets_are_handed_over_under_their_names_until_they_are_closed() {
        let (sockets, _) = inherited(&["https"]);
        let names = || -> Vec<String> {
            let open = sockets.duplicate().expect("descriptors are free");
            open.into_iter().map(|(name, _)| name).collect()
        };
        let admin = open(&sockets, SocketRole::Admin, address(ANY), None);
        let https = open(&sockets, SocketRole::Listener, address(ANY), Some("https"));
        assert_eq!(names(), ["tidegate-admin", "https"]);
        let BoundTcpSocket { listener, address, registration } = admin;
        drop((listener, registration));
        assert_eq!(names(), ["https"]);
        assert!(std::net::TcpStream::connect(address).is_err(), "nothing keeps a closed socket open");
        assert!(std::net::TcpStream::connect(https.address).is_ok());
    }

    #[test]
    fn a_named_socket_of_this_program_is_not_taken_for_a_supervisors_after_it_was_handed_over() {
        let (first, at) = inherited(&["https"]);
        let passed = open(&first, SocketRole::Listener, at[0], Some("https"));
        let own = open(&first, SocketRole::Listener, address(ANY), Some("web"));
        assert!(passed.registration.is_supervised() && !own.registration.is_supervised());
        let names: Vec<String> =
            first.duplicate().expect("descriptors are free").into_iter().map(|(name, _)| name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (second, _) = inherited(&names);
        let supervised =
            |name| open(&second, SocketRole::Listener, address(ANY), Some(name)).registration.is_supervised();
        assert_eq!((supervised("https"), supervised("web")), (true, false));
        assert_eq!(second.drop_unused(), [""; 0], "both were found by their names");
    }
}
