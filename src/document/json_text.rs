//! Where each value of a JSON text is. A [`serde_json::Value`] does not say it, costs an allocation
//! for every string, and keeps one of several members with the same key.
//!
//! The text is read once, from its beginning to its end, and must be JSON. Of any other text the
//! values that are found mean nothing.

use std::borrow::Cow;

/// A JSON text with its values.
pub(super) struct JsonText<'t> {
    text: &'t str,
    /// The values in the order in which they begin.
    values: Vec<ValuePlace>,
    /// The numbers of the values that are directly in objects and arrays, together for each of them.
    children: Vec<usize>,
    /// The offsets of the line ends.
    line_ends: Vec<usize>,
}

/// The place of one value.
struct ValuePlace {
    /// The beginning and the end of its key, with the quotation marks; both 0 without a key.
    key: (usize, usize),
    is_key_escaped: bool,
    start: usize,
    end: usize,
    /// Which of [`JsonText::children`] are in it.
    children: (usize, usize),
}

/// One value of a text.
#[derive(Clone, Copy)]
pub(super) struct TextValue<'a, 't> {
    of: &'a JsonText<'t>,
    number: usize,
}

/// Texts of about this many bytes have one value. More values cost another allocation.
const BYTES_OF_A_VALUE: usize = 16;

/// The largest object whose keys are compared with each other. EC2's have about forty.
const MAX_COMPARED: usize = 100;

impl<'t> JsonText<'t> {
    /// Finds the values of a JSON text.
    pub(super) fn of(text: &'t str) -> JsonText<'t> {
        let bytes = text.as_bytes();
        let mut values = Vec::<ValuePlace>::with_capacity(text.len() / BYTES_OF_A_VALUE + 1);
        let (mut children, mut line_ends) = (Vec::new(), Vec::new());
        // Objects and arrays that have not ended: the number of each, and where its children begin
        // in `siblings`, which has the values that are in them.
        let (mut open, mut siblings) = (Vec::<(usize, usize)>::new(), Vec::<usize>::new());
        let (mut key, mut at) = ((0, 0), 0);
        let (mut is_escaped, mut is_key_escaped) = (false, false);
        while let Some(byte) = bytes.get(at) {
            let start = at;
            at = match byte {
                b'"' => {
                    let end;
                    (end, is_escaped) = end_of_string(bytes, at);
                    end
                }
                b'{' | b'[' | b'}' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => at + 1,
                _ => end_of_word(bytes, at),
            };
            match byte {
                b'\n' => line_ends.push(start),
                b',' | b':' | b' ' | b'\t' | b'\r' => {}
                b'}' | b']' => {
                    if let Some((number, first)) = open.pop() {
                        values[number].end = at;
                        values[number].children.0 = children.len();
                        children.extend(siblings.drain(first..));
                        values[number].children.1 = children.len();
                    }
                }
                b'"' if key == (0, 0) && is_in_object(bytes, &values, &open) => {
                    (key, is_key_escaped) = ((start, at), is_escaped);
                }
                byte => {
                    siblings.push(values.len());
                    if matches!(byte, b'{' | b'[') {
                        open.push((values.len(), siblings.len()));
                    }
                    values.push(ValuePlace {
                        key: std::mem::take(&mut key),
                        is_key_escaped,
                        start,
                        end: at,
                        children: (0, 0),
                    });
                }
            }
        }
        JsonText {
            text,
            values,
            children,
            line_ends,
        }
    }

    /// Returns whether two members of an object may have one key. Almost all texts have no such
    /// object, and to find out where it is takes much longer.
    pub(super) fn may_repeat_key(&self) -> bool {
        self.values.iter().any(|value| {
            let (first, end) = value.children;
            let members = &self.children[first..end];
            let member = |number: &usize| &self.values[*number];
            let key = |number: &usize| {
                let (start, end) = member(number).key;
                &self.text[start..end]
            };
            let is_repeated = |(index, number): (usize, &usize)| {
                members[..index]
                    .iter()
                    .any(|earlier| key(earlier) == key(number))
            };
            let is_object = members
                .first()
                .is_some_and(|number| !key(number).is_empty());
            let is_escaped = || members.iter().any(|number| member(number).is_key_escaped);
            is_object
                && (members.len() > MAX_COMPARED
                    || is_escaped()
                    || members.iter().enumerate().any(is_repeated))
        })
    }

    /// Returns the whole value; `None` if the text has none.
    pub(super) fn root(&self) -> Option<TextValue<'_, 't>> {
        (!self.values.is_empty()).then_some(TextValue {
            of: self,
            number: 0,
        })
    }
}

/// Returns whether what follows is in an object. There, a string without a key is a key.
fn is_in_object(bytes: &[u8], values: &[ValuePlace], open: &[(usize, usize)]) -> bool {
    let innermost = open.last();
    innermost.is_some_and(|(number, _)| bytes[values[*number].start] == b'{')
}

/// Returns the end of the string that begins at an offset, and whether it has escapes.
fn end_of_string(bytes: &[u8], start: usize) -> (usize, bool) {
    let (mut at, mut is_escaped) = (start + 1, false);
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return (at + 1, is_escaped),
            b'\\' => {
                is_escaped = true;
                2
            }
            _ => 1,
        };
    }
    (bytes.len(), is_escaped)
}

