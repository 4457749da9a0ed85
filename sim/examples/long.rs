//! A long hunt: `cargo run --release -p groundswell-sim --example long -- SEEDS [FIRST [all]]`. With `all` no
//! finding ends it: each is told as it is found, and how many seeds show each at the end. With the name of a
//! property in its place only that one ends it. With `environments` the walk about environments is taken. It uses
//! the cores that it may (`taskset`).

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use groundswell_sim::{Faults, NOT_HELD_YET, Property, lanes, run_but};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Seeds between two lines of progress.
const LINE_EVERY: u64 = 50_000;

#[derive(Default)]
struct Sum {
    faults: Faults,
    events: u64,
    millis: u64,
    /// Seeds that showed a property that was let pass, the first of them, and what it was.
    not_held: BTreeMap<Property, (u64, u64, String)>,
}

impl Sum {
    fn add(&mut self, more: &Self) {
        self.faults += &more.faults;
        self.events += more.events;
        self.millis += more.millis;
        for (property, (count, seed, what)) in &more.not_held {
            let fresh = || (0, u64::MAX, String::new());
            let found = self.not_held.entry(*property).or_insert_with(fresh);
            found.0 += count;
            if *seed < found.1 {
                (found.1, found.2) = (*seed, what.clone());
            }
        }
    }
}

fn hunt((first, end, step): (u64, u64, u64), tolerated: &[Property]) -> Result<Sum, Failure> {
    let (mut sum, begin) = (Sum::default(), Instant::now());
    let mut seed = first;
    while seed < end {
        let outcome = run_but(seed, tolerated);
        if let Some((finding, trace)) = outcome.finding {
            return Err(format!("seed {seed}: {finding}\n{}", trace.join("\n")).into());
        }
        // Every world begins at 1,000,000 s.
        let millis = outcome.millis - 1_000_000_000;
        for what in outcome.not_held.values() {
            writeln!(std::io::stderr(), "seed {seed}: {:?}: {what}", what.property())?;
        }
        let not_held = outcome.not_held.into_iter();
        let not_held = not_held.map(|(p, what)| (p, (1, seed, what.to_string()))).collect();
        sum.add(&Sum { faults: outcome.faults, events: outcome.events, millis, not_held });
        if seed.is_multiple_of(LINE_EVERY) {
            writeln!(std::io::stderr(), "seed {seed} after {:?}", begin.elapsed())?;
        }
        seed += step;
    }
    Ok(sum)
}

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let seeds: u64 = words.next().ok_or("how many seeds?")?.parse()?;
    let first: u64 = words.next().map_or(Ok(0), |text| text.parse())?;
    let word = words.next();
    if word.as_deref() == Some("environments") {
        for seed in first..first + seeds {
            lanes::run(seed).map_err(|finding| format!("seed {seed}: {finding}"))?;
        }
        writeln!(std::io::stdout(), "{seeds} walks from {first}: no finding")?;
        return Ok(());
    }
    let tolerated: Vec<Property> = match word.as_deref() {
        None => NOT_HELD_YET.to_vec(),
        Some("all") => Property::ALL.to_vec(),
        Some(name) => {
            let others = Property::ALL.into_iter();
            others.filter(|property| format!("{property:?}") != name).collect()
        }
    };
    let tolerated = tolerated.as_slice();
    let begin = Instant::now();
    let mut sum = Sum::default();
    let cores = u64::try_from(std::thread::available_parallelism()?.get())?;
    std::thread::scope(|scope| -> Result<(), Failure> {
        let threads: Vec<_> = (0..cores)
            .map(|at| (first + at, first + seeds, cores))
            .map(|seeds| scope.spawn(move || hunt(seeds, tolerated)))
            .collect();
        for thread in threads {
            sum.add(&thread.join().map_err(|_| "a thread panicked")??);
        }
        Ok(())
    })?;
    let hours = sum.millis / 3_600_000;
    let found: u64 = sum.not_held.values().map(|(count, ..)| count).sum();
    let found = if found == 0 { "no finding".to_owned() } else { format!("findings: {found}") };
    writeln!(
        std::io::stdout(),
        "{seeds} seeds from {first}: {found}; {hours} simulated hours, {} events in {:?}\n{}",
        sum.events,
        begin.elapsed(),
        sum.faults
    )?;
    for (property, (count, seed, what)) in &sum.not_held {
        writeln!(std::io::stdout(), "{property:?}: {count} seeds, the first {seed}: {what}")?;
    }
    Ok(())
}
