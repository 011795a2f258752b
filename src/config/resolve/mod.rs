//! Reads every table of a configuration: one file a table, with its checks.

mod accounts;
mod addresses;
mod admin;
mod control;
mod exposure;
mod guest;
mod identity;
mod images;
mod interfaces;
mod listeners;
mod log;
mod values;

use std::path::Path;

use toml_edit::Document;

use crate::config::section::{Faults, Section};
use crate::config::settings::{Config, RUNTIME_DIRECTORY, STATE_DIRECTORY};
use crate::fault::{Fault, line_of};
use addresses::UsedAddresses;
use listeners::ListenerTables;
use values::path_in;

/// A configuration with its faults. Settings with a fault have their default.
pub struct Resolution {
    /// The settings.
    pub config: Config,
    /// The line of each `[[listener]]`, in the order of `config.listeners`.
    pub listener_lines: Vec<usize>,
    /// All faults, ordered by line.
    pub faults: Vec<Fault>,
}

/// Reads every setting. Fails only if the text is not TOML.
pub fn resolve(file: &Path, text: &str) -> Result<Resolution, Vec<Fault>> {
    let document = Document::parse(text).map_err(|error| vec![not_toml(file, text, &error)])?;
    let mut faults = Faults {
        file,
        text,
        list: Vec::new(),
    };
    let directory = file.parent().unwrap_or(Path::new(""));
    let mut used = UsedAddresses::default();

    let mut root = Section::root(document.as_table());
    let instances = root.parsed("instances", &mut faults, path_in(directory));
    let state_directory = root
        .parsed("state_directory", &mut faults, path_in(directory))
        .unwrap_or(STATE_DIRECTORY.into());
    let runtime_directory = root
        .parsed("runtime_directory", &mut faults, path_in(directory))
        .unwrap_or(RUNTIME_DIRECTORY.into());
    let guest = guest::read(&mut root, &mut faults);
    let ListenerTables { listeners, lines } = listeners::read(&mut root, &mut used, &mut faults);
    let interfaces = interfaces::read(&mut root, &mut used, &mut faults);
    if !root.has("listener") && !root.has("interfaces") {
        root.missing(
            "listener",
            "a [[listener]] or the table [interfaces] is required; without both, no guest is served",
            &mut faults,
        );
    }
    let images = images::read(&mut root, &mut faults);
    let control = control::read(&mut root, directory, &mut used, &mut faults);
    let admin = admin::read(&mut root, directory, &runtime_directory, &mut faults);
    let identity = identity::read(&mut root, directory, &mut faults);
    let log = log::read(&mut root, &mut faults);
    root.finish(&mut faults);

    let mut faults = faults.list;
    faults.sort_by_key(|fault| fault.line);
    Ok(Resolution {
        config: Config {
            instances,
            state_directory: Some(state_directory),
            runtime_directory: Some(runtime_directory),
            guest,
            listeners,
            interfaces,
            images,
            control,
            admin: Some(admin),
            identity,
            log,
        },
        listener_lines: lines,
        faults,
    })
}

fn not_toml(file: &Path, text: &str, error: &toml_edit::TomlError) -> Fault {
    Fault {
        file: file.to_path_buf(),
        line: error.span().map_or(0, |span| line_of(text, span.start)),
        field: String::new(),
        message: format!("not TOML: {}", error.message()),
    }
}