/// Returns the end of the number or the word that begins at an offset.
fn end_of_word(bytes: &[u8], start: usize) -> usize {
    let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
    let length = bytes[start..].iter().position(is_end);
    length.map_or(bytes.len(), |length| start + length)
}

impl<'a, 't> TextValue<'a, 't> {
    fn place(&self) -> &'a ValuePlace {
        &self.of.values[self.number]
    }

    /// Returns its text.
    pub(super) fn raw(&self) -> &'t str {
        let ValuePlace { start, end, .. } = *self.place();
        &self.of.text[start..end]
    }

    /// Returns the line at which it begins, counted from 1.
    pub(super) fn line(&self) -> usize {
        let start = self.place().start;
        1 + self.of.line_ends.partition_point(|end| *end < start)
    }

    pub(super) fn is_object(&self) -> bool {
        self.raw().starts_with('{')
    }

    pub(super) fn is_array(&self) -> bool {
        self.raw().starts_with('[')
    }

    /// Returns the text of its key, with the quotation marks.
    pub(super) fn raw_key(&self) -> &'t str {
        let (start, end) = self.place().key;
        &self.of.text[start..end]
    }

    /// Returns its key, if it is a member of an object.
    pub(super) fn key(&self) -> Option<Cow<'t, str>> {
        let raw = self.raw_key();
        let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
        match self.place().is_key_escaped {
            true => serde_json::from_str(raw).ok().map(Cow::Owned),
            false => Some(Cow::Borrowed(inner)),
        }
    }

    /// Returns the members of an object in their order, including those with the same key, or the
    /// elements of an array.
    pub(super) fn children(
        &self,
    ) -> impl DoubleEndedIterator<Item = TextValue<'a, 't>> + use<'a, 't> {
        let of = self.of;
        let children = self.child_numbers().iter();
        children.map(move |number| TextValue {
            of,
            number: *number,
        })
    }

    /// Returns an element of an array.
    pub(super) fn element(&self, index: usize) -> Option<TextValue<'a, 't>> {
        let number = self.is_array().then(|| self.child_numbers().get(index))??;
        Some(TextValue {
            of: self.of,
            number: *number,
        })
    }

    fn child_numbers(&self) -> &'a [usize] {
        let (first, end) = self.place().children;
        &self.of.children[first..end]
    }

    /// Writes it with the keys of all objects sorted. Of several members with one key, the last one
    /// is written, as in a [`serde_json::Value`].
    pub(super) fn write_sorted(&self, to: &mut String) {
        if self.is_object() {
            write_members(self.children(), to);
        } else if self.is_array() {
            to.push('[');
            for (index, element) in self.children().enumerate() {
                if index > 0 {
                    to.push(',');
                }
                element.write_sorted(to);
            }
            to.push(']');
        } else {
            to.push_str(self.raw());
        }
    }
}

