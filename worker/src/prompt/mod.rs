//! From text and images to the token ids of the model.
//!
//! An item is one conversation, rendered as the model's chat template does and tokenised as a whole:
//!
//! ```text
//! <|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{images}{text}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>
//! ```
//!
//! An image is `<|vision_start|>`, one `<|image_pad|>` for each of its tokens, `<|vision_end|>`. The
//! last token is the one that is pooled. Special tokens written in a text become those tokens, except
//! `<|image_pad|>` and `<|video_pad|>`, which stay ordinary characters: placeholders always stand
//! for images.

mod instruction;
mod positions;
mod vocabulary;

use std::path::Path;

pub use instruction::{DEFAULT_INSTRUCTION, normalise_instruction};
pub use positions::{PositionsError, positions};
pub use vocabulary::{SpecialTokens, Vocabulary};

use crate::embedder::{ItemError, PreparedImage, PreparedItem};

/// The reference's maximum length, in tokens, the pooled one included.
pub const DEFAULT_MAX_LENGTH: usize = shared::settings::DEFAULT_MAX_LENGTH as usize;

/// The user's turn of an item with neither text nor images.
const NOTHING: &str = "NULL";

/// Why prompts cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file is missing, unreadable, or not a tokenizer.
    #[error("cannot read the tokenizer {path}: {reason}; is this a model's tokenizer.json?")]
    Unreadable {
        /// The file.
        path: String,
        /// What went wrong.
        reason: String,
    },
    /// The tokenizer lacks a token that the prompt is made of.
    #[error("the tokenizer {path} has no added token {token}; it is not of a Qwen3-VL model")]
    MissingToken {
        /// The file.
        path: String,
        /// The token's content.
        token: String,
    },
    /// No room for a single token.
    #[error("the maximum length is {0} tokens; it must be at least 1")]
    MaxLength(usize),
}

/// Builds prompts for one instruction and one maximum length. Shared by all threads.
#[derive(Debug)]
pub struct Prompt {
    vocabulary: Vocabulary,
    /// The prompt up to the user's turn.
    head: String,
    /// The tokens of `head`, for items with images; without images text may merge with its end.
    head_ids: Vec<u32>,
    max_length: usize,
}

impl Prompt {
    /// Loads the tokenizer. The instruction is normalised as [`normalise_instruction`] says.
    pub fn from_file(tokenizer: &Path, instruction: &str, max_length: usize) -> Result<Self, PromptError> {
        if max_length == 0 {
            return Err(PromptError::MaxLength(max_length));
        }
        let vocabulary = Vocabulary::from_file(tokenizer)?;
        let instruction = normalise_instruction(instruction);
        let head = format!("<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n");
        let head_ids = vocabulary.encode(&head).map_err(|error| PromptError::Unreadable {
            path: tokenizer.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self { vocabulary, head, head_ids, max_length })
    }

    /// The special tokens' ids.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.vocabulary.special
    }

    /// Tokens of a text by itself.
    pub fn count(&self, text: &str) -> Result<usize, ItemError> {
        self.vocabulary.encode(text).map(|ids| ids.len())
    }

    /// The most tokens of an item, the pooled one included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The tokens of an item. `None` and no images is the literal `NULL`, an empty string an empty
    /// turn.
    ///
    /// An item longer than the maximum length is cut at the end, whatever it loses there, and the
    /// pooled token follows the cut. The cut may not lose an image's placeholder.
    pub fn build(&self, text: Option<&str>, images: Vec<PreparedImage>) -> Result<PreparedItem, ItemError> {
        let mut token_ids = if images.is_empty() {
            self.vocabulary.encode(&format!("{}{}", self.head, turn(text.unwrap_or(NOTHING))))?
        } else {
            let mut ids = self.with_images(&images)?;
            ids.extend(self.vocabulary.encode(&turn(text.unwrap_or_default()))?);
            ids
        };
        token_ids.truncate(self.max_length - 1);
        token_ids.push(self.vocabulary.special.end_of_text);
        Ok(PreparedItem { token_ids, images })
    }

    /// The head and the images. Special tokens surround an image, so that the text behind it is
    /// tokenised on its own in any case.
    fn with_images(&self, images: &[PreparedImage]) -> Result<Vec<u32>, ItemError> {
        let special = &self.vocabulary.special;
        let tokens: usize = images.iter().map(|image| image.tokens() + 2).sum();
        // The last `<|vision_end|>` may fall to the cut; the reference refuses lost placeholders only.
        let needed = self.head_ids.len() + tokens - 1 + 1;
        if needed > self.max_length {
            return Err(ItemError::ImagesDoNotFit { needed, max_length: self.max_length });
        }
        let mut ids = self.head_ids.clone();
        ids.reserve(tokens);
        for image in images {
            ids.push(special.vision_start);
            ids.extend(std::iter::repeat_n(special.image_pad, image.tokens()));
            ids.push(special.vision_end);
        }
        Ok(ids)
    }
}

/// The prompt from the text on.
fn turn(text: &str) -> String {
    format!("{text}<|im_end|>\n<|im_start|>assistant\n")
}
