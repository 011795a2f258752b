//! What is known of documents that were judged before: a text that was read without a fault is
//! neither parsed nor judged again while its instances have records.
//!
//! `known-documents.json` in the state directory has, for each text, its SHA-256 and what a start or
//! a reload needs of its instances. Texts are compared and not times of files: an edit can leave
//! the time and the size as they were. What is known holds for one program only, because another
//! one may have other rules, and for one answer to the question that rules ask the configuration.
//!
//! A file that is damaged, or from another program, is ignored and written again.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::instance::{InstanceAttachment, InstanceId, InstanceState};
use crate::plain_file::{PlainFile, Symlinks};

/// The name of the file.
const FILE: &str = "known-documents.json";

/// The largest file that is read, in bytes: enough for half a million instances.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The SHA-256 of a document's text, in base64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TextDigest(String);

impl TextDigest {
    /// Returns the digest of a text.
    pub(super) fn of(text: &str) -> TextDigest {
        let digest = Sha256::digest(text.as_bytes());
        TextDigest(BASE64.encode(digest))
    }
}

/// What is known of an instance in a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct KnownDocument {
    /// The id.
    pub(crate) id: InstanceId,
    /// The line at which the instance begins, counted from 1.
    pub(super) line: usize,
    /// The attachments.
    pub(super) attachments: Vec<InstanceAttachment>,
    /// The line of each attachment.
    pub(super) attachment_lines: Vec<usize>,
    /// The state.
    pub(crate) state: InstanceState,
    /// The digest of the instance; see `registry::document_digest`.
    pub(crate) digest: String,
    /// Whether the document contains a secret.
    pub(super) has_secret: bool,
    /// How many values are probably not intended.
    pub(super) doubts: usize,
}

/// Texts without faults, and their instances.
pub(crate) type KnownTexts = BTreeMap<TextDigest, Vec<KnownDocument>>;

/// What the file contains beside its checksum.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KnownOnDisk<T> {
    program: String,
    has_issuer: bool,
    texts: T,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct EnvelopeOnDisk<'a> {
    checksum: TextDigest,
    #[serde(borrow)]
    known: &'a RawValue,
}

/// What is known of documents.
#[derive(Default)]
pub(crate) struct KnownDocuments {
    /// The file; `None` without a state directory, and where the program cannot be identified.
    file: Option<PathBuf>,
    program: String,
    has_issuer: bool,
    texts: KnownTexts,
}

impl KnownDocuments {
    /// Reads what is known of the documents of a configuration.
    pub(crate) fn read(config: &Config) -> KnownDocuments {
        match (&config.state_directory, program()) {
            (Some(directory), Some(program)) => {
                let has_issuer = !config.identity.issuer.is_empty();
                KnownDocuments::read_file(directory.join(FILE), program, has_issuer)
            }
            _ => KnownDocuments::default(),
        }
    }

    fn read_file(file: PathBuf, program: String, has_issuer: bool) -> KnownDocuments {
        let on_disk = content_of(&file);
        let on_disk = on_disk
            .filter(|on_disk| on_disk.program == program && on_disk.has_issuer == has_issuer);
        KnownDocuments {
            file: Some(file),
            program,
            has_issuer,
            texts: on_disk.map(|on_disk| on_disk.texts).unwrap_or_default(),
        }
    }

    /// Returns the instances of a text, if it is known.
    pub(super) fn get(&self, text: &TextDigest) -> Option<&[KnownDocument]> {
        self.texts.get(text).map(Vec::as_slice)
    }

    /// Writes what is known now, if it changed. It need not survive a crash of the host: then all
    /// documents are judged again.
    pub(crate) fn store(&self, texts: &KnownTexts) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.texts != *texts) else {
            return Ok(());
        };
        let known = serde_json::value::to_raw_value(&KnownOnDisk {
            program: self.program.clone(),
            has_issuer: self.has_issuer,
            texts,
        })?;
        let content = serde_json::to_vec(&EnvelopeOnDisk {
            checksum: TextDigest::of(known.get()),
            known: &known,
        })?;
        let temporary = file.with_extension("json.tmp");
        let _ = std::fs::remove_file(&temporary);
        let mut written = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        written.write_all(&content)?;
        std::fs::rename(&temporary, file)
    }
}

