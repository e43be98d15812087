//! Listeners of the server: opened at the start, and changed by a reload while connections are served. Whatever can fail
//! comes first, in [`ListenerSet::prepare`]; addresses that stay keep their sockets, so that no client is refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use primitives::lifecycle::BackgroundTasks;
use server_kit::telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Handler;
use crate::acme_challenges::AcmeChallenges;
use crate::bind::{BoundAddress, ListeningSocket, open_present, open_tcp, open_unix, resolve};
use crate::connection_counts::ConnectionCounts;
use crate::connection_info::ResponseRules;
use crate::connection_limits::ConnectionLimits;
use crate::http2::stalled_streams::StalledStreams;
use crate::listen_sockets::{ListenSockets, SocketRegistration};
use crate::listener::{AcceptorServices, ConnectionAcceptor, ListenError, OpenSocket};
pub use crate::listener_change::ListenerChange;
use crate::listener_change::{
    FreeSockets, ListenerRules, OpenAddress, PlannedAddress, PlannedSocket, discard, set_modes, watch_all,
};
use crate::settings::{ListenAddress, Settings};
use crate::tls_server::TlsServer;
use crate::tls_watch::{self, NumberedTls};
use crate::worker_watch::watch_workers;
use crate::workers::Workers;

/// Services that listeners are started with.
pub struct ListenerServices<'a, H> {
    /// Sockets to take over, and to be handed over.
    pub sockets: &'a ListenSockets,
    /// Handler of all requests.
    pub handler: &'a Arc<H>,
    /// Challenges that handshakes answer.
    pub challenges: &'a AcmeChallenges,
    /// Threads that serve the connections.
    pub workers: &'a Arc<Workers>,
    /// Metrics.
    pub metrics: &'a Arc<Metrics>,
    /// Tasks that shutdown waits for, connections among them.
    pub tasks: &'a BackgroundTasks,
}

/// The open listeners. They stay open when this is dropped.
pub struct ListenerSet<H> {
    services: Arc<AcceptorServices<H>>,
    sockets: ListenSockets,
    challenges: AcmeChallenges,
    tasks: BackgroundTasks,
    open: Vec<OpenAddress<H>>,
    watched: watch::Sender<Vec<NumberedTls>>,
}

impl<H: Handler> ListenerSet<H> {
    /// Starts accepting on every listener of `server`. Needs a tokio runtime. Fails where an address cannot be listened on
    /// or a certificate cannot be used.
    pub async fn start(server: &Settings, services: &ListenerServices<'_, H>) -> Result<Self, ListenError> {
        let ListenerServices { sockets, handler, challenges, workers, metrics, tasks } = *services;
        let mut listeners = Self {
            services: Arc::new(AcceptorServices {
                handler: Arc::clone(handler),
                workers: Arc::clone(workers),
                counts: ConnectionCounts::new(server.connections),
                stalled_streams: StalledStreams::new(server.stalled_streams, metrics),
                metrics: Arc::clone(metrics),
            }),
            sockets: sockets.clone(),
            challenges: challenges.clone(),
            tasks: tasks.clone(),
            open: Vec::new(),
            watched: watch::Sender::default(),
        };
        let change = listeners.prepare(server).await?;
        listeners.install(change).await;
        tasks.spawn(tls_watch::watch_files(listeners.watched.subscribe(), Arc::clone(metrics), tasks.clone()));
        tasks.spawn(watch_workers(Arc::clone(workers), Arc::clone(metrics), tasks.clone()));
        Ok(listeners)
    }

    /// Returns the open addresses, in the order of the settings.
    pub fn addresses(&self) -> Vec<BoundAddress> {
        self.open.iter().flat_map(|open| &open.sockets).map(|socket| socket.address.clone()).collect()
    }

    /// Loads the rules of the listeners of `server` and binds the addresses that are not open yet. Nothing is accepted or
    /// closed before [`ListenerSet::install`]; where it fails, what was bound is closed again.
    pub async fn prepare(&self, server: &Settings) -> Result<ListenerChange<H>, ListenError> {
        let listeners = self.load_rules(server)?;
        let mut free = FreeSockets::of(&self.open);
        let mut addresses = Vec::new();
        let planned = self.plan(&listeners, &mut free, &mut addresses).await;
        let planned = planned.and_then(|()| set_modes(&addresses)).and_then(|()| watch_all(&mut addresses));
        if let Err(error) = planned {
            discard(addresses);
            return Err(error);
        }
        Ok(ListenerChange {
            addresses,
            removed: free.into_sockets(),
            limits: Arc::new(server.limits),
            counts: server.connections,
            stalled_streams: server.stalled_streams,
        })
    }

