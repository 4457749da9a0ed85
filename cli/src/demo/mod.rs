//! `swell demo`: a whole fleet on this machine, real programs over real TLS, and three releases through it.
//! Owns the temporary folder and the end: whatever happens, nothing is left running.

mod bed;
mod ports;
mod record;
mod release;
mod run;
mod screen;
mod story;
mod summary;
mod svg;
mod web;

pub(crate) use run::demo;
