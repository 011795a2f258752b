//! A writer for EC2's XML. The document stays well-formed whatever a value contains.

use std::borrow::Cow;
use std::fmt::Display;

use bytes::Bytes;
use quick_xml::Writer;
use quick_xml::escape::partial_escape;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::api_version::ApiVersion;
use crate::instance::xml_characters::fits_xml;

/// The XML namespace of every successful EC2 reply; [`ResponseBody::in_version`] sets the version.
pub(super) const EC2_NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// The bytes before the namespace of a root element are fewer than this: the XML declaration and
/// the name of the action.
const MAX_ROOT: usize = 256;

/// The finished body of a reply.
#[derive(Debug)]
pub(super) struct ResponseBody(Vec<u8>);

impl ResponseBody {
    /// Returns a JSON body, for EC2 Instance Connect.
    pub(super) fn json(value: &serde_json::Value) -> ResponseBody {
        ResponseBody(value.to_string().into_bytes())
    }

    /// Returns the body with the namespace of this version of the EC2 API, which is that of the call:
    /// some clients look elements up by their full names.
    pub(super) fn in_version(mut self, version: ApiVersion) -> ResponseBody {
        // The namespace is in the root element, before any value. Versions are dates, so one fits
        // in the place of another.
        let namespace = EC2_NAMESPACE.as_bytes();
        let root = self.0.windows(namespace.len());
        if let Some(start) = root.take(MAX_ROOT).position(|bytes| bytes == namespace) {
            let end = start + namespace.len() - 1;
            let version = version.as_str().as_bytes();
            self.0[end - version.len()..end].copy_from_slice(version);
        }
        self
    }

    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from(self.0)
    }
}

/// An XML document under construction. Element names are constants; only values come from outside.
pub(super) struct Xml {
    writer: Writer<Vec<u8>>,
}

impl Xml {
    /// Returns a whole document; `fill` writes the content of `root`.
    pub(super) fn document(
        root: &str,
        namespace: Option<&str>,
        fill: impl FnOnce(&mut Xml),
    ) -> ResponseBody {
        let mut xml = Xml {
            writer: Writer::new(Vec::with_capacity(4096)),
        };
        xml.write(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        xml.write(Event::Text(BytesText::from_escaped("\n")));
        let mut start = BytesStart::new(root);
        start.extend_attributes(namespace.map(|namespace| ("xmlns", namespace)));
        xml.write(Event::Start(start));
        fill(&mut xml);
        xml.write(Event::End(BytesEnd::new(root)));
        ResponseBody(xml.writer.into_inner())
    }

    /// Writes `<name>value</name>`, or `<name/>` when the value is empty.
    pub(super) fn text(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        let value = printable(&value);
        if value.is_empty() {
            return self.write(Event::Empty(BytesStart::new(name)));
        }
        self.element(name, |xml| {
            xml.write(Event::Text(BytesText::from_escaped(partial_escape(value))))
        });
    }

    /// Writes `<name>value</name>`, or nothing when there is no value.
    pub(super) fn optional(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// Writes `<name>value</name>`, or nothing when the value is empty.
    pub(super) fn not_empty(&mut self, name: &str, value: &str) {
        self.optional(name, (!value.is_empty()).then_some(value));
    }

    /// Writes `<name>…</name>`.
    pub(super) fn element(&mut self, name: &str, fill: impl FnOnce(&mut Xml)) {
        self.write(Event::Start(BytesStart::new(name)));
        fill(self);
        self.write(Event::End(BytesEnd::new(name)));
    }

    /// Writes `<name><item>…</item>…</name>`, or `<name/>` for an empty list: without the element,
    /// SDKs return no list at all.
    pub(super) fn set<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Xml, T),
    ) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return self.write(Event::Empty(BytesStart::new(name)));
        }
        self.element(name, |xml| {
            items.for_each(|item| xml.element("item", |xml| fill(xml, item)))
        });
    }

    fn write(&mut self, event: Event<'_>) {
        self.writer
            .write_event(event)
            .expect("writing to a Vec cannot fail");
    }
}

/// Replaces characters that XML cannot represent with U+FFFD. Instances have none, but an error
/// message can repeat what its caller sent.
fn printable(value: &str) -> Cow<'_, str> {
    if value.chars().all(fits_xml) {
        return value.into();
    }
    let chars = value.chars();
    chars
        .map(|c| {
            if fits_xml(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_values_do_not_break_the_document() {
        for (value, written) in [
            ("plain", "<v>plain</v>"),
            ("", "<v/>"),
            ("</v><evil/>", "<v>&lt;/v&gt;&lt;evil/&gt;</v>"),
            ("a & b &lt;", "<v>a &amp; b &amp;lt;</v>"),
            ("]]>", "<v>]]&gt;</v>"),
            ("'\"", "<v>'\"</v>"),
            (
                "a\u{0}b\u{1b}[0m\u{b}",
                "<v>a\u{fffd}b\u{fffd}[0m\u{fffd}</v>",
            ),
            ("\u{fffe}\u{ffff}", "<v>\u{fffd}\u{fffd}</v>"),
            ("a\r\nb\tc", "<v>a&#13;\nb\tc</v>"),
            ("ü 猫 🦀", "<v>ü 猫 🦀</v>"),
        ] {
            let document = Xml::document("R", None, |xml| xml.text("v", value)).into_bytes();
            let expected = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R>{written}</R>");
            assert_eq!(
                std::str::from_utf8(&document).unwrap(),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn an_empty_list_is_an_empty_element() {
        let document = Xml::document("R", Some("urn:x"), |xml| {
            xml.set("none", Vec::<&str>::new(), |xml, item| xml.text("v", item));
            xml.set("two", ["1", "2"], |xml, item| xml.text("v", item));
            xml.optional("absent", None::<&str>);
        });
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R xmlns=\"urn:x\"><none/>\
            <two><item><v>1</v></item><item><v>2</v></item></two></R>";
        assert_eq!(document.into_bytes(), expected);
    }
}
