//! Foreign text in messages: never more of it than a person reads.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(excerpt("가나"), "가나");
        let long = "가".repeat(1000);
        assert_eq!(excerpt(&long), format!("{}… (3000 bytes)", "가".repeat(SHOWN)));
    }
}
