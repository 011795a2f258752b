//! `[identity]`

use std::path::{Path, PathBuf};

use crate::config::resolve::values::{issuer, path_in};
use crate::config::section::{Faults, Section};
use crate::config::settings::{IdentitySettings, OperatorIdentity};

pub(super) fn read(
    root: &mut Section<'_>,
    directory: &Path,
    faults: &mut Faults<'_>,
) -> IdentitySettings {
    let Some(mut section) = root.table("identity", faults) else {
        return IdentitySettings::default();
    };
    let own = read_own(&mut section, directory, faults);
    let issuer = section.parsed("issuer", faults, issuer).unwrap_or_default();
    section.finish(faults);
    IdentitySettings { own, issuer }
}

fn read_own(
    section: &mut Section<'_>,
    directory: &Path,
    faults: &mut Faults<'_>,
) -> Option<OperatorIdentity> {
    let key = section.parsed("key", faults, path_in(directory));
    let certificate = section.parsed("certificate", faults, path_in(directory));
    let retired = section.each("retired", faults, |text| {
        Ok(path_in(directory)(text)?.to_string_lossy().into_owned())
    });
    match (section.has("key"), section.has("certificate")) {
        (true, false) => {
            section.missing("certificate", "your own key needs its certificate", faults);
        }
        (false, true) => section.missing("key", "your own certificate needs its key", faults),
        (false, false) if section.has("retired") => {
            let message =
                "needs your own key; imdsd manages the certificates of its own keys itself";
            section.fault("retired", message, faults);
        }
        (true, true) | (false, false) => {}
    }
    Some(OperatorIdentity {
        key: key?,
        certificate: certificate?,
        retired: retired
            .unwrap_or_default()
            .into_iter()
            .map(PathBuf::from)
            .collect(),
    })
}
