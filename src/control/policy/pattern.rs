//! Patterns of filters and rules: `*` matches any text, `?` one character, and `\\` the next
//! character literally. Matching is case-sensitive.

/// A pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Exactly(char),
    One,
    Any,
}

impl Pattern {
    /// Parses a pattern; every text is valid.
    pub(crate) fn read(text: &str) -> Pattern {
        let mut characters = text.chars();
        let mut pieces = Vec::new();
        while let Some(c) = characters.next() {
            pieces.push(match c {
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => Piece::Exactly(characters.next().unwrap_or('\\')),
                other => Piece::Exactly(other),
            });
        }
        Pattern(pieces)
    }

    /// Returns whether the pattern consists of `*` only.
    pub(crate) fn matches_everything(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|piece| *piece == Piece::Any)
    }

    /// Returns whether the pattern has wildcards, so that it matches more than one text.
    pub(crate) fn has_wildcards(&self) -> bool {
        self.0
            .iter()
            .any(|piece| matches!(piece, Piece::One | Piece::Any))
    }

    /// Returns whether the pattern matches a text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.matches_some(text.len(), |index, c| text[index] == c)
    }

    /// Returns whether the pattern matches some id of a new instance: `i-` and 17 hexadecimal
    /// digits.
    pub(crate) fn matches_a_new_id(&self) -> bool {
        self.matches_some("i-".len() + 17, |index, c| match index {
            0 => c == 'i',
            1 => c == '-',
            _ => matches!(c, '0'..='9' | 'a'..='f'),
        })
    }

    /// Returns whether the pattern matches some text of this length whose characters satisfy
    /// `may_be_at`. It returns to the last `*` only, so the time is at most the length of the
    /// pattern times that of the text.
    fn matches_some(&self, length: usize, may_be_at: impl Fn(usize, char) -> bool) -> bool {
        let (mut piece, mut index) = (0, 0);
        let mut last_any = None;
        while index < length {
            match self.0.get(piece) {
                Some(Piece::Any) => {
                    last_any = Some((piece, index));
                    piece += 1;
                }
                Some(Piece::One) => (piece, index) = (piece + 1, index + 1),
                Some(Piece::Exactly(c)) if may_be_at(index, *c) => {
                    (piece, index) = (piece + 1, index + 1)
                }
                _ => {
                    let Some((any, from)) = last_any else {
                        return false;
                    };
                    last_any = Some((any, from + 1));
                    (piece, index) = (any + 1, from + 1);
                }
            }
        }
        self.0[piece..].iter().all(|piece| *piece == Piece::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_wildcards_and_escapes() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("web", "web", true),
            ("web", "Web", false),
            ("web", "web1", false),
            ("web*", "web", true),
            ("web*", "web-1", true),
            ("*web", "my web", true),
            ("*e*", "web", true),
            ("*", "", true),
            ("**", "anything", true),
            ("?", "", false),
            ("?", "ü", true),
            ("??", "ü", false),
            ("w?b", "wöb", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"\?", "x", false),
            (r"\\", r"\", true),
            (r"\", r"\", true),
            (r"a\*b*", "a*b-1", true),
            (".*", "x", false),
        ] {
            assert_eq!(
                Pattern::read(pattern).matches(text),
                matches,
                "{pattern:?} {text:?}"
            );
        }
    }

    #[test]
    fn a_new_id_has_17_hexadecimal_digits() {
        for (pattern, matches) in [
            ("*", true),
            ("i-*", true),
            ("i-?????????????????", true),
            ("i-f*0?a*", true),
            ("i-0123456789abcdef*", true),
            ("*0*1*2*3*4*5*6*7*8*9*a*b*c*d*e*f*0*", true),
            ("*0*1*2*3*4*5*6*7*8*9*a*b*c*d*e*f*0*1*", false),
            ("i-????????", false),
            ("i-0???????", false),
            ("i-??????????????????*", false),
            ("i-g*", false),
            ("r-*", false),
        ] {
            assert_eq!(
                Pattern::read(pattern).matches_a_new_id(),
                matches,
                "{pattern:?}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_takes_bounded_time() {
        let pattern = Pattern::read(&"*a".repeat(2_000));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(256))));
    }
}
