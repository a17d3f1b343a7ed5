//! What the coordinator and the workers agree on.
//!
//! | module | what lies there |
//! |---|---|
//! | [`laws`] | the promises of the project, each named once |
//! | [`excerpt`] | foreign text in messages, cut to what a person reads |
//! | [`ids`] | newtypes for runs, shards, workers, lease tokens and digests |
//! | [`settings`] | flag, environment, file: resolved once, with secrets masked |
//! | [`items`] | reading item files: JSON arrays and JSON Lines, field mapping, text template |
//! | [`images`] | image roots (folders and zips) and the rules that match a path to an entry |
//! | [`bundle`] | one shard's items and images in one tar |
//! | [`plan`] | `plan.json`, `shards.jsonl`, the fingerprint of a run |
//! | [`model`] | how a model is named, its files, its digest |
//! | [`store`] | the object store: URL, layout, immutable writes |
//! | [`queue`] | the scheduler: one trait, in memory and on Redis |
//! | [`npz`] | npy and npz streams, written and read in bounded memory |
//! | [`part`] | the rows of one shard, and the metadata of parts and merged files |
//!
//! Deliberately absent: command-line parsing, model code and web servers.

pub mod bundle;
pub mod cores;
pub mod digest;
pub mod excerpt;
pub mod exit;
pub mod ids;
pub mod images;
pub mod items;
pub mod laws;
pub mod model;
pub mod npz;
pub mod part;
pub mod plan;
pub mod queue;
pub mod settings;
pub mod store;
