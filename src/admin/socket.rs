//! The operator's socket: opened, guarded, served.
//!
//! A socket file of a daemon that is gone is replaced, one of a daemon that lives never is: a lock beside it tells them apart,
//! and the kernel gives it up with the process. Who calls is what the kernel says (SO_PEERCRED): root, the daemon's own user,
//! and the users that the configuration names. Everybody else is told so and nothing more.
//!
//! Callers are local and trusted, and yet bounded: in number, in size, in the time a head and a body take, and in that
//! of a connection as a whole, so that whoever does not read an answer keeps nobody out for good.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

use super::{AdminApi, AdminRequest, Refusal};

/// Callers that are served at once.
const SERVED: usize = 16;
/// Callers at once, with those that wait for their turn. More wait in the kernel's queue.
const CALLERS: usize = 256;
/// Callers at once who are only told that they may not.
const STRANGERS: usize = 4;
/// How long a request's head may take, counted from the connection's start or from the last answer.
const HEAD: Duration = Duration::from_secs(10);
/// How long a body may take.
const BODY: Duration = Duration::from_secs(30);
/// The most bytes of a body: a directory of a thousand large documents.
pub const MAX_BODY_BYTES: usize = 16 << 20;
/// How long answers under way may take at the end.
const ENDING: Duration = Duration::from_secs(5);
/// How long a connection may last, its answers included: an export of thousands of instances is read in far less. With
/// its end it is shorter than a command's patience, so that callers who read nothing make no command give up that
/// waits.
const LASTING: Lasting = Lasting {
    connection: Duration::from_secs(60),
    ending: ENDING,
};
/// How long to wait when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// The socket, open and not yet served.
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
    users: BTreeSet<u32>,
}

/// The file of the socket. It is removed with this.
struct SocketFile {
    path: PathBuf,
    /// Which file it was: another may stand there by now.
    inode: u64,
    /// Held as long as the daemon lives.
    _lock: File,
}

/// How long a caller may keep a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasting {
    /// Then the connection ends with the answer that is under way.
    pub(super) connection: Duration,
    /// Then that is cut off, too.
    pub(super) ending: Duration,
}

