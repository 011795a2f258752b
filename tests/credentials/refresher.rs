//! The refresher with programs as sources: what a guest reads, and what is logged.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use imdsd::credentials::{
    Cache, CredentialStatus, RefreshTarget, RefreshTargets, Refresher, Sources, SystemClock,
    WebIdentityRequest,
};
use imdsd::instance::{CredentialSource, RoleDelivery};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::support::PATIENCE;
use super::{instance, launcher, process_source, role};

fn target(source: CredentialSource) -> RefreshTarget {
    let (account, deliveries) = (
        "123456789012".to_string(),
        vec![RoleDelivery::V1, RoleDelivery::V2],
    );
    RefreshTarget {
        instance: instance(),
        launch_epoch: 7,
        account,
        role: role(source),
        deliveries,
    }
}

fn sources() -> Arc<Sources> {
    Arc::new(Sources {
        mint: Arc::new(|_: &WebIdentityRequest| unreachable!("no source needs a web identity")),
        launcher: launcher(),
    })
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition does not hold");
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

/// A program that works, fails and works again: the guest's reads, the counters, and one log line
/// for each change.
#[tokio::test]
async fn a_failing_program_is_logged_once_and_counted_and_its_output_is_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let switch = directory.path().join("fails");
    let script = format!(
        "[ -e {} ] && {{ echo hunter2; echo out of order >&2; exit 1; }}\n\
         end=$(date -u -d '+4 seconds' +%Y-%m-%dT%H:%M:%SZ)\n\
         printf '{{\"Version\":1,\"AccessKeyId\":\"V%s\",\"SecretAccessKey\":\"hunter2\",\"SessionToken\":\"hunter3\",\
         \"Expiration\":\"%s\"}}' $IMDSD_ROLE_DELIVERY $end",
        switch.display()
    );
    let target = target(process_source(&["/bin/sh", "-c", &script], 30));
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // The tasks run on this thread, so they use this subscriber.
    let guard = tracing::subscriber::set_default(subscriber);
    let targets = RefreshTargets::from_iter([target.clone()]);
    let cache = Cache::new();
    let refresher = Refresher::start(cache.clone(), sources(), Arc::new(SystemClock), targets);
    let read = |delivery| {
        let status = cache.read(&instance(), 7, &target.role, delivery, Timestamp::now())?;
        Some(match status {
            CredentialStatus::Success { credentials, .. } => credentials.access_key_id.clone(),
            CredentialStatus::Failure { code, message, .. } => format!("{code} {message}"),
        })
    };
    let reads = |delivery, text: &str| read(delivery).is_some_and(|read| read.starts_with(text));
    until(|| reads(RoleDelivery::V1, "V1.0") && reads(RoleDelivery::V2, "V2.0")).await;
    std::fs::write(&switch, "").unwrap();
    until(|| reads(RoleDelivery::V1, "InternalError") && reads(RoleDelivery::V2, "InternalError"))
        .await;
    let counters = refresher.counters();
    until(|| counters.failed.load(Ordering::Relaxed) >= 4).await;
    // The log line comes with the next attempt.
    let lines = |what: &str| String::from_utf8_lossy(&log.0.lock()).matches(what).count();
    until(|| lines("no valid role credentials") == 2).await;
    let message = read(RoleDelivery::V2).unwrap();
    let host = ["hunter", "/bin", "out of order", "exit"]
        .iter()
        .find(|word| message.contains(**word));
    assert_eq!(host, None, "{message}");
    std::fs::remove_file(&switch).unwrap();
    until(|| reads(RoleDelivery::V1, "V1.0") && reads(RoleDelivery::V2, "V2.0")).await;
    assert!(counters.fetched.load(Ordering::Relaxed) >= 4);
    refresher.stop().await;
    drop(guard);

    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(!log.contains("hunter"), "{log}");
    for delivery in ["1.0", "2.0"] {
        let of_delivery = |line: &&str| line.contains(&format!("delivery=\"{delivery}\""));
        let lines: Vec<_> = log
            .lines()
            .filter(of_delivery)
            .filter(|line| !line.contains("DEBUG"))
            .collect();
        let empty = lines
            .iter()
            .filter(|line| line.contains("no valid role credentials"))
            .count();
        let renewed = lines
            .iter()
            .filter(|line| line.contains("renewed after failures"))
            .count();
        assert!(empty == 1 && renewed == 1 && lines.len() <= 3, "{log}");
        assert!(
            lines
                .iter()
                .any(|line| line.contains("standard error: \"out of order\"")),
            "{log}"
        );
    }
}
