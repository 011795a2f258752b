//! How an instance's timeline is read and changed.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::instance::events::model::Events;
use crate::instance::events::overrides::Overrides;
use crate::instance::events::timeline::Step;
use crate::instance::model::Instance;

impl Instance {
    /// Returns the events in effect at a moment: `Imds.Events` with all steps up to then.
    pub fn events_at(&self, now: Timestamp) -> Cow<'_, Events> {
        let mut events = Cow::Borrowed(&self.imds.events);
        for step in self.imds.timeline.until(now) {
            step.set.apply_to_events(&mut events);
        }
        events
    }

    /// Returns the overrides in effect at a moment: `Imds.Overrides` with all steps up to then.
    pub fn overrides_at(&self, now: Timestamp) -> Cow<'_, Overrides> {
        let mut overrides = Cow::Borrowed(&self.imds.overrides);
        for step in self.imds.timeline.until(now) {
            step.set.apply_to_overrides(&mut overrides);
        }
        overrides
    }

    /// Returns the time of the latest step that is in effect at a moment.
    pub fn last_step_before(&self, now: Timestamp) -> Option<Timestamp> {
        self.imds.timeline.until(now).map(|step| step.at).max()
    }

    /// Folds all steps up to `now` into `Imds.Events` and `Imds.Overrides`. Reads at `now` or later
    /// give the same result as before.
    pub fn fold_timeline(&mut self, now: Timestamp) {
        if self.imds.timeline.until(now).next().is_some() {
            self.imds.events = self.events_at(now).into_owned();
            self.imds.overrides = self.overrides_at(now).into_owned();
            self.imds.timeline.remove_until(now);
        }
    }

    /// Adds steps to the timeline. Past steps, old and new, take effect at once.
    ///
    /// A new `Clear` step also cancels the later steps of its kinds that were already scheduled;
    /// the cancelled steps are returned. It does not cancel steps that are added with it. If the
    /// resulting timeline has faults, nothing changes and the messages are returned.
    pub fn schedule(
        &mut self,
        steps: impl IntoIterator<Item = Step>,
        now: Timestamp,
    ) -> Result<Vec<Step>, Vec<String>> {
        let steps: Vec<Step> = steps.into_iter().collect();
        let mut changed = self.clone();
        changed.fold_timeline(now);
        let cancelled = changed.imds.timeline.cancel_cleared(&steps);
        changed.imds.timeline.insert(steps);
        // New steps that take effect at once are checked with the others, but do not count towards
        // the maximum: they are folded before it is checked.
        let imds = &changed.imds;
        let mut faults = imds.timeline.step_faults(&imds.events, &imds.overrides);
        changed.fold_timeline(now);
        faults.extend(changed.imds.timeline.size_fault());
        if !faults.is_empty() {
            return Err(faults.into_iter().map(|fault| fault.message).collect());
        }
        *self = changed;
        Ok(cancelled)
    }
}
