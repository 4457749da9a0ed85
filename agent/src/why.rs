//! What holds a service of this host now: from its journal and the accepted directive, offline. `doctor` and the
//! coordinator's `why` of a host are other answers.

use groundswell_common::condition::Lack;
use groundswell_common::directive::Action as Desired;
use groundswell_common::report::{HostState, Verdict};
use groundswell_common::{HostName, ReleaseId, RolloutId, ServiceName, chain, one_line};
use groundswell_machine::{Service, State, StuckCause, Wish};
use serde::Serialize;

use crate::accepted::{self, Accepted};
use crate::bring;
use crate::config::Settings;
use crate::contact::{self, Contact, Link};
use crate::driver::permits::may_ask;
use crate::durable;
use crate::hand;
use crate::identity;
use crate::journal;
use crate::status::{StatusError, state};

/// What is said where permits run out before a switch is ready.
pub(crate) const TOO_SLOW: &str = "it is not switched: its disk takes longer than the 2 s of a permit to make the \
                                   switch ready, so nothing is touched; look at the disk there ('dmesg', 'iostat'), it \
                                   is tried again by itself";

/// What is said of a unit that somebody stopped.
pub(crate) fn stopped(unit: &str) -> String {
    format!(
        "{unit} was stopped on this host and stays so until it boots or gets another release; 'systemctl start {unit}' \
         ends that"
    )
}

/// One service. The JSON form is an interface: fields are only added.
#[derive(Debug, Serialize)]
pub struct Reasons {
    /// Its name.
    pub service: ServiceName,
    /// What holds it, the nearest reason first.
    pub why: Vec<String>,
}

/// What holds each service, or the one named.
///
/// # Errors
/// [`StatusError::State`].
pub fn why(settings: &Settings, only: Option<&ServiceName>) -> Result<Vec<Reasons>, StatusError> {
    let layout = settings.layout();
    let accepted = accepted::load(&layout).map_err(state)?;
    let loaded = identity::load(&layout).ok();
    let (host, trustee) = loaded.map(|loaded| (loaded.identity.name, loaded.trustee)).unzip();
    let wishes = accepted.as_ref().map(Accepted::wishes);
    let mut services = accepted::services_on_disk(&layout).map_err(state)?;
    let named = wishes.iter().flatten().map(|(service, _)| service.clone());
    services.extend(named);
    services.extend(only.cloned());
    services.sort();
    services.dedup();
    services.retain(|service| only.is_none_or(|only| only == service));
    let unreached = match contact::load(&layout) {
        Some(Contact { link: Link::Down { why }, since }) => {
            Some(format!("not connected to the coordinator since {since}: {why}"))
        }
        Some(Contact { link: Link::Up { twin: true }, .. }) => Some(format!(
            "{} connects to the coordinator as well: nothing new comes to either; {}",
            contact::TWIN,
            contact::TWIN_NEXT
        )),
        Some(Contact { link: Link::Up { twin: false }, .. }) | None => None,
    };
    let reasons = |service: ServiceName| {
        let wish = wishes.iter().flatten().find(|(name, _)| *name == service);
        let mut why: Vec<String> = Vec::new();
        why.extend(durable::is_read_only(layout.state()).then(|| {
            format!(
                "held: the disk of {} is mounted read-only, and nothing is switched or taken back; \
                 'groundswell-agent doctor' says what ends that",
                layout.state().display()
            )
        }));
        why.extend(bring::full(&layout).map(|full| format!("held: {full}")));
        let paused = hand::paused(&layout, &service);
        let is_paused = paused.is_some();
        why.extend(paused.map(|reason| {
            let next = hand::ends_pause(&layout, &service);
            format!("paused on this host: {reason}; {next}")
        }));
        match journal::load(&layout, &service) {
            Err(error) => why.push(format!("stuck: {}", chain(&error))),
            Ok(machine) => {
                let machine = machine.unwrap_or_default();
                let held = machine.held().filter(|_| machine.state.seen() != HostState::Stuck);
                // Of a pause all has been said.
                let held = held.filter(|held| !is_paused || held.lack != Lack::Paused);
                why.extend(held.map(|held| format!("held: {}", held.why)));
                let refusal = staged(&machine).and_then(|release| {
                    let proof = accepted.as_ref()?.proof(&release);
                    may_ask(trustee.as_ref()?, (&service, &machine), &release, proof.as_ref()).err()
                });
                why.extend(refusal.as_ref().map(|refusal| format!("held: {}", chain(refusal))));
                let rests = machine.watched().is_some();
                why.extend(machine.stopped.as_ref().filter(|_| rests).map(|unit| stopped(unit)));
                why.extend(machine.is_too_slow().then(|| TOO_SLOW.to_owned()));
                why.extend(ill(&machine));
                why.extend(stands(&service, &machine));
                let runs = machine.running.as_ref().map(|known| known.id);
                let wishes_more =
                    |wish: &Wish| wish.names().is_some_and(|named| Some(named) != runs);
                why.extend(match (&wishes, wish) {
                    // What is to be done about it has been said.
                    (Some(_), Some((_, wish)))
                        if machine.state.seen() == HostState::Stuck && !wishes_more(wish) =>
                    {
                        None
                    }
                    (None, _) => Some(
                        "no directive was ever accepted: it comes with the first connection; 'groundswell-agent \
                         doctor' says what that lacks".to_owned(),
                    ),
                    (Some(_), None) => {
                        Some("the directive says nothing of it: it is left alone".to_owned())
                    }
                    (Some(_), Some(_)) if refusal.is_some() => Some(
                        "the wished release is staged; a permit is asked for once it has that".to_owned(),
                    ),
                    (Some(_), Some((_, wish))) => Some(wished(&machine, wish, host.as_ref())),
                });
            }
        }
        // What is wished for may be old news.
        why.extend(unreached.clone());
        Reasons { service, why }
    };
    Ok(services.into_iter().map(reasons).collect())
}

