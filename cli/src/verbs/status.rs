//! `swell status`: the fleet at a glance. What runs and what is ill is counted from the hosts' own words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use groundswell_common::api::{
    HostService, HostSummary, HostsAnswer, PhaseName, PutBack, ReleaseState, RolloutSummary,
    ServiceIn, ServiceSummary, StatusAnswer,
};
use groundswell_common::report::{HostState, Verdict};
use groundswell_common::{Environment, ServiceName, name_of};

use super::rollout::rollouts_table;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, cause, clean, count, cut, now, or_empty, when};

/// Characters of what runs, where hosts run many versions.
const RUNS_MAX_CHARS: usize = 40;
/// Characters of what a host lacks, with its next step.
const SAID_MAX_CHARS: usize = 400;
/// Hosts that are named behind what is wrong with them.
const NAMES_SHOWN: usize = 5;

/// Prints the fleet at a glance.
pub(crate) async fn status(context: &Context) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let answer: StatusAnswer = client.get("/v1/status").await?;
    if context.out.json {
        context.out.answer(&answer, |_| String::new())?;
        return Ok(Exit::Done);
    }
    let hosts: HostsAnswer = client.get("/v1/hosts").await?;
    context.out.line(show(&answer, &hosts.hosts).trim_end())?;
    Ok(Exit::Done)
}

fn show(status: &StatusAnswer, hosts: &[HostSummary]) -> String {
    let mut text = format!(
        "fleet {}: {} of {} connected; coordinator {} since {}, ledger at {}\n",
        status.fleet,
        status.connected,
        count(status.hosts, "host"),
        status.version,
        when(status.started, now()),
        status.ledger_seq
    );
    if status.starting {
        text.push_str("just started: permits are withheld for a moment\n");
    }
    text.extend(status.ends.iter().map(|what| format!("! {}\n", clean(what))));
    text.extend(status.put_back.as_ref().map(put_back));
    // Writing to a string cannot fail.
    if !status.services.is_empty() {
        let _ = write!(text, "\n{}", services_table(&status.services, hosts));
    }
    for (service, waits) in
        status.services.iter().flat_map(|of| of.waits.iter().map(move |waits| (&of.service, waits)))
    {
        let _ = writeln!(text, "{service} waits: {}", clean(waits));
    }
    if !status.rollouts.is_empty() {
        let _ = write!(text, "\n{}", rollouts_table(&status.rollouts));
    }
    let poisoned = status.services.iter().filter_map(poisoned);
    let stalls = status.services.iter().flat_map(|of| of.stalls.iter().map(move |why| (of, why)));
    let stalls = stalls.map(|(of, why)| format!("! {} {}", of.service, clean(why)));
    let stopped = status.rollouts.iter().filter_map(waits_for_a_person);
    let mixed = status.services.iter().flat_map(|service| mixed(service, status, hosts));
    let troubles: Vec<String> =
        poisoned.chain(stalls).chain(stopped).chain(mixed).chain(troubles(hosts)).collect();
    if !troubles.is_empty() {
        let _ = write!(text, "\n{}", troubles.join("\n"));
    }
    text
}

/// That the newest release of a service goes nowhere any more, why, and the ways out.
fn poisoned(service: &ServiceSummary) -> Option<String> {
    let newest = service.newest.as_ref().filter(|r| r.state == ReleaseState::Poisoned)?;
    let (name, version) = (&service.service, &newest.version);
    let why = newest.why.as_deref().map(cause).unwrap_or_default();
    Some(format!(
        "! {name} {version} is poisoned: {why}; publish a corrected release, or swell release clear \
         {name}@{version} --why ..."
    ))
}

/// Why a rollout does not go on by itself, and what a person does about it.
fn waits_for_a_person(rollout: &RolloutSummary) -> Option<String> {
    let RolloutSummary { rollout: id, service, .. } = rollout;
    let next = match rollout.phase {
        PhaseName::Paused => format!("; swell resume {id} goes on"),
        PhaseName::Halted => {
            format!("; swell resume {id} goes on, swell revert {service} takes it back")
        }
        PhaseName::Gated => String::new(),
        PhaseName::Queued
        | PhaseName::Running
        | PhaseName::Baking
        | PhaseName::Reverting
        | PhaseName::Done => return None,
    };
    let why = rollout.why.as_deref().map(clean).unwrap_or_default();
    Some(format!("! {id} is {}: {why}{next}", name_of(&rollout.phase)))
}

