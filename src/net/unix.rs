//! A Unix socket for local callers: opened, guarded, served.
//!
//! The socket file of a daemon that is gone is replaced, that of a running one never is: a lock
//! file beside it tells them apart, and the kernel releases the lock with the process. The kernel
//! reports which user calls (SO_PEERCRED): root, the daemon's own user and the users that the
//! configuration names are answered, all others are refused.
//!
//! Callers are local and trusted but still bounded: in number, in size, in the time that a head and
//! a body take, and in the time of a whole connection. So a client that does not read its answer
//! cannot block the others for long. Beyond their number, the user with the most callers gives one
//! up, which is answered 503: no user keeps another out. Without an answer ends only a connection
//! that has sent nothing in the time of a head, or that waits for its turn when the daemon ends. A
//! caller takes its turn only once it has sent the whole head of a request, or 8 KiB of one: until
//! then what it has sent is looked at and not read.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::accept;
use super::drain::{Drain, DrainControl};
use super::early_refusal::{EarlyRefusals, RefusedConnection};
use super::http1::{ConnectionEnd, HttpServer, Interruption, read_in_time};
use super::hyper::{close_after, refusal};
use super::limits::ENDING;
use super::owner_slots::{EvictionOrder, OwnerSlot, OwnerSlots};
use super::slot_state::CallerProgress;
use super::turns::Turns;
use super::user_shares::{UserConnection, UserShares};
use crate::http::UnreadableRequest;

/// How many callers are served at once.
pub(crate) const MAX_SERVED: usize = 16;
/// The same for one user.
const MAX_SERVED_OF_USER: usize = MAX_SERVED * 3 / 4;
/// How many callers may be connected at once, including those that wait for their turn. None waits in
/// the kernel's queue, where all users stand in one line.
pub(crate) const MAX_CALLERS: usize = 256;
/// How many refused users' connections stay open for a moment after their answer.
pub(crate) const MAX_REFUSED: usize = 4;
/// The same for callers that found no place.
pub(crate) const MAX_TURNED_AWAY: usize = 32;
/// When a caller that found no place should try again.
pub(crate) const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How many bytes are looked at for the end of a head. With more the caller takes its turn, and the
/// HTTP parser decides.
const MAX_PEEKED: usize = 8 << 10;
/// How many refused users are remembered, so that each is logged once.
const MAX_LOGGED_USERS: usize = 64;
/// The most bytes of a body: a directory of a thousand large documents.
pub(crate) const MAX_BODY_BYTES: usize = 16 << 20;
/// How long a connection may last, its answers included. An export of thousands of instances takes
/// far less. Together with the ending it is shorter than the time that a command waits for its
/// turn, so clients that read nothing make no waiting command give up.
pub(crate) const CALLER_TIMES: ConnectionTimes = ConnectionTimes {
    head: Duration::from_secs(10),
    body: Duration::from_secs(30),
    connection: Duration::from_secs(60),
    ending: ENDING,
};

/// What answers the callers of a Unix socket.
pub(crate) trait UnixService: Send + Sync {
    /// Answers one request of a user that may call.
    fn answer(
        self: Arc<Self>,
        caller: UnixCaller,
        head: Parts,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

    /// Refuses a request of a user that may not call.
    fn refuse(&self, uid: Option<u32>) -> Response<Full<Bytes>>;

    /// Turns away a request of a user that has the most of the `places`, all of which are taken.
    fn turn_away(&self, uid: Option<u32>, places: usize) -> Response<Full<Bytes>>;

    /// Refuses a request whose body has more than `max_bytes`.
    fn refuse_body(&self, max_bytes: usize) -> Response<Full<Bytes>>;

    /// Refuses a request that cannot be read.
    fn refuse_unreadable(&self, reason: UnreadableRequest) -> Response<Full<Bytes>>;
}

/// Who waits for an answer.
#[derive(Clone, Debug)]
pub(crate) struct UnixCaller {
    /// The user's id, from the kernel.
    pub(crate) uid: Option<u32>,
    /// The connection. `None` for a caller that never goes away.
    connection: Option<Arc<OwnedFd>>,
}

/// How often a connection is looked at, while its caller waits for a long operation.
const LOOKED_AT: Duration = Duration::from_millis(100);

impl UnixCaller {
    pub(crate) fn new(uid: Option<u32>, connection: Option<OwnedFd>) -> UnixCaller {
        UnixCaller {
            uid,
            connection: connection.map(Arc::new),
        }
    }

