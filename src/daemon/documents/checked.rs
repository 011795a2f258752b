//! The documents of a configuration, checked one by one, against the configuration and against each
//! other.
//!
//! A fault costs the instance of its document only. Where two documents claim one attachment, an
//! instance that has a record keeps it; between two that have none nothing decides, so neither is
//! registered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::daemon::documents::exposed::exposed_file;
use crate::daemon::documents::judged::{Judged, JudgedDocument};
use crate::daemon::documents::known::{KnownDocument, KnownDocuments, KnownTexts};
use crate::daemon::documents::registered::{Registered, RegisteredInstance};
use crate::daemon::unserved::AttachmentSettings;
use crate::document::FaultyInstance;
use crate::fault::{Fault, FieldFault};
use crate::instance::claims::{AttachmentClaim, Claims};
use crate::instance::{Attachment, Instance, InstanceAttachment, InstanceId, InstanceState};
use crate::registry::Document;

const ATTACHMENTS: &str = "Imds.Attachments";

/// The documents of a configuration.
#[derive(Debug, Default)]
pub(crate) struct CheckedDocuments {
    /// The instances of documents without faults, apart from the known ones.
    pub(crate) instances: Vec<Document>,
    /// The instances without faults of documents that are as they were when they were last judged.
    pub(crate) known: Vec<KnownDocument>,
    /// The instances of the other documents, as far as they can be read. Of their attachments, those
    /// that belong to registered instances are left out.
    pub(crate) faulty: Vec<FaultyInstance>,
    /// All faults.
    pub(crate) faults: Vec<Fault>,
    /// What keeps guests from being served, but is allowed.
    pub(crate) warnings: Vec<Fault>,
    /// Values that are allowed but probably not intended, apart from those of known documents.
    pub(crate) doubts: Vec<Fault>,
    /// How many such values there are in all documents.
    pub(crate) doubt_count: usize,
    /// What to remember of the texts.
    pub(crate) texts: KnownTexts,
    /// Files that are not JSON or cannot be read. They may have more instances than are known.
    pub(crate) unreadable_files: usize,
    /// The files and directories that cannot be read at all.
    pub(crate) unread_paths: BTreeSet<PathBuf>,
}

/// Whether the configuration itself has faults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConfigState {
    Valid,
    /// A listener with a fault is left out, and may be the one that a document names.
    Faulty,
}

impl CheckedDocuments {
    /// Reads the documents that a valid configuration names.
    pub(crate) fn read(config: &Config, registered: &Registered) -> CheckedDocuments {
        CheckedDocuments::read_for(config, ConfigState::Valid, registered)
    }

    /// Like [`CheckedDocuments::read`], but does not judge known texts again.
    pub(crate) fn read_changed(
        config: &Config,
        registered: &Registered,
        known: &KnownDocuments,
    ) -> CheckedDocuments {
        CheckedDocuments::check(config, ConfigState::Valid, registered, known)
    }

    pub(super) fn read_for(
        config: &Config,
        config_state: ConfigState,
        registered: &Registered,
    ) -> CheckedDocuments {
        CheckedDocuments::check(config, config_state, registered, &KnownDocuments::default())
    }

    fn check(
        config: &Config,
        config_state: ConfigState,
        registered: &Registered,
        known: &KnownDocuments,
    ) -> CheckedDocuments {
        let judged = Judged::read(config, registered, known);
        let mut check = DocumentsCheck::new(config, config_state, &judged, registered);
        for (number, document) in judged.documents.iter().enumerate() {
            check.check(number, document);
        }
        check.finish().documents(judged)
    }

    /// Returns the ids of all instances that have a document.
    pub(super) fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        let valid = self.instances.iter();
        let valid = valid.map(|document| &document.instance.instance_id);
        let valid = valid.chain(self.known.iter().map(|known| &known.id));
        valid.chain(self.faulty.iter().filter_map(|faulty| faulty.id.as_ref()))
    }

    /// Returns instances that come from elsewhere and have been checked.
    pub(crate) fn of(instances: Vec<Instance>) -> CheckedDocuments {
        CheckedDocuments {
            instances: instances.into_iter().map(Document::of).collect(),
            ..CheckedDocuments::default()
        }
    }
}

