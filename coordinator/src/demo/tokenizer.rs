//! A small tokenizer in the layout of Qwen's: bytes, the same special tokens, the same post-processor.

use serde_json::{Value, json};

/// Tokens of one byte; the first special token follows.
const BYTES: usize = 256;

/// The tokens added after the bytes, in Qwen's order. The first fourteen are special.
const ADDED: [&str; 26] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
];

const SPECIAL: usize = 14;

/// How Qwen splits text before the bytes are merged.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Rows of the embedding table: all tokens, rounded up to a multiple of 32.
pub(super) fn vocabulary() -> usize {
    (BYTES + ADDED.len()).next_multiple_of(32)
}

/// The id of an added token; `None` for any other text.
pub(super) fn id(token: &str) -> Option<usize> {
    ADDED.iter().position(|added| *added == token).map(|position| BYTES + position)
}

/// The content of `tokenizer.json`.
pub(super) fn tokenizer() -> Value {
    let vocab: serde_json::Map<String, Value> =
        byte_characters().into_iter().enumerate().map(|(id, c)| (c.to_string(), id.into())).collect();
    let added: Vec<Value> = ADDED
        .iter()
        .enumerate()
        .map(|(position, token)| {
            json!({
                "id": BYTES + position, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": position < SPECIAL
            })
        })
        .collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let end = json!({"SpecialToken": {"id": ADDED[0], "type_id": 0}});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": false},
            byte_level
        ]},
        "post_processor": {"type": "Sequence", "processors": [byte_level, {
            "type": "TemplateProcessing",
            "single": [sequence("A"), end],
            "pair": [sequence("A"), sequence("B"), end],
            "special_tokens": {ADDED[0]: {"id": ADDED[0], "ids": [BYTES], "tokens": [ADDED[0]]}}
        }]},
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": []
        }
    })
}

/// The printable character that stands for each byte, in the order of GPT-2's vocabulary: the bytes that
/// are printable themselves first, then the others from U+0100 on.
fn byte_characters() -> Vec<char> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=u8::MAX).filter(|byte| !printable(*byte)).count() as u32;
    let own = (0..=u8::MAX).filter(|byte| printable(*byte)).map(char::from);
    own.chain((0..others).filter_map(|number| char::from_u32(0x100 + number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> Vec<u32> {
        let bytes = serde_json::to_vec(&tokenizer()).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(bytes).unwrap();
        tokenizer.encode(text, true).unwrap().get_ids().to_vec()
    }

    #[test]
    fn special_tokens_have_the_ids_of_the_config_and_the_end_is_appended() {
        let id = |token| id(token).unwrap() as u32;
        let text = "<|im_start|><|vision_start|><|image_pad|><|vision_end|><|im_end|>";
        let expected = [
            "<|im_start|>",
            "<|vision_start|>",
            "<|image_pad|>",
            "<|vision_end|>",
            "<|im_end|>",
            "<|endoftext|>",
        ];
        assert_eq!(encode(text), expected.map(id));
        assert_eq!(super::id("user"), None);
        assert!(BYTES + ADDED.len() <= vocabulary());
    }

    #[test]
    fn every_byte_has_a_token_of_its_own() {
        assert_eq!(byte_characters().len(), BYTES);
        let text = "대한민국 Text\n\t12 ½ é 🙂";
        // NFC leaves this text alone: one token a byte, and the end.
        assert_eq!(encode(text).len(), text.len() + 1);
        let decomposed = "e\u{301}";
        assert_eq!(encode(decomposed), encode("é"));
        let tokenizer = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&tokenizer()).unwrap()).unwrap();
        assert_eq!(tokenizer.decode(&encode(text), true).unwrap(), text);
    }

    #[test]
    fn the_worker_builds_prompts_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, serde_json::to_vec(&tokenizer()).unwrap()).unwrap();
        let prompt = worker::prompt::Prompt::from_file(&path, "Represent the user's input.", 8192).unwrap();
        assert_eq!(prompt.special_tokens().image_pad as usize, id("<|image_pad|>").unwrap());
        let image = worker::embedder::PreparedImage { grid_height: 4, grid_width: 6, pixels: [].into() };
        let item = prompt.build(Some("그림"), vec![image]).unwrap();
        let count =
            |token| item.token_ids.iter().filter(|&&found| found as usize == id(token).unwrap()).count();
        assert_eq!((count("<|image_pad|>"), count("<|im_start|>"), count("<|im_end|>")), (6, 3, 2));
        assert_eq!(item.token_ids.last().map(|&last| last as usize), id("<|endoftext|>"));
    }
}
