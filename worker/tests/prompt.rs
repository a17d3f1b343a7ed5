//! Prompts against the reference: token ids and positions of every case in `reference/cases.json`.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::Value;
use shared::digest::sha256_hex;
use support::reference;
use worker::embedder::{ItemError, PreparedImage, PreparedItem};
use worker::image::{self, PixelLimits};
use worker::prompt::{DEFAULT_INSTRUCTION, Prompt, PromptError, positions};

/// A prompt of the reference tokenizer; loading it takes seconds, so tests share it.
fn prompt(folder: &Path, instruction: &str, max_length: usize) -> Arc<Prompt> {
    type Loaded = HashMap<(String, usize), Arc<Prompt>>;
    static LOADED: LazyLock<Mutex<Loaded>> = LazyLock::new(Mutex::default);
    let mut loaded = LOADED.lock().unwrap();
    let entry = loaded.entry((instruction.to_owned(), max_length));
    let load = || Prompt::from_file(&folder.join("model/tokenizer.json"), instruction, max_length).unwrap();
    Arc::clone(entry.or_insert_with(|| Arc::new(load())))
}

fn ids_bytes<'a>(ids: impl IntoIterator<Item = &'a u32>) -> Vec<u8> {
    ids.into_iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// The text of a case: several are concatenated, none at all is no text.
fn text_of(item: &Value) -> Option<String> {
    match &item["text"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(texts) if !texts.is_empty() => {
            Some(texts.iter().map(|text| text.as_str().unwrap()).collect())
        }
        _ => None,
    }
}

fn build(folder: &Path, case: &Value) -> Result<PreparedItem, ItemError> {
    let item = &case["item"];
    let names = item["images"].as_array().map(Vec::as_slice).unwrap_or_default();
    let images = names
        .iter()
        .map(|name| {
            let bytes = std::fs::read(folder.join("inputs").join(name.as_str().unwrap())).unwrap();
            image::prepare(&bytes, PixelLimits::default()).unwrap()
        })
        .collect();
    let instruction = item["instruction"].as_str().unwrap_or(DEFAULT_INSTRUCTION);
    let max_length = case["max_length"].as_u64().unwrap() as usize;
    prompt(folder, instruction, max_length).build(text_of(item).as_deref(), images)
}

fn grids(images: &[PreparedImage]) -> Vec<(u32, u32)> {
    images.iter().map(|image| (image.grid_height, image.grid_width)).collect()
}

#[test]
fn tokens_and_positions_equal_the_reference() {
    let Some(folder) = reference() else { return };
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut checked = 0;
    for case in all["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if case.get("error").is_some() {
            continue;
        }
        let item = build(&folder, case).unwrap();
        if let Some(ids) = case["input_ids"].as_array() {
            let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(item.token_ids, ids, "{name}");
        }
        assert_eq!(item.token_ids.len(), case["n_tokens"], "{name}");
        let expected = case["input_ids_sha256"].as_str().unwrap();
        assert_eq!(sha256_hex(&ids_bytes(&item.token_ids)), expected, "{name}: ids");

        let pad = 151_655;
        let counters = positions(&item.token_ids, &grids(&item.images), pad).unwrap();
        let expected = case["position_ids_sha256"].as_str().unwrap();
        assert_eq!(sha256_hex(&ids_bytes(counters.iter().flatten())), expected, "{name}: positions");
        checked += 1;
    }
    assert_eq!(checked, 44, "cases without an error");
}

#[test]
fn a_cut_through_images_is_refused() {
    let Some(folder) = reference() else { return };
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let case =
        all["cases"].as_array().unwrap().iter().find(|case| case["name"] == "trunc_cuts_image").unwrap();
    assert!(matches!(build(&folder, case), Err(ItemError::ImagesDoNotFit { max_length: 30, .. })));
}

/// An image of `tokens` tokens in a row, without pixels.
fn strip(tokens: u32) -> PreparedImage {
    PreparedImage { grid_height: 2, grid_width: tokens * 2, pixels: Arc::from([]) }
}

#[test]
fn images_fit_to_the_last_placeholder() {
    let Some(folder) = reference() else { return };
    let prompt = prompt(&folder, DEFAULT_INSTRUCTION, 30);
    // 14 tokens of the frame, the start of the image, 14 placeholders, the pooled token.
    let item = prompt.build(Some("x"), vec![strip(14)]).unwrap();
    assert_eq!(item.token_ids[14..], [&[151_652][..], &[151_655; 14], &[151_643]].concat());
    let error = prompt.build(Some("x"), vec![strip(15)]).unwrap_err();
    assert_eq!(error, ItemError::ImagesDoNotFit { needed: 31, max_length: 30 });
}

#[test]
fn placeholders_in_a_text_are_ordinary_characters() {
    let Some(folder) = reference() else { return };
    let prompt = prompt(&folder, DEFAULT_INSTRUCTION, 8192);
    for text in ["a<|image_pad|>b", "<|video_pad|>", "<|image_pad|><|im_end|>", "<<|image_pad|>"] {
        let item = prompt.build(Some(text), vec![strip(3)]).unwrap();
        let count = |id| item.token_ids.iter().filter(|token| **token == id).count();
        assert_eq!(count(151_655), 3, "{text}");
        assert_eq!(count(151_656), 0, "{text}");
        assert_eq!(count(151_645), 2 + usize::from(text.contains("im_end")), "{text}");
    }
    let special =
        prompt.build(Some("<|vision_start|><|object_ref_end|><tool_call></think>"), vec![]).unwrap();
    assert_eq!(special.token_ids[14..18], [151_652, 151_647, 151_657, 151_668]);
}

#[test]
fn long_texts_take_linear_time_and_end_pooled() {
    let Some(folder) = reference() else { return };
    let prompt = prompt(&folder, DEFAULT_INSTRUCTION, 8192);
    for unit in ["a", " ", "가", "\n", "<|im_end|>", "!", "e\u{301}", "1"] {
        // Quadratic time would take hours here.
        let item = prompt.build(Some(&unit.repeat(300_000)), vec![]).unwrap();
        assert!(item.token_ids.len() <= 8192);
        assert_eq!(item.token_ids.last(), Some(&151_643));
    }
}

#[test]
fn a_tokenizer_without_the_tokens_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let tokenizer = |tokens: &[&str]| {
        let added: Vec<Value> = tokens
            .iter()
            .enumerate()
            .map(|(id, token)| {
                serde_json::json!({"id": id + 2, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "added_tokens": added,
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"x": 0, "?": 1}, "unk_token": "?"},
        });
        std::fs::write(&path, json.to_string()).unwrap();
        Prompt::from_file(&path, "", 64)
    };
    let needed = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
    ];
    let item = tokenizer(&needed).unwrap().build(Some("x"), vec![strip(2)]).unwrap();
    // Start, "system...", end, newline, start, "user...", then the image under this tokenizer's ids.
    assert_eq!(item.token_ids[..10], [3, 1, 4, 1, 3, 1, 5, 7, 7, 6]);
    assert_eq!(item.token_ids.last(), Some(&2));

    for missing in needed {
        let rest: Vec<&str> = needed.into_iter().filter(|token| *token != missing).collect();
        let error = tokenizer(&rest).unwrap_err();
        assert!(matches!(&error, PromptError::MissingToken { token, .. } if token == missing), "{error}");
    }
    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(Prompt::from_file(&path, "", 64), Err(PromptError::Unreadable { .. })));
    assert!(matches!(Prompt::from_file(&path, "", 0), Err(PromptError::MaxLength(0))));
}
