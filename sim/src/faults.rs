//! Deliberate faults in the core and in the host machine.

/// One fault: a text of a file that stands there once, and what is planted in its place.
pub struct Fault {
    /// What it does.
    pub name: &'static str,
    /// The file, from the root of the tree.
    pub file: &'static str,
    /// What stands there.
    pub text: &'static str,
    /// What is planted.
    pub instead: &'static str,
}

const fn fault(
    name: &'static str,
    file: &'static str,
    (text, instead): (&'static str, &'static str),
) -> Fault {
    Fault { name, file, text, instead }
}

const SLOTS: &str = "coordinator/rollout/src/slots.rs";
const SETTLE: &str = "coordinator/rollout/src/settle.rs";
const HOSTS: &str = "coordinator/rollout/src/hosts.rs";
const DESIRED: &str = "coordinator/rollout/src/desired.rs";
const FACT: &str = "coordinator/rollout/src/fact.rs";
const STEP: &str = "coordinator/rollout/src/step.rs";
const GATE: &str = "coordinator/rollout/src/gate.rs";
const MACHINE: &str = "agent/machine/src/step.rs";
const SWITCHING: &str = "agent/machine/src/switching.rs";
const CONTACT: &str = "agent/machine/src/contact.rs";

/// All of them.
#[rustfmt::skip]
pub const FAULTS: [Fault; 22] = [
    fault("slots forget what the rollout before left in flight", STEP, (
        "rollout.edit(step, ordinal, |entry| entry.busy = Some(until));",
        "rollout.edit(step, ordinal, |entry| entry.busy = None.filter(|_| until > now));")),
    fault("slots of the whole fleet", SLOTS, (
        "opened.map_or(0, |wave| slowed(rollout, wave.max_in_flight))",
        "opened.map_or(0, |_| rollout.hosts.len())")),
    fault("slots without a bound on the way back", SLOTS, (
        "rollout.planned_wave(wave).map_or(0, |wave| slowed(rollout, wave.max_in_flight))",
        "rollout.planned_wave(wave).map_or(0, |_| rollout.hosts.len())")),
    fault("a revert stops at a host of an earlier wave", SLOTS, (
        "if next.is_some() || !woke {", "if next.is_some() || !woke || way != Way::Forward {")),
    fault("a rack that sleeps never wakes", SLOTS, (
        "rollout.sets.sleeping.first().filter(|_| one_more)",
        "rollout.sets.sleeping.first().filter(|_| one_more && false)")),
    fault("one failure too many", SETTLE, (
        "find(|breach| breach.failures > breach.budget)",
        "find(|breach| breach.failures > breach.budget + 1)")),
    fault("one failure too few", SETTLE, (
        "find(|breach| breach.failures > breach.budget)",
        "find(|breach| breach.failures > 0 && breach.failures >= breach.budget)")),
    fault("a revert is over too early", SETTLE, (
        "let busy = rollout.sets.may_run.range(first..).next().is_some()",
        "let busy = rollout.sets.may_run.range(first..).next().is_none()")),
    fault("the bake never ends", SETTLE, (
        "if enough && (until <= now || extended.is_some()) {",
        "if enough && until < now && extended.is_some() {")),
    fault("a failure counts twice", HOSTS, (
        "shift(&mut wave.failures, before.counts, after.counts);",
        "shift(&mut wave.failures, before.counts, after.counts);\n\
         shift(&mut wave.failures, false, after.counts && !before.counts);")),
    fault("a new wish keeps its old number", HOSTS, (
        "entry.generation = step.at.seq;", "entry.generation = 1 + step.at.seq % 7;")),
    fault("a guard forgets that a host came up", HOSTS, (
        "shift(&mut state.down, before.down, after.down);",
        "shift(&mut state.down, false, after.down && !before.down);")),
    fault("a host that reported before its order counts as gone back", FACT, (
        "Progress::Reverting { .. } | Progress::Overdue if !runs && accepted >= entry.generation => {",
        "Progress::Reverting { .. } | Progress::Overdue => {")),
    fault("a permit for whoever asks", DESIRED, (
        "if !goes_forward(rollout) || !calendar_is_open(rollout) {\n        return Err(Deny::Stopped);",
        "if rollout.started.is_some() {\n        return Ok(());")),
    fault("success before the bake", FACT, (
        "HostState::Baking if aims || runs => Some(HostFact::Passed),",
        "HostState::Baking if aims || runs => Some(HostFact::Committed),")),
    fault("success at the switch", FACT, (
        "HostState::Switching | HostState::Probing if aims || runs => Some(HostFact::SwitchStarted),",
        "HostState::Switching | HostState::Probing if aims || runs => Some(HostFact::Committed),")),
    fault("an old word of a host that is away", FACT, (
        "Progress::Staging => Some(Progress::Staged),",
        "Progress::Staging | Progress::Absent => Some(Progress::Staged),")),
    fault("a resume acknowledges nothing", STEP, (
        "    acknowledge(rollout, step);", "")),
    fault("a gate that no approval opens", GATE, (
        "if have < needed {", "if have <= needed && needed > 0 {")),
    fault("a host commits without a bake", MACHINE, (
        "if until == now {", "if until >= now {")),
    fault("a host commits though nobody was heard", CONTACT, (
        "Self::Missing | Self::Awaited => true,", "Self::Missing | Self::Awaited => false,")),
    fault("a host forgets where it came from", SWITCHING, (
        "self.previous = self.running.take();", "drop(self.running.take());")),
];
