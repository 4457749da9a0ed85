//! Each deliberate fault still finds its place in the code; `examples/planted.rs` plants them.

use std::path::{Path, PathBuf};

use groundswell_sim::faults::FAULTS;

#[test]
fn each_fault_has_one_place() {
    let root: PathBuf = [env!("CARGO_MANIFEST_DIR"), ".."].iter().collect();
    for fault in &FAULTS {
        let path: &Path = &root.join(fault.file);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(text.matches(fault.text).count(), 1, "{} in {}", fault.name, fault.file);
        assert_ne!(fault.text, fault.instead);
    }
}
