//! The coordinator: plans a run, watches it, resumes it, merges and verifies its parts.
//!
//! | module | what lies there |
//! |---|---|
//! | [`cli`] | the command line: arguments to library calls, answers to text |
//! | [`context`] | the store, the run and the queue a command works on |
//! | [`record`] | what the store says of a run: its shards and their parts |
//! | [`check`] | the report on items and images |
//! | [`plan`] | items and images to bundles, shards and a plan |
//! | [`access`] | the signed rights of workers without credentials |
//! | [`resume`] | the queue rebuilt from the store |
//! | [`status`] | a run as it stands, from the queue or from the store |
//! | [`watch`] | the same over time: rates, cells of shards, orders |
//! | [`terminal`], [`dashboard`], [`metrics`] | views of it: a terminal, a page, Prometheus |
//! | [`provider`] | where boxes come from: the market, this machine |
//! | [`fleet`] | rented boxes: what is rented, watched, paid and destroyed |
//! | [`merge`] | parts to one npz |
//! | [`verify`] | a merged file against its promises |
//! | `local` | the whole job on this machine (feature `local`) |
//! | `demo` | something to try it on (feature `local`) |

pub mod access;
pub mod check;
pub mod cli;
pub mod columns;
pub mod context;
pub mod dashboard;
#[cfg(feature = "local")]
pub mod demo;
pub mod dollars;
pub mod failure;
pub mod fleet;
#[cfg(feature = "local")]
pub mod local;
pub mod merge;
pub mod metrics;
pub mod plan;
pub mod progress;
pub mod provider;
pub mod record;
pub mod resume;
pub mod status;
pub mod terminal;
pub mod verify;
pub mod watch;
