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
    /// What must find it.
    pub walk: Walk,
}

/// A walk of the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Whole fleets, and all that goes wrong with them.
    Fleet,
    /// One service in several environments.
    Environments,
}

const fn fault(
    name: &'static str,
    file: &'static str,
    (text, instead): (&'static str, &'static str),
) -> Fault {
    Fault { name, file, text, instead, walk: Walk::Fleet }
}

/// A fault in what goes on from one environment to the next.
const fn astray(name: &'static str, planted: (&'static str, &'static str)) -> Fault {
    Fault { walk: Walk::Environments, ..fault(name, LANES, planted) }
}

const SLOTS: &str = "coordinator/rollout/src/slots.rs";
const SETTLE: &str = "coordinator/rollout/src/settle.rs";
const HOSTS: &str = "coordinator/rollout/src/hosts.rs";
const DESIRED: &str = "coordinator/rollout/src/desired.rs";
const FACT: &str = "coordinator/rollout/src/fact.rs";
const STEP: &str = "coordinator/rollout/src/step.rs";
const GATE: &str = "coordinator/rollout/src/gate.rs";
const MACHINE: &str = "agent/machine/src/step.rs";
const STAGING: &str = "agent/machine/src/staging.rs";
const HELD: &str = "agent/machine/src/state.rs";
const CONTROL: &str = "coordinator/control/src/control.rs";
const PLANS: &str = "coordinator/control/src/rollouts.rs";
const BACK: &str = "coordinator/control/src/back.rs";
const FOLD: &str = "coordinator/control/src/view/apply.rs";
const VIEW: &str = "coordinator/control/src/view/state.rs";
const STEER: &str = "coordinator/control/src/steer.rs";
const PLAN: &str = "coordinator/rollout/src/plan.rs";
const STATE: &str = "coordinator/rollout/src/state.rs";
const BACKUP: &str = "coordinator/control/src/backup.rs";
const WATCH: &str = "agent/machine/src/watch.rs";
const SWITCHING: &str = "agent/machine/src/switching.rs";
const LANES: &str = "coordinator/control/src/lanes.rs";
const CONTACT: &str = "agent/machine/src/contact.rs";

