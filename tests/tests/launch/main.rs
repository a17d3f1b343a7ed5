//! Renting a fleet, from `launch` to a verified file: real launchers, real boxes (as processes), a real queue and a
//! real store, on a stand-in of the market.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

mod hostile;
mod killed;
mod life;
mod local;
mod scene;
mod shown;
