//! The step from the open listeners to those of other settings: the sockets that stay, those that are opened, and those
//! that are closed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::bind::{BoundAddress, BoundSocket, ListeningSocket, UnixSocketError, set_socket_mode};
use crate::connection_counts::ConnectionCountSettings;
use crate::connection_info::ResponseRules;
use crate::connection_limits::ConnectionLimits;
use crate::listen_sockets::SocketRegistration;
use crate::listener::{ListenError, OpenSocket};
use crate::settings::{ListenAddress, ListenerSettings};
use crate::tls_server::TlsServer;

/// An address of the settings, with its sockets: several where it is a name.
pub struct OpenAddress<H> {
    pub configured: ListenAddress,
    pub listener: ListenerRules,
    pub sockets: Vec<Arc<OpenSocket<H>>>,
}

/// Rules of one listener, loaded.
#[derive(Clone)]
pub struct ListenerRules {
    pub number: usize,
    pub settings: Arc<ListenerSettings>,
    pub tls: Option<Arc<TlsServer>>,
    pub responses: Arc<ResponseRules>,
}

impl ListenerRules {
    /// Returns the name under which the listener's sockets are passed.
    pub fn socket(&self) -> Option<&str> {
        self.settings.socket.as_deref()
    }
}

/// Listeners that are ready to be put in force.
pub struct ListenerChange<H> {
    pub(crate) addresses: Vec<PlannedAddress<H>>,
    pub(crate) removed: Vec<Arc<OpenSocket<H>>>,
    pub(crate) limits: Arc<ConnectionLimits>,
    pub(crate) counts: ConnectionCountSettings,
    pub(crate) stalled_streams: usize,
}

/// An address of the new settings.
pub struct PlannedAddress<H> {
    pub configured: ListenAddress,
    pub listener: ListenerRules,
    pub sockets: Vec<PlannedSocket<H>>,
}

/// A socket of the new settings.
pub enum PlannedSocket<H> {
    /// One that is open, and stays so.
    Kept(Arc<OpenSocket<H>>),
    /// One that was bound.
    New(BoundSocket),
    /// The same, watched by the runtime.
    Listening(BoundAddress, ListeningSocket, SocketRegistration),
}

/// Open sockets that no address of the new settings has taken yet.
pub struct FreeSockets<'a, H>(Vec<FreeAddress<'a, H>>);

/// Sockets of one address that are left.
struct FreeAddress<'a, H> {
    open: &'a OpenAddress<H>,
    sockets: Vec<Arc<OpenSocket<H>>>,
}

impl<'a, H> FreeSockets<'a, H> {
    pub fn of(open: &'a [OpenAddress<H>]) -> Self {
        Self(open.iter().map(|open| FreeAddress { open, sockets: open.sockets.clone() }).collect())
    }

    /// Takes the sockets of `address`, which a listener with the socket name `wanted` had before; or those that a supervisor
    /// has passed under this name, which decides alone at a start too.
    pub fn take_address(&mut self, address: &ListenAddress, wanted: Option<&str>) -> Option<Vec<Arc<OpenSocket<H>>>> {
        let has_name = |free: &FreeAddress<'_, H>| free.open.listener.socket() == wanted;
        let same = self.0.iter().position(|free| free.open.configured == *address && has_name(free));
        let is_passed = |free: &FreeAddress<'_, H>| {
            wanted.is_some() && has_name(free) && free.sockets.iter().all(|socket| socket.is_supervised())
        };
        let place = same.or_else(|| self.0.iter().position(is_passed));
        place.map(|place| self.0.remove(place).sockets)
    }

    /// Takes the socket that listens on `address`.
    pub fn take_socket(&mut self, address: &BoundAddress) -> Option<Arc<OpenSocket<H>>> {
        self.0.iter_mut().find_map(|free| {
            let place = free.sockets.iter().position(|socket| socket.address == *address)?;
            Some(free.sockets.remove(place))
        })
    }

    pub fn sockets(&self) -> impl Iterator<Item = &Arc<OpenSocket<H>>> {
        self.0.iter().flat_map(|free| &free.sockets)
    }

    pub fn into_sockets(self) -> Vec<Arc<OpenSocket<H>>> {
        self.0.into_iter().flat_map(|free| free.sockets).collect()
    }
}

/// Sets the modes of Unix sockets that are open and have another mode in the new settings.
pub fn set_modes<H>(planned: &[PlannedAddress<H>]) -> Result<(), ListenError> {
    let mut done: Vec<(&Path, u32)> = Vec::new();
    for PlannedAddress { listener, sockets, .. } in planned {
        for socket in sockets {
            let PlannedSocket::Kept(socket) = socket else { continue };
            let (BoundAddress::Unix(path), Some(mode)) = (&socket.address, listener.settings.socket_mode) else {
                continue;
            };
            let before = socket.acceptor.load().listener.socket_mode;
            if before == Some(mode) || socket.is_supervised() {
                continue;
            }
            if let Err(source) = set_socket_mode(path, mode) {
                // The first error is the one to report.
                done.iter().for_each(|(path, mode)| drop(set_socket_mode(path, *mode)));
                return Err(UnixSocketError::System { path: path.clone(), source }.into());
            }
            done.extend(before.map(|before| (path.as_path(), before)));
        }
    }
    Ok(())
}

/// Hands the sockets that were bound to the runtime.
pub fn watch_all<H>(planned: &mut [PlannedAddress<H>]) -> Result<(), ListenError> {
    for PlannedAddress { sockets, .. } in planned {
        for socket in std::mem::take(sockets) {
            sockets.push(match socket {
                PlannedSocket::New(bound) => {
                    let address = bound.address.clone();
                    let failed = |source| ListenError::Watch { address: address.clone(), source };
                    let (socket, registration) = bound.listen().map_err(failed)?;
                    PlannedSocket::Listening(address, socket, registration)
                }
                PlannedSocket::Kept(_) | PlannedSocket::Listening(..) => socket,
            });
        }
    }
    Ok(())
}

/// Closes what was bound.
pub fn discard<H>(planned: Vec<PlannedAddress<H>>) {
    for socket in planned.into_iter().flat_map(|planned| planned.sockets) {
        if let PlannedSocket::New(bound) = socket {
            bound.discard();
        }
    }
}

impl<H> fmt::Display for ListenerChange<H> {
    /// Writes the addresses that are opened and closed, each after `; `; nothing where all stay.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for socket in self.addresses.iter().flat_map(|planned| &planned.sockets) {
            if let PlannedSocket::Listening(address, ..) = socket {
                write!(f, "; now listening on {address}")?;
            }
        }
        self.removed.iter().try_for_each(|socket| write!(f, "; no longer listening on {}", socket.address))
    }
}
