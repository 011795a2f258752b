//! Metadata options are interpreted in the gate and nowhere else.
//!
//! The list is an allow-list over all of `src/`: a file that is not on it may not even name an
//! option, so a new file is covered from its first line.

use std::collections::BTreeSet;

use crate::source::FILES;

/// The fields of the metadata options, and the field of an instance that holds them.
const OPTION_FIELDS: &[&str] = &[
    "metadata_options",
    "http_endpoint",
    "http_tokens",
    "http_put_response_hop_limit",
    "http_protocol_ipv6",
    "instance_metadata_tags",
];

/// What a file may do with metadata options.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// Decides about guest requests by them.
    Interprets,
    /// Declares, stores, copies or changes them.
    Carries,
    /// Compares them with what a caller's filter asks for.
    Compares,
    /// Prints them for an operator or an API caller.
    Shows,
    /// Refuses changes of them: the account's policy, a key's rules, what EC2 refuses.
    RestrictsChanges,
}

/// Every file that may name an option.
const MAY_NAME_OPTIONS: &[(&str, Use)] = &[
    ("guest/gate/visit.rs", Use::Interprets),
    ("instance/defaults.rs", Use::Carries),
    ("instance/model.rs", Use::Carries),
    ("instance/options.rs", Use::Carries),
    ("document/aemm/mapping.rs", Use::Carries),
    ("registry/launch_options.rs", Use::Carries),
    ("admin/put/merge.rs", Use::Carries),
    ("admin/instances.rs", Use::Shows),
    ("admin/set_options.rs", Use::RestrictsChanges),
    ("cli/instance/args.rs", Use::Carries),
    ("cli/instance/set.rs", Use::Carries),
    ("control/instance_xml.rs", Use::Shows),
    ("control/render.rs", Use::Shows),
    (
        "control/actions/get_instance_metadata_defaults.rs",
        Use::Shows,
    ),
    ("control/filters.rs", Use::Compares),
    ("control/syntax.rs", Use::Carries),
    (
        "control/actions/modify_instance_metadata_defaults.rs",
        Use::Carries,
    ),
    (
        "control/actions/modify_instance_metadata_options.rs",
        Use::RestrictsChanges,
    ),
    ("control/actions/run_instances.rs", Use::RestrictsChanges),
    ("control/policy/condition.rs", Use::RestrictsChanges),
    // A tag key must fit into a path while InstanceMetadataTags shows it.
    ("control/actions/create_tags.rs", Use::RestrictsChanges),
    ("document/validate/mod.rs", Use::RestrictsChanges),
];

#[test]
fn only_the_files_on_the_list_name_metadata_options() {
    let files = &*FILES;
    let mut naming = BTreeSet::new();
    for file in files.values() {
        if OPTION_FIELDS
            .iter()
            .any(|field| file.identifiers.contains(*field))
        {
            naming.insert(file.path.as_str());
        }
    }
    let allowed: BTreeSet<&str> = MAY_NAME_OPTIONS.iter().map(|(path, _)| *path).collect();
    let unlisted: Vec<_> = naming.difference(&allowed).collect();
    assert!(unlisted.is_empty(), "not on the list: {unlisted:#?}");
    let unused: Vec<_> = allowed.difference(&naming).collect();
    assert!(
        unused.is_empty(),
        "on the list and without an option: {unused:#?}"
    );
}

#[test]
fn only_the_gate_interprets_metadata_options() {
    let mut interpreting = 0;
    for (path, what) in MAY_NAME_OPTIONS {
        let is_gate = path.starts_with("guest/gate/");
        assert_eq!(*what == Use::Interprets, is_gate, "{path}");
        assert!(is_gate || !path.starts_with("guest/"), "{path}");
        interpreting += usize::from(is_gate);
    }
    assert_eq!(interpreting, 1, "one file has the rules");
}

/// What the data plane must not reach: it is a function of the origin, the request, the time and
/// the nonce, so that sockets, tests and fuzzers call the same code.
const OUTSIDE_THE_DATA_PLANE: &[&str] = &[
    "hyper",
    "http_body_util",
    "tokio",
    "rand",
    "rustix",
    "socket2",
    "std::fs",
    "std::io",
    "std::process",
    "std::sync::Mutex",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "jiff::Zoned",
];

#[test]
fn the_data_plane_reaches_no_socket_file_clock_lock_or_random_source() {
    let files = &*FILES;
    let mut looked_at = 0;
    for (_, file) in files
        .iter()
        .filter(|(module, _)| module.first().is_some_and(|folder| folder == "guest"))
    {
        looked_at += 1;
        for path in &file.paths {
            let path = path.join("::");
            let is_outside = |outside: &&&str| {
                path.strip_prefix(**outside)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            let found = OUTSIDE_THE_DATA_PLANE.iter().find(is_outside);
            assert!(found.is_none(), "{} uses {path}", file.path);
        }
        for crate_name in [
            "hyper",
            "parking_lot",
            "rand",
            "rustix",
            "tokio",
            "SystemTime",
        ] {
            assert!(
                !file.identifiers.contains(crate_name),
                "{} names {crate_name}",
                file.path
            );
        }
    }
    assert!(
        looked_at > 10,
        "only {looked_at} files of guest/ were found"
    );
}
