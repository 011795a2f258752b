//! Who may import whom: folders only from those below them, files never in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{FILES, Module, file_of};

/// Each folder of `src/` with the folders that its files may import. A folder stands after those that
/// it imports, so the table is also the order in which to read the code.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // The ground floor: plain concepts without the domain.
    ("bench", &[]),
    ("clock", &[]),
    ("fault", &[]),
    ("ownership", &[]),
    // Files with keys must be private to their owner.
    ("plain_file", &["ownership"]),
    ("refusals", &[]),
    ("secret", &[]),
    ("side_by_side", &[]),
    // What an instance is.
    ("instance", &["clock", "fault", "secret"]),
    ("origin", &["instance"]),
    ("http", &["instance"]),
    ("document", &["fault", "instance", "plain_file", "secret"]),
    // Signatures, identity, credentials.
    ("sigv4", &["fault", "ownership", "plain_file", "secret"]),
    (
        "identity",
        &["instance", "ownership", "plain_file", "secret"],
    ),
    (
        "credentials",
        &[
            "clock",
            "instance",
            "ownership",
            "plain_file",
            "secret",
            "sigv4",
        ],
    ),
    // Who is served.
    (
        "registry",
        &[
            "document",
            "fault",
            "instance",
            "origin",
            "ownership",
            "plain_file",
            "side_by_side",
        ],
    ),
    (
        "config",
        &[
            "document",
            "fault",
            "instance",
            "ownership",
            "plain_file",
            "sigv4",
        ],
    ),
    // One audit line for both APIs.
    ("audit", &["document", "instance", "registry"]),
    ("logging", &["config"]),
    // The planes, which never import each other.
    (
        "guest",
        &[
            "clock",
            "credentials",
            "fault",
            "http",
            "identity",
            "instance",
            "origin",
            "registry",
            "secret",
        ],
    ),
    (
        "control",
        &[
            "audit",
            "clock",
            "document",
            "fault",
            "http",
            "instance",
            "ownership",
            "refusals",
            "registry",
            "secret",
            "sigv4",
        ],
    ),
    (
        "net",
        &[
            "fault",
            "http",
            "instance",
            "origin",
            "ownership",
            "plain_file",
        ],
    ),
    // Injected faults; `net` has the one rule about rates.
    ("lab", &["instance", "net"]),
    (
        "admin",
        &[
            "audit", "clock", "document", "fault", "http", "instance", "lab", "net", "origin",
            "registry",
        ],
    ),
    ("host", &["document", "instance", "origin"]),
    // Composition.
    (
        "daemon",
        &[
            "admin",
            "clock",
            "config",
            "control",
            "credentials",
            "document",
            "fault",
            "guest",
            "host",
            "http",
            "identity",
            "instance",
            "lab",
            "net",
            "origin",
            "ownership",
            "plain_file",
            "registry",
            // Which secrets of documents are no secrets.
            "secret",
            "side_by_side",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "bench",
            "clock",
            "config",
            "control",
            // The daemon starts credential programs through the executable.
            "credentials",
            "daemon",
            "document",
            "fault",
            "guest",
            "host",
            "identity",
            "instance",
            "logging",
            "origin",
            "plain_file",
            "registry",
        ],
    ),
];

/// The main program and the crate's list of modules import anything.
fn is_above_all(module: &Module) -> bool {
    module.is_empty() || module == &["main"]
}

#[test]
fn a_folder_imports_only_the_folders_below_it() {
    let files = &*FILES;
    let folders: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut used: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut wrong = Vec::new();
    for (module, file) in files.iter().filter(|(module, _)| !is_above_all(module)) {
        let folder = module[0].as_str();
        let Some((folder, allowed)) = folders.get_key_value(folder) else {
            panic!("{} is in no folder of the table", file.path);
        };
        for path in &file.paths {
            let Some((other, _)) = path
                .first()
                .and_then(|first| folders.get_key_value(first.as_str()))
            else {
                continue;
            };
            if allowed.contains(other) {
                used.insert((folder, other));
            } else if other != folder {
                wrong.push(format!("{} imports {}", file.path, path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A permission that nothing uses would let an import in unseen.
    let unused: Vec<_> = MAY_IMPORT
        .iter()
        .flat_map(|(folder, allowed)| allowed.iter().map(move |other| (*folder, *other)))
        .filter(|pair| !used.contains(pair))
        .collect();
    assert!(
        unused.is_empty(),
        "permissions that no file uses: {unused:?}"
    );
}

#[test]
fn folders_are_listed_after_the_folders_that_they_import() {
    let mut above: BTreeSet<&str> = BTreeSet::new();
    for (folder, allowed) in MAY_IMPORT {
        for other in *allowed {
            assert!(
                above.contains(other),
                "{folder} imports {other}, which comes later"
            );
        }
        above.insert(folder);
    }
}

/// A file that two files import in a circle can be read only together with both. `mod.rs` counts as
/// a file: a child does not import what its parent's `mod.rs` declares.
#[test]
fn no_file_imports_itself_through_others() {
    let files = &*FILES;
    let edges: BTreeMap<&Module, BTreeSet<Module>> = files
        .iter()
        .filter(|(module, _)| !is_above_all(module))
        .map(|(module, file)| {
            let targets = file.paths.iter().filter_map(|path| file_of(path, files));
            let targets = targets
                .map(<[String]>::to_vec)
                .filter(|target| target != module);
            (module, targets.collect())
        })
        .collect();
    let arrows: usize = edges.values().map(BTreeSet::len).sum();
    assert!(arrows > 300, "only {arrows} imports were found");
    let circles = circles(&edges);
    assert!(
        circles.is_empty(),
        "files that import each other:\n{}",
        circles.join("\n")
    );
}

/// Returns a line for each file from which a chain of imports leads back to it.
fn circles(edges: &BTreeMap<&Module, BTreeSet<Module>>) -> Vec<String> {
    let reached_from = |start: &Module| -> BTreeSet<Module> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&Module> = vec![start];
        while let Some(module) = next.pop() {
            for target in edges.get(module).into_iter().flatten() {
                if reached.insert(target.clone()) {
                    next.push(target);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = edges
        .keys()
        .map(|module| (*module, reached_from(module)))
        .filter(|(module, reached)| reached.contains(*module))
        .collect();
    let line = |module: &Module| {
        let back = |target: &&Module| {
            reached
                .get(target)
                .is_some_and(|reached| reached.contains(module))
        };
        let inside: Vec<String> = edges[module]
            .iter()
            .filter(back)
            .map(|target| target.join("/"))
            .collect();
        format!("{} -> {}", module.join("/"), inside.join(", "))
    };
    reached.keys().map(|module| line(module)).collect()
}

#[test]
fn a_circle_is_found_and_what_only_leads_to_it_is_not() {
    let module = |name: &str| vec![name.to_string()];
    let [a, b, c, d] = ["a", "b", "c", "d"].map(module);
    let edges = BTreeMap::from([
        (&a, BTreeSet::from([b.clone()])),
        (&b, BTreeSet::from([c.clone()])),
        (&c, BTreeSet::from([b.clone(), d.clone()])),
        (&d, BTreeSet::new()),
    ]);
    assert_eq!(circles(&edges), ["b -> c", "c -> b"]);
}
