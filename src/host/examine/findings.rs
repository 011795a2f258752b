//! The result of an examination: findings with the commands that fix them, and what was not
//! checked.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::host::guests::GuestAttachment;
use crate::instance::InstanceId;

/// Something that keeps a guest from being served, or that another guest could exploit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The instance of the guest.
    pub instance: InstanceId,
    /// The attachment, as log lines name it.
    pub attachment: String,
    /// What is wrong.
    pub what: String,
    /// The command that fixes it, or what to do when no command can.
    #[serde(rename = "mend")]
    pub fix: String,
    /// Whether the guest is served all the same: the fix closes a way for it to attack the host.
    #[serde(skip_serializing_if = "is_false")]
    pub is_advice: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Something that could not be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchecked {
    /// The instance of the guest.
    pub instance: InstanceId,
    /// The attachment, as log lines name it.
    pub attachment: String,
    /// What was not checked, and why.
    pub what: String,
}

/// The result of an examination.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be checked.
    pub unchecked: Vec<Unchecked>,
    /// What protects the guests less than it could. No guest depends on it.
    pub notes: Vec<String>,
    /// The guests that are attached to the host's network.
    pub guests: BTreeSet<InstanceId>,
}

impl Examination {
    /// Returns whether nothing keeps a guest from being served.
    pub fn serves_all(&self) -> bool {
        self.findings.iter().all(|finding| finding.is_advice)
    }

    /// Returns the number of guests that were checked completely and are served. Advice does not
    /// count.
    pub fn fine(&self) -> usize {
        let is_fine = |guest: &&InstanceId| {
            !self
                .findings
                .iter()
                .any(|finding| finding.instance == **guest && !finding.is_advice)
                && !self
                    .unchecked
                    .iter()
                    .any(|unchecked| unchecked.instance == **guest)
        };
        self.guests.iter().filter(is_fine).count()
    }

    pub(super) fn add(&mut self, attachment: &GuestAttachment<'_>, report: Report) {
        let instance = &attachment.guest.id;
        let attachment = attachment.attachment.to_string();
        let advice = report.advice;
        let findings = report.problems.into_iter().enumerate();
        self.findings
            .extend(findings.map(|(number, problem)| Finding {
                instance: instance.clone(),
                attachment: attachment.clone(),
                what: problem.what,
                fix: problem.fix,
                is_advice: advice.contains(&number),
            }));
        let unchecked = report.unchecked.into_iter();
        self.unchecked.extend(unchecked.map(|what| Unchecked {
            instance: instance.clone(),
            attachment: attachment.clone(),
            what,
        }));
    }
}

/// What is wrong, and what fixes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) fix: String,
}

/// The results for one attachment.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    /// The numbers of the problems with which the guest is served all the same.
    advice: BTreeSet<usize>,
    pub(super) unchecked: Vec<String>,
}

impl Report {
    pub(super) fn problem(&mut self, what: impl fmt::Display, fix: impl fmt::Display) {
        self.problems.push(Problem {
            what: what.to_string(),
            fix: fix.to_string(),
        });
    }

    pub(super) fn advice(&mut self, problem: Problem) {
        self.advice.insert(self.problems.len());
        self.problems.push(problem);
    }

    pub(super) fn unchecked(&mut self, what: impl fmt::Display) {
        self.unchecked.push(what.to_string());
    }
}
