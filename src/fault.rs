//! A fault in a file that an operator wrote: which file, which line, which field, what is wrong.
//!
//! Whoever reads such a file reports every fault it finds, not the first.

use std::fmt;
use std::path::{Path, PathBuf};

/// One fault in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as the operator named it.
    pub file: PathBuf,
    /// Counted from 1; 0 when the fault is not in a line (the file can't be read, say).
    pub line: usize,
    /// The field in the file's own spelling, `Imds.UserData` or `control.listen`; empty for the file as a whole.
    pub field: String,
    /// What is wrong and, where it is not plain, what would be right.
    pub message: String,
}

impl Fault {
    /// A fault of the file as a whole.
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

/// A fault in a value whose file is not known here: the field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// The field in the document's own spelling, `Imds.UserData`.
    pub field: String,
    /// What is wrong and, where it is not plain, what would be right.
    pub message: String,
}

impl FieldFault {
    /// A fault of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> FieldFault {
        FieldFault {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The same fault in a file; `line` is counted from 1, 0 when it is not known.
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

/// The line, counted from 1, in which byte `offset` of `text` stands.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|&&b| b == b'\n')
        .count()
}
