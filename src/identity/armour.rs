//! Base64 in lines, with and without PEM's armour around it.
//!
//! Written as EC2 and OpenSSL write it. Read leniently, as these texts are pasted from web pages and tickets: any width of
//! line, text around the blocks. Not supported: headers inside a block (encrypted keys of old).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Columns of a line in what EC2's metadata serves.
pub(super) const EC2_COLUMNS: usize = 76;
/// Columns of a line in PEM (RFC 7468).
const PEM_COLUMNS: usize = 64;

/// Base64 in lines of so many columns, LF between them and none at the end.
pub(super) fn lines(bytes: &[u8], columns: usize) -> String {
    let text = BASE64_STANDARD.encode(bytes);
    let mut lined = String::with_capacity(text.len() + text.len() / columns);
    let mut rest = text.as_str();
    while rest.len() > columns {
        let (line, after) = rest.split_at(columns);
        lined.push_str(line);
        lined.push('\n');
        rest = after;
    }
    lined + rest
}

/// A PEM block, with its newline at the end.
pub(super) fn wrap(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines(der, PEM_COLUMNS)
    )
}

/// Base64 however it is broken into lines, armour or not; `None` when it is something else.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let inside = text.lines().filter(|line| !line.starts_with("-----"));
    let base64: String = inside
        .flat_map(|line| line.chars().filter(|c| !c.is_ascii_whitespace()))
        .collect();
    BASE64_STANDARD
        .decode(base64)
        .ok()
        .filter(|bytes| !bytes.is_empty())
}

/// The blocks with this label, armour included, in their order.
pub(super) fn blocks<'a>(text: &'a str, label: &str) -> impl Iterator<Item = &'a str> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let mut rest = text;
    std::iter::from_fn(move || {
        let from = rest.find(&begin)?;
        let to = from + rest[from..].find(&end)? + end.len();
        let block = &rest[from..to];
        rest = &rest[to..];
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_as_ec2_breaks_them() {
        for (bytes, lengths) in [
            (0, vec![0]),
            (57, vec![76]),
            (58, vec![76, 4]),
            (128, vec![76, 76, 20]),
        ] {
            let text = lines(&vec![7; bytes], EC2_COLUMNS);
            assert_eq!(
                text.split('\n').map(str::len).collect::<Vec<_>>(),
                lengths,
                "{bytes} bytes"
            );
        }
    }

    #[test]
    fn what_was_written_is_read_however_it_was_pasted() {
        let written = wrap("X", &[1; 100]);
        let pasted = format!("see:\r\n{}\nand\n{written}", written.replace('\n', "\r\n"));
        assert_eq!(
            blocks(&pasted, "X")
                .map(|block| decode(block).unwrap())
                .collect::<Vec<_>>(),
            [[1; 100], [1; 100]]
        );
        assert_eq!(blocks(&pasted, "Y").count(), 0);
        assert_eq!(blocks("-----BEGIN X-----\nAAAA", "X").count(), 0);
        assert_eq!((decode("A*=="), decode("")), (None, None));
    }
}
