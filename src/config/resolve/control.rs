//! `[control]`

use std::net::SocketAddr;
use std::path::Path;

use crate::config::resolve::addresses::UsedAddresses;
use crate::config::resolve::exposure::{AddressReach, reach};
use crate::config::resolve::values::{not_an_address, path_in, region};
use crate::config::section::{Faults, Section};
use crate::config::settings::{
    ACCESS_KEYS, AccessKeySource, CONTROL_LISTEN, ControlEndpointSettings, ControlTlsFiles,
};
use crate::sigv4::Regions;

pub(super) fn read(
    root: &mut Section<'_>,
    directory: &Path,
    used: &mut UsedAddresses,
    faults: &mut Faults<'_>,
) -> Option<ControlEndpointSettings> {
    let mut section = root.table("control", faults)?;
    let listen = section.parsed("listen", faults, |text| {
        let address = text
            .parse()
            .map_err(|_| not_an_address(text, "an IP", "127.0.0.1:1339"))?;
        used.add(address, "control.listen").map(|()| address)
    });
    let tls = read_tls(&mut section, directory, faults);
    let accepts_plain_http = section
        .boolean("expose_signed_calls_in_plain_http", faults)
        .unwrap_or(false);
    if let Some(address) = listen
        && reach(address.ip()) != AddressReach::Host
        && !section.has("certificate")
        && !accepts_plain_http
    {
        section.fault("listen", plain_http_fault(address), faults);
    }
    let access_keys = section
        .parsed("access_keys", faults, path_in(directory))
        .unwrap_or(ACCESS_KEYS.into());
    let regions = read_regions(&mut section, faults);
    section.finish(faults);
    Some(ControlEndpointSettings {
        listen: listen.unwrap_or(CONTROL_LISTEN),
        tls,
        access_keys: AccessKeySource::File(access_keys),
        regions,
    })
}

fn read_tls(
    section: &mut Section<'_>,
    directory: &Path,
    faults: &mut Faults<'_>,
) -> Option<ControlTlsFiles> {
    let certificate = section.parsed("certificate", faults, path_in(directory));
    let key = section.parsed("key", faults, path_in(directory));
    match (section.has("certificate"), section.has("key")) {
        (true, false) => section.missing("key", "a certificate needs its key", faults),
        (false, true) => section.missing("certificate", "a key needs its certificate", faults),
        (true, true) | (false, false) => {}
    }
    Some(ControlTlsFiles {
        certificate: certificate?,
        key: key?,
    })
}

fn read_regions(section: &mut Section<'_>, faults: &mut Faults<'_>) -> Regions {
    let Some(regions) = section.each("regions", faults, region) else {
        return Regions::Any;
    };
    if regions.is_empty() {
        let message = "no call could be signed; remove the key to allow any region";
        section.fault("regions", message, faults);
    }
    Regions::These(regions)
}

fn plain_http_fault(address: SocketAddr) -> String {
    format!(
        "{} is not a loopback address, and signed calls would travel in plain HTTP: set certificate and key, listen on \
         127.0.0.1 or [::1], or set expose_signed_calls_in_plain_http = true if the network itself keeps others out",
        address.ip()
    )
}