    /// Returns when the caller has closed the connection: a command that was interrupted.
    pub(crate) async fn gone(&self) {
        let Some(connection) = &self.connection else {
            return std::future::pending().await;
        };
        while !is_disconnected(connection) {
            tokio::time::sleep(LOOKED_AT).await;
        }
    }
}

/// The socket, open and not yet served.
pub(crate) struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

/// The file of the socket. It is removed when this is dropped.
struct SocketFile {
    path: PathBuf,
    /// Which file it was: another one may be there by now.
    inode: u64,
    /// Held as long as the daemon runs.
    _lock: File,
}

/// How long a caller may be served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionTimes {
    /// How long a request's head may take, counted from the connection's start or from the last
    /// answer.
    pub(crate) head: Duration,
    /// How long a body may take.
    pub(crate) body: Duration,
    /// Then the connection ends with the answer that is under way.
    pub(crate) connection: Duration,
    /// Then that answer is cut off too.
    pub(crate) ending: Duration,
}

/// The socket, served.
pub(crate) struct UnixServer {
    drain: DrainControl,
    accepting: JoinHandle<()>,
}

/// What the connections of one socket share.
struct Callers {
    service: Arc<dyn UnixService>,
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
    times: ConnectionTimes,
    callers: Arc<OwnerSlots<Option<u32>>>,
    turned_away: EarlyRefusals,
    refused: EarlyRefusals,
    served: Semaphore,
    shares: Arc<UserShares>,
    logged_users: Mutex<BTreeSet<Option<u32>>>,
}

/// A caller that has a place.
struct PlacedCaller {
    stream: UnixStream,
    uid: Option<u32>,
    slot: OwnerSlot<Option<u32>>,
    user: UserConnection,
}

/// The right to be served: one of the user's turns, and one of all.
type CallerTurn<'c> = (Option<OwnedSemaphorePermit>, Option<SemaphorePermit<'c>>);

/// Whether a user may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Granted,
    Refused,
}

/// What a client has done with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    Silent,
    /// It has sent the beginning of a head.
    Sending,
    /// There is something to answer, or to end.
    HasSent,
    Disconnected,
}

/// Why a caller gets no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoTurn {
    /// It has sent nothing, or has gone.
    NoRequest,
    /// The head of its request was not complete in time.
    TimedOut,
}

impl UnixSocket {
    /// Opens the socket for root, for this process's user, for `users`, and for processes whose
    /// primary group is one of `groups`.
    pub(crate) fn open(path: &Path, users: &[u32], groups: &[u32]) -> io::Result<UnixSocket> {
        // 1. The lock. It is never removed: two processes that wait for it must wait for the same
        //    file.
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|reason| {
            match reason {
                rustix::io::Errno::WOULDBLOCK => {
                    io::Error::new(io::ErrorKind::AddrInUse, "another imdsd serves it")
                }
                other => other.into(),
            }
        })?;

