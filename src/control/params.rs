//! The parameters of a call. The action takes the ones it knows; the rest are refused, so that a
//! misspelled `HttpToken=required` cannot look like a successful change.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::error::{Code, Ec2Error};
use crate::instance::xml_characters::unfit_for_xml;
use crate::sigv4::decode_form;

/// The most parameters one call may have: 1,000 ids, which is what clients put in one call, with
/// filters or tags beside them. The size of a body limits them further.
const MAX_PARAMETERS: usize = 2_000;

/// The names that every call may have: those common to all actions, and those that signatures of
/// version 2 and 4 put in the query.
const COMMON: [&str; 14] = [
    "Action",
    "Version",
    "AWSAccessKeyId",
    "Signature",
    "SignatureMethod",
    "SignatureVersion",
    "Timestamp",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// The parameters that the action has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    remaining: BTreeMap<String, String>,
}

impl Parameters {
    /// Decodes the query and the body. Names are case-sensitive; a name without `=` has an empty
    /// value.
    ///
    /// A parameter that appears twice is refused. EC2's behaviour is not known, and with either
    /// value, two readers of the same request could disagree.
    pub(super) fn read(query: &str, body: &[u8]) -> Result<Parameters, Ec2Error> {
        let malformed = || {
            Ec2Error::new(
                Code::MalformedQueryString,
                "The query string contains a syntax error.",
            )
        };
        let text = |raw: &[u8]| {
            decode_form(raw)
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(malformed)
        };
        let pairs = query
            .as_bytes()
            .split(|b| *b == b'&')
            .chain(body.split(|b| *b == b'&'));
        let mut remaining = BTreeMap::new();
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.iter().position(|b| *b == b'=') {
                Some(index) => (&pair[..index], &pair[index + 1..]),
                None => (pair, &[][..]),
            };
            if remaining.len() == MAX_PARAMETERS {
                let message = format!("A request has at most {MAX_PARAMETERS} parameters.");
                return Err(Ec2Error::new(Code::MalformedQueryString, message));
            }
            match remaining.entry(text(name)?) {
                Entry::Vacant(entry) => {
                    let value = text(value)?;
                    refuse_unfit_for_xml(entry.key(), &value)?;
                    entry.insert(value);
                }
                Entry::Occupied(entry) => {
                    let message =
                        format!("The request contains the parameter {} twice", entry.key());
                    return Err(Ec2Error::new(Code::InvalidParameterCombination, message));
                }
            }
        }
        Ok(Parameters { remaining })
    }

    /// Takes one parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.remaining.remove(name)
    }

    /// Takes one parameter if it has this value.
    pub(super) fn take_if(&mut self, name: &str, value: &str) {
        if self.remaining.get(name).is_some_and(|known| known == value) {
            self.remaining.remove(name);
        }
    }

    /// Takes `name.1`, `name.2` and so on. Parameters after a gap are not taken, and so refused.
    pub(super) fn take_list(&mut self, name: &str) -> Vec<String> {
        (1..=MAX_PARAMETERS)
            .map_while(|n| self.take(&format!("{name}.{n}")))
            .collect()
    }

    /// Takes `Filter.1.Name`, `Filter.1.Value.1` and so on. The name may be missing.
    pub(super) fn take_filters(&mut self) -> Vec<(Option<String>, Vec<String>)> {
        (1..=MAX_PARAMETERS)
            .map(|n| {
                (
                    self.take(&format!("Filter.{n}.Name")),
                    self.take_list(&format!("Filter.{n}.Value")),
                )
            })
            .take_while(|(name, values)| name.is_some() || !values.is_empty())
            .collect()
    }

    /// Takes `<prefix>Tag.1.Key`, `<prefix>Tag.1.Value` and so on. A missing value is `None`, not
    /// empty.
    pub(super) fn take_tags(&mut self, prefix: &str) -> Vec<(String, Option<String>)> {
        (1..=MAX_PARAMETERS)
            .map_while(|n| {
                let key = self.take(&format!("{prefix}Tag.{n}.Key"));
                let value = self.take(&format!("{prefix}Tag.{n}.Value"));
                // A value without a key is a tag without a name.
                (key.is_some() || value.is_some()).then(|| (key.unwrap_or_default(), value))
            })
            .collect()
    }

    /// Takes a parameter that must be present and not empty.
    pub(super) fn take_required(&mut self, name: &str) -> Result<String, Ec2Error> {
        self.take(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Ec2Error::missing_parameter(name))
    }

    /// Returns a digest of the remaining parameters, without the common ones and without `ignored`.
    pub(super) fn digest(&self, ignored: &[&str]) -> String {
        let counts = |name: &str| !COMMON.contains(&name) && !ignored.contains(&name);
        let mut hash = Sha256::new();
        for (name, value) in self.remaining.iter().filter(|(name, _)| counts(name)) {
            // Lengths make the encoding unambiguous: no two sets have the same bytes.
            for text in [name, value] {
                hash.update(text.len().to_be_bytes());
                hash.update(text);
            }
        }
        STANDARD_NO_PAD.encode(hash.finalize())
    }

    /// Refuses the remaining parameters. Those in `unsupported` exist in EC2 and not in imdsd, so
    /// they get another error than unknown ones. An entry is a whole name or the first parts of
    /// one.
    pub(super) fn finish_without(self, unsupported: &[&str]) -> Result<(), Ec2Error> {
        let is_part = |name: &str, parameter: &str| {
            parameter
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        match self
            .remaining
            .keys()
            .find(|parameter| unsupported.iter().any(|name| is_part(name, parameter)))
        {
            Some(name) => {
                let message = format!("The parameter {name} is not supported.");
                Err(Ec2Error::new(Code::UnsupportedOperation, message))
            }
            None => self.finish(),
        }
    }

    /// Refuses the remaining parameters.
    pub(super) fn finish(self) -> Result<(), Ec2Error> {
        match self
            .remaining
            .keys()
            .find(|name| !COMMON.contains(&name.as_str()))
        {
            Some(name) => Err(Ec2Error::unknown_parameter(name)),
            None => Ok(()),
        }
    }
}

