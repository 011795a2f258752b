//! Listening sockets, and the loop that accepts from one.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::seats::Seat;
use super::{Drain, UNDELIVERABLE};

/// How many handshakes may wait to be accepted. A smaller queue loses connections of a burst.
const BACKLOG: i32 = 4096;
/// How long an operator is not told again of the same trouble.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// How long to wait when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens a listening socket. IPv6 sockets take IPv6 only, so no IPv4 client ever appears on one.
pub fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit these two.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNDELIVERABLE))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections and runs `serve` for each, until the drain ends or the task is aborted.
///
/// At the limit, the connection that has waited longest without a complete request makes room: a client that holds
/// connections open can't lock out the others on its own machine. Nothing a peer does ends this loop.
pub async fn accept<F>(listener: TcpListener, mut drain: Drain, serve: impl Fn(TcpStream, SocketAddr, Seat, Drain) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.ending() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let seats = drain.clone();
                let (seat, permit) = tokio::select! {
                    seated = seats.seat() => seated,
                    () = drain.ending() => return,
                };
                let serving = serve(stream, peer, seat.clone(), drain.clone());
                tokio::spawn(async move {
                    serving.await;
                    seat.leave();
                    drop(permit);
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
            // The peer was gone before it was accepted.
            Err(reason) => debug!(%reason, "accept"),
        }
    }
}

fn is_out_of_descriptors(reason: &io::Error) -> bool {
    let code = reason.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    use rustix::io::Errno;
    matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
