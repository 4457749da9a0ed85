//! Windows and freezes: clocks that jump, midnight, overlaps, and what they do to a rollout.

use groundswell_common::Timestamp;
use groundswell_common::directive::Action;
use groundswell_common::wire::Deny;
use groundswell_rollout::calendar::zone_exists;
use groundswell_rollout::{
    Freeze, HaltCause, HostFact, Input, Opening, Phase, PhaseName, Plan, ProgressName, Why, Window,
    earliest, explain, generation, may_switch, next_deadline, opening,
};

use crate::bed::{Bed, person, planned, release};

fn window(days: &[u8], start: &str, minutes: u32, zone: &str) -> Window {
    let (hour, minute) = start.split_once(':').unwrap();
    let start_minute = hour.parse::<u32>().unwrap() * 60 + minute.parse::<u32>().unwrap();
    Window { days: days.to_vec(), start_minute, minutes, zone: zone.to_owned() }
}

const DAILY: [u8; 7] = [0, 1, 2, 3, 4, 5, 6];

fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_secs(u64::try_from(instant.as_second()).unwrap())
}

fn open(until: &str) -> Opening {
    Opening::Open { until: Some(at(until)) }
}

fn shut(until: &str) -> Opening {
    Opening::Shut { until: Some(at(until)) }
}

#[test]
fn without_windows_it_is_always_open() {
    assert_eq!(opening(&[], &[], at("2026-07-01T00:00:00Z")), Opening::Open { until: None });
}

#[test]
fn a_window_on_the_day_that_clocks_spring_forward_is_not_lost() {
    // Berlin skips 02:00 to 03:00 on 2026-03-29; 03:00 there is 01:00 UTC.
    let windows = [window(&DAILY, "02:30", 60, "Europe/Berlin")];
    let says = |now| opening(&windows, &[], at(now));
    assert_eq!(says("2026-03-29T00:59:59Z"), shut("2026-03-29T01:30:00Z"));
    assert_eq!(says("2026-03-29T01:30:00Z"), open("2026-03-29T02:30:00Z"));
    assert_eq!(says("2026-03-29T02:30:00Z"), shut("2026-03-30T00:30:00Z"));
}

#[test]
fn a_window_on_the_day_that_clocks_fall_back_comes_once() {
    // New York repeats 01:00 to 02:00 on 2026-11-01; the first 01:30 is 05:30 UTC.
    let windows = [window(&DAILY, "01:30", 30, "America/New_York")];
    let says = |now| opening(&windows, &[], at(now));
    assert_eq!(says("2026-11-01T05:29:59Z"), shut("2026-11-01T05:30:00Z"));
    assert_eq!(says("2026-11-01T05:30:00Z"), open("2026-11-01T06:00:00Z"));
    assert_eq!(says("2026-11-01T06:30:00Z"), shut("2026-11-02T06:30:00Z"));
}

#[test]
fn windows_cross_midnight_and_those_that_touch_are_one() {
    // Friday 22:00 for four hours, and Saturday 02:00 for one.
    let windows = [window(&[4], "22:00", 240, "UTC"), window(&[5], "02:00", 60, "UTC")];
    let says = |now| opening(&windows, &[], at(now));
    assert_eq!(says("2026-07-03T21:59:59Z"), shut("2026-07-03T22:00:00Z"));
    assert_eq!(says("2026-07-04T00:30:00Z"), open("2026-07-04T03:00:00Z"));
    assert_eq!(says("2026-07-04T03:00:00Z"), shut("2026-07-10T22:00:00Z"));
}

#[test]
fn a_freeze_cuts_a_window_and_hides_those_inside_it() {
    let windows = [window(&DAILY, "10:00", 120, "UTC")];
    let freeze = |from, until| Freeze { from: at(from), until: at(until), why: "audit".to_owned() };
    let freezes = [freeze("2026-07-01T11:00:00Z", "2026-07-20T11:30:00Z")];
    let says = |now| opening(&windows, &freezes, at(now));
    assert_eq!(says("2026-07-01T10:30:00Z"), open("2026-07-01T11:00:00Z"));
    let frozen = Opening::Frozen { until: at("2026-07-20T11:30:00Z"), why: "audit".to_owned() };
    assert_eq!(says("2026-07-01T11:00:00Z"), frozen);
    assert_eq!(says("2026-07-20T11:30:00Z"), open("2026-07-20T12:00:00Z"));
    assert_eq!(says("2026-07-20T12:00:00Z"), shut("2026-07-21T10:00:00Z"));
    let later = [freeze("2026-07-20T13:00:00Z", "2026-07-23T10:30:00Z")];
    let says = opening(&windows, &later, at("2026-07-20T12:30:00Z"));
    assert_eq!(says, shut("2026-07-23T10:30:00Z"));
    // One that ends with the window leaves nothing of it.
    let whole = [freeze("2026-07-20T13:00:00Z", "2026-07-23T12:00:00Z")];
    let says = opening(&windows, &whole, at("2026-07-20T12:30:00Z"));
    assert_eq!(says, shut("2026-07-24T10:00:00Z"));
}

