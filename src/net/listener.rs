//! Listening TCP sockets, and the accept loop of connections that take a slot.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use super::accept::{self, TcpAccepting};
use super::arrival_filter::{self, ArrivalFilter};
use super::drain::Drain;
use super::limits::UNDELIVERABLE;

/// How many handshakes may wait to be accepted. A smaller queue loses connections of a burst.
const BACKLOG: i32 = 4096;

/// Opens a listening socket. IPv6 sockets accept IPv6 only, so no IPv4 client ever appears on one.
pub(crate) fn open(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(socket(address)?.into())
}

/// Tries to open a listening socket, on an interface if one is given, and closes it again.
pub(crate) fn try_open(address: SocketAddr, interface: Option<&str>) -> io::Result<()> {
    let socket = new_socket(address)?;
    socket.bind_device(interface.map(str::as_bytes))?;
    listen(&socket, address)
}

/// The same, not registered with the runtime: a thread in another network namespace has none.
pub(super) fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = new_socket(address)?;
    listen(&socket, address)?;
    Ok(socket)
}

/// Opens a listening socket that accepts only what arrives on an interface; with the filter,
/// nothing from the host's own processes.
pub(super) fn open_on(
    address: SocketAddr,
    interface: &str,
) -> io::Result<(TcpListener, ArrivalFilter)> {
    let socket = new_socket(address)?;
    // The interface is set before the address: two sockets can have the same address only on
    // different interfaces, and after the address it would need CAP_NET_RAW.
    socket.bind_device(Some(interface.as_bytes()))?;
    let filter = arrival_filter::attach(&socket, interface)?;
    listen(&socket, address)?;
    Ok((TcpListener::from_std(socket.into())?, filter))
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(
        domain,
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit all options.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNDELIVERABLE))?;
    Ok(socket)
}

fn listen(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}

/// Accepts connections and runs `serve` for each, until the drain ends or the task is aborted.
///
/// `owner` identifies the owner of a connection and takes a slot for it; without one the connection
/// is reset, before anything is allocated for it. Guests have `net::fast::accept`.
pub(crate) async fn accept<S, T, F>(
    listener: TcpListener,
    drain: Drain,
    owner: impl Fn(&std::net::TcpStream, SocketAddr) -> Option<(S, T)>,
    serve: impl Fn(TcpStream, T, S, Drain) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = match TcpAccepting::new(listener) {
        Ok(listener) => listener,
        Err(reason) => return warn!(%reason, "listening socket closed"),
    };
    let drain_of_connections = drain.clone();
    let admit = |(stream, peer)| {
        let serving = admitted(stream, peer, &owner).map(|(stream, slot, context)| {
            serve(stream, context, slot, drain_of_connections.clone())
        });
        std::future::ready(serving)
    };
    accept::accept(listener, drain, admit).await;
}

/// Returns a connection with its slot and its owner. One without a slot is reset.
fn admitted<S, T>(
    stream: std::net::TcpStream,
    peer: SocketAddr,
    owner: impl Fn(&std::net::TcpStream, SocketAddr) -> Option<(S, T)>,
) -> Option<(TcpStream, S, T)> {
    let Some((slot, context)) = owner(&stream, peer) else {
        reset(&stream);
        return None;
    };
    // Fails only without memory for the registration.
    let stream = TcpStream::from_std(stream).ok()?;
    Some((stream, slot, context))
}

/// Ends a connection as a closed port does: the peer learns at once that no service is here.
pub(super) fn reset(stream: &std::net::TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use parking_lot::Mutex;

    use super::super::accept::RUN;
    use super::super::drain::DrainControl;
    use super::super::slots::ConnectionSlots;
    use super::*;

    #[test]
    fn a_storm_of_connections_on_one_listener_does_not_delay_another() {
        const STORM: usize = 300;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listeners = [(); 2].map(|()| open("127.0.0.1:0".parse().unwrap()).unwrap());
            let addresses = listeners
                .each_ref()
                .map(|listener| listener.local_addr().unwrap());
            let connect = |address| std::net::TcpStream::connect(address).unwrap();
            // All of them are in the kernel's queues before the first is accepted.
            let _storm: Vec<_> = (0..STORM).map(|_| connect(addresses[0])).collect();
            let _calm = connect(addresses[1]);

            let accepted: Arc<Mutex<Vec<usize>>> = Arc::default();
            let control = DrainControl::new();
            for (number, listener) in listeners.into_iter().enumerate() {
                let accepted = Arc::clone(&accepted);
                let limit = Arc::new(AtomicUsize::new(STORM));
                let slots = ConnectionSlots::new(limit, None, Instant::now());
                let owner = move |_: &std::net::TcpStream, _| {
                    accepted.lock().push(number);
                    Some((slots.take(Instant::now()).ok()?, ()))
                };
                tokio::spawn(accept(
                    listener,
                    control.drain(),
                    owner,
                    |_, (), _, _| async {},
                ));
            }
            while accepted.lock().len() <= STORM {
                tokio::task::yield_now().await;
            }
            let place = accepted
                .lock()
                .iter()
                .position(|number| *number == 1)
                .unwrap();
            assert!(
                place <= 4 * RUN,
                "{place} connections of the storm were accepted first"
            );
        });
    }
}
