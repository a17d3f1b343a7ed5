//! The worker: claims shards, embeds their items, publishes the parts.

pub mod embedder;
