//! Data paths: the version, and the segments below it.
//!
//! As on EC2: slashes may be doubled and trailing, each segment is percent-decoded once, and names
//! are case-sensitive. `.` and `..` are ordinary names that no category has, so a path cannot leave
//! its directory.

use std::borrow::Cow;

/// Every version that EC2 serves, in ascending order. `latest` is the newest.
///
/// Versions that the documentation names but EC2 does not serve (for example 2020-08-24) are not in
/// the list. A category that such a version introduced appears in the next version that is served.
pub const VERSIONS: [&str; 28] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
];

/// The alias of the newest version.
pub const LATEST: &str = "latest";

/// A version of the tree. The names sort like the versions: `1.0` before every date, `latest`
/// after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(&'static str);

impl Version {
    /// Returns the version with this name; `None` if EC2 does not serve it.
    pub fn parse(name: &str) -> Option<Version> {
        if name == LATEST {
            return Some(Version(LATEST));
        }
        let row = VERSIONS.binary_search(&name).ok()?;
        Some(Version(VERSIONS[row]))
    }

    /// Returns whether this version has what the release `since` introduced.
    pub fn has(self, since: &str) -> bool {
        self.0 >= since
    }
}

/// A path: its version, and what is below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPath<'a> {
    /// `/`: the list of versions.
    Root,
    /// `/<version>/…`
    Versioned(Version, Segments<'a>),
}

/// The segments of a path from one on, decoded one after the other; `None` for one with an invalid
/// escape, which is the name of nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments<'a>(&'a str);

impl Segments<'_> {
    /// Returns whether all segments were read.
    pub fn is_empty(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'/')
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Option<Cow<'a, str>>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0.as_bytes();
        let start = bytes.iter().take_while(|byte| **byte == b'/').count();
        let mut is_encoded = false;
        let mut length = 0;
        for byte in &bytes[start..] {
            if *byte == b'/' {
                break;
            }
            is_encoded |= *byte == b'%';
            length += 1;
        }
        let (segment, rest) = self.0[start..].split_at(length);
        self.0 = rest;
        if segment.is_empty() {
            return None;
        }
        Some(match is_encoded {
            true => decode(segment).map(Cow::Owned),
            false => Some(Cow::Borrowed(segment)),
        })
    }
}

impl<'a> DataPath<'a> {
    /// Reads a path; `None` for an unknown version, which is 404.
    pub fn parse(path: &'a str) -> Option<DataPath<'a>> {
        let mut segments = Segments(path);
        let Some(version) = segments.next() else {
            return Some(DataPath::Root);
        };
        let version = Version::parse(&version?)?;
        Some(DataPath::Versioned(version, segments))
    }
}

/// Percent-decodes one segment; `None` for an invalid escape or bytes that are not UTF-8.
fn decode(segment: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the segments below the version; `None` for a path that leads to nothing.
    fn below_latest(path: &str) -> Option<Vec<String>> {
        match DataPath::parse(path)? {
            DataPath::Root => None,
            DataPath::Versioned(_, segments) => {
                segments.map(|name| name.map(Cow::into_owned)).collect()
            }
        }
    }

    #[test]
    fn versions_ascend_and_latest_is_the_newest() {
        assert!(VERSIONS.is_sorted());
        assert!(VERSIONS.into_iter().all(|version| version < LATEST));
        assert!(Version::parse("latest").unwrap().has("2024-04-11"));
        assert!(Version::parse("2020-10-27").unwrap().has("2020-08-24"));
        assert!(!Version::parse("2019-10-01").unwrap().has("2020-08-24"));
        for unknown in [
            "2020-08-24",
            "2016-11-30",
            "LATEST",
            "1",
            "1.1",
            "2024-04-12",
            "2022-07-09",
            "",
        ] {
            assert_eq!(Version::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn extra_slashes_are_ignored_and_escapes_are_decoded_once() {
        for path in ["", "/", "//", "///"] {
            assert_eq!(DataPath::parse(path), Some(DataPath::Root), "{path}");
        }
        for (path, segments) in [
            ("/latest", &[][..]),
            ("/latest/", &[]),
            ("//latest", &[]),
            (
                "/latest/meta-data//instance-id/",
                &["meta-data", "instance-id"],
            ),
            ("/latest/a%20b", &["a b"]),
            ("/latest/%6deta-data", &["meta-data"]),
            ("/latest/%2e%2e/x", &["..", "x"]),
            ("/latest/a%2fb", &["a/b"]),
            ("/latest/%2520", &["%20"]),
            ("/latest/../x", &["..", "x"]),
            ("/l%61test/x", &["x"]),
        ] {
            assert_eq!(below_latest(path).unwrap(), segments, "{path}");
        }
        for path in [
            "/latest/%",
            "/latest/%2",
            "/latest/%zz",
            "/latest/%+1",
            "/latest/%ff",
            "/%00",
            "/LATEST/",
            "/late",
        ] {
            assert_eq!(below_latest(path), None, "{path}");
        }
    }
}
