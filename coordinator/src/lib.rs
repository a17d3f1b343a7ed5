//! coordinator

#[cfg(feature = "local")]
pub mod demo;
