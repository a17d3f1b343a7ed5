//! What the fuzz targets share: seeds written by the project's own writers, and repairs of checksums, so that
//! a mutation reaches the code behind them.
//!
//! | module | what lies there |
//! |---|---|
//! | [`corpus`] | seeds of a target into a folder, and bytes into a file |
//! | [`sample`] | a small plan, its shard, a bundle and a part |
//! | [`mutate`] | numbers in texts, replaced whole |
//! | [`repair`] | checksums of tar headers and PNG chunks made right again |

pub mod corpus;
pub mod mutate;
pub mod repair;
pub mod sample;
