//! A long hunt: `cargo run --release -p groundswell-sim --example long -- SEEDS [FIRST]`.

use std::io::Write;
use std::time::Instant;

use groundswell_sim::{Faults, run};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Seeds between two lines of progress.
const LINE_EVERY: u64 = 50_000;
const THREADS: u64 = 2;

#[derive(Default)]
struct Sum {
    faults: Faults,
    events: u64,
    millis: u64,
}

impl Sum {
    fn add(&mut self, more: &Self) {
        self.faults += &more.faults;
        self.events += more.events;
        self.millis += more.millis;
    }
}

fn hunt(first: u64, end: u64) -> Result<Sum, Failure> {
    let (mut sum, begin) = (Sum::default(), Instant::now());
    let mut seed = first;
    while seed < end {
        let outcome = run(seed);
        if let Some((finding, trace)) = outcome.finding {
            return Err(format!("seed {seed}: {finding}\n{}", trace.join("\n")).into());
        }
        // Every world begins at 1,000,000 s.
        let millis = outcome.millis - 1_000_000_000;
        sum.add(&Sum { faults: outcome.faults, events: outcome.events, millis });
        if seed.is_multiple_of(LINE_EVERY) {
            writeln!(std::io::stderr(), "seed {seed} after {:?}", begin.elapsed())?;
        }
        seed += THREADS;
    }
    Ok(sum)
}

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let seeds: u64 = words.next().ok_or("how many seeds?")?.parse()?;
    let first: u64 = words.next().map_or(Ok(0), |text| text.parse())?;
    let begin = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|at| std::thread::spawn(move || hunt(first + at, first + seeds)))
        .collect();
    let mut sum = Sum::default();
    for thread in threads {
        sum.add(&thread.join().map_err(|_| "a thread panicked")??);
    }
    let hours = sum.millis / 3_600_000;
    writeln!(
        std::io::stdout(),
        "{seeds} seeds from {first}: no finding; {hours} simulated hours, {} events in {:?}\n{}",
        sum.events,
        begin.elapsed(),
        sum.faults
    )?;
    Ok(())
}
