//! Hundreds of services in several environments, each by its seed.

use groundswell_sim::lanes::{Seen, run};

const SEEDS: u64 = 200;

#[test]
fn a_release_goes_on_when_it_has_soaked_never_before_and_to_no_host_of_another_environment() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        match run(seed) {
            Ok(more) => seen += more,
            Err(finding) => panic!("seed {seed}: {finding}"),
        }
    }
    // A walk on which nothing happens finds nothing.
    let Seen { promoted, skipped, held, reverted, restarts, moved } = seen;
    for (what, count) in [
        ("promoted", promoted),
        ("skipped", skipped),
        ("held", held),
        ("reverted", reverted),
        ("restarts", restarts),
        ("moved", moved),
    ] {
        assert!(count > SEEDS / 10, "{what}: {count}");
    }
}