/// All of them.
#[rustfmt::skip]
pub const FAULTS: [Fault; 66] = [
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
        "if !goes_forward(rollout) || !is_open {\n        return Err(Deny::Stopped);",
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
    fault("a host that comes back is not told its wish", CONTROL, (
        "        self.link_changed(host, true);\n        self.stale.insert(host);",
        "        self.link_changed(host, true);")),
    fault("a rollout does not end the one before", PLANS, (
        "self.submit_or_note(By::Coordinator, &before, input);", "drop((before, input));")),
    fault("a plan forgets what is in flight", PLANS, (
        "users.partition(|user| planned.contains(&user.host));",
        "users.partition(|user| !planned.contains(&user.host));")),
    fault("poison is found again by every input", FOLD, (
        "let poison = poison(rollout, (&effects.transitions, input), (was_blamed, record.judged));",
        "let (from, to) = (Phase::Planned, rollout.phase().clone());\n\
         let poison = poison(rollout, (&[Transition { from, to }], input), (true, false));")),
    fault("no progress poisons", FOLD, (
        "HaltCause::NoProgress { .. } | HaltCause::Person { .. } | HaltCause::Gate { .. } => {",
        "HaltCause::NoProgress { .. } => Some(format!(\"halted: {cause}\")),\n\
         HaltCause::Person { .. } | HaltCause::Gate { .. } => {")),
    fault("a clear clears nothing", FOLD, (
        "found.poisoned = None;\n                found.rolled = off;", "found.rolled = off;")),
    fault("what is poisoned is offered to new hosts", FOLD, (
        "            service.take_proven(release, environment.as_ref(), &all);\n        }",
        "            let _ = (&service.proven, all);\n        }")),
    fault("the older rollout speaks for a host", VIEW, (
        "for rollout in self.speaking(service, environment) {",
        "for rollout in self.speaking(service, environment).collect::<Vec<_>>().into_iter().rev() {")),
    fault("a wish outside of rollouts keeps its old number", VIEW, (
        "Some((wish, self.unasked_number(service, (host, record))))", "Some((wish, record.seq))")),
    fault("a wish that was withdrawn lowers the number", VIEW, (
        "generation = generation.max(self.unasked_number(service, (host, record)));",
        "generation = generation.max(1).max(record.seq);")),
    fault("new hosts get the newest release", VIEW, (
        "            return self.baseline(service, here);", "            return service.newest();")),
    fault("a host outside of rollouts keeps what was taken back", VIEW, (
        "Action::Revert { from: bad.published.release, to: Some(release) }", "Action::Switch { release }")),
    fault("who was let in again before a restart stays out", CONTROL, (
        "Progress::Held { lack: Lack::Drained | Lack::Twin, .. }", "Progress::Held { lack: Lack::Twin, .. }")),
    fault("a way back leaves out hosts at rest", BACK, (
        "if runs == Some(left) || works_on_it || unheard {", "if works_on_it || unheard {")),
    fault("a way back goes forward", BACK, (
        "let older = |found: &&Release| found.published.seq < leaving.published.seq;",
        "let older = |found: &&Release| found.published.seq > leaving.published.seq;")),
    fault("a permit outside of rollouts for any wish", STEER, (
        "if wish.action == wanted && request.generation >= generation {",
        "if wish.action == wanted || request.generation >= generation {")),
    fault("what is not proven is something to go back to", PLANS, (
        "Some(_) => fallback,", "Some(running) => Some(running),")),
    fault("a host that is held is not asked to stage", DESIRED, (
        "Progress::Held { lack, .. } if forward && tries_again(*lack) => Want::Stage,",
        "Progress::Held { lack, .. } if !forward && tries_again(*lack) => Want::Stage,")),
    fault("a paused host that is staged gets a slot", FACT, (
        "Progress::Held { lack: Lack::Paused, .. } => None,",
        "Progress::Held { lack: Lack::Paused, .. } => Some(Progress::Staged),")),
    fault("a host that is freed is not heard again", CONTROL, (
        "        if freed {\n            self.hear_again(host);\n        }",
        "        drop(freed);")),
    fault("a pause holds only whose turn it is", HELD, (
        "Some(Wish { action: Desired::Stage { .. } | Desired::Switch { .. }, .. }),",
        "Some(Wish { action: Desired::Switch { .. }, .. }),")),
    fault("a paused service asks for a permit and uses it", MACHINE, (
        "self.paused.is_none()\n                && wish.generation == generation",
        "wish.generation == generation")),
    fault("what is stuck is committed by a wish", SWITCHING, (
        "_ if self.asks_for_what_runs(action) => self.prove(now),",
        "_ if self.asks_for_what_runs(action) => {\n\
         self.unproven = None;\n self.enter(State::Committed {});\n Vec::new()\n }")),
    fault("what is held is a failure", STAGING, (
        "let (target, lack) = (held.release, held.lack);",
        "if held.release == held.release {\n\
         return self.on_stage_failed(held.release, held.why);\n }\n\
         let (target, lack) = (held.release, held.lack);")),
    fault("what starts has no deadline", SWITCHING, (
        "let deadline = now.plus_secs(self.probe_secs());\n                self.enter(",
        "let deadline = now.plus_secs(1_000_000_000);\n                self.enter(")),
    fault("silence poisons", STATE, (
        "self.plan.rules < RULES_SPOKEN || self.counts.spoken > 0",
        "self.plan.rules >= RULES_SPOKEN || self.counts.spoken > 0")),
    fault("a lift that falls short", BACKUP, (
        "let past = self.put_back().ok_or(Refused::NothingToLift)?.newest;",
        "let past = self.put_back().ok_or(Refused::NothingToLift)?.newest / 2;")),
    fault("a machine that slept goes on with its bake", WATCH, (
        "State::Probing { target, .. } | State::Baking { target, .. } => {\n                let target = \
         target.clone();\n                self.probe_anew(target, now)\n            }\n            State::Idle",
        "State::Baking { until, .. } => vec![Action::Watch { until: *until, interval_secs: 1 }],\n            \
         State::Probing { target, .. } => self.probe_anew(target.clone(), now),\n            State::Idle")),
    fault("a drained host is let in", CONTROL, (
        "let drained = self.view.hosts.get(host)?.drained.clone()?;",
        "let drained = self.view.hosts.get(host)?.drained.clone().filter(String::is_empty)?;")),
    fault("what cannot be staged is a failure", FACT, (
        "if *step == FailedStep::Stage && rollout.plan.rules >= RULES_HELD =>",
        "if *step == FailedStep::Stage && rollout.plan.rules < RULES_HELD =>")),
    fault("what is unproven and wanted is left stuck", MACHINE, (
        "if self.is_unproven() && self.asks_for_what_runs(action) =>",
        "if self.is_unproven() && self.asks_for_what_runs(action) && self.running.is_none() =>")),
    astray("what has completed does not soak", (
        "if until > self.now {\n            return Err(Waiting::Soaks",
        "if until > self.now.plus_secs(lane.soak_secs) {\n            return Err(Waiting::Soaks")),
    astray("hosts of every environment belong to each", (
        "self.everyone || host.environment == self.environment",
        "self.everyone || !host.environment.as_str().is_empty()")),
    astray("what is held back starts all the same", (
        "&& lane.is_held_by(held) && !over", "&& lane.is_held_by(held) && over")),
    astray("what was ordered for a time never starts", (
        "due.extend(self.orders(name, &lane).filter_map(|(_, held)| held.until));",
        "due.extend(self.orders(name, &lane).filter_map(|(_, held)| held.until).filter(|_| false));")),
    astray("what has soaked wakes nobody", (
        "due.extend(promoted.map(|(_, since)| since.plus_secs(lane.soak_secs)));",
        "due.extend(promoted.map(|(_, since)| since.plus_secs(lane.soak_secs)).filter(|_| false));")),
    astray("what is poisoned elsewhere goes on", (
        "self.refuse_poisoned_anywhere(name, (release, lane))?;", "")),
    astray("what is ill goes on", (
        "(hosts, _) => Err(Waiting::Ill { version, before, hosts }),", "(_, _) => Ok(()),")),
    astray("what goes on takes the place of something newer", (
        "&& release.published.seq > here", "&& release.published.seq != here")),
    fault("who fetched beforehand is not heard at its turn", CONTROL, (
        "let is_wished_the_same = entry.progress == Progress::Staging && entry.generation < seq;",
        "let is_wished_the_same = entry.generation > seq;")),
    fault("where all must stay up there is no way back", PLAN, (
        "divided(&everyone, &hosts, (&any, &seed), 1)?;", "divided(&everyone, &hosts, (&any, &seed), 0)?;")),
    fault("who is stopped in its bake goes on in its time", CONTROL, (
        "says.is_some_and(|held| held.lack == Lack::Paused)",
        "says.is_some_and(|held| held.lack == Lack::Drained)")),
    fault("who is held after its switch is left by a revert", SETTLE, (
        "let begun = |ordinal: &u32| rollout.entry(*ordinal).is_some_and(|entry| entry.begun);",
        "let begun = |ordinal: &u32| rollout.entry(*ordinal).is_some_and(|entry| entry.begun && entry.kept);")),
    fault("what a person has stopped holds up a newer release", WATCH, (
        "self.stopped.is_some() && wished.is_some_and(|wished| wished != target.id)",
        "self.stopped.is_some() && wished.is_none()")),
];