    /// Loads the files of TLS. A listener whose settings of TLS are the same keeps what is loaded, and its keys of session
    /// tickets.
    fn load_rules(&self, server: &Settings) -> Result<Vec<ListenerRules>, ListenError> {
        let mut kept: Vec<&Arc<TlsServer>> = Vec::new();
        let mut listeners = Vec::new();
        for (number, settings) in server.listeners.iter().enumerate() {
            let loaded = self.open.iter().filter(|open| open.listener.settings.tls == settings.tls);
            let mut loaded = loaded.filter_map(|open| open.listener.tls.as_ref());
            let loaded = loaded.find(|tls| !kept.iter().any(|other| Arc::ptr_eq(other, tls)));
            kept.extend(loaded);
            let load = |tls| TlsServer::new(tls, &self.challenges).map(Arc::new);
            let tls = match loaded {
                Some(loaded) => Some(Arc::clone(loaded)),
                None => settings.tls.as_ref().map(load).transpose()?,
            };
            let responses = Arc::new(ResponseRules::new(settings));
            listeners.push(ListenerRules { number, settings: Arc::new(settings.clone()), tls, responses });
        }
        Ok(listeners)
    }

    /// Finds or binds the sockets of all `listeners`, and puts them into `planned`.
    async fn plan(
        &self,
        listeners: &[ListenerRules],
        free: &mut FreeSockets<'_, H>,
        planned: &mut Vec<PlannedAddress<H>>,
    ) -> Result<(), ListenError> {
        let addresses = |listener: &ListenerRules| listener.settings.addresses.clone();
        let wanted: Vec<_> = listeners
            .iter()
            .flat_map(|listener| addresses(listener).into_iter().map(move |address| (listener, address)))
            .collect();
        // All that are the same first, so that no other address takes their sockets.
        let same: Vec<_> =
            wanted.iter().map(|(listener, address)| free.take_address(address, listener.socket())).collect();
        for ((listener, configured), same) in wanted.into_iter().zip(same) {
            let sockets = match same {
                Some(sockets) => sockets.into_iter().map(PlannedSocket::Kept).collect(),
                None => self.open_address(listener, &configured, free).await?,
            };
            planned.push(PlannedAddress { configured, listener: listener.clone(), sockets });
        }
        match free.sockets().find(|socket| socket.is_supervised()) {
            Some(socket) => Err(ListenError::Supervised(socket.address.clone())),
            None => Ok(()),
        }
    }

    /// Finds or opens the sockets of an address that is new in the settings.
    async fn open_address(
        &self,
        listener: &ListenerRules,
        address: &ListenAddress,
        free: &mut FreeSockets<'_, H>,
    ) -> Result<Vec<PlannedSocket<H>>, ListenError> {
        let mut tcp = |address: SocketAddr| -> Result<PlannedSocket<H>, ListenError> {
            if address.port() != 0
                && let Some(kept) = free.take_socket(&BoundAddress::Tcp(address))
            {
                return Ok(PlannedSocket::Kept(kept));
            }
            let opened = open_tcp(address, &self.sockets, listener.socket());
            opened.map(PlannedSocket::New).map_err(|error| self.explain(error))
        };
        match address {
            ListenAddress::Ip(address) => tcp(*address).map(|socket| vec![socket]),
            ListenAddress::Host { name, port } => open_present(name, resolve(name, *port).await?, tcp),
            ListenAddress::Unix(path) => Ok(vec![match free.take_socket(&BoundAddress::Unix(path.clone())) {
                Some(kept) => PlannedSocket::Kept(kept),
                None => PlannedSocket::New(open_unix(path, &self.sockets, &listener.settings)?),
            }]),
        }
    }

