//! The documents of a configuration, each judged by itself: read, parsed and compared with the
//! rules, on all processors side by side. A known text is neither parsed nor judged again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::config::Config;
use crate::daemon::documents::exposed::has_secret;
use crate::daemon::documents::instance_faults::document_faults;
use crate::daemon::documents::known::{KnownDocument, KnownDocuments, KnownTexts, TextDigest};
use crate::daemon::documents::registered::Registered;
use crate::document::{self, DocumentsRead, FaultyInstance, InstanceDocument};
use crate::fault::{Fault, FieldFault};
use crate::instance::Instance;
use crate::registry::document_digest;
use crate::side_by_side::side_by_side;

/// The documents of a configuration. Conflicts between them are not checked yet.
#[derive(Default)]
pub(super) struct Judged {
    /// The instances that could be read.
    pub(super) documents: Vec<JudgedDocument>,
    /// The other instances.
    pub(super) faulty: Vec<FaultyInstance>,
    /// The faults of the other instances, and of whole files.
    pub(super) faults: Vec<Fault>,
    /// How many files are not JSON. They may have more instances than are known.
    pub(super) damaged_files: usize,
    /// The files and directories that cannot be read at all.
    pub(super) unread_paths: BTreeSet<PathBuf>,
    /// The texts without faults.
    pub(super) texts: KnownTexts,
}

/// An instance of a document, and what is known of it.
pub(super) struct JudgedDocument {
    /// What is known of it.
    pub(super) known: KnownDocument,
    /// The instance; `None` if its document is known, so it was not parsed.
    pub(super) instance: Option<Box<Instance>>,
    /// The file.
    pub(super) file: PathBuf,
    /// Its faults.
    pub(super) faults: Vec<Fault>,
    /// What is probably not intended.
    pub(super) doubts: Vec<Fault>,
}

/// One file.
enum JudgedFile {
    /// It cannot be read.
    Unread(Fault),
    /// Its text is known.
    Known(PathBuf, TextDigest, Vec<KnownDocument>),
    /// Its text was parsed and judged.
    Read(TextDigest, Vec<JudgedDocument>, DocumentsRead),
}

impl Judged {
    /// Reads the documents of a configuration.
    pub(super) fn read(config: &Config, registered: &Registered, known: &KnownDocuments) -> Judged {
        let mut judged = Judged::default();
        let Some(path) = &config.instances else {
            return judged;
        };
        let files = match document::files_at(path) {
            Ok(files) => files,
            Err(reason) => {
                judged.add(JudgedFile::Unread(document::unreadable(path, &reason)));
                Vec::new()
            }
        };
        let files = side_by_side(files, |file| {
            JudgedFile::read(file, config, registered, known)
        });
        files.into_iter().for_each(|file| judged.add(file));
        judged.check_ids();
        judged
    }

    fn add(&mut self, file: JudgedFile) {
        match file {
            JudgedFile::Unread(fault) => {
                self.unread_paths.insert(fault.file.clone());
                self.faults.push(fault);
            }
            JudgedFile::Known(file, digest, documents) => {
                self.texts.insert(digest, documents.clone());
                let of_file = documents.into_iter().map(|known| JudgedDocument {
                    known,
                    instance: None,
                    file: file.clone(),
                    faults: Vec::new(),
                    doubts: Vec::new(),
                });
                self.documents.extend(of_file);
            }
            JudgedFile::Read(digest, documents, others) => {
                let is_sound = others.faults.is_empty()
                    && others.faulty.is_empty()
                    && documents.iter().all(|document| document.faults.is_empty());
                if is_sound {
                    let known = documents.iter().map(|document| document.known.clone());
                    self.texts.insert(digest, known.collect());
                }
                self.documents.extend(documents);
                self.faulty.extend(others.faulty);
                self.faults.extend(others.faults);
                self.damaged_files += others.unreadable_files;
            }
        }
    }

    /// Sets aside the instances whose id appears twice: nothing says which of them is right.
    fn check_ids(&mut self) {
        let documents = self.documents.iter().map(|document| {
            let KnownDocument { id, line, .. } = &document.known;
            (id, document.file.as_path(), *line)
        });
        let faulty = self.faulty.iter().filter_map(FaultyInstance::place);
        let (repeated, faults) = document::repeated_ids(documents.chain(faulty));
        self.faults.extend(faults);
        let set_aside = self
            .documents
            .extract_if(.., |document| repeated.contains(&document.known.id));
        self.faulty.extend(set_aside.map(|document| FaultyInstance {
            id: Some(document.known.id),
            attachments: document.known.attachments,
            file: document.file,
            line: document.known.line,
        }));
    }
}

impl JudgedFile {
    fn read(
        file: PathBuf,
        config: &Config,
        registered: &Registered,
        known: &KnownDocuments,
    ) -> JudgedFile {
        let text = match document::text_at(&file) {
            Ok(text) => text,
            Err(fault) => return JudgedFile::Unread(fault),
        };
        let digest = TextDigest::of(&text);
        // A document is needed in full where it may have to be registered.
        let has_record = |known: &KnownDocument| {
            let registered = registered.get(&known.id);
            registered.is_some_and(|instance| instance.state.is_some())
        };
        if let Some(documents) = known.get(&digest).filter(|all| all.iter().all(has_record)) {
            return JudgedFile::Known(file, digest, documents.to_vec());
        }
        let mut read = document::read_document(&file, &text);
        let documents = std::mem::take(&mut read.documents).into_iter();
        let documents = documents.map(|document| JudgedDocument::of(document, config));
        JudgedFile::Read(digest, documents.collect(), read)
    }
}

impl JudgedDocument {
    fn of(document: InstanceDocument, config: &Config) -> JudgedDocument {
        let InstanceDocument {
            instance,
            file,
            line,
            attachment_lines,
            fields: _,
            warnings,
        } = document;
        let faults = document_faults(&instance, config);
        let of_values = document::doubts(&instance);
        let mut judged = JudgedDocument {
            known: KnownDocument {
                id: instance.instance_id.clone(),
                line,
                attachments: instance.imds.attachments.clone(),
                attachment_lines,
                state: instance.state,
                digest: document_digest(&instance),
                has_secret: has_secret(&instance),
                doubts: warnings.len() + of_values.len(),
            },
            instance: Some(Box::new(instance)),
            file,
            faults: Vec::new(),
            doubts: warnings,
        };
        let faults = faults.iter().map(|fault| judged.fault_at(line, fault));
        judged.faults = faults.collect();
        let doubts = of_values.iter().map(|doubt| judged.fault_at(line, doubt));
        let doubts: Vec<Fault> = doubts.collect();
        judged.doubts.extend(doubts);
        judged
    }

    /// Returns a fault of the document, with the instance's ID before the field.
    pub(super) fn fault_at(&self, line: usize, fault: &FieldFault) -> Fault {
        Fault {
            file: self.file.clone(),
            line,
            field: format!("{}: {}", self.known.id, fault.field),
            message: fault.message.clone(),
        }
    }
}
