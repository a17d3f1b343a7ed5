//! Items and images, as `check`, `plan` and `run` take them.

use std::path::{Path, PathBuf};

use clap::Args;
use shared::items::{FieldMapping, Template};

use crate::check::Input;
use crate::failure::Failure;

/// Items and images.
#[derive(Debug, Clone, Args)]
pub struct InputArgs {
    /// Item files, JSON arrays or JSON Lines; names or patterns
    #[arg(long, required = true, num_args = 1.., value_name = "GLOB")]
    items: Vec<String>,
    /// Folders and zip files with the images
    #[arg(long, num_args = 1.., value_name = "DIR|ZIP")]
    images: Vec<PathBuf>,
    /// The field of the id, instead of item_id or id
    #[arg(long, value_name = "FIELD")]
    id_field: Option<String>,
    /// The field of the text, instead of text
    #[arg(long, value_name = "FIELD", conflicts_with = "text")]
    text_field: Option<String>,
    /// The text built from fields, for instance '{question}\n{choices}'
    #[arg(long, value_name = "TEMPLATE")]
    text: Option<String>,
    /// The field of the images, instead of images or image
    #[arg(long, value_name = "FIELD")]
    images_field: Option<String>,
    /// The field that says whether an item has an image, instead of has_image
    #[arg(long, value_name = "FIELD")]
    has_image_field: Option<String>,
}

impl InputArgs {
    /// Defaults for files and one image root.
    #[cfg(feature = "local")]
    pub fn of(items: &[PathBuf], images: &Path) -> Self {
        Self {
            items: items.iter().map(|file| file.display().to_string()).collect(),
            images: vec![images.to_owned()],
            id_field: None,
            text_field: None,
            text: None,
            images_field: None,
            has_image_field: None,
        }
    }

    /// The files, the mapping and the roots.
    pub fn resolve(&self) -> Result<Input, Failure> {
        let template = self.text.as_deref().map(Template::parse).transpose();
        let mapping = FieldMapping {
            id: self.id_field.clone(),
            text: self.text_field.clone(),
            template: template.map_err(|error| Failure::usage(error.to_string()))?,
            images: self.images_field.clone(),
            has_image: self.has_image_field.clone(),
            keep: std::collections::BTreeSet::new(),
        };
        let mut files = Vec::new();
        for pattern in &self.items {
            files.extend(expand(pattern)?);
        }
        Ok(Input::new(files, mapping, self.images.clone()))
    }

    /// The text template as written.
    pub fn text_template(&self) -> Option<String> {
        self.text.clone()
    }
}

/// A name that exists is itself, whatever signs are in it; anything else is a pattern.
fn expand(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    if Path::new(pattern).exists() {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let found = glob::glob(pattern).map_err(|error| Failure::usage(format!("--items {pattern}: {error}")))?;
    let files: Vec<PathBuf> = found.filter_map(Result::ok).filter(|path| path.is_file()).collect();
    if files.is_empty() {
        return Err(Failure::new(
            shared::exit::ExitCode::Input,
            anyhow::anyhow!("--items {pattern}: there is no such file"),
        ));
    }
    Ok(files)
}