/// The check while it runs. Instances have numbers: those without faults in their own documents
/// first.
struct DocumentsCheck<'a> {
    read: &'a Judged,
    registered: &'a Registered,
    settings: Option<AttachmentSettings<'a>>,
    /// Every attachment, by the number of its instance.
    claims: Claims<'a, usize>,
    /// The attachments of all records, also of instances without a document.
    records: Claims<'a, Option<usize>>,
    /// The numbers of the documents with a fault, beside those in `read.faulty`.
    faulty: BTreeSet<usize>,
    /// The files with secrets that were warned about.
    exposed_files: BTreeSet<&'a Path>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    doubts: Vec<Fault>,
    doubt_count: usize,
}

/// The result of a check.
struct CheckResult {
    /// The numbers of the documents with a fault.
    faulty_numbers: BTreeSet<usize>,
    faulty: Vec<FaultyInstance>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    doubts: Vec<Fault>,
    doubt_count: usize,
}

/// An instance that claims an attachment.
#[derive(Clone, Copy)]
struct Claimant<'a> {
    id: Option<&'a InstanceId>,
    file: &'a std::path::Path,
    line: usize,
    attachments: &'a [InstanceAttachment],
    /// The state in the document; `None` if it cannot be read.
    state: Option<InstanceState>,
    registered: Option<&'a RegisteredInstance>,
}