/// That hosts of one environment run several versions of a service though no rollout of it is under way: one was
/// ended on the way, or hosts were left out, were away, or were put back by hand.
fn mixed(service: &ServiceSummary, status: &StatusAnswer, hosts: &[HostSummary]) -> Vec<String> {
    let name = &service.service;
    let moves = |place: &Environment| {
        let here = |of: &RolloutSummary| of.environment.as_ref().is_none_or(|of| of == place);
        status.rollouts.iter().any(|rollout| rollout.service == *name && here(rollout))
    };
    let places: BTreeSet<&Environment> = hosts.iter().map(|host| &host.environment).collect();
    let line = |place: &Environment| {
        let ours = Ours::of(name, (hosts, Some(place)));
        let mut versions: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let run = |of: &&(&HostSummary, &HostService)| of.1.running.is_some() && !of.1.left_over;
        for (host, service) in ours.0.iter().filter(run) {
            versions.entry(runs(service)).or_default().push(host.name.as_str());
        }
        let mut versions: Vec<(String, Vec<&str>)> = versions.into_iter().collect();
        versions.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
        let (_, fewest) = versions.get(1..)?.last()?;
        let first = fewest.first().copied().unwrap_or_default();
        let on = versions.iter().map(|(version, names)| format!("{version} on {}", named(names)));
        let on: Vec<String> = on.collect();
        let place = if places.len() > 1 { format!(" in {place}") } else { String::new() };
        Some(format!(
            "! {name} is mixed{place}, and no rollout of it is under way: {}; swell host why {first} says why",
            on.join("; ")
        ))
    };
    places.iter().filter(|place| !moves(place)).filter_map(|place| line(place)).collect()
}

/// That the ledger is behind what hosts accepted, and what ends that.
fn put_back(put_back: &PutBack) -> String {
    let names: Vec<String> = put_back.names.iter().map(|name| clean(name.as_str())).collect();
    let more = if put_back.hosts > names.len() as u64 { ", ..." } else { "" };
    format!(
        "! {} ({}{more}) accepted directives up to {}, which this ledger does not know, and {} what it says now: was \
         it put back from a backup? then 'swell audit lift --why TEXT'; if not, a host lies, or somebody else signs \
         with the director's key (docs/operations.md O5.5)\n",
        count(put_back.hosts, "host"),
        names.join(", "),
        put_back.newest,
        if put_back.hosts == 1 { "refuses" } else { "refuse" }
    )
}

/// One line a service, and a line for each environment where it has several: the newest release beside what runs, and
/// how its hosts are.
fn services_table(services: &[ServiceSummary], hosts: &[HostSummary]) -> Table {
    let several = services.iter().any(|service| service.environments.len() > 1);
    let heads = ["SERVICE"].into_iter().chain(several.then_some("ENVIRONMENT"));
    let heads = heads.chain(["NEWEST", "STATE", "RUNS", "HOSTS", "ROLLOUT"]);
    let mut table = Table::new(&heads.collect::<Vec<_>>());
    for service in services {
        let newest = service.newest.as_ref();
        let mut row = |of: Option<&ServiceIn>| {
            let environment = of.map(|of| &of.environment);
            let here = newest.and_then(|release| {
                release.environments.iter().find(|here| Some(&here.environment) == environment)
            });
            let state = here.map(|here| here.state).or_else(|| newest.map(|newest| newest.state));
            let state = match (service.has_policy, state) {
                (false, _) => "no policy".to_owned(),
                (true, state) => state.as_ref().map(name_of::<ReleaseState>).unwrap_or_default(),
            };
            let ours = Ours::of(&service.service, (hosts, environment));
            let rollout = of.map_or(service.rollout.as_ref(), |of| of.rollout.as_ref());
            let place = several.then(|| or_empty(environment));
            table.row([service.service.to_string()].into_iter().chain(place).chain([
                or_empty(newest.map(|release| &release.version)),
                state,
                ours.runs(),
                ours.health(),
                or_empty(rollout),
            ]));
        };
        if service.environments.len() > 1 {
            service.environments.iter().for_each(|of| row(Some(of)));
        } else {
            row(None);
        }
    }
    table
}

