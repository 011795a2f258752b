//! The configuration: reads a TOML file into a [`Config`], in which every setting has a value.
//!
//! `settings` declares the settings with their defaults, `resolve` reads them table by table, and
//! `config/imdsd.toml` documents them for the operator. All faults of a file are reported at once,
//! each with its line. Rejected: unknown keys and tables, values outside their range, two listeners
//! on one address, a control endpoint that other hosts can reach. Not supported: settings from the
//! environment, and files that include others.
//!
//! Whether instance documents fit a configuration is checked in `daemon::documents`.

mod demo;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod resolve;
mod section;
mod settings;

use std::path::Path;

use crate::fault::Fault;
use crate::plain_file;

pub use demo::demo_instance;
pub use resolve::{Resolution, resolve};
pub use settings::*;

/// Reads a configuration file. Returns all its faults if it has any.
pub fn read(path: &Path) -> Result<Config, Vec<Fault>> {
    parse(path, &read_text(path)?)
}

/// Parses the text of a configuration. `file` is named in faults, and relative paths are relative
/// to its directory.
pub fn parse(file: &Path, text: &str) -> Result<Config, Vec<Fault>> {
    let Resolution { config, faults, .. } = resolve(file, text)?;
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(faults)
    }
}

/// Reads a configuration file, and returns the settings together with their faults.
pub fn read_with_faults(path: &Path) -> Result<Resolution, Vec<Fault>> {
    resolve(path, &read_text(path)?)
}

fn read_text(path: &Path) -> Result<String, Vec<Fault>> {
    plain_file::read_text(path, plain_file::MAX_BYTES).map_err(|reason| {
        vec![Fault::of_file(
            path,
            format_args!("can't be read: {reason}"),
        )]
    })
}

#[cfg(test)]
mod tests;
