//! The worker: claims shards, embeds their items, publishes the parts.
//!
//! | module | what lies there |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`pipeline`] | a worker's life: claim, fetch, prepare, embed, publish, complete, beat |
//! | [`isolate`] | finds items that kill the process that works on them |
//! | [`batch`] | a shard cut into batches |
//! | [`policy`] | what becomes of an item whose images are missing, broken or too many |
//! | [`embedder`] | from an item to a vector, whatever computes it; the hash embedder |
//! | [`image`] | bytes of a picture to resized RGB, as Pillow does it |
//! | [`prompt`] | text and images to token ids |
//! | [`qwen3_vl`] | the model on candle |
//! | [`kernels`] | the operations it is made of: kernels on a GPU, their twins elsewhere |
//! | [`bench`] | how fast this machine embeds |
//! | [`load`] | the embedder that a plan asks for |
//! | [`device`] | the device a worker computes on |

pub mod batch;
pub mod bench;
pub mod cli;
pub mod device;
pub mod embedder;
pub mod image;
pub mod isolate;
pub mod kernels;
pub mod load;
pub mod pipeline;
pub mod policy;
pub mod prompt;
pub mod qwen3_vl;