/// The wished release, where it is staged.
fn staged(machine: &Service) -> Option<ReleaseId> {
    let wished = machine.wish.as_ref().and_then(Wish::names);
    let is_staged = matches!(machine.state, State::Staged { .. });
    wished.filter(|release| is_staged && machine.target() == Some(*release))
}

/// That what is live, and at rest, does not pass its probes.
fn ill(machine: &Service) -> Option<String> {
    let rests = match machine.state {
        State::Committed {} | State::Fetching { .. } | State::Staged { .. } => true,
        State::Idle {}
        | State::Switching { .. }
        | State::Probing { .. }
        | State::Baking { .. }
        | State::Reverting { .. }
        | State::Stuck { .. } => false,
    };
    let running = machine.running.as_ref().filter(|_| rests && machine.health == Verdict::Fail)?;
    let failure = machine.failure.as_ref().filter(|failure| failure.release == running.id);
    let cause = failure.map(|failure| format!(": {}", one_line(&failure.why))).unwrap_or_default();
    Some(format!(
        "what is live, {}, fails its probes{cause}; 'groundswell-agent doctor' says more",
        running.version
    ))
}

/// What the machine is doing by itself.
fn stands(service: &ServiceName, machine: &Service) -> Option<String> {
    match &machine.state {
        State::Idle {} | State::Committed {} | State::Staged { .. } => None,
        State::Fetching { held: Some(_), .. } => {
            Some("nothing speaks against the release: it is tried again by itself".to_owned())
        }
        State::Fetching { held: None, .. } => Some("it fetches a release".to_owned()),
        State::Switching { deadline: None, .. } => Some("it switches now".to_owned()),
        State::Switching { deadline: Some(deadline), .. } => Some(format!(
            "what is live is being started, until {deadline} at most; what ran before and does not obey its \
                 stop until then is killed"
        )),
        State::Probing { .. } | State::Baking { .. } if machine.stopped.is_some() => {
            Some("it is probed and bakes anew once it runs again".to_owned())
        }
        State::Probing { deadline, .. } if machine.wants_contact() => Some(format!(
            "what is live must pass its probes and reach the coordinator until {deadline}"
        )),
        State::Probing { deadline, .. } => {
            Some(format!("what is live must pass its probes until {deadline}"))
        }
        State::Baking { until, .. } => Some(format!("what is live bakes until {until}")),
        State::Reverting { .. } => Some("it goes back to the release before".to_owned()),
        State::Stuck { cause: stuck, .. } => {
            let known = machine.failure.as_ref().map(|failure| one_line(&failure.why));
            let cause = known.unwrap_or_else(|| "no reason is known".to_owned());
            Some(match stuck {
                StuckCause::Journal | StuckCause::Tree => format!(
                    "stuck: {cause}; see that what is live is what should run, stop the agent, run \
                     'groundswell-agent unstick {service}' and start it"
                ),
                StuckCause::Revert | StuckCause::Loop => {
                    format!("stuck: {cause}; {}", after_mending(service))
                }
            })
        }
    }
}

