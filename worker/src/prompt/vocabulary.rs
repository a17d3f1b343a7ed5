//! The tokenizer of a model folder.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokenizers::Tokenizer;

use super::PromptError;
use crate::embedder::ItemError;

const IMAGE_PAD: &str = "<|image_pad|>";
/// Tokens that a text may not bring in. The second may be absent.
const PLACEHOLDERS: [&str; 2] = [IMAGE_PAD, "<|video_pad|>"];

/// The ids of the tokens that prompts are made of, looked up by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<|endoftext|>`, the pooled token.
    pub end_of_text: u32,
    /// `<|im_start|>`.
    pub turn_start: u32,
    /// `<|im_end|>`.
    pub turn_end: u32,
    /// `<|vision_start|>`.
    pub vision_start: u32,
    /// `<|vision_end|>`.
    pub vision_end: u32,
    /// `<|image_pad|>`, the placeholder.
    pub image_pad: u32,
}

/// A tokenizer in which every special token but the placeholders can be written in a text.
#[derive(Debug)]
pub struct Vocabulary {
    tokenizer: Tokenizer,
    /// The ids of the prompt's own tokens.
    pub special: SpecialTokens,
}

/// An entry of `added_tokens` in tokenizer.json.
#[derive(Serialize, Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    special: bool,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

impl Vocabulary {
    /// Loads tokenizer.json.
    pub fn from_file(path: &Path) -> Result<Self, PromptError> {
        let unreadable =
            |reason: String| PromptError::Unreadable { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let (text, added) = mark_placeholders(&text).map_err(|error| unreadable(error.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(text).map_err(|error| unreadable(error.to_string()))?;
        tokenizer.set_encode_special_tokens(true);
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| unreadable(error.to_string()))?;

        // The id the tokenizer gives, which need not be the one the file claims.
        let id_of = |content: &str| {
            let known = added.iter().any(|token| token.content == content);
            known.then(|| tokenizer.token_to_id(content)).flatten().ok_or_else(|| PromptError::MissingToken {
                path: path.display().to_string(),
                token: content.to_owned(),
            })
        };
        let special = SpecialTokens {
            end_of_text: id_of("<|endoftext|>")?,
            turn_start: id_of("<|im_start|>")?,
            turn_end: id_of("<|im_end|>")?,
            vision_start: id_of("<|vision_start|>")?,
            vision_end: id_of("<|vision_end|>")?,
            image_pad: id_of(IMAGE_PAD)?,
        };
        Ok(Self { tokenizer, special })
    }

    /// The ids of a text, nothing added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ItemError> {
        // The regular expression engine panics where it gives up on a text.
        let encoding = catch_unwind(AssertUnwindSafe(|| self.tokenizer.encode_fast(text, false)))
            .map_err(|_| ItemError::Tokenizer("the tokenizer gave up on it".into()))?
            .map_err(|error| ItemError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Rewrites tokenizer.json so that the placeholders are its only "special" tokens.
///
/// A tokenizer can be told to treat special tokens in a text as ordinary characters, all of them or
/// none. Whether a token is special changes nothing else in how it is found.
fn mark_placeholders(text: &str) -> serde_json::Result<(Vec<u8>, Vec<AddedToken>)> {
    let mut fields: BTreeMap<&str, Box<RawValue>> = serde_json::from_str(text)?;
    let mut added: Vec<AddedToken> = match fields.get("added_tokens") {
        Some(list) => serde_json::from_str(list.get())?,
        None => Vec::new(),
    };
    for token in &mut added {
        token.special = PLACEHOLDERS.contains(&token.content.as_str());
    }
    fields.insert("added_tokens", serde_json::value::to_raw_value(&added)?);
    Ok((serde_json::to_vec(&fields)?, added))
}
