//! Listening sockets, and the loop that accepts from one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::{Drain, UNDELIVERABLE};
use crate::net::slots::{ConnectionSlot, ConnectionSlots};

/// How many handshakes may wait to be accepted. A smaller queue loses connections of a burst.
const BACKLOG: i32 = 4096;
/// How long an operator is not told again of the same trouble.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// How many connections are accepted before everybody else has a turn. Without it one guest's storm of connections is
/// accepted in long runs, and the answers to all others wait behind each.
const TURN: usize = 8;
/// How long to wait when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens a listening socket, for what comes in by one interface alone if one is given. IPv6 sockets take IPv6 only, so no
/// IPv4 client ever appears on one.
pub fn open(address: SocketAddr, interface: Option<&str>) -> io::Result<TcpListener> {
    TcpListener::from_std(socket(address, interface)?.into())
}

/// The same, not yet on the runtime: a thread in another network namespace has none.
pub(super) fn socket(address: SocketAddr, interface: Option<&str>) -> io::Result<Socket> {
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
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit all of these. The interface comes before the address: two sockets may have one address only
    // on two interfaces, and a socket that has an address already would need CAP_NET_RAW.
    socket.bind_device(interface.map(str::as_bytes))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNDELIVERABLE))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Accepts connections and runs `serve` for each, until the drain ends or the task is aborted.
///
/// `whose` says whose a connection is, and so whose place it takes; one that is nobody's is reset. At a guest's limit, that
/// one of its connections that has waited longest without a complete request makes room: a client that holds connections
/// open can't lock out the others on its own machine, nor anybody on another. Nothing a peer does ends this loop.
pub async fn accept<T, F>(
    listener: TcpListener,
    mut drain: Drain,
    whose: impl Fn(&TcpStream, SocketAddr) -> Option<(Arc<ConnectionSlots>, T)>,
    serve: impl Fn(TcpStream, T, ConnectionSlot, Drain) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (mut told, mut taken): (Option<Instant>, usize) = (None, 0);
    loop {
        if taken == TURN {
            taken = 0;
            tokio::task::yield_now().await;
        }
        taken += 1;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.ending() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let seated =
                    whose(&stream, peer).and_then(|(slots, origin)| Some((slots.take()?, origin)));
                let Some((slot, origin)) = seated else {
                    reset(stream);
                    continue;
                };
                let open = drain.open();
                let serving = serve(stream, origin, slot, drain.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop(open);
                });
            }
            Err(reason) if is_out_of_descriptors(&reason) => {
                // Not oftener than a guest may make an operator look.
                if told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
                    warn!(%reason, "can't accept connections for now; raise LimitNOFILE or lower the connection limit");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(PAUSE).await;
            }
            // The peer was gone before it was accepted, or its network is.
            Err(reason) if is_of_the_peer(&reason) => debug!(%reason, "accept"),
            // The socket itself is gone: a guest may end those in a network namespace that it rules.
            Err(reason) => {
                warn!(%reason, "a listening socket has ended");
                return;
            }
        }
    }
}

/// Ends a connection as a refusal would have: the peer learns at once that nobody is here.
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// The errors that accept(2) hands on from one connection.
fn is_of_the_peer(reason: &io::Error) -> bool {
    let code = reason
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    use rustix::io::Errno;
    matches!(
        code,
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::INTR
        )
    )
}

fn is_out_of_descriptors(reason: &io::Error) -> bool {
    let code = reason
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    use rustix::io::Errno;
    matches!(
        code,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use parking_lot::Mutex;

    use super::super::DrainControl;
    use super::*;

    #[test]
    fn a_storm_of_connections_at_one_listener_does_not_keep_another_waiting() {
        const STORM: usize = 100;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listeners = [(); 2].map(|()| open("127.0.0.1:0".parse().unwrap(), None).unwrap());
            let addresses = listeners
                .each_ref()
                .map(|listener| listener.local_addr().unwrap());
            let connect = |address| std::net::TcpStream::connect(address).unwrap();
            // All of them wait in the kernel's queues before the first is accepted.
            let _storm: Vec<_> = (0..STORM).map(|_| connect(addresses[0])).collect();
            let _calm = connect(addresses[1]);

            let accepted: Arc<Mutex<Vec<usize>>> = Arc::default();
            let control = DrainControl::new();
            for (number, listener) in listeners.into_iter().enumerate() {
                let accepted = Arc::clone(&accepted);
                let slots = ConnectionSlots::new(Arc::new(AtomicUsize::new(STORM)));
                let whose = move |_: &TcpStream, _| {
                    accepted.lock().push(number);
                    Some((Arc::clone(&slots), ()))
                };
                tokio::spawn(accept(
                    listener,
                    control.drain(),
                    whose,
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
                place <= 4 * TURN,
                "{place} connections of the storm were accepted first"
            );
        });
    }
}
