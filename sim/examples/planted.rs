//! Plants deliberate faults, one at a time, in a copy of the core and the host machine, and demands
//! that the simulator finds enough of them: `cargo run -p groundswell-sim --example planted [-- FROM]`, from the
//! fault of that number on, counted from 0. A simulator that has never failed proves nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use groundswell_sim::faults::{FAULTS, Fault, Walk};

type Failure = Box<dyn std::error::Error>;

/// Seeds within which each fault must be found.
const SEEDS: &str = "1000";
/// Faults that must be found. Which seed finds one is chance: one of them shows once in thousands.
const FOUND_MIN: usize = 30;
/// What the copy needs of the tree.
const COPIED: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "common",
    "coordinator",
    "agent",
    "cli",
    "packaging",
    "sim",
];

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    if from.is_file() {
        std::fs::copy(from, to)?;
        return Ok(());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// What the simulator says of the tree in `place`; `None` where it finds nothing.
fn hunt(place: &Path, walk: Walk) -> Result<Option<String>, Failure> {
    let out = Command::new(std::env::var_os("CARGO").ok_or("run it with cargo")?)
        .args(["run", "--quiet", "--offline", "-p", "groundswell-sim"])
        .args(["--example", "long", "--", SEEDS])
        .args(match walk {
            Walk::Fleet => [].as_slice(),
            Walk::Environments => &["0", "environments"],
        })
        .env("CARGO_TARGET_DIR", place.join("target"))
        // A thousand seeds without optimisation take longer than to compile with it.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "2")
        .env("RUST_BACKTRACE", "0")
        .current_dir(place)
        .output()?;
    let text = String::from_utf8(out.stderr)?;
    if out.status.success() {
        return Ok(None);
    }
    if text.contains("could not compile") {
        return Err(format!("the fault does not compile:\n{text}").into());
    }
    let line = |line: &&str| line.contains("panicked") || line.starts_with("Error");
    let found = text.lines().find(line).ok_or_else(|| format!("no finding in:\n{text}"))?;
    Ok(Some(found.chars().take(140).collect()))
}

/// Plants one fault, hunts, and takes it out again.
fn plant(place: &Path, fault: &Fault) -> Result<Option<String>, Failure> {
    let file = place.join(fault.file);
    let sound = std::fs::read_to_string(&file)?;
    std::fs::write(&file, sound.replacen(fault.text, fault.instead, 1))?;
    let found = hunt(place, fault.walk);
    std::fs::write(&file, sound)?;
    found
}

fn main() -> Result<(), Failure> {
    let root: PathBuf = [env!("CARGO_MANIFEST_DIR"), ".."].iter().collect();
    let place = std::env::temp_dir().join(format!("planted-{}", std::process::id()));
    std::fs::create_dir_all(&place)?;
    for name in COPIED {
        copy(&root.join(name), &place.join(name))?;
    }
    // The package of tests needs more of the tree than the simulator does.
    let manifest = std::fs::read_to_string(place.join("Cargo.toml"))?;
    std::fs::write(place.join("Cargo.toml"), manifest.replace("\"sim\", \"tests\"", "\"sim\""))?;
    let mut out = std::io::stdout().lock();
    let from = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let faults = FAULTS.get(from..).ok_or("there are not so many faults")?;
    let mut missed = 0;
    for fault in faults {
        let found = plant(&place, fault)?;
        missed += usize::from(found.is_none());
        let found = found.unwrap_or_else(|| "NOT FOUND".to_owned());
        writeln!(out, "{}: {found}", fault.name)?;
        out.flush()?;
    }
    std::fs::remove_dir_all(&place)?;
    let found = faults.len() - missed;
    writeln!(out, "{found} of {} found within {SEEDS} seeds", faults.len())?;
    match found + from {
        FOUND_MIN.. => Ok(()),
        _ => Err(format!("{found} faults were found, {FOUND_MIN} of all must be").into()),
    }
}
