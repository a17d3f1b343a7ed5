//! From an item to a vector, whatever computes it: Qwen3-VL-Embedding ([`crate::qwen3_vl`]) or the
//! hash embedder ([`hash`]). No candle type appears here.
//!
//! The work is cut in three so that a pipeline can overlap it: [`Embedder::prepare_image`] and
//! [`Embedder::prepare_item`] run on CPU threads, [`Embedder::embed`] runs a batch on the device.

pub mod hash;

use std::sync::Arc;
use std::time::{Duration, Instant};

/// An image ready for the model.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// Height of the patch grid; even.
    pub grid_height: u32,
    /// Width of the patch grid; even.
    pub grid_width: u32,
    /// For Qwen3-VL: RGB bytes, row by row, `grid_height * 16` rows of `grid_width * 16` pixels.
    pub pixels: Arc<[u8]>,
}

impl PreparedImage {
    /// Patches the vision tower sees.
    pub fn patches(&self) -> usize {
        self.grid_height as usize * self.grid_width as usize
    }

    /// Tokens the text tower sees: one for each 2x2 block of patches.
    pub fn tokens(&self) -> usize {
        self.patches() / 4
    }
}

/// An item ready for a batch.
#[derive(Debug, Clone)]
pub struct PreparedItem {
    /// Token ids; the last one is pooled. Each image stands as its run of placeholder tokens.
    pub token_ids: Vec<u32>,
    /// Images in the order of their placeholders.
    pub images: Vec<PreparedImage>,
}

impl PreparedItem {
    /// Patches of all images.
    pub fn patches(&self) -> usize {
        self.images.iter().map(PreparedImage::patches).sum()
    }
}

/// Why an image cannot be used. The item may still be embedded without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not a picture, or a damaged one.
    #[error("cannot be decoded: {0}")]
    Undecodable(String),
    /// The data ends early.
    #[error("is truncated: {0}")]
    Truncated(String),
    /// More pixels than the limit for decoding.
    #[error("has {width}x{height} pixels, more than the limit of {limit} for decoding")]
    TooLarge {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Pixels allowed.
        limit: u64,
    },
    /// One side is more than 200 times the other.
    #[error("has {width}x{height} pixels: one side is more than 200 times the other")]
    Ratio {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// Why an item cannot be prepared as given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The frame of the prompt and the images alone exceed the maximum length.
    #[error("its images need {needed} tokens with the prompt, more than the maximum length of {max_length}")]
    ImagesDoNotFit {
        /// Tokens needed without any text.
        needed: usize,
        /// Tokens allowed.
        max_length: usize,
    },
    /// The tokenizer refused the text.
    #[error("its text cannot be tokenized: {0}")]
    Tokenizer(String),
}

/// Why a batch gave no vectors. Never an item's fault as far as one machine can tell: see law 4.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The device has too little memory for this batch; a smaller one may work.
    #[error("the device ran out of memory on a batch of {items} items and {tokens} tokens")]
    OutOfMemory {
        /// Items in the batch.
        items: usize,
        /// Tokens in the batch.
        tokens: usize,
    },
    /// Anything else the device or the model reports.
    #[error("the device failed: {0}")]
    Device(String),
    /// A vector came out with a value that is not finite, or with no length.
    #[error("item {position} of the batch has no finite vector")]
    NotFinite {
        /// Its position in the batch.
        position: usize,
    },
}

/// What one batch may hold: text tokens plus vision patches, the two things memory grows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchBudget(pub usize);

impl BatchBudget {
    /// The budget of a CPU: enough rows for the matrix products to be efficient, little memory.
    pub const CPU: Self = Self(4096);
}

/// Computes vectors. Shared by all threads of a worker.
pub trait Embedder: Send + Sync {
    /// Components of a vector.
    fn dim(&self) -> usize;

    /// The kind of device, for the metadata: equal kinds give equal bytes.
    fn device(&self) -> String;

    /// Bytes of memory that the device may use for this: what two machines are compared by where an item
    /// does not fit. 0 where it is unknown, as on a CPU.
    fn memory(&self) -> u64 {
        0
    }

    /// Decodes and resizes one image. CPU only.
    fn prepare_image(&self, bytes: &[u8]) -> Result<PreparedImage, ImageError>;

    /// Builds the prompt and tokenises it; text is cut at the end to fit. CPU only. `None` and no
    /// images is the literal `NULL`, an empty string is an empty turn.
    fn prepare_item(&self, text: Option<&str>, images: Vec<PreparedImage>)
    -> Result<PreparedItem, ItemError>;

    /// Vectors of norm 1, one for each item, in order. The result of an item depends on its batch in
    /// the last bits only.
    fn embed(&self, batch: &[PreparedItem]) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// What a batch may hold on this device unless the user says otherwise.
    fn default_budget(&self) -> BatchBudget {
        BatchBudget::CPU
    }

    /// Starts a batch. A device that works on its own goes on with it while the caller starts the next;
    /// others have computed it when this returns.
    fn start(&self, batch: &[PreparedItem]) -> Result<Box<dyn StartedBatch>, EmbedError> {
        let started = Instant::now();
        let rows = self.embed(batch)?;
        Ok(Box::new(EmbeddedBatch { rows, busy: started.elapsed() }))
    }
}

/// A batch that a device works on. Batches finish in the order they were started.
pub trait StartedBatch {
    /// Whether [`Self::finish`] has nothing to wait for.
    fn is_finished(&self) -> bool {
        true
    }

    /// Waits for the vectors, those of [`Embedder::embed`].
    fn finish(self: Box<Self>) -> Result<EmbeddedBatch, EmbedError>;
}

/// A batch that is through.
#[derive(Debug)]
pub struct EmbeddedBatch {
    /// The vectors, in order.
    pub rows: Vec<Vec<f32>>,
    /// How long the device worked on it.
    pub busy: Duration,
}

/// A batch that was computed at once has nothing to wait for.
impl StartedBatch for EmbeddedBatch {
    fn finish(self: Box<Self>) -> Result<EmbeddedBatch, EmbedError> {
        Ok(*self)
    }
}
