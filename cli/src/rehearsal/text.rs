//! What people read: the cases side by side, a chart and the waves of each, and what was assumed.

use std::fmt::Write as _;

use groundswell_common::{ServiceName, Timestamp};
use groundswell_sim::rehearse::{Case, Course, End, GateOpened, WaitsFor, WaveCourse};
use serde::Serialize;

use super::chart::chart;
use crate::output::{Table, clean};

/// What a rehearsal answers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    /// The service of the policy.
    pub(crate) service: ServiceName,
    /// When the rehearsal starts.
    pub(crate) start: Timestamp,
    /// The seed.
    pub(crate) seed: u64,
    /// What it takes for granted, one sentence each.
    pub(crate) assumed: Vec<String>,
    /// The cases.
    pub(crate) cases: Vec<Course>,
}

/// The answer for people.
pub(crate) fn show(answer: &Answer) -> String {
    let Answer { service, start, seed, assumed, cases } = answer;
    let (hosts, waves) = cases.first().map_or((0, 0), |case| (case.hosts, case.waves.len()));
    let mut text = format!(
        "{service}: {} hosts in {waves} waves, from {start}, seed {seed}\n\n{}",
        count(hosts),
        summary(cases)
    );
    for case in cases {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}: {}\n\n", title(case), ending(case));
        text.push_str(&chart(case));
        let _ = write!(text, "\n{}", waves_table(case));
        for gate in &case.gates {
            let _ = writeln!(text, "{}", gate_text(gate));
        }
        for warning in warnings(case) {
            let _ = writeln!(text, "! {warning}");
        }
    }
    text.push_str("\nassumed:\n");
    for sentence in assumed {
        let _ = writeln!(text, "- {}", clean(sentence));
    }
    text
}

/// What the case is about.
pub(super) fn title(course: &Course) -> String {
    match (course.case, course.failing) {
        (Case::Bad, _) => "a bad release, failing everywhere".to_owned(),
        (Case::Good, 0) => "a good release".to_owned(),
        (Case::Good, 1) => "a good release, failing on 1 host".to_owned(),
        (Case::Good, hosts) => format!("a good release, failing on {} hosts", count(hosts)),
    }
}

/// How the case ended, in a few words.
pub(super) fn ending(course: &Course) -> String {
    let stop = course.stop.as_ref();
    let place = stop.and_then(|stop| stop.wave).map(|wave| {
        let planned = usize::try_from(wave).ok().and_then(|at| course.waves.get(at));
        format!("wave {} ({})", wave + 1, planned.map_or("", |wave| wave.name.as_str()))
    });
    let place = place.unwrap_or_else(|| "no wave".to_owned());
    let stopped = stop.map(|stop| span(stop.at_secs)).unwrap_or_default();
    let took = span(course.secs);
    match course.end {
        End::Finished => format!("finished after {took}"),
        End::Paused => format!("paused in {place} after {stopped}"),
        End::Halted => format!("halted in {place} after {stopped}"),
        End::Reverted => format!("stopped in {place} after {stopped}, reverted after {took}"),
        End::Unfinished => format!("not over after {took}"),
    }
}

fn summary(cases: &[Course]) -> Table {
    let heads = cases.iter().map(|case| match case.case {
        Case::Good => "GOOD",
        Case::Bad => "BAD",
    });
    let mut table = Table::new(&[""].into_iter().chain(heads).collect::<Vec<_>>());
    let mut row = |name: &str, cell: &dyn Fn(&Course) -> Option<String>| {
        let cells = cases.iter().map(|case| cell(case).unwrap_or_default());
        table.row([name.to_owned()].into_iter().chain(cells));
    };
    let end = |case: &Course| match case.end {
        End::Finished => "finished",
        End::Paused => "paused",
        End::Halted => "halted",
        End::Reverted => "reverted",
        End::Unfinished => "not over",
    };
    row("ended", &|case| Some(end(case).to_owned()));
    row("took", &|case| Some(span(case.secs)));
    row("hosts reached", &|case| Some(count(case.reached)));
    row("on the release at once, at most", &|case| Some(count(case.most_on)));
    row("in flight at once, at most", &|case| Some(count(case.most_in_flight)));
    row("failures", &|case| Some(count(case.failures)));
    row("stopped after", &|case| Some(span(case.stop.as_ref()?.at_secs)));
    row("  with failures", &|case| Some(count(case.stop.as_ref()?.failures)));
    row("  since the first switch", &|case| case.stop.as_ref()?.after_switch_secs.map(span));
    row("  since the first failure", &|case| case.stop.as_ref()?.after_failure_secs.map(span));
    row("all back, since the stop", &|case| case.back_secs.map(span));
    row("left on the release", &|case| Some(count(case.left_on)));
    row("  where it fails", &|case| Some(count(case.left_failing)));
    table
}

