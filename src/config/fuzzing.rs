//! The fuzz target of configurations.

#![expect(clippy::panic, reason = "a property that does not hold ends the run")]

use std::collections::HashSet;
use std::path::Path;

use super::{parse, resolve};
use crate::fault::Fault;

/// A configuration: either all settings are read or there are faults, each in a line of the file. A
/// comment before the text moves the lines and changes nothing else. Listeners have addresses of
/// their own.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let file = Path::new("/etc/imdsd/imdsd.toml");
    let lines = text.matches('\n').count() + 1;
    let read = parse(file, text);
    match &read {
        Ok(config) => {
            let ipv4 = config
                .listeners
                .iter()
                .filter_map(|of| of.ipv4.map(|a| (a.to_string(), &of.interface)));
            let ipv6 = config
                .listeners
                .iter()
                .filter_map(|of| of.ipv6.map(|a| (a.to_string(), &of.interface)));
            let all: Vec<_> = ipv4.chain(ipv6).collect();
            let different: HashSet<_> = all.iter().collect();
            assert_eq!(different.len(), all.len(), "two listeners on one address");
            let names: HashSet<_> = config.listeners.iter().map(|of| &of.name).collect();
            assert_eq!(
                names.len(),
                config.listeners.len(),
                "two listeners with one name"
            );
            if let Some(control) = &config.control {
                assert!(control.tls.is_some() || control.listen.ip().is_loopback());
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for Fault {
                file: of,
                line,
                message,
                ..
            } in faults
            {
                assert_eq!(of, file);
                assert!(*line <= lines && !message.is_empty());
            }
        }
    }
    if let Ok(resolution) = resolve(file, text) {
        assert_eq!(resolution.faults.is_empty(), read.is_ok());
        assert_eq!(
            resolution.listener_lines.len(),
            resolution.config.listeners.len()
        );
    }
    if !text.starts_with('\u{feff}') {
        match (&read, &parse(file, &format!("# a comment\n{text}"))) {
            (Ok(config), Ok(lower)) => assert_eq!(config, lower),
            (Err(faults), Err(lower)) => assert_eq!(moved(faults, 1), moved(lower, 0)),
            other => panic!("a comment before the text: {other:?}"),
        }
    }
}

/// Returns what is left of faults when their lines are moved by `by`, in one order: messages name
/// lines too, so they lose their digits. What is missing in the file is missing in its first line.
fn moved(faults: &[Fault], by: usize) -> Vec<(usize, &str, String)> {
    let moved = faults.iter().map(|fault| {
        let line = match fault.line {
            0 => 0,
            _ if fault.message.contains(" is required") => 1,
            line => line + by,
        };
        let message = fault.message.chars().filter(|c| !c.is_ascii_digit());
        (line, fault.field.as_str(), message.collect())
    });
    let mut moved: Vec<_> = moved.collect();
    moved.sort();
    moved
}