/// What ends that a service is stuck.
pub(crate) fn after_mending(service: &ServiceName) -> String {
    format!(
        "mend that, then 'groundswell-agent retry {service}' here starts and probes what is live; the agent tries \
         it by itself while nothing of it runs"
    )
}

/// What the wish means for it now.
fn wished(machine: &Service, wish: &Wish, host: Option<&HostName>) -> String {
    let runs = machine.running.as_ref().map(|known| known.id);
    match wish.action {
        Desired::Hold {} => {
            match machine.failure.as_ref().filter(|failed| runs != Some(failed.release)) {
                Some(failure) => format!(
                    "the directive says hold, since the last release that it was to take failed here ({}); {}",
                    failure.why,
                    try_again(machine, &failure.release, host)
                ),
                None => "the directive says hold: nothing new is started".to_owned(),
            }
        }
        Desired::Stage { release } | Desired::Switch { release } if runs == Some(release) => {
            "it has the release that is wished for".to_owned()
        }
        Desired::Stage { release } | Desired::Switch { release } if machine.refuses(&release) => {
            let failure = machine.failure.as_ref().filter(|failure| failure.release == release);
            let why = failure.map_or("its reason is forgotten", |failure| failure.why.as_str());
            format!(
                "the wished release failed here ({why}); {}",
                try_again(machine, &release, host)
            )
        }
        Desired::Stage { .. } if matches!(machine.state, State::Staged { .. }) => {
            "the wished release is staged; the coordinator gave it no slot to switch yet".to_owned()
        }
        Desired::Stage { .. } => {
            "the wished release is to be staged; it has no slot to switch yet".to_owned()
        }
        Desired::Switch { .. } if matches!(machine.state, State::Staged { .. }) => {
            "the wished release is staged and waits for a permit of the coordinator".to_owned()
        }
        Desired::Switch { .. } => "another release is wished for".to_owned(),
        Desired::Revert { from, .. } if runs == Some(from) => {
            "the directive orders it to go back".to_owned()
        }
        Desired::Revert { .. } => "it has gone back as the directive orders".to_owned(),
        Desired::Remove {} if runs.is_some() => "the directive takes it off this host".to_owned(),
        Desired::Remove {} => "it is off this host, as the directive orders".to_owned(),
    }
}

/// What a person does about a release that failed here.
fn try_again(machine: &Service, release: &ReleaseId, host: Option<&HostName>) -> String {
    let failed = machine.failed.iter().find(|failed| failed.release == *release);
    let retry = retry(failed.and_then(|failed| failed.rollout.as_ref()), host);
    format!(
        "it is not tried again by itself: once the cause is mended, {retry}, or publish a newer release"
    )
}

/// The line at a desk that has a host try a release again, as far as its words are known.
pub(crate) fn retry(rollout: Option<&RolloutId>, host: Option<&HostName>) -> String {
    match (rollout, host) {
        (Some(rollout), Some(host)) => format!(
            "'swell rollout retry {rollout} --host {host}', which answers with the step where that one is over"
        ),
        (Some(_), None) | (None, _) => "'swell rollout retry' of this host at a desk".to_owned(),
    }
}

/// For people.
#[must_use]
pub fn to_text(all: &[Reasons]) -> String {
    let mut text = String::new();
    for Reasons { service, why } in all {
        for line in why {
            text.push_str(&format!("{service}  {line}\n"));
        }
    }
    text
}