fn waves_table(course: &Course) -> Table {
    let mut table = Table::new(&[
        "WAVE", "HOSTS", "AT ONCE", "BUDGET", "OPENED", "DONE", "BAKED", "REACHED", "FAILED",
    ]);
    for (wave, number) in course.waves.iter().zip(1_u32..) {
        let WaveCourse { name, hosts, max_in_flight, failure_budget, .. } = wave;
        let at = |secs: Option<u64>| secs.map(span).unwrap_or_default();
        table.row([
            format!("{number} {name}"),
            count(*hosts),
            count(*max_in_flight),
            count(*failure_budget),
            at(wave.opened_secs),
            at(wave.finished_secs),
            at(wave.ended_secs),
            count(wave.reached),
            count(wave.failures),
        ]);
    }
    table
}

fn gate_text(gate: &GateOpened) -> String {
    let wants = match (gate.approvals, gate.manual) {
        (0, _) => "a person who opens it".to_owned(),
        (approvals, false) => format!("approvals: {approvals}"),
        (approvals, true) => format!("approvals: {approvals}, and a person who opens it"),
    };
    let asked = span(gate.asked_secs);
    let opened = gate.opened_secs.map_or_else(
        || "it did not open".to_owned(),
        |opened| format!("opened after {} more", span(opened - gate.asked_secs)),
    );
    format!("gate before wave {}: asked after {asked} for {wants}; {opened}", gate.wave + 1)
}

/// What an admin should not overlook.
fn warnings(course: &Course) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(stop) = &course.stop {
        warnings.push(clean(&stop.why));
    }
    for waiting in &course.waiting {
        let what = match waiting.what {
            WaitsFor::Window => "a window that is long enough for them",
            WaitsFor::Domain => "room in their failure domain",
            WaitsFor::Quorum => "room in their quorum group, of which others are away or down",
            WaitsFor::Wave => "room in their wave, of which so many are away or down",
        };
        warnings.push(format!(
            "hosts that still waited at the end for {what}: {}",
            count(waiting.hosts)
        ));
    }
    if course.end == End::Finished && course.left_failing > 0 && course.case == Case::Bad {
        let left = count(course.left_failing);
        warnings.push(format!(
            "the policy does not notice this release: it is over before the release fails, and \
             {left} hosts keep it; bake longer, or ask for evidence"
        ));
    }
    if course.too_slow > 0 {
        let slow = count(course.too_slow);
        warnings.push(format!("{slow} hosts needed longer than probe_deadline_secs, and failed"));
    }
    warnings
}

/// A number with its thousands apart.
pub(super) fn count(number: u32) -> String {
    indicatif::HumanCount(u64::from(number)).to_string()
}

/// Seconds for people: the two greatest units.
pub(crate) fn span(secs: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut parts = Vec::new();
    let mut left = secs;
    for (size, unit) in UNITS {
        if parts.len() < 2 && (left >= size || !parts.is_empty()) {
            parts.push((left / size, unit));
            left %= size;
        }
    }
    let parts = parts.into_iter().filter(|(many, _)| *many > 0);
    let text: Vec<String> = parts.map(|(many, unit)| format!("{many} {unit}")).collect();
    if text.is_empty() { "0 s".to_owned() } else { text.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_show_their_two_greatest_units() {
        for (secs, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min 59 s"),
            (3_605, "1 h"),
            (7_380, "2 h 3 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(secs), text);
        }
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
