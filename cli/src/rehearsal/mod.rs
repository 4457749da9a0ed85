//! The answer of a rehearsal for people: tables, a chart of characters, a picture. Made from the
//! answer alone; decides nothing.

mod chart;
mod svg;
mod text;

pub(crate) use svg::draw;
pub(crate) use text::{Answer, show, span};
