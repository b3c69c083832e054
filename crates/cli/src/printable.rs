//! What may go to a terminal: names in files are other people's, and a control character in one could move the cursor,
//! rename the window or hide what follows.

use std::borrow::Cow;

/// The text with control characters, and those that turn the direction of writing, written as `\u001b`; that is also how
/// JSON has them. Line ends and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unprintable(character) {
            true => out += &format!("\\u{:04x}", u32::from(character)),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

fn is_unprintable(character: char) -> bool {
    let turns =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && !matches!(character, '\n' | '\t')) || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        let title = "\x1b]0;owned\x07 \u{9b}31m \u{202e}txt\r\u{7f}";
        assert_eq!(printable(title), "\\u001b]0;owned\\u0007 \\u009b31m \\u202etxt\\u000d\\u007f");
        let plain = "ε = 8/255,\tMDEQ 😀\n";
        assert!(matches!(printable(plain), Cow::Borrowed(text) if text == plain));
        // Still JSON, and the same text.
        let json = serde_json::to_string(title).unwrap();
        let back: String = serde_json::from_str(&printable(&json)).unwrap();
        assert_eq!(back, title);
    }
}