#[test]
fn a_freeze_without_windows_has_an_end() {
    let (from, until) = (at("2026-12-20T00:00:00Z"), at("2027-01-03T00:00:00Z"));
    let freezes = [Freeze { from, until, why: "holidays".to_owned() }];
    let says = |now| opening(&[], &freezes, now);
    assert_eq!(says(at("2026-12-19T00:00:00Z")), Opening::Open { until: Some(from) });
    assert_eq!(says(from), Opening::Frozen { until, why: "holidays".to_owned() });
    assert_eq!(says(until), Opening::Open { until: None });
}

#[test]
fn each_answer_holds_exactly_until_it_says() {
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"];
    let mut windows = Vec::new();
    let mut freezes = Vec::new();
    for (number, zone) in (0_u8..).zip(zones) {
        let start = format!("{:02}:{:02}", number * 4 + 1, number * 11);
        windows.push(window(&[number, 6], &start, 50 + 77 * u32::from(number), zone));
        let from = at("2026-03-27T00:00:00Z").plus_secs(u64::from(number) * 198_000);
        let until = from.plus_secs(9_000 * u64::from(number + 1));
        freezes.push(Freeze { from, until, why: format!("freeze {number}") });
    }
    // Three weeks around the days on which clocks change, minute by minute.
    let mut now = at("2026-03-25T00:00:00Z");
    let mut said = opening(&windows, &freezes, now);
    let (mut opened, mut changes) = (0, 0);
    for _ in 0..21 * 24 * 60 {
        let says = opening(&windows, &freezes, now);
        let until = match &said {
            Opening::Open { until } | Opening::Shut { until } => until.unwrap(),
            Opening::Frozen { until, .. } => *until,
        };
        let open = |says: &Opening| matches!(says, Opening::Open { .. });
        if now < until && !open(&said) {
            // A freeze may begin while no window is open; nobody switches either way.
            assert!(!open(&says), "at {now}");
        } else if now < until {
            assert_eq!(says, said, "at {now}");
        } else {
            assert_eq!(now, until, "whole minutes only");
            assert_ne!(says, said, "at {now}");
            changes += 1;
        }
        opened += u32::from(matches!(says, Opening::Open { .. }));
        said = says;
        now = now.plus_secs(60);
    }
    assert!(changes > 30 && opened > 1_000, "{changes} changes, {opened} minutes open");
}

#[test]
fn zones_are_those_of_iana() {
    assert!(zone_exists("Europe/Berlin") && zone_exists("UTC"));
    assert!(!zone_exists("Europe/Atlantis") && !zone_exists(""));
}

/// One host a time, a window from the second minute of the bed's time to the twelfth.
fn with_window() -> Plan {
    let mut plan = planned("bake_secs = 0\nmax_in_flight = 1\n[[wave]]\nrest = true", 3);
    // The bed begins on 1970-01-12, a Monday, at 13:46:40 UTC.
    plan.windows = vec![window(&[0], "13:48", 10, "UTC")];
    plan
}

fn started() -> Bed {
    let mut bed = Bed::of(with_window());
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    bed
}

#[test]
fn outside_its_window_hosts_stage_and_none_switches() {
    let mut bed = started();
    bed.obey_all();
    assert_eq!(bed.rollout.in_flight(), 0);
    let opens = Timestamp::from_secs(1_000_080);
    let host = bed.wave(0)[0];
    let shut = Why::Shut { until: Some(opens) };
    assert!(explain(&bed.rollout, Some(&host), bed.at.now).contains(&shut));
    assert_eq!(earliest(&bed.rollout, &host, bed.at.now), Some(opens));
    bed.pass(80);
    assert_eq!(bed.rollout.in_flight(), 1);
}

#[test]
fn the_end_of_a_window_stops_who_has_not_switched_and_time_outside_does_not_count() {
    let mut bed = started();
    bed.obey_all();
    bed.pass(80);
    let host = bed.wave(0)[0];
    assert_eq!(bed.progress(host).name(), ProgressName::Granted);
    let mine = generation(&bed.rollout, &host);
    assert_eq!(may_switch(&bed.rollout, &host, &release(2), mine, bed.at.now), Ok(()));
    // Time passes and the slot is taken back and given again, until the window is over.
    bed.at.now = Timestamp::from_secs(1_000_680);
    let asked = |bed: &Bed| may_switch(&bed.rollout, &host, &release(2), u64::MAX, bed.at.now);
    assert_eq!(asked(&bed), Err(Deny::Stopped), "before anybody took note of the hour");
    bed.apply(Input::Tick);
    assert_eq!(asked(&bed), Err(Deny::Stopped));
    assert_eq!(
        bed.action(host),
        Action::Stage { release: release(2) },
        "it keeps its slot, staged"
    );
    let phase = bed.rollout.phase().clone();
    bed.at.now = bed.at.now.plus_secs(86_400);
    assert_eq!(bed.rollout.phase(), &phase, "a day outside the window");
    assert!(!groundswell_rollout::due(&bed.rollout, bed.at.now));
    let said: Vec<String> =
        explain(&bed.rollout, None, bed.at.now).iter().map(ToString::to_string).collect();
    let said = said.join("; ");
    assert!(said.contains("wave 1 is open") && said.contains("no window is open"), "{said}");
    assert!(!said.contains("halts at"), "no end that does not count: {said}");
}

