//! The loop that accepts connections, shared by all listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tracing::{debug, warn};

use super::drain::Drain;

/// How long the same warning is not logged again.
const WARN_AGAIN: Duration = Duration::from_secs(60);
/// How many connections are accepted before other tasks get a turn. The queue of a socket that
/// several guests share is first come, first served, so it must be short: one guest's storm of
/// connections is accepted in long runs, because a connection beyond a guest's limits costs little.
/// But the answers to all others wait behind each run.
pub(super) const RUN: usize = 32;
/// How long to wait when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that accepts connections.
pub(super) trait ListeningSocket<Connection> {
    /// Accepts one connection.
    fn accept_one(&self) -> impl Future<Output = io::Result<Connection>> + Send;
}

/// A TCP socket whose connections are not registered with the runtime before they are admitted: most
/// of a storm is reset at once.
pub(super) struct TcpAccepting(AsyncFd<TcpListener>);

impl TcpAccepting {
    #[expect(
        deprecated,
        reason = "a listener keeps its descriptor as long as it lives, which is what the successor's \
                  caller has to promise in an unsafe block"
    )]
    pub(super) fn new(listener: tokio::net::TcpListener) -> io::Result<TcpAccepting> {
        let listener = AsyncFd::with_interest(listener.into_std()?, Interest::READABLE)?;
        Ok(TcpAccepting(listener))
    }
}

/// How a run of accepted connections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// There are no more for now.
    NoneLeft,
    /// There may be more.
    Full,
}

impl TcpAccepting {
    /// Waits for connections and accepts up to [`RUN`] of them, also when it ends with an error.
    /// Accepting all of them first gives their requests time to arrive.
    pub(super) async fn accept_run(
        &self,
        accepted: &mut Vec<(TcpStream, SocketAddr)>,
    ) -> io::Result<RunEnd> {
        let mut ready = self.0.readable().await?;
        for _ in 0..RUN {
            match accept_tcp(self.0.get_ref()) {
                Ok(connection) => accepted.push(connection),
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    return Ok(RunEnd::NoneLeft);
                }
                Err(reason) => return Err(reason),
            }
        }
        Ok(RunEnd::Full)
    }
}

impl ListeningSocket<(TcpStream, SocketAddr)> for TcpAccepting {
    async fn accept_one(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.async_io(Interest::READABLE, accept_tcp).await
    }
}

fn accept_tcp(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer): (OwnedFd, _) = acceptfrom_with(listener.as_fd(), flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket.into(), peer))
}

impl ListeningSocket<UnixStream> for UnixListener {
    async fn accept_one(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.accept().await?;
        Ok(stream)
    }
}

/// Accepts connections until the drain ends or the task is aborted.
///
/// `admit` returns the task that serves a connection; `None` ends the connection. The next
/// connection is accepted only after that. Nothing that a peer does ends this loop.
pub(super) async fn accept<L, C, A, F>(listener: L, mut drain: Drain, admit: impl Fn(C) -> A)
where
    L: ListeningSocket<C>,
    A: Future<Output = Option<F>>,
    F: Future<Output = ()> + Send + 'static,
{
    let (mut errors, mut accepted_in_run) = (AcceptErrors::default(), 0);
    loop {
        if accepted_in_run == RUN {
            accepted_in_run = 0;
            tokio::task::yield_now().await;
        }
        accepted_in_run += 1;
        let accepted = tokio::select! {
            accepted = listener.accept_one() => accepted,
            () = drain.ending() => return,
        };
        match accepted {
            Ok(connection) => {
                let admitted = tokio::select! {
                    biased;
                    admitted = admit(connection) => admitted,
                    () = drain.ending() => return,
                };
                let Some(serving) = admitted else { continue };
                let open = drain.open();
                tokio::spawn(async move {
                    serving.await;
                    drop(open);
                });
            }
            Err(reason) => {
                if errors.react(&reason).await.is_break() {
                    return;
                }
            }
        }
    }
}

/// What a loop does about an error of accept(2).
#[derive(Default)]
pub(super) struct AcceptErrors {
    last_warning: Option<Instant>,
}

impl AcceptErrors {
    /// Logs an error, and waits if the process is out of descriptors. Breaks when the listening
    /// socket is gone.
    pub(super) async fn react(&mut self, reason: &io::Error) -> ControlFlow<()> {
        if is_out_of_descriptors(reason) {
            // A guest can cause this at will, so it is not logged every time.
            if self
                .last_warning
                .is_none_or(|last| last.elapsed() > WARN_AGAIN)
            {
                warn!(
                    %reason,
                    "cannot accept connections for now; raise LimitNOFILE or lower guest.connections"
                );
                self.last_warning = Some(Instant::now());
            }
            tokio::time::sleep(PAUSE).await;
        } else if is_of_the_peer(reason) {
            // The peer, or its network, was gone before it was accepted.
            debug!(%reason, "accept failed");
        } else {
            // The socket itself is gone: a guest can close those in a network namespace that it
            // controls.
            warn!(%reason, "listening socket closed");
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// Returns whether accept(2) reports an error of the new connection, not of the listening socket.
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
