//! A fault of an operator's file as JSON.

use serde_json::{Value, json};

use crate::fault::Fault;

/// Returns a fault with its file, line and field.
pub(super) fn fault_json(fault: &Fault) -> Value {
    json!({
        "File": fault.file.display().to_string(),
        "Line": fault.line,
        "Field": fault.field,
        "Message": fault.message,
    })
}