/// Writes an object of these members as [`TextValue::write_sorted`] does.
pub(super) fn write_members<'a, 't: 'a>(
    members: impl Iterator<Item = TextValue<'a, 't>>,
    to: &mut String,
) {
    let keyed = members.map(|member| (member.key().unwrap_or_default(), member));
    let mut keyed: Vec<(Cow<'t, str>, TextValue<'a, 't>)> = keyed.collect();
    // Members with one key keep their order.
    keyed.sort_by(|(key, _), (other, _)| key.cmp(other));
    let mut sorted = keyed.iter().peekable();
    let mut is_first = true;
    to.push('{');
    while let Some((key, member)) = sorted.next() {
        if sorted.peek().is_some_and(|(next, _)| next == key) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            to.push(',');
        }
        to.push_str(member.raw_key());
        to.push(':');
        member.write_sorted(to);
    }
    to.push('}');
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Compares a value of the text with a tree of the same text without repeated keys.
    fn assert_equal(found: TextValue<'_, '_>, expected: &Value) {
        assert_eq!(
            &serde_json::from_str::<Value>(found.raw()).unwrap(),
            expected
        );
        match expected {
            Value::Object(members) => {
                assert!(found.is_object() && !found.is_array());
                assert_eq!(found.children().count(), members.len());
                for member in found.children() {
                    assert_equal(member, &members[&*member.key().unwrap()]);
                }
            }
            Value::Array(elements) => {
                assert!(found.is_array() && !found.is_object());
                assert_eq!(found.children().count(), elements.len());
                for (index, element) in found.children().enumerate() {
                    let expected = &elements[index];
                    assert_eq!(found.element(index).unwrap().raw(), element.raw());
                    assert_eq!(element.key(), None);
                    assert_equal(element, expected);
                }
            }
            _ => assert_eq!(found.children().count(), 0),
        }
    }

    #[test]
    fn every_value_of_a_text_is_found_with_its_key_and_its_line() {
        for text in [
            "1",
            " \n\"a\\\"\\\\\"\n",
            "{}",
            "[ ]",
            "[[],{},[{}],\"]\",\"\"]",
            r#"{"a":"a","b":["a","b",{"c":null}],"":{"":""},"\u00e9\"":-1.5e-7,"ü":"ü","{":true}"#,
            "{\n\t\"a\" : [ 1 , 2,false ]\r\n,\"b\":{\"c\"\n:\"d\"}}",
        ] {
            let found = JsonText::of(text);
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_equal(found.root().unwrap(), &expected);
            let mut sorted = String::new();
            found.root().unwrap().write_sorted(&mut sorted);
            assert_eq!(serde_json::from_str::<Value>(&sorted).unwrap(), expected);
        }
        let text = JsonText::of("{\n\"a\": [1,\n\n2],\n\"b\": 3}\n");
        let root = text.root().unwrap();
        let lines: Vec<usize> = root.children().map(|member| member.line()).collect();
        assert_eq!((root.line(), lines), (1, vec![2, 5]));
        let array = root.children().next().unwrap();
        let lines: Vec<usize> = array.children().map(|element| element.line()).collect();
        assert_eq!(lines, [2, 4]);
    }

    #[test]
    fn sorted_text_is_that_of_a_tree_of_values() {
        let text = r#"{"b":{"z":[{"y":1,"x":2}],"a":null},"B":"\n\u0001","é":1.5,"aa":{},"a":[],"b\"":1,"a":2}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let found = JsonText::of(text);
        let mut sorted = String::new();
        found.root().unwrap().write_sorted(&mut sorted);
        assert_eq!(sorted, value.to_string());
        assert_eq!(found.root().unwrap().children().count(), 7);
    }

    #[test]
    fn a_text_that_is_not_json_is_read_to_its_end() {
        for text in [
            "", "\"", "{\"a", "{\"a\\", "]}", "[}", "{\"a\":", "ü", "{ü:ö}", "\\",
        ] {
            let found = JsonText::of(text);
            if let Some(value) = found.root() {
                value.write_sorted(&mut String::new());
            }
        }
    }
}
