//! What a read returns.

use std::borrow::Cow;

use jiff::Timestamp;

/// What a path leads to: the value of a leaf or the listing of a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct TreeContent<'a> {
    /// The body, without a newline at its end (`openssh-key` has one).
    pub bytes: Cow<'a, [u8]>,
    /// Its type.
    pub content_type: ContentType,
    /// When it last changed.
    pub last_modified: Timestamp,
}

/// The content types of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Everything except user data, JSON included.
    Text,
    /// User data.
    Octets,
}

impl<'a> TreeContent<'a> {
    pub(super) fn text(text: Cow<'a, str>, last_modified: Timestamp) -> TreeContent<'a> {
        let bytes = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        TreeContent {
            bytes,
            content_type: ContentType::Text,
            last_modified,
        }
    }

    pub(super) fn into_owned(self) -> TreeContent<'static> {
        TreeContent {
            bytes: Cow::Owned(self.bytes.into_owned()),
            content_type: self.content_type,
            last_modified: self.last_modified,
        }
    }
}

impl ContentType {
    /// Returns the header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            ContentType::Text => "text/plain",
            ContentType::Octets => "application/octet-stream",
        }
    }
}
