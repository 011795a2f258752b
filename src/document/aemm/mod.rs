//! The configuration of amazon-ec2-metadata-mock, AWS's test double of IMDS, as an instance, a
//! timeline and a port.
//!
//! The keys are read as the mock reads them: in any letter case, dotted or nested, with numbers as
//! texts. The defaults are in `config/aemm-instance.json`. A value that EC2 has a field for goes
//! into the instance. A value that the instance would not show goes into its overrides, at the
//! mock's path or at the one from the file. Events become steps of a timeline that begins when the
//! file is read.
//!
//! Refused: what imdsd cannot serve faithfully, for example an invalid MAC address, or another path
//! for leaves that depend on options, role deliveries or signatures. Warned of: settings that are
//! ignored. Not read: the mock's environment variables and flags. `docs/from-the-mock.md` lists
//! every key.
//!
//! | file | concept |
//! |---|---|
//! | `settings` | the values of the file by their dotted keys, with faults and warnings |
//! | `keys` | tables of the mock's leaves and keys |
//! | `leaves` | the leaves of the metadata tree |
//! | `mapping` | ids, role, tags, identity, user data, server |
//! | `events` | events as steps of a timeline |

mod events;
mod keys;
mod leaves;
mod mapping;
mod settings;

use std::net::Ipv4Addr;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use crate::document::json_file::JsonFile;
use crate::document::json_path::JsonPath;
use crate::document::read::read as read_document;
use crate::document::validate;
use crate::fault::Fault;
use crate::instance::{Instance, Overrides};
use crate::plain_file;

pub use events::MockCommand;
pub use mapping::PORT;

use settings::Settings;

/// A configuration of the mock, mapped to imdsd.
#[derive(Clone, Debug)]
pub struct Mock {
    /// The instance with its timeline, without an attachment.
    pub instance: Instance,
    /// The loopback address to listen on.
    pub address: Ipv4Addr,
    /// The port to listen on.
    pub port: u16,
    /// The settings that are ignored.
    pub warnings: Vec<Fault>,
}

/// Reads a configuration file of the mock. Delays count from `start`.
pub fn read(file: &Path, command: MockCommand, start: Timestamp) -> Result<Mock, Vec<Fault>> {
    match plain_file::read_text(file, plain_file::MAX_BYTES) {
        Ok(text) => parse(file, &text, command, start),
        Err(reason) => Err(vec![Fault::of_file(
            file,
            format_args!("can't be read: {reason}"),
        )]),
    }
}

/// Reads a configuration of the mock from a text; `file` is its name in faults.
pub fn parse(
    file: &Path,
    text: &str,
    command: MockCommand,
    start: Timestamp,
) -> Result<Mock, Vec<Fault>> {
    let json = JsonFile::of(file, text)?;
    let Value::Object(members) = &json.value else {
        let message = "the mock's configuration is an object";
        return Err(vec![json.fault(&JsonPath::root(), message)]);
    };
    let mut settings = Settings::of(&json, members, start);

    // 1. Names and the role come first: the paths of leaves contain them.
    let base = base();
    let mut instance = base.clone();
    instance.imds.overrides = Overrides::default();
    mapping::set_names(&mut settings, &mut instance);
    mapping::set_role(&mut settings, &mut instance);
    mapping::set_tags(&mut settings, &mut instance);
    // 2. Every leaf of the tree.
    leaves::set_leaves(&mut settings, &base, &mut instance);
    mapping::set_identity(&mut settings, &mut instance);
    mapping::set_user_data(&mut settings, &mut instance);
    // 3. The server and the events.
    let (address, port) = mapping::set_server(&mut settings, &mut instance);
    let steps = events::event_steps(&mut settings, command, &mut instance);
    leaves::warn_of_unused(&mut settings);

    // 4. The instance must be valid.
    let (mut faults, warnings) = settings.into_findings();
    if faults.is_empty() {
        let of_steps = instance.schedule(steps, start).err().into_iter().flatten();
        faults.extend(of_steps.map(|message| Fault::of_file(file, message)));
        let of_instance = validate::faults(&instance).into_iter();
        faults.extend(of_instance.map(|fault| fault.in_file(file, 0)));
    }
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.line);
        return Err(faults);
    }
    Ok(Mock {
        instance,
        address,
        port,
        warnings,
    })
}

/// Returns the instance that the mock serves without a configuration.
fn base() -> Instance {
    const TEXT: &str = include_str!("../../../config/aemm-instance.json");
    let instances = read_document(Path::new("aemm-instance.json"), TEXT)
        .expect("the built-in document is valid");
    instances
        .into_iter()
        .next()
        .expect("the built-in document has one instance")
}

#[cfg(test)]
mod tests;
