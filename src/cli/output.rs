//! What the operator's subcommands print: text, JSON and tables, from the JSON of the admin API.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::Value;

/// How a subcommand prints its result.
#[derive(Args)]
pub(super) struct OutputArgs {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Writes to standard output. A reader that closed the pipe early is not an error.
pub(super) fn print(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}

/// Prints a value as indented JSON.
pub(super) fn print_json(value: &Value) {
    print(&(serde_json::to_string_pretty(value).expect("plain JSON data") + "\n"));
}

/// Prints rows below a header. Each column is as wide as its widest cell.
pub(super) fn print_table(header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    print(&text);
}

/// A value of an answer as text; `-` for null.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_string(),
        other => other.to_string(),
    }
}

/// The elements of an array in an answer; none if it is not an array.
pub(super) fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of an array, joined by commas.
pub(super) fn joined(value: &Value) -> String {
    each(value).map(text).collect::<Vec<_>>().join(", ")
}
