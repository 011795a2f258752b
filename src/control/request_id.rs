//! The id of one request, in the reply and in the log.

use std::fmt;

/// A random UUID. SDKs read it from the reply's header or from its body, so both carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(String);

impl RequestId {
    /// Returns a random UUID of version 4 (RFC 9562).
    pub(super) fn random() -> RequestId {
        let random = rand::random::<u128>();
        let versioned = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{versioned:032x}");
        RequestId(format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        ))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_of_version_4() {
        for _ in 0..1000 {
            let id = RequestId::random().to_string();
            let hyphens: Vec<_> = id
                .char_indices()
                .filter(|(_, c)| *c == '-')
                .map(|(index, _)| index)
                .collect();
            assert_eq!((id.len(), hyphens), (36, vec![8, 13, 18, 23]), "{id}");
            assert!(
                id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]),
                "{id}"
            );
        }
        assert_ne!(RequestId::random(), RequestId::random());
    }
}
