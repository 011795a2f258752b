//! Base64 in lines, with and without PEM armour.
//!
//! It is written as EC2 and OpenSSL write it. It is read leniently, because people paste these
//! texts from web pages and tickets: with any line width and with text around the blocks. Headers
//! inside a block (old encrypted keys) are not supported.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The line width of EC2's signatures.
pub(super) const EC2_COLUMNS: usize = 76;
/// The line width of PEM (RFC 7468).
const PEM_COLUMNS: usize = 64;

/// Returns base64 in lines of `columns` columns, with LF between them and none at the end.
pub(super) fn lines(bytes: &[u8], columns: usize) -> String {
    let text = BASE64_STANDARD.encode(bytes);
    let mut text_in_lines = String::with_capacity(text.len() + text.len() / columns);
    let mut rest = text.as_str();
    while rest.len() > columns {
        let (line, after) = rest.split_at(columns);
        text_in_lines.push_str(line);
        text_in_lines.push('\n');
        rest = after;
    }
    text_in_lines + rest
}

/// Returns a PEM block with a final newline.
pub(super) fn wrap(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines(der, PEM_COLUMNS)
    )
}

/// Decodes base64 with any line width, with or without armour; `None` if it is not base64 or empty.
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

/// Returns the blocks with this label and their armour, in order.
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
    fn lines_have_the_width_of_ec2() {
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
    fn pasted_blocks_are_read() {
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