/// The hosts that have anything of a service.
struct Ours<'a>(Vec<(&'a HostSummary, &'a HostService)>);

impl<'a> Ours<'a> {
    fn of(
        name: &ServiceName,
        (hosts, environment): (&'a [HostSummary], Option<&Environment>),
    ) -> Self {
        let here = |host: &&HostSummary| environment.is_none_or(|e| host.environment == *e);
        let all =
            hosts.iter().filter(here).flat_map(|host| host.services.iter().map(move |s| (host, s)));
        Self(all.filter(|(_, service)| service.service == *name).collect())
    }

    /// The versions that run, the one of most hosts first; the number of hosts where they differ.
    fn runs(&self) -> String {
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        for (_, service) in &self.0 {
            *versions.entry(runs(service)).or_default() += 1;
        }
        let mut versions: Vec<(String, u64)> = versions.into_iter().collect();
        versions.sort_by_key(|(_, hosts)| std::cmp::Reverse(*hosts));
        match versions.as_slice() {
            [] => String::new(),
            [(only, _)] => only.clone(),
            many => {
                let many = many.iter().map(|(version, hosts)| format!("{version} on {hosts}"));
                cut(&many.collect::<Vec<_>>().join(", "), RUNS_MAX_CHARS)
            }
        }
    }

    /// How many hosts there are, and how many of them are not as they should be.
    fn health(&self) -> String {
        let mut parts = vec![self.0.len().to_string()];
        for trouble in Trouble::ALL {
            let hosts = self.0.iter().filter(|(host, service)| trouble.has(host, service)).count();
            if hosts > 0 {
                parts.push(format!("{hosts} {}", trouble.word()));
            }
        }
        parts.join(", ")
    }
}

fn runs(service: &HostService) -> String {
    let short = || service.running.map(|release| release.digest().short());
    let version = service.version.as_ref().map(ToString::to_string).or_else(short);
    version.unwrap_or_else(|| "nothing".to_owned())
}

/// What may be wrong with a service on a host, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Stuck,
    Ill,
    Held,
    Away,
    Failed,
}

impl Trouble {
    const ALL: [Self; 5] = [Self::Stuck, Self::Ill, Self::Held, Self::Away, Self::Failed];

    fn has(self, host: &HostSummary, service: &HostService) -> bool {
        match self {
            Self::Stuck => service.state == Some(HostState::Stuck),
            // What goes back, or is just started, is no judgement on what is live.
            Self::Ill => {
                let settles = [HostState::Switching, HostState::Reverting].map(Some);
                service.health == Some(Verdict::Fail)
                    && service.running.is_some()
                    && !settles.contains(&service.state)
            }
            Self::Held => service.held.is_some(),
            Self::Away => !host.connected,
            Self::Failed => service.failure.is_some() && service.state != Some(HostState::Stuck),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Ill => "ill",
            Self::Held => "held",
            Self::Away => "away",
            Self::Failed => "failed before",
        }
    }
}

/// What a person has to look at: a line a service and trouble, naming hosts.
fn troubles(hosts: &[HostSummary]) -> Vec<String> {
    let mut lines = Vec::new();
    for trouble in [Trouble::Stuck, Trouble::Ill] {
        let mut by_service: BTreeMap<&ServiceName, Vec<&str>> = BTreeMap::new();
        for (host, service) in hosts.iter().flat_map(|h| h.services.iter().map(move |s| (h, s))) {
            if trouble.has(host, service) {
                by_service.entry(&service.service).or_default().push(host.name.as_str());
            }
        }
        lines.extend(by_service.into_iter().map(|(service, names)| {
            let first = names.first().copied().unwrap_or_default();
            let word = trouble.word();
            format!("! {service} is {word} on {}; swell host why {first} says why", named(&names))
        }));
    }
    lines.extend(said_on(hosts, "held on", |service| service.held.iter()));
    lines.extend(said_on(hosts, "on", |service| service.notes.iter()));
    let notes = hosts.iter().flat_map(|host| host.notes.iter().map(move |note| (host, note)));
    lines.extend(notes.map(|(host, note)| format!("! {}: {}", host.name, clean(note))));
    let mut left: BTreeMap<(&ServiceName, Option<&str>), Vec<&str>> = BTreeMap::new();
    for (host, service) in hosts.iter().flat_map(|h| h.services.iter().map(move |s| (h, s))) {
        if service.left_over {
            let key = (&service.service, service.left_why.as_deref());
            left.entry(key).or_default().push(host.name.as_str());
        }
    }
    lines.extend(left.into_iter().map(|((service, why), names)| {
        let names = named(&names);
        let why = why.map(|why| format!(": {}; if not,", clean(why)));
        format!(
            "! {service} runs on {names}, which its policy does not target{} swell service remove {service} \
             --left-over takes it off",
            why.as_deref().unwrap_or(";")
        )
    }));
    let away: Vec<&str> =
        hosts.iter().filter(|host| !host.connected).map(|host| host.name.as_str()).collect();
    if !away.is_empty() {
        lines.push(format!("! away: {}", named(&away)));
    }
    lines
}

