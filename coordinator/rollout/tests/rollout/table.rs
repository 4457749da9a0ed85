//! Every pair of phase and input: what is accepted, and the exact refusal of what is not.

use groundswell_common::report::Verdict;
use groundswell_rollout::{HostFact, Input, KeepOrRevert, Refusal, Steer};

use crate::bed::{Bed, host, person, planned};

const KEYS: &str = "max_in_flight = 9\nbake_secs = 60\n[[wave]]\ncount = 2\n[[wave]]\ncount = 1\n\
    gate = \"approval\"\n[[wave]]\nrest = true\ngate = \"approval\"\napprovals = 2";

fn running() -> Bed {
    Bed::start(KEYS, 5)
}

fn baking() -> Bed {
    let mut bed = running();
    bed.obey_all();
    bed
}

fn gated() -> Bed {
    let mut bed = baking();
    bed.pass(60);
    bed
}

fn after(mut bed: Bed, input: Input) -> Bed {
    bed.apply(input);
    bed
}

fn completed(late: bool) -> Bed {
    let mut bed = Bed::start("bake_secs = 0\n[[wave]]\nrest = true", 2);
    if late {
        bed.apply(Input::Disconnected { host: host(1) });
    }
    bed.obey_all();
    bed.pass(30);
    if late {
        bed.apply(Input::Connected { host: host(1) });
    }
    bed
}

fn inputs(bed: &Bed) -> Vec<(&'static str, Input)> {
    let by = || person("ann");
    let why = || "because".to_owned();
    let steer = |steer| Input::Steer { by: by(), why: why(), steer };
    let first = bed.wave(0)[0];
    let away = bed.rollout.host(&first).unwrap().away.is_some();
    assert!(!away, "the bed keeps the first host connected");
    vec![
        ("start", Input::Start { away: Vec::new(), busy: Vec::new() }),
        ("approve", Input::Approve { by: by(), plan: bed.rollout.plan_hash(), wave: None }),
        ("pause", Input::Pause { by: by(), why: why() }),
        ("resume", Input::Resume { by: by(), why: why() }),
        ("halt", Input::Halt { by: by(), why: why() }),
        ("keep", Input::Abort { by: by(), why: why(), keep: KeepOrRevert::Keep }),
        ("abort", Input::Abort { by: by(), why: why(), keep: KeepOrRevert::Revert }),
        ("revert", Input::Revert { by: by(), why: why() }),
        ("supersede", Input::Supersede { by: "shop-9".parse().unwrap() }),
        ("host", Input::Host { host: first, fact: HostFact::Staged }),
        ("stranger", Input::Host { host: host(99), fact: HostFact::Staged }),
        ("connected", Input::Connected { host: first }),
        ("disconnected", Input::Disconnected { host: first }),
        ("tick", Input::Tick),
        ("promote", steer(Steer::Promote)),
        ("skip", steer(Steer::SkipWave { wave: 2 })),
        ("exclude", steer(Steer::Exclude { host: first })),
        ("retry", steer(Steer::Retry { host: first })),
        ("slow", steer(Steer::Slow { max_in_flight: Some(1) })),
        ("answer", Input::Answer { wave: 1, verdict: Verdict::Pass, why: why() }),
        ("removed", Input::Removed { host: first }),
    ]
}

/// The word for each input in the order of [`inputs`]: `ok`, or the refusal.
fn row(make: Make) -> Vec<(&'static str, String)> {
    let words = inputs(&make()).into_iter().map(|(name, input)| {
        let word = match make().try_apply(input) {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => word(&refusal),
        };
        (name, word)
    });
    words.collect()
}

fn word(refusal: &Refusal) -> String {
    let text = format!("{refusal:?}");
    text.split(['(', ' ']).next().unwrap().to_owned()
}

fn late() -> Bed {
    let mut bed = running();
    bed.at.now = bed.at.now.plus_secs(600);
    bed
}

fn paused() -> Bed {
    after(running(), Input::Pause { by: person("ann"), why: String::new() })
}

fn halted() -> Bed {
    after(running(), Input::Halt { by: person("ann"), why: String::new() })
}

fn reverting() -> Bed {
    after(baking(), Input::Revert { by: person("ann"), why: String::new() })
}

fn reverted() -> Bed {
    after(running(), Input::Revert { by: person("ann"), why: String::new() })
}

fn aborted() -> Bed {
    let keep = KeepOrRevert::Keep;
    after(running(), Input::Abort { by: person("ann"), why: String::new(), keep })
}

fn superseded() -> Bed {
    after(running(), Input::Supersede { by: "shop-8".parse().unwrap() })
}

/// Makes a rollout in one phase.
type Make = fn() -> Bed;

