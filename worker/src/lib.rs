//! The worker: claims shards, embeds their items, publishes the parts.

pub mod embedder;
pub mod image;
pub mod policy;
pub mod prompt;
