//! The items of the demo.

use std::collections::HashSet;
use std::path::Path;

use serde::Serialize;

use super::figures::{self, TRUNCATED, WHOLE};
use super::random::Random;
use super::text::{self, SUBJECTS};
use super::{DemoError, make_folder, write_json};

/// Items in all.
const COUNT: usize = 300;

/// Of ten ordinary items, those that name a figure; spread so that every subject has some.
const FIGURES_IN_TEN: usize = 3;

/// What a run over the demo's items must report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expected {
    /// Items in both files.
    pub items: u64,
    /// Items that name at least one image.
    pub with_images_named: u64,
    /// Items of which some images are usable and some not.
    pub partial: u64,
    /// Items with text of which no named image is usable.
    pub text_only: u64,
    /// Items with nothing to embed.
    pub failed: u64,
    /// Images named that no figure has.
    pub images_missing: u64,
}

/// An item as the file has it. A text that is absent is another thing than an empty one.
#[derive(Debug, Clone, Serialize)]
struct Item {
    #[serde(rename = "item_id")]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    images: Vec<String>,
    has_image: bool,
    subject: &'static str,
    year: i64,
}

/// The odd items, each at its place among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    /// A figure and no text.
    FigureAlone,
    /// A figure and an empty text.
    FigureAndEmptyText,
    /// Two figures.
    TwoFigures,
    /// Text, and an image that is missing: embedded by its text.
    MissingOnly,
    /// A figure and an image that is missing: embedded with the figure.
    MissingBeside,
    /// Text, and the figure that is cut off: embedded by its text.
    TruncatedOnly,
    /// A figure and the one that is cut off: embedded with the first.
    TruncatedBeside,
    /// The figure that is cut off and an empty text: the one item that fails.
    NothingToEmbed,
    /// An empty text and no image: an empty turn.
    EmptyText,
    /// No text and no image: `NULL`.
    Nothing,
}

const ODDITIES: [(usize, Oddity); 15] = [
    (11, Oddity::FigureAlone),
    (23, Oddity::TwoFigures),
    (37, Oddity::FigureAndEmptyText),
    (52, Oddity::MissingOnly),
    (68, Oddity::TruncatedOnly),
    (85, Oddity::EmptyText),
    (101, Oddity::TwoFigures),
    (118, Oddity::FigureAlone),
    (149, Oddity::NothingToEmbed),
    (166, Oddity::MissingBeside),
    (187, Oddity::TwoFigures),
    (203, Oddity::TruncatedBeside),
    (222, Oddity::Nothing),
    (241, Oddity::FigureAlone),
    (277, Oddity::TwoFigures),
];

/// Writes `items_part1.json` and `items_part2.json` to `dir`: 300 exam items, with images named relative to
/// the folder that [`super::write_figures`] fills. Exactly one item ends as failed. The same seed gives the same
/// bytes.
pub fn write_items(dir: &Path, seed: u64) -> Result<Expected, DemoError> {
    make_folder(dir)?;
    let items = items(seed);
    for (position, part) in items.chunks(COUNT.div_ceil(2)).enumerate() {
        write_json(&dir.join(format!("items_part{}.json", position + 1)), &part)?;
    }
    let has =
        |wanted: &[Oddity]| ODDITIES.iter().filter(|(_, oddity)| wanted.contains(oddity)).count() as u64;
    Ok(Expected {
        items: COUNT as u64,
        with_images_named: items.iter().filter(|item| !item.images.is_empty()).count() as u64,
        partial: has(&[Oddity::MissingBeside, Oddity::TruncatedBeside]),
        text_only: has(&[Oddity::MissingOnly, Oddity::TruncatedOnly]),
        failed: has(&[Oddity::NothingToEmbed]),
        images_missing: has(&[Oddity::MissingOnly, Oddity::MissingBeside]),
    })
}

fn items(seed: u64) -> Vec<Item> {
    let mut random = Random::named(seed, "items");
    let mut used = HashSet::new();
    (0..COUNT).map(|number| item(number, &mut random, &mut used)).collect()
}

