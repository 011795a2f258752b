//! The preparation of a call, which blocks: reading files and signing with RSA.

use std::time::Duration;

use tokio::time::timeout;

use crate::credentials::fetch::FetchError;

/// The time limit for the preparation.
const PREPARATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `work` on a blocking thread, so that guests' requests do not wait for it.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let failed = |_| FetchError::unavailable("the call could not be prepared");
    let late = |_| {
        FetchError::unavailable(format!(
            "a key or CA file was not read within {} s",
            PREPARATION_TIMEOUT.as_secs()
        ))
    };
    timeout(PREPARATION_TIMEOUT, tokio::task::spawn_blocking(work))
        .await
        .map_err(late)?
        .map_err(failed)?
}
