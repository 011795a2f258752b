//! Characters that EC2's XML cannot represent. A value with one of them would not come back as it
//! was stored.

/// Returns the first character that XML 1.0 cannot represent, not even escaped: control characters
/// other than tab, line feed and carriage return, U+FFFE and U+FFFF.
///
/// <https://www.w3.org/TR/xml/#charsets>
pub fn unfit_for_xml(text: &str) -> Option<char> {
    text.chars().find(|c| !fits_xml(*c))
}

/// Returns whether XML 1.0 can represent a character.
pub fn fits_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_has_three_control_characters() {
        for (text, unfit) in [
            ("", None),
            ("a\tb\nc\rd \u{7f}\u{85}\u{e000}\u{fffd}\u{1f980}", None),
            ("a\0", Some('\0')),
            ("\u{1}", Some('\u{1}')),
            ("\u{b}", Some('\u{b}')),
            ("\u{1b}[0m", Some('\u{1b}')),
            ("\u{fffe}", Some('\u{fffe}')),
            ("\u{ffff}", Some('\u{ffff}')),
        ] {
            assert_eq!(unfit_for_xml(text), unfit, "{text:?}");
        }
    }
}