/// The socket, served.
pub struct Serving {
    ending: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl AdminSocket {
    /// Opens the socket for root, for this process's user, and for `users`.
    pub fn open(path: &Path, users: &[u32]) -> io::Result<AdminSocket> {
        // 1. The lock. It is never removed: whoever waits for it must not hold another file than who comes next.
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

        // 2. What stands there now is nobody's.
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::other(
                    "something else than a socket stands there",
                ));
            }
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {}
            Err(reason) => return Err(reason),
        }

        // 3. The socket. Nobody can connect before it listens, and by then it has its mode. Where others than the owner may
        //    call, the file lets everybody connect and the kernel's word on who they are decides.
        let socket = socket2::Socket::new(
            socket2::Domain::UNIX,
            socket2::Type::STREAM.nonblocking().cloexec(),
            None,
        )?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        let mode = if users.is_empty() { 0o600 } else { 0o666 };
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
        Ok(AdminSocket {
            listener,
            file,
            users: own.into_iter().chain(users.iter().copied()).collect(),
        })
    }

    /// Answers callers from here on.
    pub fn serve(self, admin: Arc<AdminApi>) -> Serving {
        self.serve_for(admin, LASTING)
    }

    pub(super) fn serve_for(self, admin: Arc<AdminApi>, lasting: Lasting) -> Serving {
        let (ending, ends) = watch::channel(false);
        Serving {
            ending,
            accepting: tokio::spawn(accept(self, admin, lasting, ends)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Serving {
    /// Removes the socket; answers under way may finish.
    pub async fn end(self) {
        self.ending.send_replace(true);
        let _ = tokio::time::timeout(ENDING, self.accepting).await;
    }
}

async fn accept(
    socket: AdminSocket,
    admin: Arc<AdminApi>,
    lasting: Lasting,
    mut ends: watch::Receiver<bool>,
) {
    let AdminSocket {
        listener,
        file,
        users,
    } = socket;
    let (callers, strangers) = (
        Arc::new(Semaphore::new(CALLERS)),
        Arc::new(Semaphore::new(STRANGERS)),
    );
    let served = Arc::new(Semaphore::new(SERVED));
    let mut told = BTreeSet::new();
    let mut serving = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = serving.join_next() => continue,
            _ = ends.wait_for(|ends| *ends) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(reason) => {
                debug!(%reason, "admin: accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // A caller that the kernel does not name is nobody.
        let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
        let (admin, places) = match uid.is_some_and(|uid| users.contains(&uid)) {
            true => (Ok(Arc::clone(&admin)), &callers),
            false => {
                // Anybody can knock as often as they like; an operator is told of each of them once.
                match told.len() < 64 && told.insert(uid) {
                    true => warn!(?uid, "admin: refused a user who is not among admin.users"),
                    false => debug!(?uid, "admin: refused"),
                }
                (Err(()), &strangers)
            }
        };
        // An operator's command waits for a place, and those after it in the kernel's queue: none is lost. A stranger is.
        let place = match admin {
            Ok(_) => tokio::select! {
                place = Arc::clone(places).acquire_owned() => place.ok(),
                _ = ends.wait_for(|ends| *ends) => break,
            },
            Err(()) => Arc::clone(places).try_acquire_owned().ok(),
        };
        let Some(place) = place else { continue };
        let (ends, served) = (ends.clone(), Arc::clone(&served));
        serving.spawn(async move {
            // Strangers have places of their own, and never take a turn.
            let turn = if admin.is_ok() {
                served.acquire().await.ok()
            } else {
                None
            };
            // Whoever gave up meanwhile has been told so, and must not find it done later.
            match has_hung_up(&stream) {
                false => serve(stream, uid, admin, lasting, ends).await,
                true => debug!(?uid, "admin: gave up before its turn"),
            }
            drop((turn, place));
        });
    }
    // Whoever starts next may have the name at once.
    drop(listener);
    drop(file);
    while serving.join_next().await.is_some() {}
}

/// Whether the other end is closed, and not only done with sending. What it sent is not touched.
fn has_hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    let found = rustix::event::poll(&mut polled, Some(&Timespec::default()));
    found.is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// Serves one caller's connection to its end.
async fn serve(
    stream: UnixStream,
    uid: Option<u32>,
    admin: Result<Arc<AdminApi>, ()>,
    lasting: Lasting,
    mut ends: watch::Receiver<bool>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let admin = admin.clone();
        async move {
            match admin {
                Ok(admin) => answer(&admin, uid, request).await,
                Err(()) => Ok(Refusal::stranger(uid).response()),
            }
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .half_close(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Until it is told to end or has lasted long enough; then as long as a started answer needs.
    let outcome = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = async { drop(ends.wait_for(|ends| *ends).await) } => None,
        () = tokio::time::sleep(lasting.connection) => None,
    };
    let outcome = match outcome {
        Some(outcome) => Ok(outcome),
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(lasting.ending, connection).await
        }
    };
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => debug!(%reason, "admin: connection ended"),
        Err(_) => debug!("admin: an answer was not read"),
    }
}

async fn answer(
    admin: &Arc<AdminApi>,
    uid: Option<u32>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY, Limited::new(body, MAX_BODY_BYTES).collect()).await
    {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(reason)) if reason.is::<LengthLimitError>() => {
            let message = format!(
                "a request has at most {MAX_BODY_BYTES} bytes; send the documents in several"
            );
            return Ok(Refusal::new(413, "RequestEntityTooLarge", message).response());
        }
        // Broken, or too late: nobody waits for an answer.
        Ok(Err(_)) | Err(_) => return Err(io::Error::other("the body did not come")),
    };
    let header = |name| {
        head.headers
            .get(name)
            .and_then(|value: &hyper::header::HeaderValue| value.to_str().ok())
    };
    let call = AdminRequest {
        uid,
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or(""),
        if_match: header(hyper::header::IF_MATCH),
        body,
    };
    Ok(admin.answer(call).await)
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
    fn a_socket_of_a_dead_daemon_is_replaced_and_one_of_a_living_one_is_not() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("admin.sock");
            let first = AdminSocket::open(&path, &[]).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            let refused = AdminSocket::open(&path, &[]).err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            assert!(path.exists(), "what was refused took nothing away");
            drop(first);
            assert!(!path.exists(), "it is removed at a normal end");
            // As a kill leaves it: the file is there, and nobody holds the lock.
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert!(path.exists());
            let _second = AdminSocket::open(&path, &[1000]).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        });
    }

    #[test]
    fn whoever_waits_behind_callers_who_read_nothing_gets_a_turn_before_giving_up() {
        assert!(LASTING.connection + LASTING.ending < crate::admin::client::PATIENCE);
    }

    #[test]
    fn who_has_closed_is_told_from_who_has_sent_all_and_waits() {
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
                    has_hung_up(&ours),
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
    fn what_is_no_socket_is_not_replaced() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            for (name, make) in [("file", false), ("directory", true)] {
                let path = directory.path().join(name);
                match make {
                    true => std::fs::create_dir(&path).unwrap(),
                    false => std::fs::write(&path, "precious").unwrap(),
                }
                let refused = AdminSocket::open(&path, &[]).err().unwrap().to_string();
                assert_eq!(refused, "something else than a socket stands there");
                assert!(path.exists());
            }
            assert!(AdminSocket::open(&directory.path().join("nowhere/admin.sock"), &[]).is_err());
            assert!(
                AdminSocket::open(&directory.path().join("a".repeat(120)), &[]).is_err(),
                "108 bytes are the limit"
            );
        });
    }
}
