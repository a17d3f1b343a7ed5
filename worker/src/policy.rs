//! What becomes of an item whose images are not all usable.
//!
//! An image that is missing, cannot be decoded or does not fit is dropped with a reason, and the item
//! is embedded with the rest. An item that named images, of which none is left, and that has no
//! text fails: it would otherwise get the vector of an empty prompt. Every item is accounted for
//! ([`shared::laws::Law::EveryItemIsAccountedFor`]).

use shared::part::{Reason, ReasonKind};

use crate::embedder::{Embedder, ImageError, ItemError, PreparedItem};

/// An image of an item that was found.
#[derive(Debug, Clone, Copy)]
pub struct FoundImage<'a> {
    /// The path as the item names it.
    pub path: &'a str,
    /// The file's bytes.
    pub bytes: &'a [u8],
}

/// An item as its bundle holds it.
#[derive(Debug, Clone, Copy)]
pub struct SourceItem<'a> {
    /// Its position in the whole input.
    pub index: u64,
    /// Its id.
    pub id: &'a str,
    /// Its text; absent is not empty.
    pub text: Option<&'a str>,
    /// The images that were found, in the item's order.
    pub images: &'a [FoundImage<'a>],
    /// Paths that the item names and that match nothing.
    pub missing: &'a [String],
}

/// How much of an item its vector stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All that it named.
    Full,
    /// Some of its images were dropped.
    Partial,
    /// All of its images were dropped.
    TextOnly,
}

/// What becomes of an item.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It gets a vector.
    Prepared {
        /// Ready for a batch.
        item: PreparedItem,
        /// Images it holds.
        images_used: usize,
        /// Whether images were dropped.
        status: Status,
        /// The dropped images: the missing ones, then the unusable ones in the item's order, then
        /// those that do not fit, from the last on.
        dropped: Vec<Reason>,
    },
    /// It gets no vector.
    Failed {
        /// Why.
        reason: Reason,
        /// The dropped images, ordered as above.
        dropped: Vec<Reason>,
    },
}

impl SourceItem<'_> {
    fn reason(&self, kind: ReasonKind, reason: String) -> Reason {
        Reason { index: self.index, id: self.id.to_owned(), kind, reason }
    }
}

/// Prepares an item with as many of its images as can be used.
pub fn prepare(embedder: &dyn Embedder, source: SourceItem<'_>) -> Outcome {
    let named = source.images.len() + source.missing.len();
    let mut dropped: Vec<Reason> = source.missing.iter().map(|path| missing(source, path)).collect();
    let mut paths = Vec::new();
    let mut images = Vec::new();
    for image in source.images {
        match embedder.prepare_image(image.bytes) {
            Ok(prepared) => {
                paths.push(image.path);
                images.push(prepared);
            }
            Err(error) => dropped.push(unusable(source, image.path, &error)),
        }
    }
    let has_text = source.text.is_some_and(|text| !text.is_empty());
    loop {
        if images.is_empty() && named > 0 && !has_text {
            return Outcome::Failed { reason: nothing_left(source, named), dropped };
        }
        match embedder.prepare_item(source.text, images.clone()) {
            Ok(item) => return prepared(item, named, dropped),
            Err(ItemError::ImagesDoNotFit { needed, max_length }) if !images.is_empty() => {
                images.pop();
                let path = paths.pop().unwrap_or_default();
                dropped.push(source.reason(
                    ReasonKind::DoesNotFit,
                    format!(
                        "image {path} does not fit: with it, prompt and images need {needed} tokens, more than \
                         the maximum length of {max_length}"
                    ),
                ));
            }
            // A text that the tokenizer refuses leaves nothing to embed either.
            Err(error) => {
                let reason = source.reason(ReasonKind::NothingToEmbed, error.to_string());
                return Outcome::Failed { reason, dropped };
            }
        }
    }
}

fn prepared(item: PreparedItem, named: usize, dropped: Vec<Reason>) -> Outcome {
    let images_used = item.images.len();
    let status = match images_used {
        used if used == named => Status::Full,
        0 => Status::TextOnly,
        _ => Status::Partial,
    };
    Outcome::Prepared { item, images_used, status, dropped }
}

fn missing(source: SourceItem<'_>, path: &str) -> Reason {
    let text = format!("image {path} is missing: no image has this path, or several match it");
    source.reason(ReasonKind::Missing, text)
}

fn unusable(source: SourceItem<'_>, path: &str, error: &ImageError) -> Reason {
    let kind = match error {
        ImageError::Undecodable(_) => ReasonKind::Undecodable,
        ImageError::Truncated(_) => ReasonKind::Truncated,
        ImageError::TooLarge { .. } => ReasonKind::TooLarge,
        ImageError::Ratio { .. } => ReasonKind::Ratio,
    };
    source.reason(kind, format!("image {path} {error}"))
}

