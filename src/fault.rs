//! A fault in a file that an operator wrote: the file, the line, the field and the fault.
//!
//! Readers of such files report every fault, not only the first.

use std::fmt;
use std::path::{Path, PathBuf};

/// One fault in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as the operator named it.
    pub file: PathBuf,
    /// The line, counted from 1; 0 if the fault has no line, for example if the file cannot be
    /// read.
    pub line: usize,
    /// The field as the file spells it, `Imds.UserData` or `control.listen`; empty for a fault of
    /// the whole file.
    pub field: String,
    /// What is wrong and, if it is not obvious, what is right.
    pub message: String,
}

impl Fault {
    /// Returns a fault of the whole file.
    pub fn of_file(file: &Path, message: impl fmt::Display) -> Fault {
        Fault {
            file: file.to_path_buf(),
            line: 0,
            field: String::new(),
            message: message.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A fault in a value whose file is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// The field as the document spells it, `Imds.UserData`.
    pub field: String,
    /// What is wrong and, if it is not obvious, what is right.
    pub message: String,
}

impl FieldFault {
    /// Returns a fault of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> FieldFault {
        FieldFault {
            field: field.into(),
            message: message.into(),
        }
    }

    /// Returns the same fault in a file. `line` is counted from 1; 0 if it is not known.
    pub fn in_file(self, file: &Path, line: usize) -> Fault {
        Fault {
            file: file.to_path_buf(),
            line,
            field: self.field,
            message: self.message,
        }
    }
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Returns the line of byte `offset` in `text`, counted from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|&&b| b == b'\n')
        .count()
}