/// One line a phase; the answers in the order of [`inputs`]: start approve pause resume halt, keep
/// abort revert supersede, host stranger connected disconnected tick, promote skip exclude retry slow
/// answer removed.
#[rustfmt::skip]
const TABLE: [(&str, Make, [&str; 21]); 13] = [
    ("planned", || Bed::of(planned(KEYS, 5)),
        ["ok", "ok", "NotStarted", "NotStarted", "NotStarted",
         "ok", "ok", "NotStarted", "ok",
         "NotStarted", "NotStarted", "NotStarted", "NotStarted", "NotStarted",
         "NotStarted", "NotStarted", "NotStarted", "NotStarted", "NotStarted", "NotStarted", "ok"]),
    ("running", running,
        ["Started", "ok", "ok", "NotStopped", "ok", "ok", "ok", "ok", "ok",
         "ok", "UnknownHost", "NoChange", "ok", "NoChange",
         "NothingShown", "ok", "ok", "NotRetryable", "ok", "NobodyAsked", "ok"]),
    ("running, late", late,
        ["Started", "ok", "ok", "NotStopped", "ok", "ok", "ok", "ok", "ok",
         "ok", "UnknownHost", "NoChange", "ok", "ok",
         "NothingShown", "ok", "ok", "NotRetryable", "ok", "NobodyAsked", "ok"]),
    ("baking", baking,
        ["Started", "ok", "ok", "NotStopped", "ok", "ok", "ok", "ok", "ok",
         "NoChange", "UnknownHost", "NoChange", "ok", "NoChange",
         "ok", "ok", "HostRuns", "NotRetryable", "ok", "NobodyAsked", "ok"]),
    ("gated", gated,
        ["Started", "ok", "ok", "NotStopped", "ok", "ok", "ok", "ok", "ok",
         "NoChange", "UnknownHost", "NoChange", "ok", "NoChange",
         "NothingToPromote", "ok", "HostRuns", "NotRetryable", "ok", "NobodyAsked", "ok"]),
    ("paused", paused,
        ["Started", "ok", "Paused", "ok", "ok", "ok", "ok", "ok", "ok",
         "ok", "UnknownHost", "NoChange", "ok", "NoChange",
         "Paused", "ok", "ok", "NotRetryable", "ok", "NobodyAsked", "ok"]),
    ("halted", halted,
        ["Started", "ok", "Halted", "ok", "Halted", "ok", "ok", "ok", "ok",
         "ok", "UnknownHost", "NoChange", "ok", "NoChange",
         "Halted", "ok", "ok", "NotRetryable", "ok", "NobodyAsked", "ok"]),
    ("reverting", reverting,
        ["Started", "Reverting", "ok", "NotStopped", "ok",
         "ok", "Reverting", "Reverting", "Reverting",
         "NoChange", "UnknownHost", "NoChange", "ok", "NoChange",
         "Reverting", "Reverting", "Reverting", "Reverting", "ok", "NobodyAsked", "ok"]),
    ("done, completed", || completed(false),
        ["Started", "Over", "Over", "Over", "Over", "Over", "Over", "ok", "ok",
         "NoChange", "UnknownHost", "NoChange", "ok", "NoChange",
         "Over", "Over", "HostRuns", "NotRetryable", "ok", "NobodyAsked", "ok"]),
    ("done, completed with stragglers", || completed(true),
        ["Started", "Over", "ok", "Over", "ok", "Over", "Over", "ok", "ok",
         "NoChange", "UnknownHost", "NoChange", "ok", "NoChange",
         "Over", "Over", "HostRuns", "NotRetryable", "ok", "NobodyAsked", "ok"]),
    ("done, reverted", reverted,
        ["Started", "Over", "Over", "Over", "Over", "Over", "Over", "Reverted", "ok",
         "ok", "UnknownHost", "NoChange", "ok", "NoChange",
         "Over", "Over", "Over", "Over", "Over", "NobodyAsked", "ok"]),
    ("done, aborted", aborted,
        ["Started", "Over", "Over", "Over", "Over", "Over", "Over", "ok", "ok",
         "ok", "UnknownHost", "NoChange", "ok", "NoChange",
         "Over", "Over", "Over", "Over", "Over", "NobodyAsked", "ok"]),
    ("done, superseded", superseded, ["Superseded"; 21]),
];

#[test]
fn every_phase_answers_every_input() {
    for (phase, make, expected) in TABLE {
        let found = row(make);
        assert_eq!(found.len(), expected.len());
        for ((input, found), expected) in found.iter().zip(expected) {
            assert_eq!(found, expected, "{input} in {phase}");
        }
    }
}
