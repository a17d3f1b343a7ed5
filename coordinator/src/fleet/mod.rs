//! Rented boxes: how many, which, for how long and for how much.
//!
//! ```text
//! intent ----> created ----> loading ----> running ----> ready (its worker was heard in the queue)
//!   |  answer lost: found by its label     |                |
//!   +-> refused                            +--> condemned <-+   why: finished, drained, silent, outbid, bad host, ...
//!                                                  |  asked for until the market confirms
//!                                                  +--> gone
//! ```
//!
//! What happened lies in the store ([`event`], [`journal`]), so that any machine can go on; what to do is a pure
//! function of it and of what is seen ([`decide`]); [`launch`] carries it out. Every place of the fleet
//! (slot) has one box at most, from the intent until the market confirms its end.

pub mod decide;
pub mod event;
pub mod journal;
pub mod label;
pub mod launch;
pub mod money;
pub mod rank;
pub mod rights;
pub mod rules;
pub mod sight;
pub mod speeds;
pub mod state;
pub mod view;
