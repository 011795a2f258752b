//! The fuzz target of requests to the admin socket.

use std::collections::HashSet;

use jiff::Timestamp;

use super::events::read_plan;
use super::request::{Query, generation, instance_id};

/// A request: the query in the first line, `If-Match` or an instance id in the second, then a body
/// with an event or a scenario. What is read is what was sent; steps are never in the past.
pub fn admin_request(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (query, header, body) = (next(), next(), next());
    let (Ok(query), Ok(header)) = (std::str::from_utf8(query), std::str::from_utf8(header)) else {
        return;
    };

    let names: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .collect();
    let different: HashSet<&&str> = names.iter().collect();
    let read = Query::parse(query);
    assert_eq!(
        read.is_ok(),
        different.len() == names.len(),
        "no name twice"
    );
    if let Ok(mut read) = read {
        let known = ["dry-run", "secrets", "operation"];
        let taken =
            read.flag("dry-run").is_ok() & read.secrets().is_ok() & read.operation().is_ok();
        let is_known = names.iter().all(|name| known.contains(name));
        // A value that is refused is taken all the same.
        assert_eq!(read.finish().is_ok(), is_known);
        assert!(taken || !query.is_empty());
    }

    if let Ok(Some(number)) = generation(Some(header)) {
        let quoted = format!("\"{number}\"");
        assert!(matches!(generation(Some(&quoted)), Ok(Some(again)) if again == number));
    }
    if let Ok(id) = instance_id(header) {
        assert_eq!(id.as_str(), header);
    }

    let now: Timestamp = "2026-06-01T10:00:00Z".parse().expect("a time");
    if let Ok(plan) = read_plan(body, now) {
        assert!(plan.steps.iter().all(|(_, step)| step.at >= now));
        let mut changes = plan.fault_changes.iter();
        assert!(changes.all(|(_, change)| change.at() >= now));
    }
}