/// What hosts lack or say of a service: a line a service and cause, naming hosts.
fn said_on<'a, T: Iterator<Item = &'a String>>(
    hosts: &'a [HostSummary],
    place: &str,
    texts: impl Fn(&'a HostService) -> T,
) -> Vec<String> {
    let mut by_cause: BTreeMap<(&ServiceName, String), Vec<&str>> = BTreeMap::new();
    for (host, service) in hosts.iter().flat_map(|h| h.services.iter().map(move |s| (h, s))) {
        for why in texts(service) {
            let cause = cut(&clean(why), SAID_MAX_CHARS);
            by_cause.entry((&service.service, cause)).or_default().push(host.name.as_str());
        }
    }
    let line = |((service, cause), names): ((&ServiceName, String), Vec<&str>)| {
        format!("! {service}: {cause} ({place} {})", named(&names))
    };
    by_cause.into_iter().map(line).collect()
}

fn named(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).copied().collect();
    match names.len().checked_sub(NAMES_SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", shown.join(", ")),
        None => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use groundswell_common::Digest;
    use serde_json::json;

    use super::*;

    fn host(name: &str, connected: bool, service: serde_json::Value) -> HostSummary {
        let mut of = json!({"service": "shop", "state": "committed",
            "running": Digest::of(b"1.0"), "version": "1.0.0", "previous": null, "target": null,
            "health": "pass", "failure": null, "wish": null, "rollout": null});
        for (key, value) in service.as_object().expect("an object") {
            of[key] = value.clone();
        }
        serde_json::from_value(json!({"id": "0".repeat(32), "name": name, "labels": {},
            "environment": "production", "connected": connected, "last_seen": null,
            "agent_version": null, "services": [of]}))
        .expect("host")
    }

    fn status() -> StatusAnswer {
        serde_json::from_value(json!({"fleet": "main", "version": "1", "started": 0,
            "ledger_seq": 7, "hosts": 5, "connected": 4, "starting": false, "root_version": 1,
            "root_expires": 0, "rollouts": [], "services": [{"service": "shop",
            "has_policy": true, "newest": null, "proven": null, "rollout": "shop-2"}]}))
        .expect("status")
    }

    #[test]
    fn what_runs_and_what_is_ill_is_seen_at_a_glance() {
        let nothing = json!({"running": null, "version": null, "health": "inconclusive"});
        let hosts = [
            host("web-1", true, json!({})),
            host("web-2", true, json!({"health": "fail"})),
            HostSummary {
                notes: vec!["two machines use the key of this host".to_owned()],
                ..host("web-3", false, json!({}))
            },
            host("web-4", true, json!({"state": "stuck", "version": "1.1.0"})),
            host("web-5", true, nothing),
            host("web-6", true, json!({"held": "9 bytes are needed and 1 is free; make room"})),
            host("web-7", true, json!({"notes": ["shop.service was stopped on this host"]})),
        ];
        let text = show(&status(), &hosts);
        assert!(text.starts_with("fleet main: 4 of 5 hosts connected; "), "{text}");
        assert!(text.contains("1.0.0 on 5, 1.1.0 on 1, nothing on 1"), "{text}");
        assert!(text.contains("  7, 1 stuck, 1 ill, 1 held, 1 away  shop-2\n"), "{text}");
        let last = "\n! shop is mixed, and no rollout of it is under way: 1.0.0 on web-1, web-2, web-3, web-6, web-7; \
                    1.1.0 on web-4; swell host why web-4 says why\n\
                    ! shop is stuck on web-4; swell host why web-4 says why\n\
                    ! shop is ill on web-2; swell host why web-2 says why\n\
                    ! shop: 9 bytes are needed and 1 is free; make room (held on web-6)\n\
                    ! shop: shop.service was stopped on this host (on web-7)\n\
                    ! web-3: two machines use the key of this host\n! away: web-3";
        assert!(text.ends_with(last), "{text}");
    }

    #[test]
    fn what_ends_what_is_left_over_and_a_ledger_put_back_are_said_with_the_next_step() {
        let mut status = status();
        status.ends = vec!["root 1 ends in 12 days".to_owned()];
        status.put_back =
            Some(PutBack { hosts: 1, newest: 90, names: vec!["web-1".parse().unwrap()] });
        let hosts = [host("web-1", true, json!({"left_over": true}))];
        let text = show(&status, &hosts);
        assert!(text.contains("\n! root 1 ends in 12 days\n"), "{text}");
        assert!(text.contains("\n! 1 host (web-1) accepted directives up to 90, which"), "{text}");
        assert!(
            text.contains("refuses what it says now") && text.contains("swell audit lift"),
            "{text}"
        );
        let last = "! shop runs on web-1, which its policy does not target; swell service remove shop \
                    --left-over takes it off";
        assert!(text.ends_with(last), "{text}");
    }

    #[test]
    fn a_rollout_that_waits_for_a_person_is_named_with_the_step() {
        let mut status = status();
        let mut rollout = crate::follow::tests::page().rollout;
        rollout.why = Some("ann halted it: smoke".to_owned());
        for (phase, last) in [
            (
                PhaseName::Halted,
                "! shop-2 is halted: ann halted it: smoke; swell resume shop-2 goes on, swell revert \
                 shop takes it back",
            ),
            (
                PhaseName::Paused,
                "! shop-2 is paused: ann halted it: smoke; swell resume shop-2 goes on",
            ),
            (PhaseName::Gated, "! shop-2 is gated: ann halted it: smoke"),
        ] {
            rollout.phase = phase;
            status.rollouts = vec![rollout.clone()];
            let text = show(&status, &[host("web-1", true, json!({}))]);
            assert!(text.ends_with(&format!("\n{last}")), "{text}");
        }
        rollout.phase = PhaseName::Running;
        status.rollouts = vec![rollout];
        assert!(!show(&status, &[]).contains('!'));
    }

    #[test]
    fn a_service_has_a_line_for_each_of_its_environments_and_says_what_waits() {
        let mut status = status();
        let place = |name: &str, rollout: &str| json!({"environment": name, "proven": null, "rollout": rollout});
        let places = json!([place("staging", "shop-3"), place("production", "shop-2")]);
        status.services[0].environments = serde_json::from_value(places).expect("environments");
        status.services[0].waits = vec!["production: 1.1.0 soaks in staging until noon".to_owned()];
        let mut hosts =
            [host("s1", true, json!({"version": "1.1.0"})), host("p1", true, json!({}))];
        hosts[0].environment = "staging".parse().expect("name");
        let text = show(&status, &hosts);
        assert!(
            text.contains("\nshop     staging      -       -      1.1.0  1      shop-3\n"),
            "{text}"
        );
        assert!(
            text.contains("\nshop     production   -       -      1.0.0  1      shop-2\n"),
            "{text}"
        );
        assert!(
            text.ends_with("shop waits: production: 1.1.0 soaks in staging until noon\n"),
            "{text}"
        );
    }

    #[test]
    fn what_nothing_brings_any_more_is_said_before_the_rest() {
        let mut status = status();
        status.services[0].stalls = vec!["1.1.0 cannot be rolled out: no host is there".to_owned()];
        let text = show(&status, &[host("web-1", false, json!({}))]);
        assert!(
            text.ends_with("\n! shop 1.1.0 cannot be rolled out: no host is there\n! away: web-1"),
            "{text}"
        );
    }

    #[test]
    fn a_fleet_that_is_well_has_nothing_below_its_table() {
        let hosts = [host("web-1", true, json!({})), host("web-2", true, json!({}))];
        let text = show(&status(), &hosts);
        assert!(text.contains("  1.0.0  2      shop-2\n"), "{text}");
        assert!(!text.contains('!'), "{text}");
        let many: Vec<&str> = vec!["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(named(&many), "a, b, c, d, e and 2 more");
    }
}
