//! One call of an action, and its access to the registry.

use std::sync::Arc;

use super::action::Action;
use super::caller::Caller;
use super::error::{Code, Ec2Error};
use super::render::ec2_response;
use super::request_id::RequestId;
use super::xml::{ResponseBody, Xml};
use crate::clock::Moment;
use crate::registry::{Entry, PartialEffect, Registry, Snapshot, Transaction, UpdateError};
use crate::sigv4::Regions;

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
    /// Changes instances as `plan` prepares it: all of them or none, unless the store fails midway.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        plan: impl FnOnce(&mut Transaction) -> Result<T, Ec2Error> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), Ec2Error> {
        self.change_or_warn("Some of the instances may have been changed.", plan)
            .await
    }

    /// Like [`change`](Self::change), for any change. The error contains `warning` if the store
    /// failed midway.
    pub(super) async fn change_or_warn<T: Send + 'static>(
        &self,
        warning: &str,
        plan: impl FnOnce(&mut Transaction) -> Result<T, Ec2Error> + Send + 'static,
    ) -> Result<(Vec<Arc<Entry>>, T), Ec2Error> {
        let request_id = self.request_id;
        let trail = Arc::clone(&self.caller.trail);
        trail
            .change(self.registry, self.now.wall, plan)
            .await
            .map_err(|error| match error {
                UpdateError::Unknown(id) => Ec2Error::instance_not_found(id.as_str()),
                UpdateError::Refused(error) => error,
                UpdateError::Store(error, changed) => {
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
            })
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
