//! The admin socket under callers that misbehave.

use std::io::Write as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::Full;
use hyper::Response;
use hyper::http::request::Parts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::fake::{ID, TestApi};
use crate::admin::client;
use crate::http::UnreadableRequest;
use crate::net::unix::{self, ConnectionTimes, UnixCaller, UnixService, UnixSocket};

/// A command that waits for its turn outlasts the clients before it that read nothing.
#[test]
fn a_command_waits_longer_than_a_connection_can_last() {
    let times = unix::CALLER_TIMES;
    assert!(times.connection + times.ending < client::PATIENCE);
}

/// As many callers as are served at once. They ask for more than their sockets hold and read none of
/// it.
#[test]
fn callers_that_do_not_read_their_answers_do_not_block_others_for_good() {
    let api = TestApi::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    api.runtime.block_on(async {
        let times = ConnectionTimes {
            connection: Duration::from_millis(100),
            ending: Duration::from_millis(100),
            ..unix::CALLER_TIMES
        };
        let serving = UnixSocket::open(&path, &[], &[])
            .unwrap()
            .serve_for(api.api.clone(), times);
        let mut callers = Vec::new();
        for _ in 0..16 {
            let mut caller = UnixStream::connect(&path).await.unwrap();
            caller
                .write_all(
                    "GET /v1/export HTTP/1.1\r\nHost: x\r\n\r\n"
                        .repeat(400)
                        .as_bytes(),
                )
                .await
                .unwrap();
            callers.push(caller);
        }
        let mut caller = UnixStream::connect(&path).await.unwrap();
        caller
            .write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let read =
            tokio::time::timeout(Duration::from_secs(60), caller.read_to_string(&mut answer)).await;
        assert!(
            read.is_ok() && answer.starts_with("HTTP/1.1 200 OK"),
            "{answer}"
        );
        drop(callers);
        serving.end().await;
    });
}

/// A service that answers as its function does, and refuses with empty answers.
struct TestService<F>(F);

impl<F, A> UnixService for TestService<F>
where
    F: Fn(UnixCaller) -> A + Send + Sync + 'static,
    A: Future<Output = &'static str> + Send + 'static,
{
    fn answer(
        self: Arc<Self>,
        caller: UnixCaller,
        _: Parts,
        _: Bytes,
    ) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>> {
        let answer = (self.0)(caller);
        Box::pin(async move { Response::new(Full::from(answer.await)) })
    }

    fn refuse(&self, _: Option<u32>) -> Response<Full<Bytes>> {
        Response::default()
    }

    fn turn_away(&self, _: Option<u32>, _: usize) -> Response<Full<Bytes>> {
        Response::default()
    }

    fn refuse_body(&self, _: usize) -> Response<Full<Bytes>> {
        Response::default()
    }

    fn refuse_unreadable(&self, _: UnreadableRequest) -> Response<Full<Bytes>> {
        Response::default()
    }
}

/// `imdsd event … --all`, and then Ctrl-C. A caller that has only finished sending still waits.
#[test]
fn an_interrupted_command_is_noticed_and_one_that_has_sent_everything_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (sender, mut noticed) = tokio::sync::mpsc::unbounded_channel();
        let serving = UnixSocket::open(&path, &[], &[])
            .unwrap()
            .serve(Arc::new(TestService(move |caller: UnixCaller| {
                let sender = sender.clone();
                async move {
                    let waits = caller.gone().now_or_never().is_none();
                    let _ = sender.send(if waits { "waits" } else { "is gone" });
                    caller.gone().await;
                    let _ = sender.send("is gone");
                    ""
                }
            })));
        let mut caller = StdUnixStream::connect(&path).unwrap();
        let request = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        caller.write_all(request).unwrap();
        caller.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(noticed.recv().await, Some("waits"));
        drop(caller);
        let noticed = tokio::time::timeout(Duration::from_secs(10), noticed.recv()).await;
        assert_eq!(noticed, Ok(Some("is gone")));
        serving.end().await;
    });
}

/// The time limit is for callers that do not read, not for the daemon's own work.
#[test]
fn a_long_operation_is_answered_however_long_it_takes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let times = ConnectionTimes {
            connection: Duration::from_millis(1),
            ending: Duration::from_millis(1),
            ..unix::CALLER_TIMES
        };
        let serving = UnixSocket::open(&path, &[], &[]).unwrap().serve_for(
            Arc::new(TestService(|_| async {
                tokio::time::sleep(Duration::from_millis(60)).await;
                "done"
            })),
            times,
        );
        let mut caller = UnixStream::connect(&path).await.unwrap();
        caller
            .write_all(b"POST /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        serving.end().await;
    });
}

/// A command that timed out has reported that nothing was done.
#[test]
fn a_request_whose_client_disconnected_while_queued_is_dropped() {
    let api = TestApi::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let send = |request: &str| {
        let mut caller = StdUnixStream::connect(&path).unwrap();
        caller
            .write_all(
                format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .unwrap();
        caller.set_nonblocking(true).unwrap();
        caller
    };
    api.runtime.block_on(async {
        let times = ConnectionTimes {
            body: Duration::from_millis(100),
            connection: Duration::from_millis(100),
            ending: Duration::from_millis(100),
            ..unix::CALLER_TIMES
        };
        let serving = UnixSocket::open(&path, &[], &[])
            .unwrap()
            .serve_for(api.api.clone(), times);
        // As many as are served at once; they send no body.
        let head = b"POST /v1/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n";
        let silent = [(); 16].map(|()| {
            let mut caller = StdUnixStream::connect(&path).unwrap();
            caller.write_all(head).unwrap();
            caller
        });
        drop(send(&format!("DELETE /v1/instances/{ID}")));
        // Changes are made one after the other, so this answer comes after the dropped request's turn.
        let mut next = UnixStream::from_std(send("DELETE /v1/instances/i-11111111")).unwrap();
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        drop(silent);
        serving.end().await;
    });
    assert_eq!(api.demo().generation, 1, "the instance still exists");
}

/// RFC 9110, section 15.5.9. What the parser refuses has the same headers as every other response.
#[test]
fn what_is_not_a_complete_request_is_answered_with_date_server_and_a_reason() {
    let api = TestApi::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    api.runtime.block_on(async {
        let times = ConnectionTimes {
            head: Duration::from_millis(50),
            body: Duration::from_millis(50),
            ..unix::CALLER_TIMES
        };
        let serving = UnixSocket::open(&path, &[], &[])
            .unwrap()
            .serve_for(api.api.clone(), times);
        let timeout = "was not completely received in time";
        for (request, status, reason) in [
            ("GET /v1/health HT", "408 Request Timeout", timeout),
            (
                "POST /v1/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
                "408 Request Timeout",
                timeout,
            ),
            (
                "POST /v1/instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                "408 Request Timeout",
                timeout,
            ),
            ("hello\r\n\r\n", "400 Bad Request", "is not valid HTTP/1.1"),
            ("", "", ""),
        ] {
            let mut caller = UnixStream::connect(&path).await.unwrap();
            caller.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            caller.read_to_string(&mut answer).await.unwrap();
            if request.is_empty() {
                assert_eq!(answer, "", "nothing was asked");
                continue;
            }
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{answer}"
            );
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            for header in ["date: ", "server: imdsd", "content-length: "] {
                assert!(head.contains(&format!("\r\n{header}")), "{answer}");
            }
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(body["Message"].as_str().unwrap().contains(reason), "{body}");
        }
        serving.end().await;
    });
}
