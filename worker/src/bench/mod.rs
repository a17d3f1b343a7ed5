//! How fast this machine embeds: random weights of a real model's shape, items of a given mix.
//!
//! | module | what lies there |
//! |---|---|
//! | [`shape`] | the configurations of the 8B and the 2B |
//! | [`weights`] | seeded random weights |
//! | [`mix`] | items by their numbers of tokens and their patch grids |
//! | [`work`] | floating-point operations that an item needs |
//! | [`model`] | items through the model alone |
//! | [`pipeline`] | bundles with picture files through to written parts |
//! | [`pictures`] | those picture files |

pub mod mix;
pub mod model;
pub mod pictures;
pub mod pipeline;
pub mod shape;
pub mod weights;
pub mod work;