/// Returns the content of the file; `None` if there is none, or it is damaged.
fn content_of(file: &Path) -> Option<KnownOnDisk<KnownTexts>> {
    let bytes = PlainFile::open(file, Symlinks::Refuse).and_then(|file| file.read_bytes(MAX_BYTES));
    let bytes = bytes.ok()?;
    let envelope: EnvelopeOnDisk<'_> = serde_json::from_slice(&bytes).ok()?;
    let known = envelope.known.get();
    if envelope.checksum != TextDigest::of(known) {
        return None;
    }
    serde_json::from_str(known).ok()
}

/// Returns what identifies this program: its version and its executable file. `None` if the
/// executable cannot be found.
fn program() -> Option<String> {
    let file = std::fs::metadata("/proc/self/exe").ok()?;
    let version = env!("CARGO_PKG_VERSION");
    let (device, inode, size) = (file.dev(), file.ino(), file.size());
    let (changed, nanoseconds) = (file.ctime(), file.ctime_nsec());
    Some(format!(
        "{version} {device}:{inode} {size} {changed}.{nanoseconds:09}"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::daemon::documents::{CheckedDocuments, Registered};
    use crate::document;
    use crate::registry::file::StoredInstances;

    const ONE: &str = "i-00000001";
    const TWO: &str = "i-00000002";

    /// A state directory and a directory of documents. Every instance of its first documents has a
    /// record.
    struct KnownHost {
        directory: tempfile::TempDir,
        config: Config,
        registered: Registered,
    }

    fn text(id: &str, listener: &str) -> String {
        format!(
            "{{\"InstanceId\":\"{id}\",\"LaunchTime\":\"2026-01-01T00:00:00Z\",\"KeyName\":\"ops\",\
             \"Imds\":{{\"Attachments\":[{{\"Listener\":\"{listener}\"}}]}}}}"
        )
    }

    impl KnownHost {
        fn new() -> KnownHost {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            let listener = |name: &str, port: u16| {
                format!("[[listener]]\nname = \"{name}\"\nipv4 = \"127.0.0.1:{port}\"\n")
            };
            let settings = format!(
                "instances = \"instances.d\"\nstate_directory = \"{}\"\n{}{}",
                path.display(),
                listener("a", 1),
                listener("b", 2)
            );
            std::fs::write(path.join("imdsd.toml"), settings).unwrap();
            std::fs::create_dir(path.join("instances.d")).unwrap();
            let config = config::read(&path.join("imdsd.toml")).unwrap();
            let mut host = KnownHost {
                directory,
                config,
                registered: Registered::default(),
            };
            host.write("1.json", &text(ONE, "a"));
            host.write("2.json", &text(TWO, "b"));
            host.registered = registered(&[&text(ONE, "a"), &text(TWO, "b")]);
            host
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.documents().join(name), text).unwrap();
        }

        fn documents(&self) -> PathBuf {
            self.directory.path().join("instances.d")
        }

        fn file(&self) -> PathBuf {
            self.directory.path().join(FILE)
        }

        /// Reads the documents as a start does, and remembers what is known then. Returns the ids
        /// of the known documents and of those that were judged.
        fn start(&self) -> (Vec<String>, Vec<String>) {
            let (documents, _) = self.read();
            let known = documents.known.iter().map(|known| known.id.to_string());
            let judged = documents.instances.iter();
            let judged = judged.map(|document| document.instance.instance_id.to_string());
            (known.collect(), judged.collect())
        }

        fn read(&self) -> (CheckedDocuments, KnownDocuments) {
            let known = KnownDocuments::read(&self.config);
            let documents = CheckedDocuments::read_changed(&self.config, &self.registered, &known);
            known.store(&documents.texts).unwrap();
            (documents, known)
        }
    }

    fn registered(texts: &[&str]) -> Registered {
        let instances = texts
            .iter()
            .flat_map(|text| document::read(Path::new("record.json"), text).unwrap());
        Registered::of_store(&StoredInstances {
            instances: instances.collect(),
            ..StoredInstances::default()
        })
    }

    fn all_known() -> (Vec<String>, Vec<String>) {
        (vec![ONE.to_string(), TWO.to_string()], vec![])
    }

    fn all_judged() -> (Vec<String>, Vec<String>) {
        (vec![], vec![ONE.to_string(), TWO.to_string()])
    }

    #[test]
    fn a_document_is_judged_once_and_then_known() {
        let host = KnownHost::new();
        assert_eq!(host.start(), all_judged());
        let written = std::fs::metadata(host.file()).unwrap();
        assert_eq!(written.mode() & 0o777, 0o600);
        for _ in 0..2 {
            assert_eq!(host.start(), all_known());
        }
        let unchanged = std::fs::metadata(host.file()).unwrap();
        assert_eq!(
            unchanged.ino(),
            written.ino(),
            "it is written when it changes"
        );
    }

    /// What a start logs and compares is the same, whether a document is known or not.
    #[test]
    fn a_known_document_says_what_it_said_when_it_was_judged() {
        let host = KnownHost::new();
        let (judged, _) = host.read();
        let (known, _) = host.read();
        assert_eq!((judged.doubt_count, judged.doubts.len()), (2, 2));
        assert_eq!((known.doubt_count, known.doubts.len()), (2, 0));
        for (document, known) in judged.instances.iter().zip(&known.known) {
            let instance = &document.instance;
            assert_eq!(instance.instance_id, known.id);
            assert_eq!(instance.state, known.state);
            assert_eq!(instance.imds.attachments, known.attachments);
            assert_eq!(crate::registry::document_digest(instance), known.digest);
            assert_eq!((known.line, &known.attachment_lines[..]), (1, &[1][..]));
        }
        assert_eq!(judged.warnings, known.warnings);
        assert_eq!(known.ids().count(), 2);
    }

    #[test]
    fn an_edit_is_noticed_whatever_the_time_and_the_size_of_the_file() {
        let host = KnownHost::new();
        host.start();
        let file = host.documents().join("2.json");
        let before = std::fs::File::open(&file).unwrap().metadata().unwrap();
        let edited = text(TWO, "b").replace("ops", "dev");
        host.write("2.json", &edited);
        let times = std::fs::FileTimes::new().set_modified(before.modified().unwrap());
        let opened = std::fs::File::options().write(true).open(&file).unwrap();
        opened.set_times(times).unwrap();
        let after = std::fs::metadata(&file).unwrap();
        assert_eq!(
            (after.len(), after.modified().unwrap(), after.ino()),
            (before.len(), before.modified().unwrap(), before.ino())
        );
        let one_judged = (vec![ONE.to_string()], vec![TWO.to_string()]);
        assert_eq!(host.start(), one_judged);
        assert_eq!(host.start(), all_known());
        // The earlier text is not known any more.
        host.write("2.json", &text(TWO, "b"));
        assert_eq!(host.start(), one_judged);
    }

    #[test]
    fn a_text_is_known_in_any_file_and_conflicts_are_found_each_time() {
        let host = KnownHost::new();
        host.start();
        let documents = host.documents();
        std::fs::rename(documents.join("1.json"), documents.join("0.json")).unwrap();
        assert_eq!(host.start(), all_known());
        // The same instance in two files.
        host.write("3.json", &text(TWO, "b"));
        let (copied, _) = host.read();
        assert_eq!(copied.faults.len(), 1);
        assert!(copied.faults[0].to_string().contains("3.json:1"));
        assert!(copied.faults[0].message.contains("2.json:1"));
        assert_eq!((copied.known.len(), copied.instances.len()), (1, 0));
        assert_eq!(copied.faulty.len(), 2, "nothing says which one is right");
        // Another instance at the attachment of a known one.
        host.write("3.json", &text("i-00000003", "b"));
        let (conflict, _) = host.read();
        assert!(conflict.faults[0].message.contains(TWO), "{conflict:?}");
        assert_eq!((conflict.known.len(), conflict.instances.len()), (2, 0));
        // A removed file.
        std::fs::remove_file(documents.join("3.json")).unwrap();
        std::fs::remove_file(documents.join("2.json")).unwrap();
        assert_eq!(host.start(), (vec![ONE.to_string()], vec![]));
        let text = std::fs::read_to_string(host.file()).unwrap();
        assert!(text.contains(ONE) && !text.contains(TWO), "{text}");
    }

    #[test]
    fn a_document_is_judged_again_if_its_instance_has_no_record_or_its_text_has_faults() {
        let mut host = KnownHost::new();
        host.start();
        host.registered = registered(&[&text(ONE, "a")]);
        let one_judged = (vec![ONE.to_string()], vec![TWO.to_string()]);
        assert_eq!(host.start(), one_judged);
        // An instance without faults beside one with some: the file is judged each time.
        let damaged = text(TWO, "b").replace("LaunchTime", "Launched");
        host.write("1.json", &format!("[{},{damaged}]", text(ONE, "a")));
        std::fs::remove_file(host.documents().join("2.json")).unwrap();
        for _ in 0..2 {
            let (documents, _) = host.read();
            assert!(!documents.faults.is_empty());
            assert_eq!((documents.known.len(), documents.instances.len()), (0, 1));
        }
    }

    #[test]
    fn what_is_damaged_or_of_another_program_is_ignored_and_written_again() {
        let host = KnownHost::new();
        host.start();
        let good = std::fs::read(host.file()).unwrap();
        let mut altered = good.clone();
        let place = good.windows(3).position(|bytes| bytes == b"\"a\"").unwrap();
        altered[place + 1] = b'b';
        let other = |from: &str, to: &str| {
            let text = String::from_utf8(good.clone()).unwrap();
            let envelope: EnvelopeOnDisk<'_> = serde_json::from_str(&text).unwrap();
            let known = envelope.known.get().replacen(from, to, 1);
            assert_ne!(known, envelope.known.get());
            let checksum = TextDigest::of(&known).0;
            format!("{{\"Checksum\":\"{checksum}\",\"Known\":{known}}}").into_bytes()
        };
        for (what, content) in [
            ("nothing", Vec::new()),
            ("not JSON", b"{".to_vec()),
            ("another attachment", altered),
            ("the first half", good[..good.len() / 2].to_vec()),
            ("another version", other(env!("CARGO_PKG_VERSION"), "0.0.0")),
            ("another configuration", other("false", "true")),
            ("an unknown field", other("\"Line\"", "\"Row\"")),
        ] {
            std::fs::write(host.file(), content).unwrap();
            assert_eq!(host.start(), all_judged(), "{what}");
            assert_eq!(std::fs::read(host.file()).unwrap(), good, "{what}");
            assert_eq!(host.start(), all_known(), "{what}");
        }
        std::fs::remove_file(host.file()).unwrap();
        std::os::unix::fs::symlink("elsewhere", host.file()).unwrap();
        assert_eq!(host.start(), all_judged());
        assert_eq!(host.start(), all_known());
    }

    #[test]
    fn nothing_is_remembered_without_a_state_directory() {
        let mut host = KnownHost::new();
        host.config.state_directory = None;
        for _ in 0..2 {
            assert_eq!(host.start(), all_judged());
        }
        assert!(!host.file().exists());
    }
}
