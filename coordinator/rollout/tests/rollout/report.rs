//! From reports to facts: only news, and only of this rollout.

use groundswell_common::report::{FailedStep, Failure, HostState};
use groundswell_rollout::{HostFact, Input, Progress, cares_about_link, fact, generation};

use crate::bed::{Bed, host, planned, release};

fn seen(bed: &mut Bed) -> Option<HostFact> {
    let standing = bed.standing(host(0)).clone();
    fact(&bed.rollout, &host(0), &standing, generation(&bed.rollout, &host(0)))
}

fn failure(step: FailedStep, reverted: bool) -> Option<Failure> {
    Some(Failure { release: release(2), step, why: "broken".to_owned(), reverted })
}

#[test]
fn every_step_of_a_host_is_told_once() {
    let mut bed = Bed::start("", 1);
    assert_eq!(seen(&mut bed), None);
    for (state, runs, expected) in [
        (HostState::Fetching, 1, None),
        (HostState::Staged, 1, Some(HostFact::Staged)),
        (HostState::Switching, 1, Some(HostFact::SwitchStarted)),
        (HostState::Probing, 2, None),
        (HostState::Baking, 2, Some(HostFact::Passed)),
        (HostState::Committed, 2, Some(HostFact::Committed)),
    ] {
        let standing = bed.standing(host(0));
        standing.state = state;
        standing.running = Some(release(runs));
        standing.target = Some(release(2));
        assert_eq!(seen(&mut bed), expected, "{state:?}");
        if expected.is_some() {
            assert!(bed.report(host(0)));
        }
        assert_eq!(seen(&mut bed), None, "{state:?} again");
    }
}

#[test]
fn reports_may_skip_steps() {
    let mut bed = Bed::start("", 1);
    bed.standing(host(0)).running = Some(release(2));
    assert_eq!(seen(&mut bed), Some(HostFact::Committed));
}

#[test]
fn what_an_earlier_rollout_left_behind_is_not_news() {
    let mut bed = Bed::start("", 1);
    bed.standing(host(0)).failure = failure(FailedStep::Probe, true);
    assert_eq!(seen(&mut bed), None, "a host without a slot cannot have failed its probes");
    bed.standing(host(0)).failure = failure(FailedStep::Stage, false);
    bed.standing(host(0)).rollout = Some("shop-6".parse().unwrap());
    assert_eq!(seen(&mut bed), None, "the failure belongs to another rollout");
    bed.standing(host(0)).rollout = Some("shop-7".parse().unwrap());
    let why = "broken".to_owned();
    let expected = HostFact::Failed { step: FailedStep::Stage, why, reverted: false };
    assert_eq!(seen(&mut bed), Some(expected));
    bed.standing(host(0)).service = "mail".parse().unwrap();
    assert_eq!(seen(&mut bed), None, "another service");
}

#[test]
fn a_failure_is_told_and_then_that_it_went_back() {
    let mut bed = Bed::start("failure_budget = 1\n[[wave]]\nrest = true", 1);
    bed.tell(0, HostFact::Staged);
    bed.tell(0, HostFact::SwitchStarted);
    bed.standing(host(0)).state = HostState::Reverting;
    bed.standing(host(0)).failure = failure(FailedStep::Probe, false);
    assert!(bed.report(host(0)));
    assert!(!bed.report(host(0)));
    bed.standing(host(0)).state = HostState::Committed;
    bed.standing(host(0)).failure = failure(FailedStep::Probe, true);
    assert!(bed.report(host(0)));
    let why = "broken".to_owned();
    let expected = Progress::Failed { step: FailedStep::Probe, why, reverted: true };
    assert_eq!(bed.progress(host(0)), expected);
    assert_eq!(bed.rollout.failures(0), 1, "it is one failure");
    assert!(!bed.report(host(0)));
}

#[test]
fn long_texts_are_clipped_at_a_character() {
    let mut bed = Bed::start("failure_budget = 1\n[[wave]]\nrest = true", 1);
    bed.tell(0, HostFact::Staged);
    bed.standing(host(0)).state = HostState::Stuck;
    bed.standing(host(0)).target = Some(release(2));
    let why = "ä".repeat(4096);
    bed.standing(host(0)).failure =
        Some(Failure { release: release(2), step: FailedStep::Revert, why, reverted: false });
    let Some(HostFact::Stuck { why }) = seen(&mut bed) else { panic!() };
    assert_eq!(why.len(), 4096);
    assert!(bed.report(host(0)));
}

#[test]
fn connections_are_news_only_when_they_change() {
    let mut bed = Bed::start("", 1);
    assert!(!cares_about_link(&bed.rollout, &host(0), true));
    assert!(cares_about_link(&bed.rollout, &host(0), false));
    bed.apply(Input::Disconnected { host: host(0) });
    assert!(cares_about_link(&bed.rollout, &host(0), true));
    assert!(!cares_about_link(&bed.rollout, &host(9), false));
    assert!(!cares_about_link(&Bed::of(planned("", 1)).rollout, &host(0), false));
}

#[test]
fn an_old_word_of_a_host_that_is_away_moves_nothing() {
    let mut bed = Bed::start("[[wave]]\nrest = true", 2);
    let away = bed.wave(0)[0];
    bed.apply(Input::Disconnected { host: away });
    bed.pass(30);
    assert_eq!(bed.progress(away), Progress::Absent);
    // It had staged before the connection went, and the word is looked at again.
    let standing = bed.standing(away);
    standing.state = HostState::Staged;
    standing.target = Some(release(2));
    assert!(!bed.report(away));
    bed.apply(Input::Connected { host: away });
    assert!(bed.report(away));
}