fn item(number: usize, random: &mut Random, used: &mut HashSet<String>) -> Item {
    let subject = SUBJECTS[number % SUBJECTS.len()];
    let year = random.between(2005, 2024);
    let figure = random.between(0, WHOLE as i64 - 1) as usize;
    let other = (figure + 1 + random.between(0, WHOLE as i64 - 2) as usize) % WHOLE;
    let oddity = ODDITIES.iter().find(|(at, _)| *at == number).map(|(_, oddity)| *oddity);
    let has_figure = number * 7 % 10 < FIGURES_IN_TEN;
    let kind = (has_figure || oddity.is_some()).then(|| figures::kind(figure));
    let text = fresh_text(subject, kind, random, used);
    let (named, second) = (figures::named_path(figure), figures::named_path(other));
    let (missing, cut) = (figures::missing_path(number), figures::named_path(TRUNCATED));
    let (text, images) = match oddity {
        None => (Some(text), if has_figure { vec![named] } else { vec![] }),
        Some(Oddity::FigureAlone) => (None, vec![named]),
        Some(Oddity::FigureAndEmptyText) => (Some(String::new()), vec![named]),
        Some(Oddity::TwoFigures) => (Some(text), vec![named, second]),
        Some(Oddity::MissingOnly) => (Some(text), vec![missing]),
        Some(Oddity::MissingBeside) => (Some(text), vec![named, missing]),
        Some(Oddity::TruncatedOnly) => (Some(text), vec![cut]),
        Some(Oddity::TruncatedBeside) => (Some(text), vec![cut, named]),
        Some(Oddity::NothingToEmbed) => (Some(String::new()), vec![cut]),
        Some(Oddity::EmptyText) => (Some(String::new()), vec![]),
        Some(Oddity::Nothing) => (None, vec![]),
    };
    let has_image = !images.is_empty();
    Item { id: format!("D{:05}", number + 1), text, images, has_image, subject, year }
}

/// A text that no other item has.
fn fresh_text(
    subject: &str,
    kind: Option<figures::Kind>,
    random: &mut Random,
    used: &mut HashSet<String>,
) -> String {
    let is_korean = !subject.is_ascii();
    loop {
        let text = match kind {
            Some(kind) => text::about_figure(kind, is_korean, random),
            None => text::question(subject, random),
        };
        if used.insert(text.clone()) {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::{SEED, write_figures};
    use super::*;

    fn written(seed: u64) -> (Expected, Vec<Value>) {
        let folder = tempfile::tempdir().unwrap();
        let expected = write_items(folder.path(), seed).unwrap();
        let read = |name: &str| -> Vec<Value> {
            serde_json::from_slice(&std::fs::read(folder.path().join(name)).unwrap()).unwrap()
        };
        let mut items = read("items_part1.json");
        items.extend(read("items_part2.json"));
        (expected, items)
    }

    #[test]
    fn the_same_seed_gives_the_same_items() {
        assert_eq!(written(SEED), written(SEED));
        assert_ne!(written(SEED).1, written(SEED + 1).1);
    }

    /// Counts what the policy must do, from the files alone.
    #[test]
    fn every_policy_is_met_and_one_item_fails() {
        let folder = tempfile::tempdir().unwrap();
        write_figures(folder.path(), SEED).unwrap();
        let (expected, items) = written(SEED);
        let mut found = Expected { items: items.len() as u64, ..Expected::default() };
        let mut without_text = 0;
        for item in &items {
            let text = item.get("text").map(|text| text.as_str().unwrap());
            let images: Vec<&str> =
                item["images"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            assert_eq!(item["has_image"].as_bool(), Some(!images.is_empty()));
            let exists = |named: &str| (0..=TRUNCATED).find(|&number| figures::named_path(number) == named);
            let missing = images.iter().filter(|path| exists(path).is_none()).count();
            let usable =
                images.iter().filter(|path| exists(path).is_some_and(|number| number < WHOLE)).count();
            found.images_missing += missing as u64;
            found.with_images_named += u64::from(!images.is_empty());
            without_text += usize::from(text.is_none());
            if !images.is_empty() && usable < images.len() {
                match (usable, text.is_none_or(str::is_empty)) {
                    (0, true) => found.failed += 1,
                    (0, false) => found.text_only += 1,
                    _ => found.partial += 1,
                }
            }
        }
        assert_eq!(found, expected);
        assert_eq!(expected.failed, 1);
        assert!(expected.partial > 1 && expected.text_only > 1 && without_text > 1);
        assert!(items.iter().any(|item| item["images"].as_array().unwrap().len() == 2));
    }

    #[test]
    fn ids_and_texts_are_unique_and_both_languages_occur() {
        let items = items(SEED);
        assert_eq!(items.iter().map(|item| &item.id).collect::<BTreeSet<_>>().len(), COUNT);
        let texts: Vec<&str> =
            items.iter().filter_map(|item| item.text.as_deref()).filter(|text| !text.is_empty()).collect();
        assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len());
        let korean = texts.iter().filter(|text| text.contains('다') || text.contains('시')).count();
        assert!(korean > 100 && texts.len() - korean > 50, "{korean} of {}", texts.len());
    }
}
