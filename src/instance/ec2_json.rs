//! JSON in the style of EC2's metadata: an indent of two spaces, a space on both sides of the
//! colon, arrays in one line with spaces inside the brackets, no newline at the end. The signatures
//! of identity documents cover every byte of it.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Returns a value as JSON in EC2's style.
pub fn ec2_json(value: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(512);
    let mut serializer = Serializer::with_formatter(&mut bytes, Ec2Style { depth: 0 });
    value
        .serialize(&mut serializer)
        .expect("plain data is JSON");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

struct Ec2Style {
    depth: usize,
}

impl Ec2Style {
    fn new_line(&self, out: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"  "))
    }
}

impl Formatter for Ec2Style {
    fn begin_object<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        out.write_all(b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.new_line(out)?;
        out.write_all(b"}")
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.new_line(out)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b" : ")
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b"[ ")
    }

    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b" ]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_and_arrays_have_ec2s_layout() {
        let value = json!({"a": "x", "b": null, "c": ["one", "two"]});
        assert_eq!(
            ec2_json(&value),
            "{\n  \"a\" : \"x\",\n  \"b\" : null,\n  \"c\" : [ \"one\", \"two\" ]\n}"
        );
        assert_eq!(ec2_json(&json!([{"a": "x"}])), "[ {\n  \"a\" : \"x\"\n} ]");
    }
}