        // 2. A socket that is there now belongs to a process that ended.
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::other("the path exists and is not a socket"));
            }
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {}
            Err(reason) => return Err(reason),
        }

        // 3. The socket. No client can connect before it listens, and by then it has its mode. If
        //    other users may call, the file mode lets every user connect, and the user that the
        //    kernel reports decides.
        let socket = socket2::Socket::new(
            socket2::Domain::UNIX,
            socket2::Type::STREAM.nonblocking().cloexec(),
            None,
        )?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        let is_private = users.is_empty() && groups.is_empty();
        let mode = if is_private { 0o600 } else { 0o666 };
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        let inode = std::fs::symlink_metadata(path)?.ino();
        let file = SocketFile {
            path: path.to_path_buf(),
            inode,
            _lock: lock,
        };
        socket.listen(128)?;
        let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(
            std::os::fd::OwnedFd::from(socket),
        ))?;
        let own = [0, rustix::process::geteuid().as_raw()];
        Ok(UnixSocket {
            listener,
            file,
            users: own.into_iter().chain(users.iter().copied()).collect(),
            groups: groups.iter().copied().collect(),
        })
    }

    /// Answers callers from now on.
    pub(crate) fn serve(self, service: Arc<dyn UnixService>) -> UnixServer {
        self.serve_for(service, CALLER_TIMES)
    }

    pub(crate) fn serve_for(
        self,
        service: Arc<dyn UnixService>,
        times: ConnectionTimes,
    ) -> UnixServer {
        let drain = DrainControl::new();
        let callers = Arc::new(Callers {
            service,
            users: self.users,
            groups: self.groups,
            times,
            callers: OwnerSlots::new(MAX_CALLERS, EvictionOrder::NewestRequestFirst),
            turned_away: EarlyRefusals::new(MAX_TURNED_AWAY),
            refused: EarlyRefusals::new(MAX_REFUSED),
            served: Semaphore::new(MAX_SERVED),
            shares: UserShares::new(MAX_SERVED_OF_USER),
            logged_users: Mutex::default(),
        });
        let (listener, file, accept_drain) = (self.listener, self.file, drain.drain());
        let accepting = tokio::spawn(async move {
            let serve_drain = accept_drain.clone();
            let admit = |stream| Arc::clone(&callers).admit(stream, serve_drain.clone());
            accept::accept(listener, accept_drain, admit).await;
            // The next daemon can have the name now, while the last answers are still under way.
            drop(file);
        });
        UnixServer { drain, accepting }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path);
        if now.is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl UnixServer {
    /// Removes the socket. Answers that are under way may finish.
    pub(crate) async fn end(self) {
        self.drain.end();
        let ended = async {
            let _ = self.accepting.await;
            self.drain.ended().await;
        };
        let _ = tokio::time::timeout(ENDING, ended).await;
    }
}

impl Callers {
    /// Returns the task that serves a caller. Refused users have their own few places, so they never
    /// delay a command.
    async fn admit(
        self: Arc<Callers>,
        stream: UnixStream,
        drain: Drain,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        // The callers before it are looked at first: what they have sent counts when places are given
        // away.
        tokio::task::yield_now().await;
        // A caller that the kernel does not identify is refused.
        let peer = stream.peer_cred().ok();
        let uid = peer.as_ref().map(UCred::uid);
        let admitted = match self.access(uid, peer.as_ref().map(UCred::gid)) {
            Access::Granted => self.place(stream, uid),
            Access::Refused => Err(self
                .refused
                .refuse(stream, &refusal(self.service.refuse(uid)))),
        };
        Some(async move {
            match admitted {
                Ok(caller) => self.serve_in_turn(caller, drain).await,
                Err(refused) => refused.discard_rest(drain).await,
            }
        })
    }

    /// Gives a caller a place, for which the user with the most callers may have to give one up.
    fn place(
        &self,
        stream: UnixStream,
        uid: Option<u32>,
    ) -> Result<PlacedCaller, RefusedConnection> {
        match self.callers.take(uid) {
            Some(slot) => Ok(PlacedCaller {
                stream,
                uid,
                slot,
                user: self.shares.connect(uid),
            }),
            None => Err(self.turn_away(stream, uid)),
        }
    }

