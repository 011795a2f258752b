//! The refresher over programs: what reaches a guest's read, and what reaches the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use imdsd::credentials::{
    Cache, Reading, Refresher, Sources, SystemClock, Wanted, WebIdentityRequest,
};
use imdsd::instance::{CredentialSource, RoleDelivery};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::support::PATIENCE;
use super::{instance, process_source, role};

fn wanted(source: CredentialSource) -> Wanted {
    let (account, deliveries) = (
        "123456789012".to_string(),
        vec![RoleDelivery::V1, RoleDelivery::V2],
    );
    Wanted {
        instance: instance(),
        launch_epoch: 7,
        account,
        role: role(source),
        deliveries,
    }
}

fn sources() -> Arc<Sources> {
    Arc::new(Sources {
        mint: Arc::new(|_: &WebIdentityRequest| unreachable!("nobody asks for a web identity")),
    })
}

async fn until(happened: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "it did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Works, works no more, works again: the guest's reads, the counters, and one line of the log for each change.
#[tokio::test]
async fn a_failing_program_is_logged_once_counted_and_never_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let switch = directory.path().join("fails");
    let script = format!(
        "[ -e {} ] && {{ echo hunter2; echo out of order >&2; exit 1; }}\n\
         end=$(date -u -d '+4 seconds' +%Y-%m-%dT%H:%M:%SZ)\n\
         printf '{{\"Version\":1,\"AccessKeyId\":\"V%s\",\"SecretAccessKey\":\"hunter2\",\"SessionToken\":\"hunter3\",\
         \"Expiration\":\"%s\"}}' $IMDSD_ROLE_DELIVERY $end",
        switch.display()
    );
    let wanted = wanted(process_source(&["/bin/sh", "-c", &script], 30));
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // The tasks run on this thread, so that this is their subscriber too.
    let guard = tracing::subscriber::set_default(subscriber);
    let (_send, receiver) = watch::channel(vec![wanted.clone()]);
    let cache = Cache::new();
    let refresher = Refresher::start(cache.clone(), sources(), Arc::new(SystemClock), receiver);
    let read = |delivery| {
        let reading = cache.read(&instance(), 7, &wanted.role, delivery, Timestamp::now())?;
        Some(match reading {
            Reading::Success { credentials, .. } => credentials.access_key_id.clone(),
            Reading::Failure { code, message, .. } => format!("{code} {message}"),
        })
    };
    let says = |delivery, what: &str| read(delivery).is_some_and(|told| told.starts_with(what));
    until(|| says(RoleDelivery::V1, "V1.0") && says(RoleDelivery::V2, "V2.0")).await;
    std::fs::write(&switch, "").unwrap();
    until(|| says(RoleDelivery::V1, "InternalError") && says(RoleDelivery::V2, "InternalError"))
        .await;
    let counters = refresher.counters();
    until(|| counters.failed.load(Ordering::Relaxed) >= 4).await;
    // The operator is told with the next try.
    let lines = |what: &str| String::from_utf8_lossy(&log.0.lock()).matches(what).count();
    until(|| lines("no valid role credentials") == 2).await;
    let told = read(RoleDelivery::V2).unwrap();
    let host = ["hunter", "/bin", "out of order", "exit"]
        .iter()
        .find(|word| told.contains(**word));
    assert_eq!(host, None, "{told}");
    std::fs::remove_file(&switch).unwrap();
    until(|| says(RoleDelivery::V1, "V1.0") && says(RoleDelivery::V2, "V2.0")).await;
    assert!(counters.fetched.load(Ordering::Relaxed) >= 4);
    refresher.stop().await;
    drop(guard);

    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(!log.contains("hunter"), "{log}");
    for delivery in ["1.0", "2.0"] {
        let of_delivery = |line: &&str| line.contains(&format!("delivery=\"{delivery}\""));
        let told: Vec<_> = log
            .lines()
            .filter(of_delivery)
            .filter(|line| !line.contains("DEBUG"))
            .collect();
        let empty = told
            .iter()
            .filter(|line| line.contains("no valid role credentials"))
            .count();
        let again = told
            .iter()
            .filter(|line| line.contains("fetched again"))
            .count();
        assert!(empty == 1 && again == 1 && told.len() <= 3, "{log}");
        assert!(
            told.iter()
                .any(|line| line.contains("it said: \"out of order\"")),
            "{log}"
        );
    }
}