fn nothing_left(source: SourceItem<'_>, named: usize) -> Reason {
    let images = match named {
        1 => "its image cannot be used".to_owned(),
        _ => format!("none of its {named} images can be used"),
    };
    source.reason(ReasonKind::NothingToEmbed, format!("nothing to embed: it has no text, and {images}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedder::hash::HashEmbedder;
    use crate::image::PixelLimits;

    /// A bitmap of 64x64 pixels, 4 tokens, that differs by `seed`.
    fn bitmap(seed: u8) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let picture = ::image::RgbImage::from_pixel(64, 64, ::image::Rgb([seed; 3]));
        picture.write_to(&mut bytes, ::image::ImageFormat::Bmp).unwrap();
        bytes.into_inner()
    }

    struct Item {
        text: Option<&'static str>,
        images: Vec<(&'static str, Vec<u8>)>,
        missing: Vec<String>,
    }

    fn run(max_length: usize, item: &Item) -> Outcome {
        let embedder = HashEmbedder::new(8.try_into().unwrap(), PixelLimits::default(), max_length);
        let images: Vec<FoundImage<'_>> =
            item.images.iter().map(|(path, bytes)| FoundImage { path, bytes }).collect();
        let source =
            SourceItem { index: 7, id: "q7", text: item.text, images: &images, missing: &item.missing };
        prepare(&embedder, source)
    }

    /// How many images were used, the status, and the kinds and texts of what was dropped.
    fn used(outcome: Outcome) -> (usize, Status, Vec<(ReasonKind, String)>) {
        match outcome {
            Outcome::Prepared { item, images_used, status, dropped } => {
                assert_eq!(item.images.len(), images_used);
                (images_used, status, kinds(dropped))
            }
            Outcome::Failed { reason, .. } => panic!("failed: {}", reason.reason),
        }
    }

    fn kinds(dropped: Vec<Reason>) -> Vec<(ReasonKind, String)> {
        dropped
            .into_iter()
            .map(|reason| {
                assert_eq!((reason.index, reason.id.as_str()), (7, "q7"));
                (reason.kind, reason.reason)
            })
            .collect()
    }

    #[test]
    fn what_named_no_images_is_full() {
        for text in [Some("x"), Some(""), None] {
            let item = Item { text, images: vec![], missing: vec![] };
            assert_eq!(used(run(8192, &item)), (0, Status::Full, vec![]));
        }
    }

    #[test]
    fn usable_images_are_used() {
        let images = vec![("a.bmp", bitmap(1)), ("b.bmp", bitmap(2))];
        let item = Item { text: None, images, missing: vec![] };
        assert_eq!(used(run(8192, &item)), (2, Status::Full, vec![]));
    }

    #[test]
    fn unusable_images_are_dropped_with_their_reasons() {
        let images = vec![("a.png", b"no picture".to_vec()), ("b.bmp", bitmap(2))];
        let item = Item { text: Some("x"), images, missing: vec!["c.png".into()] };
        let (images_used, status, dropped) = used(run(8192, &item));
        assert_eq!((images_used, status), (1, Status::Partial));
        assert_eq!(dropped[0].0, ReasonKind::Missing);
        assert!(dropped[0].1.starts_with("image c.png is missing"), "{}", dropped[0].1);
        assert_eq!(dropped[1].0, ReasonKind::Undecodable);
        assert!(dropped[1].1.starts_with("image a.png cannot be decoded: it is not"), "{}", dropped[1].1);
    }

    #[test]
    fn text_alone_remains_where_no_image_does() {
        let item = Item { text: Some("x"), images: vec![], missing: vec!["c.png".into()] };
        let (images_used, status, dropped) = used(run(8192, &item));
        assert_eq!((images_used, status, dropped.len()), (0, Status::TextOnly, 1));
    }

    #[test]
    fn nothing_left_fails() {
        for text in [Some(""), None] {
            let images = vec![("a.png", b"no picture".to_vec())];
            let item = Item { text, images, missing: vec!["c.png".into()] };
            let Outcome::Failed { reason, dropped } = run(8192, &item) else { panic!("prepared") };
            assert_eq!((reason.index, reason.id.as_str()), (7, "q7"));
            assert_eq!(reason.kind, ReasonKind::NothingToEmbed);
            assert!(reason.reason.contains("none of its 2 images"), "{}", reason.reason);
            assert_eq!(kinds(dropped).len(), 2);
        }
    }

    #[test]
    fn images_that_do_not_fit_are_dropped_from_the_last() {
        let images = || vec![("a.bmp", bitmap(1)), ("b.bmp", bitmap(2)), ("c.bmp", bitmap(3))];
        // The frame takes 15 tokens, an image 6, of which the very last may be cut off.
        let item = Item { text: Some("x"), images: images(), missing: vec![] };
        let (images_used, status, dropped) = used(run(25, &item));
        assert_eq!((images_used, status), (1, Status::Partial));
        assert_eq!(dropped[0].0, ReasonKind::DoesNotFit);
        assert!(dropped[0].1.contains("c.bmp") && dropped[0].1.contains("32 tokens"), "{}", dropped[0].1);
        assert!(dropped[1].1.contains("b.bmp") && dropped[1].1.contains("26 tokens"), "{}", dropped[1].1);
        assert_eq!(used(run(26, &item)).0, 2);

        let (images_used, status, dropped) = used(run(19, &item));
        assert_eq!((images_used, status, dropped.len()), (0, Status::TextOnly, 3));
        let item = Item { text: None, images: images(), missing: vec![] };
        assert!(matches!(run(19, &item), Outcome::Failed { dropped, .. } if dropped.len() == 3));
    }
}