    fn turn_away(&self, stream: UnixStream, uid: Option<u32>) -> RefusedConnection {
        debug!(?uid, "admin: all places are taken; turned a caller away");
        let answer = refusal(self.service.turn_away(uid, MAX_CALLERS));
        self.turned_away.refuse(stream, &answer)
    }

    fn access(&self, uid: Option<u32>, gid: Option<u32>) -> Access {
        if uid.is_some_and(|uid| self.users.contains(&uid))
            || gid.is_some_and(|gid| self.groups.contains(&gid))
        {
            return Access::Granted;
        }
        // Any user can connect as often as they like, so each one is logged for the operator once.
        let mut logged = self.logged_users.lock();
        match logged.len() < MAX_LOGGED_USERS && logged.insert(uid) {
            true => warn!(
                ?uid,
                "admin: refused a user that is not in admin.users or admin.groups"
            ),
            false => debug!(?uid, "admin: refused"),
        }
        Access::Refused
    }

    async fn serve_in_turn(self: Arc<Callers>, caller: PlacedCaller, drain: Drain) {
        let PlacedCaller {
            stream,
            uid,
            slot,
            user,
        } = caller;
        let mut waiting_drain = drain.clone();
        let turn = tokio::select! {
            biased;
            turn = self.turn(&stream, &slot, &user) => match turn {
                Ok(turn) => Some(turn),
                Err(NoTurn::NoRequest) => return,
                Err(NoTurn::TimedOut) => {
                    drop((slot, user));
                    let answer = self.service.refuse_unreadable(UnreadableRequest::TimedOut);
                    let refused = self.turned_away.refuse(stream, &refusal(answer));
                    return refused.discard_rest(drain).await;
                }
            },
            () = slot.evicted() => None,
            // A caller that waits when the daemon ends is not answered, and nothing was done for it.
            () = waiting_drain.ending() => return,
        };
        // The place may have been given away in the moment in which the turn came.
        let (Some(turn), Some(busy)) = (turn, slot.begin()) else {
            drop((slot, user));
            return self.turn_away(stream, uid).discard_rest(drain).await;
        };
        // A command that has given up has reported that its request was not done. So it must not be
        // done now.
        match is_disconnected(&stream) {
            false => self.serve(stream, uid, drain).await,
            true => debug!(?uid, "admin: client disconnected while queued"),
        }
        drop((turn, busy));
    }

