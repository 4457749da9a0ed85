//! Hundreds of fleets, each by its seed; the long hunt has more (docs/simulator.md).

use std::collections::BTreeSet;

use groundswell_rollout::PhaseName;
use groundswell_sim::{FAULTS, Faults, run};

const SEEDS: u64 = 400;
const THREADS: u64 = 2;

/// Every seed of one thread: the faults, and the phases seen.
fn some(first: u64) -> (Faults, BTreeSet<PhaseName>) {
    let (mut faults, mut phases) = (Faults::default(), BTreeSet::new());
    let mut seed = first;
    while seed < SEEDS {
        let outcome = run(seed);
        if let Some((finding, trace)) = outcome.finding {
            panic!("seed {seed}: {finding}\n{}", trace.join("\n"));
        }
        faults += &outcome.faults;
        phases.extend(outcome.phases);
        seed += THREADS;
    }
    (faults, phases)
}

#[test]
fn hundreds_of_fleets_keep_every_invariant_and_come_to_an_end() {
    let threads: Vec<_> = (0..THREADS).map(|at| std::thread::spawn(move || some(at))).collect();
    let (mut faults, mut phases) = (Faults::default(), BTreeSet::new());
    for thread in threads {
        let (some, seen) = thread.join().unwrap();
        faults += &some;
        phases.extend(seen);
    }
    // A simulator that does nothing finds nothing.
    for kind in FAULTS {
        assert!(faults.count(kind) > 0, "{kind}: {faults}");
    }
    // What is planned and not started starts by itself, also after a restart: that is no phase to be in.
    let all = [
        PhaseName::Running,
        PhaseName::Baking,
        PhaseName::Gated,
        PhaseName::Paused,
        PhaseName::Halted,
        PhaseName::Reverting,
        PhaseName::Done,
    ];
    phases.remove(&PhaseName::Planned);
    assert_eq!(phases, BTreeSet::from(all));
}

#[test]
fn one_seed_is_one_trace() {
    for seed in [1, 7, 77, 777] {
        let (once, again) = (run(seed), run(seed));
        assert_eq!(
            (once.trace, once.events, once.millis),
            (again.trace, again.events, again.millis)
        );
        assert!(once.events > 20);
        assert_ne!(once.trace, run(seed + 1).trace);
    }
}
