//! What one seed is about: the fleet, the policy, what the release does where. Owns the dice of the
//! beginning.

use groundswell_common::{Digest, HostId, ReleaseId, Version};
use groundswell_rollout::{HostFacts, Plan, Policy, ReleaseRef, plan};

use crate::host::Nature;
use crate::random::Random;

/// The bake on a host, in seconds, of every policy drawn.
pub(crate) const HOST_BAKE_SECS: u64 = 10;

/// A release by its number.
pub(crate) fn release(number: u64) -> (ReleaseId, Version) {
    let id = ReleaseId::from_digest(Digest::of(&number.to_be_bytes()));
    let version = format!("{number}.0").parse();
    (id, version.unwrap_or_else(|_| unreachable!("digits and a dot are a version")))
}

pub(crate) fn host_id(number: u64) -> HostId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number << 32).to_be_bytes());
    HostId::from_bytes(id)
}

fn host_number(id: &HostId) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_be_bytes(number) >> 32
}

/// What the release does on one host: mostly well, except where the whole release is bad.
pub(crate) fn nature(random: &mut Random, bad_release: bool) -> Nature {
    let bad = [
        Nature::Unstageable,
        Nature::DeadAtSwitch,
        Nature::NeverPasses,
        Nature::FailsInBake,
        Nature::FailsLater,
    ];
    let ill = random.one_in(if bad_release { 2 } else { 20 });
    let drawn = random.pick(&bad).copied().filter(|_| ill);
    drawn.unwrap_or(Nature::Good)
}

fn policy_text(random: &mut Random) -> String {
    let answers = ["pause", "halt", "revert-wave", "revert-all"];
    let on_breach = random.pick(&answers).copied().unwrap_or("halt");
    let mut text = format!(
        "service = \"shop\"\ntargets = \"*\"\nmax_in_flight = {}\nfailure_budget = {}\n\
         on_breach = \"{on_breach}\"\nbake_secs = {}\nhost_bake_secs = {HOST_BAKE_SECS}\n\
         straggler_max_in_flight = {}\nprefetch = {}\n",
        1 + random.below(4),
        random.below(3),
        random.below(2) * 60,
        1 + random.below(2),
        random.one_in(3),
    );
    if random.one_in(4) {
        text += "confirm_by_contact = true\n";
    }
    if random.one_in(3) {
        text += "rollout_budget = 2\n";
    }
    if random.one_in(2) {
        text += "[failure_domain]\nlabel = \"rack\"\n";
    }
    if random.one_in(3) {
        text += "[evidence]\nhost_secs = 90\nhosts = 1\n";
    }
    if random.one_in(5) {
        let (hour, minutes) = (random.below(24), 30 + random.below(600));
        let zone = if random.one_in(2) { "UTC" } else { "Europe/Berlin" };
        text += &format!(
            "[[window]]\nstart = \"{hour:02}:15\"\nminutes = {minutes}\nzone = \"{zone}\"\n"
        );
    }
    if random.one_in(8) {
        // Every world begins on 12 January 1970 at 13:46:40 UTC.
        let (from, until) = (13 + random.below(4), 17 + random.below(7));
        text += &format!(
            "[[freeze]]\nfrom = \"1970-01-12T{from}:50:00Z\"\nuntil = \"1970-01-12T{until}:00:00Z\"\n\
             why = \"audit\"\n"
        );
    }
    let gate = |random: &mut Random| match random.below(6) {
        0 => "gate = \"approval\"\n",
        1 => "gate = \"manual\"\n",
        _ => "",
    };
    text += &format!("[[wave]]\ncount = {}\n{}", 1 + random.below(3), gate(random));
    if random.one_in(2) {
        text += &format!("[[wave]]\npercent = {}\n{}", 30 + random.below(50), gate(random));
    }
    text + "[[wave]]\nrest = true\n" + gate(random)
}

/// A plan for a fleet in which each host runs `runs`.
pub(crate) fn planned(
    random: &mut Random,
    (hosts, number): (&[HostId], u64),
    runs: impl Fn(HostId) -> Option<ReleaseId>,
) -> Option<Plan> {
    let policy = Policy::from_toml(&policy_text(random)).ok()?;
    let facts = |id: &HostId| -> Option<HostFacts> {
        let number = host_number(id);
        let labels = format!("rack=r{}", number % 4).parse().ok()?;
        let name = format!("host-{number}").parse().ok()?;
        let (running, fallback) = (runs(*id), Some(release(0).0));
        Some(HostFacts { running, fallback, ..HostFacts::new(*id, name, labels) })
    };
    let facts: Vec<HostFacts> = hosts.iter().map(facts).collect::<Option<_>>()?;
    let (id, version) = release(number);
    let seed = Digest::of(&random.number().to_be_bytes());
    plan(&policy, &facts, &ReleaseRef::new(id, version), &seed).ok()
}
