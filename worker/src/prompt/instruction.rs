//! The instruction in the system turn.

use std::borrow::Cow;

use unicode_general_category::{GeneralCategory, get_general_category};

pub use shared::settings::DEFAULT_INSTRUCTION;

/// The instruction as the reference puts it: white space around it goes, a full stop is added unless
/// it ends in punctuation (Unicode category `P*`), and a blank one is [`DEFAULT_INSTRUCTION`].
pub fn normalise_instruction(instruction: &str) -> Cow<'_, str> {
    let instruction = instruction.trim_matches(is_python_space);
    match instruction.chars().next_back() {
        None => Cow::Borrowed(DEFAULT_INSTRUCTION),
        Some(last) if is_punctuation(last) => Cow::Borrowed(instruction),
        Some(_) => Cow::Owned(format!("{instruction}.")),
    }
}

/// What Python's `str.strip` removes: Unicode white space and four separators of ASCII.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

fn is_punctuation(character: char) -> bool {
    use GeneralCategory as Category;
    matches!(
        get_general_category(character),
        Category::ConnectorPunctuation
            | Category::DashPunctuation
            | Category::OpenPunctuation
            | Category::ClosePunctuation
            | Category::InitialPunctuation
            | Category::FinalPunctuation
            | Category::OtherPunctuation
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_the_reference() {
        let cases = [
            ("", DEFAULT_INSTRUCTION),
            (" \n\u{1f}\u{3000}", DEFAULT_INSTRUCTION),
            ("  Retrieve items ", "Retrieve items."),
            ("유사한 문항을 찾으시오。", "유사한 문항을 찾으시오。"),
            ("Is it?", "Is it?"),
            ("(so)", "(so)"),
            ("a + b =", "a + b =."),
            ("«so»", "«so»"),
            ("price $", "price $."),
        ];
        for (given, expected) in cases {
            assert_eq!(normalise_instruction(given), expected, "{given:?}");
        }
    }
}