    /// Waits until a caller has sent a head and its turn has come.
    async fn turn(
        &self,
        stream: &UnixStream,
        slot: &OwnerSlot<Option<u32>>,
        user: &UserConnection,
    ) -> Result<CallerTurn<'_>, NoTurn> {
        let look = || match client_state(stream) {
            ClientState::Silent => Err(io::ErrorKind::WouldBlock.into()),
            ClientState::Sending => {
                slot.note(CallerProgress::Started);
                Err(io::ErrorKind::WouldBlock.into())
            }
            state @ (ClientState::HasSent | ClientState::Disconnected) => Ok(state),
        };
        let state = match look() {
            Ok(state) => state,
            Err(_) => {
                let sent = stream.async_io(Interest::READABLE, look);
                match tokio::time::timeout(self.times.head, sent).await {
                    Ok(state) => state.map_err(|_| NoTurn::NoRequest)?,
                    // The last bytes may have come at the same time.
                    Err(_) => match client_state(stream) {
                        ClientState::Sending => return Err(NoTurn::TimedOut),
                        ClientState::HasSent => ClientState::HasSent,
                        _ => return Err(NoTurn::NoRequest),
                    },
                }
            }
        };
        if state == ClientState::Disconnected {
            return Err(NoTurn::NoRequest);
        }
        slot.note(CallerProgress::Request);
        // First that of its user: a user's callers wait for each other, and not for other users.
        Ok((user.turn().await, self.served.acquire().await.ok()))
    }

    /// Serves one caller's connection to its end.
    async fn serve(&self, stream: UnixStream, uid: Option<u32>, mut drain: Drain) {
        let body_drain = drain.clone();
        let caller = UnixCaller::new(uid, stream.as_fd().try_clone_to_owned().ok());
        let handler = |request| self.answer(caller.clone(), request, body_drain.clone());
        let refuse = |reason| Some(refusal(self.service.refuse_unreadable(reason)));
        let server = HttpServer::new(self.times.head, self.times.connection, self.times.ending);
        let turns = Turns::default();
        match server
            .serve(
                TokioIo::new(stream),
                &turns,
                handler,
                refuse,
                drain.ending(),
            )
            .await
        {
            ConnectionEnd::Closed => {}
            ConnectionEnd::Failed(reason) => debug!(%reason, "admin: connection ended"),
            ConnectionEnd::CutOff => debug!("admin: the client did not read its answer"),
        }
    }

    async fn answer(
        &self,
        caller: UnixCaller,
        request: Request<Incoming>,
        mut drain: Drain,
    ) -> io::Result<Response<Full<Bytes>>> {
        let service = &self.service;
        let (head, body) = request.into_parts();
        let collected = Limited::new(body, MAX_BODY_BYTES).collect();
        match read_in_time(self.times.body, &mut drain, collected).await {
            Ok(Ok(body)) => Ok(Arc::clone(service)
                .answer(caller, head, body.to_bytes())
                .await),
            Ok(Err(reason)) if reason.is::<LengthLimitError>() => {
                Ok(service.refuse_body(MAX_BODY_BYTES))
            }
            Ok(Err(_)) => Err(io::Error::other("the request body is broken")),
            Err(Interruption::TimedOut) => {
                let mut response = service.refuse_unreadable(UnreadableRequest::TimedOut);
                close_after(&mut response);
                Ok(response)
            }
            Err(Interruption::Shutdown) => Err(io::Error::other("the daemon ends")),
        }
    }
}

/// Returns whether the client has closed the connection, and not only its sending side. What it
/// sent stays unread.
fn is_disconnected(stream: &impl AsFd) -> bool {
    events(stream).is_some_and(|events| events.contains(PollFlags::HUP))
}

