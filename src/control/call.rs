//! One call of an action, and its access to the registry.

use std::sync::Arc;

use super::action::Action;
use super::caller::Caller;
use super::error::{Code, Ec2Error};
use super::render::ec2_response;
use super::request_id::RequestId;
use super::xml::{ResponseBody, Xml};
use crate::clock::Moment;
use crate::instance::InstanceId;
use crate::registry::{Entry, PartialEffect, Registry, Snapshot, Transaction, UpdateError};
use crate::sigv4::Regions;

const POSSIBLY_CHANGED: &str = "Some of the instances may have been changed.";

/// One call: the caller, the time, and the registry.
pub(super) struct ApiCall<'c> {
    pub(super) registry: &'c Arc<Registry>,
    pub(super) regions: &'c Regions,
    pub(super) caller: Caller,
    pub(super) request_id: &'c RequestId,
    pub(super) now: Moment,
}

/// What a list needs of its call, owned, so that it can be built on a thread of its own.
pub(super) struct ListCall {
    pub(super) caller: Caller,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) request_id: RequestId,
    pub(super) now: Moment,
}

impl ApiCall<'_> {
    /// Changes instances as `plan` prepares it: all of them or none, as far as the
    /// store can undo what it could not finish.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        plan: impl FnOnce(&mut Transaction) -> Result<T, Ec2Error> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), Ec2Error> {
        self.change_or_warn(POSSIBLY_CHANGED, plan).await
    }

    /// Like [`change`](Self::change), for any change. The error contains `warning` if
    /// something of the change may remain after the store failed.
    pub(super) async fn change_or_warn<T: Send + 'static>(
        &self,
        warning: &str,
        plan: impl FnOnce(&mut Transaction) -> Result<T, Ec2Error> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), Ec2Error> {
        let trail = Arc::clone(&self.caller.trail);
        let changed = trail.change(self.registry, self.now.wall, plan).await;
        changed.map_err(|error| self.refusal(warning, error))
    }

    /// Like [`change`](Self::change), for a plan that changes these instances only. It waits for no
    /// change of another instance.
    pub(super) async fn change_beside<T: Send + 'static>(
        &self,
        ids: impl IntoIterator<Item = InstanceId>,
        plan: impl Fn(&mut Transaction) -> Result<T, Ec2Error> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), Ec2Error> {
        let trail = Arc::clone(&self.caller.trail);
        let now = self.now.wall;
        let changed = trail.change_beside(self.registry, ids, now, plan).await;
        changed.map_err(|error| self.refusal(POSSIBLY_CHANGED, error))
    }

    /// Returns the reply to a change that failed; `warning` is for one of which something may remain.
    fn refusal(&self, warning: &str, error: UpdateError<Ec2Error>) -> Ec2Error {
        match error {
            UpdateError::Unknown(id) => Ec2Error::instance_not_found(id.as_str()),
            UpdateError::Refused(error) => error,
            UpdateError::Store(error, changed) => {
                let request_id = self.request_id;
                tracing::error!(%request_id, "control: can't store a change: {error}");
                let effect = match changed {
                    PartialEffect::None => "Nothing was changed.",
                    PartialEffect::Possible => warning,
                };
                Ec2Error::new(
                    Code::InternalError,
                    format!("An internal error has occurred. {effect}"),
                )
            }
        }
    }

    /// Builds a list on a thread of its own: filtering thousands of instances by hundreds of
    /// patterns takes time, and guests must not wait for it.
    pub(super) async fn list(
        &self,
        build: impl FnOnce(ListCall) -> Result<ResponseBody, Ec2Error> + Send + 'static,
    ) -> Result<ResponseBody, Ec2Error> {
        let list_call = ListCall {
            caller: self.caller.clone(),
            snapshot: self.registry.snapshot(),
            request_id: self.request_id.clone(),
            now: self.now,
        };
        tokio::task::spawn_blocking(move || build(list_call))
            .await
            .expect("building a list does not panic")
    }

    /// Returns the body of a successful reply of EC2; `fill` writes what follows the request id.
    pub(super) fn response(&self, action: Action, fill: impl FnOnce(&mut Xml)) -> ResponseBody {
        ec2_response(action, self.request_id, fill)
    }
}
