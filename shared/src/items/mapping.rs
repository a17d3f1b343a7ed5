//! Which field of an item is what.

use std::collections::BTreeSet;

use super::template::Template;

/// Names of fields. `None` stands for the default names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldMapping {
    /// The id: `item_id`, else `id`.
    pub id: Option<String>,
    /// The text: `text`.
    pub text: Option<String>,
    /// The text built from other fields, instead of one field.
    pub template: Option<Template>,
    /// The images: `images`, else `image`.
    pub images: Option<String>,
    /// Whether the item has an image: `has_image`.
    pub has_image: Option<String>,
    /// Other fields to keep, for the report.
    pub keep: BTreeSet<String>,
}

/// What a field is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The id; the lower rank wins.
    Id(u8),
    /// The text.
    Text,
    /// The images; the lower rank wins.
    Images(u8),
    /// Whether there is an image.
    HasImage,
}

impl FieldMapping {
    /// What a field is for, apart from being kept or used by the template.
    pub fn role(&self, field: &str) -> Option<Role> {
        let named = |name: &Option<String>| name.as_deref().map(|name| name == field);
        let id = match named(&self.id) {
            Some(hit) => hit.then_some(Role::Id(0)),
            None => rank(field, &["item_id", "id"]).map(Role::Id),
        };
        let text = self.template.is_none() && named(&self.text).unwrap_or(field == "text");
        let images = match named(&self.images) {
            Some(hit) => hit.then_some(Role::Images(0)),
            None => rank(field, &["images", "image"]).map(Role::Images),
        };
        let has_image = named(&self.has_image).unwrap_or(field == "has_image");
        id.or(text.then_some(Role::Text)).or(images).or(has_image.then_some(Role::HasImage))
    }

    /// Whether the field's value is wanted beside its role.
    pub fn is_kept(&self, field: &str) -> bool {
        self.keep.contains(field) || self.template.as_ref().is_some_and(|template| template.uses(field))
    }

    /// The name to give in messages for an id that is missing.
    pub fn id_name(&self) -> &str {
        self.id.as_deref().unwrap_or("item_id")
    }
}

fn rank(field: &str, names: &[&str]) -> Option<u8> {
    names.iter().position(|name| *name == field).map(|rank| rank as u8)
}
