//! `imdsd instance export`: to standard output, or as files.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::manage::secrets_query;
use crate::cli::admin_client::{AdminClient, CommandFailure};
use crate::cli::output::{self, each, text};
use crate::document;

pub(super) fn export(
    client: &AdminClient,
    directory: Option<&Path>,
    with_secrets: bool,
) -> Result<(), CommandFailure> {
    let path = format!("/v1/export{}", secrets_query(with_secrets));
    let documents = client.call("GET", &path, b"")?;
    let Some(directory) = directory else {
        output::print_json(&documents);
        return Ok(());
    };
    let failed = |path: &Path, reason: io::Error| {
        CommandFailure::report(format_args!("{}: {reason}", path.display()))
    };
    std::fs::create_dir_all(directory).map_err(|reason| failed(directory, reason))?;
    let mut written = BTreeSet::new();
    for document in each(&documents) {
        let name = format!("{}.json", text(&document["InstanceId"]));
        let pretty = serde_json::to_string_pretty(document).expect("plain JSON data") + "\n";
        replace_file(directory, &name, pretty.as_bytes())
            .map_err(|reason| failed(&directory.join(&name), reason))?;
        written.insert(name);
    }
    let (directory_name, count) = (directory.display(), written.len());
    output::print(&format!("{directory_name}: {count} documents\n"));
    let others =
        other_documents(directory, &written).map_err(|reason| failed(directory, reason))?;
    if !others.is_empty() {
        eprintln!(
            "warning: {} not of this export: {}; an import of the directory would include {}",
            if others.len() == 1 {
                "a document is"
            } else {
                "documents are"
            },
            others.join(", "),
            if others.len() == 1 { "it" } else { "them" }
        );
    }
    Ok(())
}

/// Replaces a file with a new one that only its owner can read, because it may hold user data and
/// credentials. So the mode of an old file does not matter, and a symbolic link is not followed.
fn replace_file(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!(".{name}.{:016x}", rand::random::<u64>()));
    let written = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    let replaced = written.and_then(|()| std::fs::rename(&temporary, directory.join(name)));
    if replaced.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    replaced
}

/// The names of the files that an import of the directory would read and this export did not write.
fn other_documents(directory: &Path, written: &BTreeSet<String>) -> io::Result<Vec<String>> {
    let files = document::files_at(directory)?;
    let names = files
        .iter()
        .filter_map(|file| file.file_name())
        .map(|name| name.to_string_lossy().into_owned());
    Ok(names.filter(|name| !written.contains(name)).collect())
}
