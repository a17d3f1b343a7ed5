//! The settings that decide a vector, from what a person chose and the defaults.

use crate::plan::{Dtype, EmbeddingSettings};

/// The instruction of the reference.
pub const DEFAULT_INSTRUCTION: &str = "Represent the user's input.";
/// The smallest image in pixels after resizing.
pub const MIN_PIXELS: u32 = 4096;
/// The largest image in pixels after resizing: 1800 visual tokens.
pub const DEFAULT_MAX_PIXELS: u32 = 1_843_200;
/// The most tokens of an item, the pooled one included.
pub const DEFAULT_MAX_LENGTH: u32 = 8192;
/// The fewest components of a shortened vector (MRL).
pub const MIN_DIM: u32 = 64;
/// Tokens below which not even the default prompt fits.
const MIN_LENGTH: u32 = 32;

/// What a person chose; `None` is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmbeddingChoices {
    /// The instruction.
    pub instruction: Option<String>,
    /// The largest image in pixels.
    pub max_pixels: Option<u32>,
    /// The most tokens of an item.
    pub max_length: Option<u32>,
    /// Components of a vector.
    pub dim: Option<u32>,
    /// The text template.
    pub text_template: Option<String>,
}

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{name} {value} is out of range: {rule}")]
pub struct InvalidSetting {
    /// The flag's name.
    pub name: &'static str,
    /// What was given.
    pub value: u32,
    /// What is allowed.
    pub rule: String,
}

impl EmbeddingChoices {
    /// Fills in defaults, for a model of `model_dim` components.
    pub fn resolve(self, dtype: Dtype, model_dim: u32) -> Result<EmbeddingSettings, InvalidSetting> {
        let dim = self.dim.unwrap_or(model_dim);
        let max_pixels = self.max_pixels.unwrap_or(DEFAULT_MAX_PIXELS);
        let max_length = self.max_length.unwrap_or(DEFAULT_MAX_LENGTH);
        let within = |name, value, legal: bool, rule: String| {
            if legal { Ok(()) } else { Err(InvalidSetting { name, value, rule }) }
        };
        let dims = format!("{MIN_DIM} to {model_dim}, the components of this model");
        within("dim", dim, dim == model_dim || (MIN_DIM..model_dim).contains(&dim), dims)?;
        within("max-pixels", max_pixels, max_pixels >= MIN_PIXELS, format!("{MIN_PIXELS} or more"))?;
        within("max-length", max_length, max_length >= MIN_LENGTH, format!("{MIN_LENGTH} or more"))?;
        Ok(EmbeddingSettings {
            dtype,
            instruction: self.instruction.unwrap_or_else(|| DEFAULT_INSTRUCTION.to_owned()),
            min_pixels: MIN_PIXELS,
            max_pixels,
            max_length,
            dim,
            text_template: self.text_template,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_ranges() {
        let settings = EmbeddingChoices::default().resolve(Dtype::F32, 2048).unwrap();
        assert_eq!((settings.dim, settings.max_pixels, settings.max_length), (2048, 1_843_200, 8192));
        let with = |dim| {
            EmbeddingChoices { dim: Some(dim), ..EmbeddingChoices::default() }.resolve(Dtype::F32, 2048)
        };
        assert!(with(64).is_ok() && with(2048).is_ok());
        assert!(with(63).is_err() && with(2049).is_err());
        let error = with(5000).unwrap_err().to_string();
        assert!(error.contains("--dim 5000") && error.contains("2048"), "{error}");
    }
}