/// Returns what the client has done with its connection. What it sent stays unread. To end only its
/// sending side counts as having sent: nothing more will come.
fn client_state(stream: &impl AsFd) -> ClientState {
    let Some(events) = events(stream) else {
        return ClientState::HasSent;
    };
    if events.contains(PollFlags::HUP) {
        return ClientState::Disconnected;
    }
    if !events.contains(PollFlags::IN) {
        return ClientState::Silent;
    }
    let mut sent = [0; MAX_PEEKED];
    match rustix::net::recv(stream, &mut sent[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((count, _))
            if count < MAX_PEEKED
                && !events.contains(PollFlags::RDHUP)
                && is_beginning_of_head(&sent[..count]) =>
        {
            ClientState::Sending
        }
        Ok(_) | Err(_) => ClientState::HasSent,
    }
}

fn events(stream: &impl AsFd) -> Option<PollFlags> {
    let mut polled = [PollFd::new(stream, PollFlags::IN | PollFlags::RDHUP)];
    rustix::event::poll(&mut polled, Some(&Timespec::default())).ok()?;
    Some(polled[0].revents())
}

/// Returns whether these bytes may become the head of a request, and do not have its end yet. The HTTP
/// parser refuses the others at once, or skips them, as it does with empty lines before a head.
fn is_beginning_of_head(sent: &[u8]) -> bool {
    let is_empty_line = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = sent.iter().position(|byte| !is_empty_line(byte));
    let head = &sent[start.unwrap_or(sent.len())..];
    let has_control = head
        .iter()
        .any(|byte| byte.is_ascii_control() && !is_empty_line(byte) && *byte != b'\t');
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    let request_line = lines.next().unwrap_or_default();
    let is_request = match request_line.strip_suffix(b"\n") {
        None => true,
        Some(line) => {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")
        }
    };
    let is_complete = lines.any(|line| matches!(line, b"\n" | b"\r\n"));
    is_request && !has_control && !is_complete
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    }

    #[test]
    fn the_socket_of_a_dead_daemon_is_replaced_but_not_that_of_a_running_one() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("admin.sock");
            let first = UnixSocket::open(&path, &[], &[]).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            let refused = UnixSocket::open(&path, &[], &[]).err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            assert!(path.exists(), "a refused start removes nothing");
            drop(first);
            assert!(!path.exists(), "it is removed at a normal exit");
            // As after a kill: the file is there, and no process holds the lock.
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert!(path.exists());
            let _second = UnixSocket::open(&path, &[1000], &[]).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        });
    }

    #[test]
    fn a_closed_connection_differs_from_one_whose_client_has_sent_everything_and_waits() {
        use std::io::{Read as _, Write as _};
        run(async {
            for (shut, closes, has_closed) in [
                (false, false, false),
                (true, false, false),
                (false, true, true),
            ] {
                let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                ours.set_nonblocking(true).unwrap();
                theirs.write_all(b"GET").unwrap();
                if shut {
                    theirs.shutdown(std::net::Shutdown::Write).unwrap();
                }
                let theirs = (!closes).then_some(theirs);
                let ours = UnixStream::from_std(ours).unwrap();
                assert_eq!(
                    is_disconnected(&ours),
                    has_closed,
                    "shut {shut}, closes {closes}"
                );
                let mut sent = [0; 8];
                assert_eq!(
                    ours.into_std().unwrap().read(&mut sent).unwrap(),
                    3,
                    "no byte is lost"
                );
                drop(theirs);
            }
        });
    }

    #[test]
    fn a_head_is_waited_for_while_it_can_become_one() {
        let begun = "GET /v1/health HTTP/1.1\r\nHost: x\r\n";
        for sent in [
            "",
            "\r\n",
            "\r\n\r\n\r\n",
            "G",
            "GET ",
            "GET /v1/health ",
            "GET /v1/health HT",
            "\r\n\r\nGET / HTTP/1.1",
            begun,
            "GET / HTTP/1.1\r",
            "GET / HTTP/1.0\nHost: x\n",
            "hello",
            &format!("{begun}Tab:\tx\r\n\r"),
        ] {
            assert!(is_beginning_of_head(sent.as_bytes()), "{sent:?}");
        }
        for sent in [
            &format!("{begun}\r\n"),
            &format!("\r\n{begun}\r\n"),
            &format!("{begun}Content-Length: 2\r\n\r\n["),
            "GET / HTTP/1.0\nHost: x\n\n",
            "hello\r\n",
            "SSH-2.0-x\r\n",
            "GET / HTTP/2.0\r\n",
            "GET / HTTP/1.1 \r\n",
            "GET /\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert!(!is_beginning_of_head(sent.as_bytes()), "{sent:?}");
        }
    }

    #[test]
    fn a_path_that_is_not_a_socket_is_not_replaced() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            for (name, make) in [("file", false), ("directory", true)] {
                let path = directory.path().join(name);
                match make {
                    true => std::fs::create_dir(&path).unwrap(),
                    false => std::fs::write(&path, "precious").unwrap(),
                }
                let refused = UnixSocket::open(&path, &[], &[]).err().unwrap().to_string();
                assert_eq!(refused, "the path exists and is not a socket");
                assert!(path.exists());
            }
            assert!(
                UnixSocket::open(&directory.path().join("nowhere/admin.sock"), &[], &[]).is_err()
            );
            assert!(
                UnixSocket::open(&directory.path().join("a".repeat(120)), &[], &[]).is_err(),
                "108 bytes are the limit (unix(7))"
            );
        });
    }
}
