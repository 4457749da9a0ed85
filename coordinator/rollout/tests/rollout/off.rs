//! A plan that takes the service off its hosts, whatever release of it they run.

use groundswell_common::HostId;
use groundswell_common::directive::Action;
use groundswell_common::report::{FailedStep, Failure, HostState};
use groundswell_rollout::{
    Back, HostFacts, Input, Off, Outcome, PhaseName, ProgressName, ReleaseRef, explain, plan_off,
};

use crate::bed::*;

const STRICT: &str = "max_in_flight = 1\nmin_healthy = \"100%\"\n\
    [[wave]]\nname = \"all\"\nrest = true\n";

/// Three hosts: one runs release 2, one release 1, of one nobody knows.
fn taken_off() -> (Bed, Vec<HostId>) {
    let facts: Vec<HostFacts> = hosts(3)
        .into_iter()
        .zip([Some(2), Some(2), None])
        .map(|(host, runs)| HostFacts { running: runs.map(release), ..host })
        .collect();
    let leaving =
        ReleaseRef { one_way: true, ..ReleaseRef::new(release(2), "2.0.0".parse().unwrap()) };
    let (by, why) = (person("ann"), "end of life".to_owned());
    let back = Back { to: None, by, why, off: Some(Off::Everyone) };
    // What must stay up has no meaning for a service that ends.
    let made = plan_off(&policy(STRICT), &facts, &leaving, (back, Vec::new())).unwrap();
    let ids: Vec<HostId> = facts.iter().map(|host| host.id).collect();
    let mut bed = Bed::of(made);
    bed.standing(ids[0]).running = Some(release(2));
    bed.standing(ids[1]).running = Some(release(1));
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    (bed, ids)
}

fn told(bed: &Bed, ids: &[HostId]) -> Vec<HostId> {
    ids.iter().copied().filter(|id| bed.action(*id) == Action::Remove {}).collect()
}

#[test]
fn every_host_loses_it_one_at_a_time_whatever_it_runs() {
    let (mut bed, ids) = taken_off();
    for left in (1..=3).rev() {
        assert_eq!(bed.phase(), PhaseName::Reverting);
        let now = told(&bed, &ids);
        assert_eq!(now.len(), 1, "one slot");
        for id in &ids {
            let off = bed.progress(*id).name() == ProgressName::Reverted;
            let waits = bed.action(*id) == Action::Hold {};
            assert!(off || waits || now.contains(id), "{left} left: nobody is brought anything");
        }
        let standing = bed.standing(now[0]);
        (standing.running, standing.state, standing.target) = (None, HostState::Idle, None);
        bed.report(now[0]);
    }
    let Some(Outcome::Reverted { down_to: 0, .. }) = bed.outcome() else {
        panic!("{:?}", bed.rollout.phase())
    };
    let why = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    assert!(why.contains("the service is off its hosts; ann took it off: end of life"), "{why}");
    // One that has any release of it again is told again.
    let standing = bed.standing(ids[2]);
    (standing.running, standing.state) = (Some(release(1)), HostState::Committed);
    bed.report(ids[2]);
    assert_eq!(told(&bed, &ids), [ids[2]]);
}

#[test]
fn a_stop_leaves_the_others_as_they_are_and_an_old_failure_is_no_end() {
    let (mut bed, ids) = taken_off();
    let first = told(&bed, &ids)[0];
    let running = bed.standing(first).running.or(Some(release(1)));
    let why = "no answer".to_owned();
    let failure = Failure { release: release(1), step: FailedStep::Probe, why, reverted: true };
    let standing = bed.standing(first);
    (standing.running, standing.failure) = (running, Some(failure));
    for state in [HostState::Committed, HostState::Reverting] {
        bed.standing(first).state = state;
        bed.report(first);
        assert_ne!(bed.progress(first).name(), ProgressName::Reverted, "{state:?}");
    }
    bed.halt();
    for id in ids.iter().filter(|id| **id != first) {
        assert_eq!(bed.action(*id), Action::Hold {});
    }
    assert_eq!(bed.action(first), Action::Remove {}, "what was begun goes to its end");
    bed.resume();
    assert_eq!(bed.phase(), PhaseName::Reverting);
}

#[test]
fn a_host_that_cannot_stop_it_is_left_to_a_person() {
    let (mut bed, ids) = taken_off();
    let first = told(&bed, &ids)[0];
    let why = "unit shop.service is not allowed here".to_owned();
    let standing = bed.standing(first);
    standing.running = Some(release(1));
    standing.state = HostState::Stuck;
    standing.failure =
        Some(Failure { release: release(1), step: FailedStep::Revert, why, reverted: false });
    // What it was stuck with before it was told says nothing.
    let says = bed.standing(first).clone();
    let before = groundswell_rollout::fact(&bed.rollout, &first, &says, 0);
    assert_eq!(before, None);
    bed.report(first);
    assert_eq!(bed.progress(first).name(), ProgressName::Failed);
    let said = explain(&bed.rollout, Some(&first), bed.at.now)[0].to_string();
    assert!(
        said.contains("not allowed here") && said.contains("groundswell-agent retry"),
        "{said}"
    );
    assert_eq!(told(&bed, &ids).len(), 1, "the next one goes on");
}

#[test]
fn who_comes_back_with_it_and_has_the_left_release_staged_loses_it_again() {
    let (mut bed, ids) = taken_off();
    let first = told(&bed, &ids)[0];
    let standing = bed.standing(first);
    (standing.running, standing.state, standing.target) = (None, HostState::Idle, None);
    bed.report(first);
    assert_eq!(bed.progress(first).name(), ProgressName::Reverted);
    // A snapshot is put back: it runs an older release, and has this one on its disk.
    let standing = bed.standing(first);
    standing.running = Some(release(1));
    (standing.state, standing.target) = (HostState::Staged, Some(release(2)));
    bed.report(first);
    let back = matches!(
        bed.progress(first).name(),
        ProgressName::Committed | ProgressName::Reverting | ProgressName::Overdue
    );
    assert!(back, "{:?}", bed.progress(first));
}