impl<'a> DocumentsCheck<'a> {
    fn new(
        config: &'a Config,
        config_state: ConfigState,
        read: &'a Judged,
        registered: &'a Registered,
    ) -> DocumentsCheck<'a> {
        let mut check = DocumentsCheck {
            read,
            registered,
            settings: match config_state {
                ConfigState::Valid => Some(AttachmentSettings::from(config)),
                ConfigState::Faulty => None,
            },
            claims: Claims::new(),
            records: Claims::new(),
            faulty: BTreeSet::new(),
            exposed_files: BTreeSet::new(),
            faults: read.faults.clone(),
            warnings: Vec::new(),
            doubts: Vec::new(),
            doubt_count: 0,
        };
        for number in 0..read.documents.len() + read.faulty.len() {
            check.claim(number);
        }
        let active = registered.all().filter(|instance| instance.is_active());
        for (number, instance) in active.enumerate() {
            let attachments = instance.attachments.iter();
            for attachment in attachments.filter(|attachment| registered.is_claimed(attachment)) {
                check.records.add(attachment, Some(number));
            }
        }
        check
    }

    fn claimant(&self, number: usize) -> Claimant<'a> {
        let read = self.read;
        let registered = |id: Option<&InstanceId>| id.and_then(|id| self.registered.get(id));
        match read.documents.get(number) {
            Some(document) => Claimant {
                id: Some(&document.known.id),
                file: &document.file,
                line: document.known.line,
                attachments: &document.known.attachments,
                state: Some(document.known.state),
                registered: registered(Some(&document.known.id)),
            },
            None => {
                let faulty = &read.faulty[number - read.documents.len()];
                Claimant {
                    id: faulty.id.as_ref(),
                    file: &faulty.file,
                    line: faulty.line,
                    attachments: &faulty.attachments,
                    state: None,
                    registered: registered(faulty.id.as_ref()),
                }
            }
        }
    }

    /// Adds the claims of one instance: those of its record, which is what it is served from, or of
    /// its document, if it has no record or one that cannot be read.
    fn claim(&mut self, number: usize) {
        let claimant = self.claimant(number);
        if !claimant.is_active() {
            return;
        }
        let of_record = claimant
            .registered
            .map(|registered| &registered.attachments);
        let of_document = claimant
            .attachments
            .iter()
            .filter(|attachment| claimant.claims_of_document(attachment));
        let all = of_record.into_iter().flatten().chain(of_document);
        for attachment in all.filter(|attachment| self.registered.is_claimed(attachment)) {
            self.claims.add(attachment, number);
        }
    }

    fn check(&mut self, number: usize, document: &'a JudgedDocument) {
        let before = self.faults.len();
        self.doubts.extend_from_slice(&document.doubts);
        self.doubt_count += document.known.doubts;
        self.faults.extend_from_slice(&document.faults);
        self.warn(number, document);
        self.warn_exposed(document);
        self.check_attachments(number, document);
        if self.faults.len() > before {
            self.faulty.insert(number);
        }
    }

    /// Warns of an instance that no guest can reach.
    fn warn(&mut self, number: usize, document: &JudgedDocument) {
        let registered = self.claimant(number).registered;
        let attachments = registered.map_or(&document.known.attachments, |registered| {
            &registered.attachments
        });
        let state = registered
            .and_then(|registered| registered.state)
            .unwrap_or(document.known.state);
        if !state.is_active() {
            let message = format!("the instance is {} and will not be served", state.as_str());
            self.add_warning(document, &FieldFault::new("State", message));
        } else if attachments.is_empty() {
            let message = "there are none, so the instance cannot be reached";
            self.add_warning(document, &FieldFault::new(ATTACHMENTS, message));
        }
    }

    /// Warns of a file with secrets that every user of the host can read, once for each file.
    fn warn_exposed(&mut self, document: &'a JudgedDocument) {
        if document.known.has_secret
            && !self.exposed_files.contains(document.file.as_path())
            && let Some(fault) = exposed_file(&document.file)
        {
            self.exposed_files.insert(&document.file);
            self.add_warning(document, &fault);
        }
    }

    fn add_warning(&mut self, document: &JudgedDocument, fault: &FieldFault) {
        let line = document.known.line;
        self.warnings.push(document.fault_at(line, fault));
    }

    fn check_attachments(&mut self, number: usize, document: &'a JudgedDocument) {
        let claimant = self.claimant(number);
        let known = &document.known;
        for (attachment, line) in known.attachments.iter().zip(&known.attachment_lines) {
            let unserved = self
                .settings
                .and_then(|settings| settings.unserved_reason(attachment));
            let mut conflicts: Vec<&AttachmentClaim<'a, usize>> =
                self.claims.conflicts(attachment, number).collect();
            let is_claimed = claimant.has(attachment) && self.registered.is_claimed(attachment);
            if !claimant.is_active() || !is_claimed {
                conflicts.clear();
            }
            if !conflicts.is_empty() && claimant.registered.is_none() {
                self.faulty.insert(number);
            }
            // The conflict is reported once, for the instance that loses it.
            let lost = conflicts
                .into_iter()
                .filter(|claim| self.rank(claim.claimant) < self.rank(number))
                .min_by_key(|claim| claim.claimant);
            let conflict =
                lost.map(|claim| self.conflict_message(attachment, claim, claimant.registered));
            for message in unserved.into_iter().chain(conflict) {
                let fault = FieldFault::new(ATTACHMENTS, message);
                self.faults.push(document.fault_at(*line, &fault));
            }
        }
    }

    /// Orders claimants. The lower one keeps the attachment, or is named in the fault of the other.
    fn rank(&self, number: usize) -> (bool, bool, usize) {
        let is_unregistered = self.claimant(number).registered.is_none();
        let is_valid = number < self.read.documents.len();
        (is_unregistered, is_valid, number)
    }

    fn conflict_message(
        &self,
        attachment: &Attachment,
        claim: &AttachmentClaim<'_, usize>,
        registered: Option<&RegisteredInstance>,
    ) -> String {
        let other = self.claimant(claim.claimant);
        let id = other.id.map_or("an instance", InstanceId::as_str);
        let place = match other.line {
            0 => other.file.display().to_string(),
            line => format!("{}:{line}", other.file.display()),
        };
        let consequence = match (registered, other.registered) {
            (None, Some(_)) => format!("{id} is registered and keeps it"),
            (Some(_), _) | (None, None) => "neither would be served there".to_string(),
        };
        if attachment == claim.attachment {
            format!("{attachment} is claimed by {id} too ({place}); {consequence}")
        } else {
            let other = claim.attachment;
            format!("{attachment} conflicts with {other} of {id} ({place}); {consequence}")
        }
    }

    /// Returns the attachments of an instance that no registered instance has.
    fn unregistered_attachments(&self, number: usize) -> Vec<InstanceAttachment> {
        let is_free = |attachment: &&'a InstanceAttachment| {
            let mut conflicts = self.claims.conflicts(attachment, number);
            conflicts.all(|claim| {
                let registered = self.claimant(claim.claimant).registered;
                registered.is_none_or(|registered| !registered.has(claim.attachment))
            })
        };
        let claimant = self.claimant(number);
        // Where no id says that the guest may be another one, every record counts: a misspelled id
        // in a document does not keep its instance from being served.
        let is_free = |attachment: &&'a InstanceAttachment| {
            is_free(attachment)
                && (claimant.id.is_some()
                    || self.records.first_conflict(attachment, None).is_none())
        };
        let attachments = claimant.attachments.iter();
        attachments.filter(is_free).cloned().collect()
    }

    fn finish(self) -> CheckResult {
        let count = self.read.documents.len();
        let of_documents = self.faulty.iter().copied();
        let faulty = of_documents.chain(count..count + self.read.faulty.len());
        let faulty = faulty.map(|number| {
            let Claimant { id, file, line, .. } = self.claimant(number);
            FaultyInstance {
                id: id.cloned(),
                attachments: self.unregistered_attachments(number),
                file: file.to_path_buf(),
                line,
            }
        });
        CheckResult {
            faulty: faulty.collect(),
            faulty_numbers: self.faulty,
            faults: self.faults,
            warnings: self.warnings,
            doubts: self.doubts,
            doubt_count: self.doubt_count,
        }
    }
}

