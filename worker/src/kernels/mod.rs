//! What the model is made of, one function an operation: on a GPU a kernel of ours or a product of
//! cuBLASLt, elsewhere its *twin*, a composition of candle's operations that says what the kernel means.
//!
//! | module | operations |
//! |---|---|
//! | [`linear`] | products with a weight, with bias, GELU or a residual in the same kernel |
//! | [`norm`] | RMSNorm, LayerNorm |
//! | [`rope`] | rotary embedding, with and without a norm of each head |
//! | [`attention`] | attention within segments of flat tokens |
//! | [`activation`] | SiLU times up, GELU |
//! | [`rows`] | rows gathered, added, interpolated; pixels cut into rows |
//! | [`table`] | small arrays that kernels read |
//! | [`check`] | every kernel against its twin on the device at hand |
//!
//! Functions that take a tensor by value may write the answer over it: whoever keeps another handle of
//! it sees that.

pub mod activation;
pub mod attention;
pub mod check;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod linear;
pub mod norm;
pub mod rope;
pub mod rows;
pub mod table;