#[test]
fn a_host_that_cannot_be_done_in_time_waits_for_a_longer_window() {
    let mut plan = with_window();
    plan.waves[0].hosts[0].needs_secs = 601;
    let mut bed = Bed::of(plan);
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    bed.obey_all();
    bed.pass(80);
    let (first, second) = (bed.wave(0)[0], bed.wave(0)[1]);
    assert_eq!(bed.progress(first).name(), ProgressName::Staged);
    assert_eq!(bed.progress(second).name(), ProgressName::Granted);
    let why = explain(&bed.rollout, Some(&first), bed.at.now);
    let until = Some(Timestamp::from_secs(1_000_680));
    assert!(why.contains(&Why::HostWindowTooShort { needs_secs: 601, until }), "{why:?}");
}

#[test]
fn a_host_that_just_fits_goes_and_one_that_does_not_goes_in_the_longer_window() {
    let mut plan = with_window();
    plan.windows.push(window(&[0], "14:10", 30, "UTC"));
    plan.waves[0].hosts[0].needs_secs = 601;
    plan.waves[0].hosts[1].needs_secs = 600;
    let mut bed = Bed::of(plan);
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    bed.obey_all();
    bed.pass(80);
    let (long, fits) = (bed.wave(0)[0], bed.wave(0)[1]);
    assert_eq!(bed.progress(fits).name(), ProgressName::Granted, "ten minutes are left");
    assert_eq!(bed.progress(long).name(), ProgressName::Staged);
    bed.obey_all();
    assert_eq!(bed.progress(fits).name(), ProgressName::Committed);
    // 14:10 is 1,320 s after 13:48.
    bed.pass(1_320);
    assert_eq!(bed.progress(long).name(), ProgressName::Granted);
}

#[test]
fn the_progress_deadline_counts_from_the_opening() {
    let mut bed = started();
    bed.obey_all();
    bed.pass(80);
    let Phase::Running { progress_by, .. } = bed.rollout.phase() else { panic!() };
    assert_eq!(*progress_by, Timestamp::from_secs(1_000_080 + 600));
}

#[test]
fn a_revert_waits_for_no_window() {
    let mut bed = started();
    bed.obey_all();
    bed.pass(80);
    let first = bed.wave(0)[0];
    while bed.obey(first, None) {}
    bed.at.now = Timestamp::from_secs(1_000_680);
    bed.apply(Input::Tick);
    let committed = bed.rollout.tally(0).unwrap().committed;
    assert!(committed > 0);
    bed.apply(Input::Revert { by: "ann".parse().unwrap(), why: "bad".to_owned() });
    assert_eq!(bed.phase(), PhaseName::Reverting);
    assert_eq!(bed.rollout.in_flight(), 1);
}

#[test]
fn who_was_away_in_the_window_gets_it_in_the_next_one() {
    let mut bed = started();
    let last = bed.wave(0)[2];
    bed.apply(Input::Disconnected { host: last });
    bed.obey_all();
    bed.pass(80);
    bed.obey_all();
    assert_eq!(bed.progress(last).name(), ProgressName::Absent);
    bed.pass(3_600);
    bed.apply(Input::Connected { host: last });
    bed.fact(last, HostFact::Staged);
    assert_eq!(bed.progress(last).name(), ProgressName::Staged);
    bed.pass(7 * 86_400 - 3_600);
    assert!(!matches!(bed.rollout.phase(), Phase::Halted { cause: HaltCause::Breach(_), .. }));
    assert_eq!(bed.progress(last).name(), ProgressName::Granted);
}

#[test]
fn the_calendar_wakes_only_a_rollout_that_may_switch_hosts_then() {
    let mut bed = started();
    assert_eq!(next_deadline(&bed.rollout), Some(Timestamp::from_secs(1_000_080)));
    bed.apply(Input::Pause { by: person("ann"), why: String::new() });
    assert_eq!(next_deadline(&bed.rollout), None, "a pause sleeps through windows");
    bed.apply(Input::Resume { by: person("ann"), why: String::new() });
    assert!(next_deadline(&bed.rollout).is_some());
    for host in bed.wave(0) {
        bed.fact(host, HostFact::Committed);
    }
    bed.pass(60);
    assert_eq!(bed.phase(), PhaseName::Done);
    assert_eq!(next_deadline(&bed.rollout), None, "nobody is left to switch");
}

#[test]
fn a_stopped_rollout_still_says_which_wave_it_is_about() {
    let mut bed = Bed::start("[[wave]]\ncount = 1\n[[wave]]\nrest = true\n", 2);
    let canary = bed.wave(0)[0];
    bed.fact(canary, HostFact::Committed);
    bed.pass(120);
    assert_eq!(bed.rollout.wave(), Some(1));
    bed.apply(Input::Pause { by: person("ann"), why: String::new() });
    assert_eq!(bed.rollout.wave(), Some(1));
}