impl CheckResult {
    /// Returns the documents with this result.
    fn documents(self, judged: Judged) -> CheckedDocuments {
        let mut checked = CheckedDocuments {
            faulty: self.faulty,
            faults: self.faults,
            warnings: self.warnings,
            doubts: self.doubts,
            doubt_count: self.doubt_count,
            texts: judged.texts,
            unreadable_files: judged.unread_paths.len() + judged.damaged_files,
            unread_paths: judged.unread_paths,
            ..CheckedDocuments::default()
        };
        for (number, document) in judged.documents.into_iter().enumerate() {
            if self.faulty_numbers.contains(&number) {
                continue;
            }
            match document.instance {
                Some(instance) => checked.instances.push(Document {
                    instance: *instance,
                    digest: document.known.digest,
                }),
                None => checked.known.push(document.known),
            }
        }
        checked
    }
}

impl Claimant<'_> {
    /// Returns whether it has a guest: a stopped or terminated instance claims nothing. The record
    /// decides where there is one. What cannot be read counts.
    fn is_active(&self) -> bool {
        match self.registered {
            Some(registered) => registered.is_active(),
            None => self.state.is_none_or(InstanceState::is_active),
        }
    }

    /// Returns whether it claims an attachment of its document for that document alone.
    fn claims_of_document(&self, attachment: &Attachment) -> bool {
        let registered = self.registered;
        registered
            .is_none_or(|registered| registered.state.is_none() && !registered.has(attachment))
    }

    /// Returns whether an attachment of its document is one that it claims.
    fn has(&self, attachment: &Attachment) -> bool {
        let registered = self.registered;
        registered.is_none_or(|registered| registered.state.is_none() || registered.has(attachment))
    }
}
