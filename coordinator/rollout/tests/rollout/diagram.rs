//! The diagrams of docs/rollout-states.md are what the random rollouts did, edge by edge.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use groundswell_rollout::ProgressName;

use crate::random::{Seen, explored};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rollout-states.md");

fn phases(seen: &Seen) -> String {
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> Planned\n".to_owned();
    for ((from, to), words) in &seen.phase_edges {
        let words: Vec<&str> = words.iter().copied().collect();
        writeln!(text, "    {from:?} --> {to:?}: {}", words.join(", ")).unwrap();
    }
    text + "```\n"
}

fn hosts(seen: &Seen) -> String {
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> Pending\n".to_owned();
    for name in ProgressName::ALL {
        let to: BTreeSet<&ProgressName> =
            seen.host_edges.iter().filter(|(from, _)| *from == name).map(|(_, to)| to).collect();
        for to in to {
            writeln!(text, "    {name:?} --> {to:?}").unwrap();
        }
    }
    text + "```\n"
}

/// The page with the text between two marks replaced.
fn with(page: &str, mark: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end {mark} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{text}{end}{after}")
}

#[test]
fn the_diagrams_in_the_docs_are_what_the_code_does() {
    let seen = explored();
    let page = std::fs::read_to_string(Path::new(PAGE)).unwrap();
    let drawn = with(&with(&page, "phases", &phases(seen)), "hosts", &hosts(seen));
    if std::env::var_os("GROUNDSWELL_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &drawn).unwrap();
        return;
    }
    assert!(page == drawn, "run it again with GROUNDSWELL_WRITE_DOCS=1 and look at the change");
}
