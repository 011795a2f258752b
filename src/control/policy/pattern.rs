//! Texts with wildcards, in filters and in rules: `*` stands for any text, `?` for one character, and `\\` takes the next
//! character as it is. Upper and lower case differ.

/// A text with wildcards.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Exactly(char),
    One,
    Any,
}

impl Pattern {
    /// Reads a pattern; every text is one.
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

    /// Whether it is nothing but `*`.
    pub(crate) fn matches_everything(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|piece| *piece == Piece::Any)
    }

    /// Whether it matches more than one text.
    pub(crate) fn has_wildcards(&self) -> bool {
        self.0
            .iter()
            .any(|piece| matches!(piece, Piece::One | Piece::Any))
    }

    /// Whether a text is one that it stands for.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.fits(text.len(), |place, c| text[place] == c)
    }

    /// Whether it matches an id that an instance may get at its launch: `i-` and 17 hexadecimal digits.
    pub(crate) fn matches_a_new_id(&self) -> bool {
        self.fits("i-".len() + 17, |place, c| match place {
            0 => c == 'i',
            1 => c == '-',
            _ => matches!(c, '0'..='9' | 'a'..='f'),
        })
    }

    /// Whether it matches one of the texts that have this length and at each place one of the characters that may be
    /// there. Goes back to the last `*` only, so that no pattern takes more than pattern times text.
    fn fits(&self, length: usize, may_be_at: impl Fn(usize, char) -> bool) -> bool {
        let (mut piece, mut place) = (0, 0);
        let mut last_any = None;
        while place < length {
            match self.0.get(piece) {
                Some(Piece::Any) => {
                    last_any = Some((piece, place));
                    piece += 1;
                }
                Some(Piece::One) => (piece, place) = (piece + 1, place + 1),
                Some(Piece::Exactly(c)) if may_be_at(place, *c) => {
                    (piece, place) = (piece + 1, place + 1)
                }
                _ => {
                    let Some((any, from)) = last_any else {
                        return false;
                    };
                    last_any = Some((any, from + 1));
                    (piece, place) = (any + 1, from + 1);
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
    fn a_pattern_has_wildcards_and_a_way_around_them() {
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
    fn a_hostile_pattern_does_not_take_for_ever() {
        let pattern = Pattern::read(&"*a".repeat(2_000));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(256))));
    }
}
