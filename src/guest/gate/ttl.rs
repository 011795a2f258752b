//! The lifetime of a session token.

/// The longest lifetime of a token, in seconds: six hours (EC2's limit).
pub const MAX_TTL_SECONDS: u32 = 21_600;

/// The lifetime that a token is issued with: 1 to 21600 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlSeconds(u32);

impl TtlSeconds {
    /// Reads the header's value: digits only, without a sign or blanks.
    pub fn parse(value: &[u8]) -> Option<TtlSeconds> {
        if !(1..=5).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let seconds = value
            .iter()
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        (1..=MAX_TTL_SECONDS)
            .contains(&seconds)
            .then_some(TtlSeconds(seconds))
    }

    /// Returns the lifetime in seconds.
    pub fn get(self) -> u32 {
        self.0
    }
}
