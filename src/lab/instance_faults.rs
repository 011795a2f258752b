//! The faults of one instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::effect::FaultEffect;
use crate::instance::events::injected_fault::{
    FaultChange, FaultsToClear, InjectedFault, MAX_FAULTS,
};
use crate::net::rate::{RateBudget, RateLimit};

/// The faults of an instance, in the order in which they begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstanceFaults(Vec<CountedFault>);

/// A fault, and what it did so far.
#[derive(Clone, Debug)]
pub(crate) struct CountedFault {
    pub(crate) fault: InjectedFault,
    state: Arc<FaultState>,
}

#[derive(Debug, Default)]
struct FaultState {
    affected: AtomicU64,
    /// What is left of the rate that it permits; `None` until its first request.
    budget: Mutex<Option<RateBudget>>,
}

impl CountedFault {
    /// Returns how many requests it affected.
    pub(crate) fn affected(&self) -> u64 {
        self.state.affected.load(Ordering::Relaxed)
    }

    /// Returns whether a request is within the rate that the fault permits.
    fn permits(&self, now: Instant) -> bool {
        let rate = self.fault.request.throttle.map_or(0, |rate| rate.get());
        let Some(limit) = RateLimit::new(rate, rate) else {
            return false;
        };
        let mut budget = self.state.budget.lock();
        let budget = budget.get_or_insert_with(|| RateBudget::new(limit, now));
        budget.try_spend(now)
    }
}

impl InstanceFaults {
    /// Returns the faults in the order in which they begin.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CountedFault> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what happens to a request for a path without its version, and counts it. `random`
    /// returns numbers from 0 to 1, and is called only where chance decides.
    pub(crate) fn effect(
        &self,
        path: Option<&str>,
        now: (Timestamp, Instant),
        mut random: impl FnMut() -> f64,
    ) -> FaultEffect {
        let mut effect = FaultEffect::default();
        for counted in &self.0 {
            let request = &counted.fault.request;
            if !counted.fault.is_in_force(now.0)
                || !request.path.matches(path)
                || counted.permits(now.1)
                || !is_drawn(request.probability.unwrap_or(1.0), &mut random)
            {
                continue;
            }
            counted.state.affected.fetch_add(1, Ordering::Relaxed);
            let fixed = request.delay.map(|delay| delay.length());
            let jitter = request.jitter.map(|jitter| jitter.length());
            let more = jitter.map(|jitter| jitter.mul_f64(random().clamp(0.0, 1.0)));
            let delay = fixed.unwrap_or_default() + more.unwrap_or_default();
            effect.add(delay, request.answer_beyond_rate());
        }
        effect
    }

    /// Returns the texts of the faults that affect a path at a moment. Counts nothing.
    pub(crate) fn matching(&self, path: Option<&str>, now: Timestamp) -> Vec<String> {
        let matching = self.0.iter().filter(|counted| {
            counted.fault.is_in_force(now) && counted.fault.request.path.matches(path)
        });
        matching
            .map(|counted| counted.fault.request.to_string())
            .collect()
    }

    /// Returns a message if there are too many.
    pub(super) fn size_fault(&self) -> Option<String> {
        let message =
            || format!("an instance has at most {MAX_FAULTS} injected faults; clear some");
        (self.0.len() > MAX_FAULTS).then(message)
    }

    /// Makes a change. Returns how many faults it ended, removed or replaced.
    pub(super) fn change(&mut self, change: &FaultChange) -> usize {
        match change {
            FaultChange::Inject(fault) => {
                let path = Some(fault.request.path.clone());
                let replaced = self.end(fault.from, &FaultsToClear { path });
                self.0.push(CountedFault {
                    fault: fault.clone(),
                    state: Arc::default(),
                });
                self.0.sort_by_key(|counted| counted.fault.from);
                replaced
            }
            FaultChange::Clear { at, faults } => self.end(*at, faults),
        }
    }

    /// Ends faults at a moment, and removes those that would begin then or later. Returns how many.
    fn end(&mut self, at: Timestamp, ended: &FaultsToClear) -> usize {
        let mut count = 0;
        self.0.retain_mut(|counted| {
            let fault = &mut counted.fault;
            let is_meant = ended
                .path
                .as_ref()
                .is_none_or(|path| *path == fault.request.path);
            if !is_meant || fault.is_over(at) {
                return true;
            }
            count += 1;
            fault.until = Some(at);
            fault.from < at
        });
        count
    }