    /// Says of an address that is in use where it is this process that uses it.
    fn explain(&self, error: ListenError) -> ListenError {
        let ListenError::Bind { address, source } = error else { return error };
        let overlaps = |other: &SocketAddr| {
            other.port() == address.port() && (other.ip().is_unspecified() || address.ip().is_unspecified())
        };
        let other = self.addresses().iter().filter_map(BoundAddress::tcp).find(overlaps);
        match other.filter(|_| source.kind() == io::ErrorKind::AddrInUse) {
            Some(other) => ListenError::Included { address, other },
            None => ListenError::Bind { address, source },
        }
    }

    /// Puts `change` in force. Addresses that are no more accept nothing when this returns, and their connections end as
    /// in a shutdown, streams under way after their end. Connections of a listener with other rules end with their next
    /// response.
    pub async fn install(&mut self, change: ListenerChange<H>) {
        let ListenerChange { addresses, removed, limits, counts, stalled_streams } = change;
        self.services.counts.set_limits(counts);
        self.services.stalled_streams.set_limit(stalled_streams);
        self.open = addresses.into_iter().map(|planned| self.open_planned(planned, &limits)).collect();
        for socket in &removed {
            socket.tasks.begin_stop();
        }
        for socket in &removed {
            socket.closed.cancelled().await;
        }
        let mut watched: Vec<NumberedTls> = Vec::new();
        for listener in self.open.iter().map(|open| &open.listener) {
            let is_new = watched.iter().all(|(number, _)| *number != listener.number);
            watched.extend(listener.tls.clone().filter(|_| is_new).map(|tls| (listener.number, tls)));
        }
        self.watched.send_if_modified(|before| {
            let is_same =
                |(one, other): (&NumberedTls, &NumberedTls)| one.0 == other.0 && Arc::ptr_eq(&one.1, &other.1);
            let is_modified = before.len() != watched.len() || !before.iter().zip(&watched).all(is_same);
            *before = watched;
            is_modified
        });
    }

    fn open_planned(&self, planned: PlannedAddress<H>, limits: &Arc<ConnectionLimits>) -> OpenAddress<H> {
        let PlannedAddress { configured, listener, sockets } = planned;
        let sockets = sockets.into_iter().filter_map(|socket| match socket {
            PlannedSocket::Kept(socket) => {
                self.change_rules(&socket, &listener, limits);
                Some(socket)
            }
            PlannedSocket::Listening(address, socket, registration) => {
                Some(self.begin_accepting(address, (socket, registration), &listener, limits))
            }
            // All were made to listen.
            PlannedSocket::New(_) => None,
        });
        OpenAddress { configured, sockets: sockets.collect(), listener }
    }

    fn begin_accepting(
        &self,
        address: BoundAddress,
        (listening, registration): (ListeningSocket, SocketRegistration),
        listener: &ListenerRules,
        limits: &Arc<ConnectionLimits>,
    ) -> Arc<OpenSocket<H>> {
        let tasks = self.tasks.part();
        let socket = Arc::new(OpenSocket {
            address,
            acceptor: ArcSwap::from_pointee(self.acceptor(listener, limits, tasks.part())),
            tasks,
            registration: Mutex::new(Some(registration)),
            closed: CancellationToken::new(),
        });
        self.tasks.spawn(Arc::clone(&socket).accept(listening));
        socket
    }

    /// Has new connections of `socket` served by other rules and limits.
    fn change_rules(&self, socket: &OpenSocket<H>, listener: &ListenerRules, limits: &Arc<ConnectionLimits>) {
        let before = socket.acceptor.load_full();
        let is_same = before.listener.has_rules_of(&listener.settings);
        let tasks = if is_same { before.tasks.clone() } else { socket.tasks.part() };
        socket.acceptor.store(Arc::new(self.acceptor(listener, limits, tasks)));
        if before.listener.socket != listener.settings.socket
            && let Some(registration) = &*socket.registration.lock()
        {
            registration.rename(listener.socket());
        }
        if !is_same {
            // As after an upgrade: idle connections are not closed under a request that is on its way.
            before.tasks.hand_over();
        }
    }

    fn acceptor(
        &self,
        listener: &ListenerRules,
        limits: &Arc<ConnectionLimits>,
        tasks: BackgroundTasks,
    ) -> ConnectionAcceptor<H> {
        ConnectionAcceptor {
            services: Arc::clone(&self.services),
            listener: Arc::clone(&listener.settings),
            tls: listener.tls.clone(),
            rules: Arc::clone(&listener.responses),
            limits: Arc::clone(limits),
            tasks,
        }
    }
}
