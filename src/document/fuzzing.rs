//! Fuzz targets of operators' JSON: instance documents, scenarios, and configurations of the mock.
//!
//! What is read, written and read again is the same, and an empty line before the text moves the
//! lines of faults and nothing else.

#![expect(clippy::panic, reason = "a property that does not hold ends the run")]

use std::net::Ipv4Addr;
use std::path::Path;

use jiff::Timestamp;

use super::aemm::{self, MockCommand};
use super::export::{LEFT_OUT, Secrets, document_of};
use super::scenario::Scenario;
use super::{WholeInstance, attachments_in, decode, from_text, from_value, sorted_text, to_value};
use crate::fault::Fault;
use crate::instance::Instance;

const FILE: &str = "input.json";

fn now() -> Timestamp {
    "2026-06-01T10:00:00Z".parse().expect("a time")
}

/// An instance document, in any of its shapes.
pub fn instance_document(data: &[u8]) {
    let Ok(text) = decode(data.to_vec()) else {
        return;
    };
    let read = read(&text);
    let lower = self::read(&format!("\n{text}"));
    match (&read, &lower) {
        (Ok(instances), Ok(lower)) => assert_eq!(instances, lower),
        (Err(faults), Err(lower)) => assert_eq!(moved(faults, 1), moved(lower, 0)),
        other => panic!("an empty line before the text: {other:?}"),
    }
    let attachments = attachments_in(&text);
    let instances = match read {
        Ok(instances) => instances,
        Err(faults) => return check_faults(&faults, &text),
    };
    for instance in &instances {
        check_round_trip(instance);
        let own = instance.imds.attachments.iter();
        for attachment in own {
            assert!(
                attachments.contains(attachment),
                "a damaged text keeps its attachments"
            );
        }
    }
    let mut ids: Vec<_> = instances
        .iter()
        .map(|instance| &instance.instance_id)
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), instances.len(), "no id twice");
}

fn read(text: &str) -> Result<Vec<Instance>, Vec<Fault>> {
    super::read(Path::new(FILE), text)
}

/// Checks every format that instances are written in.
fn check_round_trip(instance: &Instance) {
    let value = to_value(instance);
    assert_eq!(from_value(value).ok().as_ref(), Some(instance));
    let text = serde_json::to_string(&WholeInstance(instance)).expect("it is plain data");
    assert_eq!(from_text(&text).as_ref().ok(), Some(instance));
    let sorted = sorted_text(instance);
    let again = from_text(&sorted).expect("it can be read");
    assert_eq!((&again, sorted_text(&again)), (instance, sorted));

    let shown = document_of(instance, Secrets::Shown).to_string();
    assert_eq!(read(&shown).as_deref(), Ok(std::slice::from_ref(instance)));
    let left_out = document_of(instance, Secrets::LeftOut).to_string();
    if left_out.contains(LEFT_OUT) {
        assert!(from_text(&left_out).is_ok());
    }
}

/// A scenario.
pub fn scenario(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parse = |text: &str| Scenario::parse(Path::new(FILE), text, now());
    let read = parse(text);
    match (&read, &parse(&format!("\n{text}"))) {
        (Ok(scenario), Ok(lower)) => assert_eq!(scenario, lower),
        (Err(faults), Err(lower)) => assert_eq!(moved(faults, 1), moved(lower, 0)),
        other => panic!("an empty line before the text: {other:?}"),
    }
    let scenario = match read {
        Ok(scenario) => scenario,
        Err(faults) => return check_faults(&faults, text),
    };
    let written = serde_json::to_string(&scenario).expect("it is plain data");
    assert_eq!(parse(&written).as_ref(), Ok(&scenario));
    let steps = scenario.steps(now(), || 1).expect("every step was checked");
    assert!(steps.is_sorted_by_key(|(_, step)| step.at));
    assert!(steps.iter().all(|(_, step)| step.at >= now()));
}

/// A configuration of the mock; the first byte chooses its command.
pub fn mock_configuration(data: &[u8]) {
    let Some((command, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let command = match command % 4 {
        0 => MockCommand::All,
        1 => MockCommand::Spot,
        2 => MockCommand::Events,
        _ => MockCommand::AsgLifecycle,
    };
    match aemm::parse(Path::new(FILE), text, command, now()) {
        Ok(mock) => {
            check_round_trip(&mock.instance);
            assert!(mock.address.is_loopback() || mock.address == Ipv4Addr::UNSPECIFIED);
            check_lines(&mock.warnings, text);
        }
        Err(faults) => check_faults(&faults, text),
    }
}

fn check_faults(faults: &[Fault], text: &str) {
    assert!(!faults.is_empty(), "a refusal without a reason");
    check_lines(faults, text);
}

fn check_lines(faults: &[Fault], text: &str) {
    let lines = text.matches('\n').count() + 1;
    for fault in faults {
        assert_eq!(fault.file, Path::new(FILE));
        assert!(fault.line <= lines, "{fault}");
        assert!(!fault.message.is_empty());
    }
}

/// Returns what is left of faults when their lines are moved by `by`: messages name lines too, so
/// they lose their digits. A fault of the whole file has no line.
fn moved(faults: &[Fault], by: usize) -> Vec<(usize, &str, String)> {
    let moved = faults.iter().map(|fault| {
        let line = match fault.line {
            0 => 0,
            line => line + by,
        };
        let message = fault.message.chars().filter(|c| !c.is_ascii_digit());
        (line, fault.field.as_str(), message.collect())
    });
    moved.collect()
}