    /// Removes the faults that are over, and returns their texts.
    pub(super) fn remove_past(&mut self, now: Timestamp) -> Vec<String> {
        let (past, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|counted| counted.fault.is_over(now));
        self.0 = left;
        let past: Vec<CountedFault> = past;
        let text = |counted: &CountedFault| {
            let (text, count) = (&counted.fault.request, counted.affected());
            format!("{text} ({count} requests)")
        };
        past.iter().map(text).collect()
    }
}

/// Returns whether chance selects a request. 0 and 1 are certain.
fn is_drawn(probability: f64, mut random: impl FnMut() -> f64) -> bool {
    probability >= 1.0 || (probability > 0.0 && random() < probability)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::events::injected_fault::FaultAnswer;
    use crate::instance::events::request::EventRequest;
    use jiff::SignedDuration;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn at(second: i64) -> Timestamp {
        let start: Timestamp = "2026-06-01T10:00:00Z".parse().unwrap();
        start + SignedDuration::from_secs(second)
    }

    /// A change from an event that is injected at a second.
    fn change(second: i64, event: Value) -> FaultChange {
        let request: EventRequest = serde_json::from_value(json!({ "Event": event })).unwrap();
        request.fault_change(at(second)).unwrap().unwrap()
    }

    fn faults(events: &[Value]) -> InstanceFaults {
        let mut faults = InstanceFaults::default();
        for event in events {
            faults.change(&change(0, json!({ "Fault": event })));
        }
        faults
    }

    /// Chance that gives out these numbers and then fails.
    fn drawn(numbers: &[f64]) -> impl FnMut() -> f64 {
        let mut numbers = numbers.iter().copied();
        move || numbers.next().expect("chance decides nothing here")
    }

    fn effect(faults: &InstanceFaults, path: &str, second: i64, random: &[f64]) -> FaultEffect {
        let now = (at(second), Instant::now());
        faults.effect(Some(path), now, drawn(random))
    }

    #[test]
    fn delays_add_up_to_a_minute_and_the_first_answer_counts() {
        let faults = faults(&[
            json!({ "Path": "*", "Delay": "1s", "Jitter": "2s" }),
            json!({ "Path": "meta-data/*", "Delay": "30s", "Answer": { "Status": 500 } }),
            json!({ "Path": "meta-data/x", "Delay": "59s", "Answer": "Drop" }),
        ]);
        let millis = |effect: FaultEffect| (effect.delay.as_millis(), effect.answer);
        let error = Some(FaultAnswer::Status(500));
        assert_eq!(
            millis(effect(&faults, "user-data", 0, &[0.25])),
            (1_500, None)
        );
        assert_eq!(
            millis(effect(&faults, "meta-data/y", 0, &[1.0])),
            (33_000, error)
        );
        assert_eq!(
            millis(effect(&faults, "meta-data/x", 0, &[0.0])),
            (60_000, error)
        );
        let counts: Vec<u64> = faults.iter().map(CountedFault::affected).collect();
        assert_eq!(counts, [3, 2, 1]);
    }

    #[test]
    fn a_probability_of_0_or_1_is_certain_and_others_follow_chance() {
        let one = |probability: f64| {
            faults(&[json!({ "Path": "*", "Answer": "Drop", "Probability": probability })])
        };
        let drops = |effect: FaultEffect| effect.answer == Some(FaultAnswer::Drop);
        assert!(!drops(effect(&one(0.0), "x", 0, &[])));
        assert!(drops(effect(&one(1.0), "x", 0, &[])));
        for (chance, expected) in [(0.0, true), (0.249, true), (0.25, false), (1.0, false)] {
            assert_eq!(
                drops(effect(&one(0.25), "x", 0, &[chance])),
                expected,
                "{chance}"
            );
        }
    }

    /// A linear congruential generator with Knuth's constants: the same numbers in each run.
    #[test]
    fn a_share_of_many_requests_is_affected() {
        let faults = faults(&[json!({ "Path": "*", "Answer": "Drop", "Probability": 0.3 })]);
        let mut state: u64 = 1;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let now = (at(0), Instant::now());
        let dropped = (0..10_000)
            .filter(|_| faults.effect(None, now, &mut random) != FaultEffect::default())
            .count();
        assert!((2_900..=3_100).contains(&dropped), "{dropped}");
        assert_eq!(faults.iter().next().unwrap().affected(), dropped as u64);
    }

    #[test]
    fn a_rate_permits_so_many_requests_a_second() {
        let faults = faults(&[json!({ "Path": "user-data", "Throttle": 4 })]);
        let start = Instant::now();
        let refused = |path: &str, milliseconds: u64| {
            let now = (at(0), start + Duration::from_millis(milliseconds));
            let effect = faults.effect(Some(path), now, drawn(&[]));
            effect.answer == Some(FaultAnswer::Status(503))
        };
        let first: Vec<bool> = (0..6).map(|_| refused("user-data", 0)).collect();
        assert_eq!(first, [false, false, false, false, true, true]);
        assert!(!refused("meta-data/x", 0));
        assert!(refused("user-data", 249));
        assert!(!refused("user-data", 250));
        assert!(refused("user-data", 250));
    }

    #[test]
    fn a_fault_replaces_the_one_with_its_path_and_a_clear_ends_them() {
        let fault = |delay: &str| json!({ "Fault": { "Path": "*", "Delay": delay } });
        let mut faults = InstanceFaults::default();
        assert_eq!(faults.change(&change(0, fault("1s"))), 0);
        assert_eq!(faults.change(&change(10, fault("2s"))), 1);
        assert_eq!(faults.change(&change(30, fault("3s"))), 1);
        let delay =
            |faults: &InstanceFaults, second| effect(faults, "x", second, &[]).delay.as_secs();
        let seen = [0, 9, 10, 29, 30, 1000].map(|second| delay(&faults, second));
        assert_eq!(seen, [1, 1, 2, 2, 3, 3]);
        // What would begin later does not begin; what has ended is not counted.
        let mut cleared = faults.clone();
        assert_eq!(cleared.change(&change(20, json!({ "ClearFaults": {} }))), 2);
        let seen = [9, 19, 20, 1000].map(|second| delay(&cleared, second));
        assert_eq!(seen, [1, 2, 0, 0]);
        let other = json!({ "ClearFaults": { "Path": "meta-data/*" } });
        assert_eq!(faults.clone().change(&change(0, other)), 0);
        let path = json!({ "ClearFaults": { "Path": "*" } });
        assert_eq!(faults.change(&change(0, path)), 3);
        assert!(faults.is_empty());
    }

    #[test]
    fn past_faults_are_removed_with_what_they_did() {
        let mut faults = faults(&[
            json!({ "Path": "a", "Delay": "1s", "For": "10s" }),
            json!({ "Path": "b", "Delay": "1s" }),
        ]);
        effect(&faults, "a", 9, &[]);
        effect(&faults, "a", 10, &[]);
        assert_eq!(faults.remove_past(at(9)), [""; 0]);
        assert_eq!(
            faults.remove_past(at(10)),
            ["a: delayed by 1s (1 requests)"]
        );
        assert_eq!(faults.iter().count(), 1);
    }

    #[test]
    fn an_instance_has_so_many_faults() {
        let mut faults = InstanceFaults::default();
        let fault = |number: usize| json!({ "Fault": { "Path": format!("user-data{number}*"), "Delay": "1s" } });
        for number in 0..MAX_FAULTS {
            faults.change(&change(0, fault(number)));
        }
        // Replacing one adds none.
        assert_eq!(faults.change(&change(0, fault(7))), 1);
        assert_eq!(faults.size_fault(), None);
        faults.change(&change(0, fault(MAX_FAULTS)));
        assert!(faults.size_fault().unwrap().contains("at most 64"));
    }

    #[test]
    fn matching_faults_are_named_without_being_counted() {
        let faults = faults(&[json!({ "Path": "meta-data/*", "Answer": "Cut" })]);
        let matching = |path| faults.matching(path, at(0));
        assert_eq!(matching(Some("meta-data/x")).len(), 1);
        assert!(matching(Some("user-data")).is_empty());
        assert!(matching(None).is_empty());
        assert_eq!(faults.iter().next().unwrap().affected(), 0);
    }
}
