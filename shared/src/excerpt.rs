//! Foreign text in messages: never more of it than a person reads, and nothing that a terminal obeys.

use std::borrow::Cow;

/// Characters of a foreign text that a message shows.
const SHOWN: usize = 200;

/// The beginning of `text`, with a mark where more was left out: a message about a text of megabytes
/// stays a line.
pub fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        None => text.into(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()).into(),
    }
}

/// `text` as one line that a terminal only shows: a space for each control character.
pub fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// `text` as lines that a terminal only shows.
pub fn lines(text: &str) -> String {
    text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(excerpt("가나"), "가나");
        let long = "가".repeat(1000);
        assert_eq!(excerpt(&long), format!("{}… (3000 bytes)", "가".repeat(SHOWN)));
    }

    #[test]
    fn a_terminal_gets_no_orders() {
        let foreign = "가\u{1b}[2J\r\n\tb\u{9b}1m";
        assert_eq!(one_line(foreign), "가 [2J   b 1m");
        assert_eq!(lines(foreign), "가 [2J \n\tb 1m");
    }
}