/// Parses a boolean parameter; absent means false. EC2 accepts only these two words.
pub(super) fn flag(name: &str, value: Option<&str>) -> Result<bool, Ec2Error> {
    match value {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(Ec2Error::not_one_of(other, name, "true", "false")),
    }
}

/// Refuses a value that EC2's XML could not return as it was sent.
fn refuse_unfit_for_xml(name: &str, value: &str) -> Result<(), Ec2Error> {
    match unfit_for_xml(value) {
        None => Ok(()),
        Some(c) => Err(Ec2Error::invalid_value(format!(
            "The value of the parameter {name} has a character that is not allowed (U+{:04X})",
            u32::from(c)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_and_body_form_one_set_of_parameters() {
        let mut parameters =
            Parameters::read("A=1&B=x+y%2B&C&", "&D=%C3%BC&E=a=b".as_bytes()).unwrap();
        for (name, value) in [
            ("A", "1"),
            ("B", "x y+"),
            ("C", ""),
            ("D", "ü"),
            ("E", "a=b"),
        ] {
            assert_eq!(parameters.take(name).as_deref(), Some(value), "{name}");
            assert_eq!(parameters.take(name), None);
        }
        assert_eq!(parameters.finish(), Ok(()));
    }

    #[test]
    fn malformed_and_repeated_parameters_are_refused() {
        for (query, body, code) in [
            ("A=%", "", Code::MalformedQueryString),
            ("", "A=%4", Code::MalformedQueryString),
            ("", "%zz=1", Code::MalformedQueryString),
            ("", "A=%ff", Code::MalformedQueryString),
            ("", "A=%C3", Code::MalformedQueryString),
            ("", "A=1&A=1", Code::InvalidParameterCombination),
            ("A=1", "A=2", Code::InvalidParameterCombination),
            ("A=1&%41=2", "", Code::InvalidParameterCombination),
        ] {
            assert_eq!(
                Parameters::read(query, body.as_bytes()).unwrap_err().code,
                code,
                "{query} {body}"
            );
        }
        assert_eq!(
            Parameters::read("", b"A=\xff").unwrap_err().code,
            Code::MalformedQueryString
        );
        let many = |n: usize| {
            (0..n)
                .map(|n| format!("p{n}="))
                .collect::<Vec<_>>()
                .join("&")
        };
        assert!(Parameters::read(&many(500), &many(2000).as_bytes()[many(500).len()..]).is_ok());
        assert_eq!(
            Parameters::read("", many(2001).as_bytes())
                .unwrap_err()
                .code,
            Code::MalformedQueryString
        );
    }

    /// EC2 allows any character in tags. Its responses are XML 1.0, which has no others.
    #[test]
    fn a_value_that_xml_cannot_represent_is_refused() {
        for (body, unfit) in [
            ("Tag.1.Value=a%0Ab%09c%0D", None),
            ("Tag.1.Value=%C2%85%7F", None),
            ("Tag.1.Value=a%01b", Some("U+0001")),
            ("Tag.1.Key=%00", Some("U+0000")),
            ("Tag.1.Key=%1B%5B0m", Some("U+001B")),
            ("Tag.1.Value=%EF%BF%BE", Some("U+FFFE")),
        ] {
            let read = Parameters::read("", body.as_bytes());
            match (read, unfit) {
                (Ok(_), None) => {}
                (Err(error), Some(unfit)) => {
                    assert_eq!(error.code, Code::InvalidParameterValue, "{body}");
                    assert!(error.message.contains(unfit), "{body}: {}", error.message);
                }
                (read, _) => panic!("{body}: {read:?}"),
            }
        }
    }

    #[test]
    fn parameters_that_the_action_does_not_take_are_refused() {
        for (body, left) in [
            ("InstanceId.1=a&InstanceId.3=c", "InstanceId.3"),
            ("InstanceId.0=a", "InstanceId.0"),
            ("InstanceId.01=a", "InstanceId.01"),
            ("InstanceId.2=a", "InstanceId.2"),
            ("InstanceId=a", "InstanceId"),
            ("instanceid.1=a", "instanceid.1"),
            ("InstanceId.1.x=a", "InstanceId.1.x"),
            ("Filter.2.Name=a", "Filter.2.Name"),
            ("Filter.1.Name=a&Filter.1.Value.2=b", "Filter.1.Value.2"),
            ("Filter.1.Name=a&Filter.1.Values.1=b", "Filter.1.Values.1"),
            ("=x", ""),
            ("X-Amz-Foo=1", "X-Amz-Foo"),
        ] {
            let mut parameters = Parameters::read(
                "Action=A&Version=1&X-Amz-Date=x&Signature=y",
                body.as_bytes(),
            )
            .unwrap();
            parameters.take_list("InstanceId");
            parameters.take_filters();
            assert_eq!(
                parameters.finish(),
                Err(Ec2Error::unknown_parameter(left)),
                "{body}"
            );
        }
    }

    #[test]
    fn a_flag_is_true_or_false() {
        assert_eq!(flag("DryRun", None), Ok(false));
        assert_eq!(flag("DryRun", Some("false")), Ok(false));
        assert_eq!(flag("DryRun", Some("true")), Ok(true));
        for bad in ["", "True", "TRUE", "1", "yes", "true "] {
            assert_eq!(
                flag("DryRun", Some(bad)).unwrap_err().code,
                Code::InvalidParameterValue,
                "{bad:?}"
            );
        }
    }
}
