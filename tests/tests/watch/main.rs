//! A run one can watch: on a terminal, on a page, by Prometheus; and what shells and readers are told of the commands.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

mod manual;
mod page;
mod screen;
mod site;
