//! What one seed is about: the fleet, the policies, what a release does where. Owns the dice of the
//! beginning.

use std::sync::OnceLock;

use groundswell_common::api::OperatorRole;
use groundswell_common::selector::Selector;
use groundswell_common::trust::PublicKey;
use groundswell_common::{
    Digest, Environment, Fleet, HostId, HostName, Labels, OperatorName, ReleaseId, ServiceName,
    Version,
};
use groundswell_control::entry::{Published, What};

use crate::random::Random;
use crate::site::Nature;

/// The bake on a host, in seconds, of every policy drawn.
pub(crate) const HOST_BAKE_SECS: u64 = 10;
/// Keys that a world can give to hosts.
const KEYS_MAX: usize = 256;
/// Services of a world.
pub(crate) const SERVICES: [&str; 3] = ["api", "shop", "worker"];

/// Names of people and of places that are spelt rightly.
pub(crate) fn spelt<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("{text} is spelt rightly"))
}

/// A release of a service by its number.
pub(crate) fn release(service: &ServiceName, number: u64) -> (ReleaseId, Version) {
    let id = ReleaseId::from_digest(Digest::of(format!("{service} {number}").as_bytes()));
    (id, spelt(&format!("{number}.0")))
}

/// Its place among the releases of its service.
pub(crate) fn seq(number: u64) -> u64 {
    number + 1
}

/// The unit that its releases run.
pub(crate) fn unit(service: &ServiceName) -> String {
    format!("{service}.service")
}

/// What is published of it.
pub(crate) fn published(service: &ServiceName, number: u64) -> Published {
    let (release, version) = release(service, number);
    Published {
        release,
        service: service.clone(),
        version,
        seq: seq(number),
        floor: 0,
        tree: *release.digest(),
        content: *release.digest(),
        bytes: 1,
        files: 1,
        one_way: false,
        requires: Selector::default(),
        barrier: false,
        hotfix: false,
        units: vec![unit(service)],
        platform: String::new(),
        signatures: Vec::new(),
        held_until: None,
    }
}

/// The key of a machine, by its number.
pub(crate) fn key(number: u64) -> PublicKey {
    static KEYS: OnceLock<Vec<PublicKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let bytes = (0_u64..).map(|number| *Digest::of(&number.to_be_bytes()).as_bytes());
        // Half of all numbers are no point of the curve.
        bytes.filter_map(|bytes| PublicKey::from_bytes(bytes).ok()).take(KEYS_MAX).collect()
    });
    let at = usize::try_from(number).unwrap_or(0) % keys.len();
    keys.get(at).copied().unwrap_or_else(|| unreachable!("there are keys"))
}

pub(crate) fn host_id(number: u64) -> HostId {
    HostId::of_key(key(number).as_bytes())
}

pub(crate) fn host_name(number: u64) -> HostName {
    spelt(&format!("host-{number}"))
}

/// The secret of a token.
pub(crate) fn secret(number: u64) -> String {
    format!("token {number}")
}

/// Labels of a host.
pub(crate) fn labels(random: &mut Random) -> Labels {
    let role = if random.one_in(5) { "db" } else { "web" };
    spelt(&format!("rack=r{},role={role}", random.below(4)))
}

/// The entry that makes a token for a host with drawn labels.
pub(crate) fn token(random: &mut Random, number: u64) -> What {
    What::TokensMade {
        secrets: vec![Digest::of(secret(number).as_bytes())],
        labels: labels(random),
        environment: spelt::<Environment>("production"),
        expires: u64::MAX,
    }
}

/// The first entries of a ledger.
pub(crate) fn beginning() -> [What; 2] {
    [
        What::Initialised { fleet: spelt::<Fleet>("sim"), root: Digest::of(b"root") },
        What::OperatorPut {
            name: spelt::<OperatorName>("ann"),
            role: OperatorRole::Admin,
            key: key(0),
        },
    ]
}

/// The policy of the first day: everyone at once, so that the history is there.
pub(crate) fn first_policy(service: &ServiceName) -> String {
    format!(
        "service = \"{service}\"\ntargets = \"*\"\nmax_in_flight = \"100%\"\nbake_secs = 0\n\
         host_bake_secs = {HOST_BAKE_SECS}\n[[wave]]\nrest = true\n"
    )
}

/// What the release does on one host: mostly well, except where the whole release is bad.
pub(crate) fn nature(random: &mut Random, bad_release: bool) -> Nature {
    let bad = [
        Nature::WrongBytes,
        Nature::Unstageable,
        Nature::DeadAtSwitch,
        Nature::Hangs,
        Nature::NeverPasses,
        Nature::FailsInBake,
        Nature::FailsLater,
    ];
    let ill = random.one_in(if bad_release { 2 } else { 20 });
    let drawn = random.pick(&bad).copied().filter(|_| ill);
    drawn.unwrap_or(Nature::Good)
}

/// A policy.
pub(crate) fn policy_text(random: &mut Random, service: &ServiceName) -> String {
    let targets = if random.one_in(4) { "role=web" } else { "*" };
    let answers = ["pause", "halt", "revert-wave", "revert-all"];
    let on_breach = random.pick(&answers).copied().unwrap_or("halt");
    let mut text = format!(
        "service = \"{service}\"\ntargets = \"{targets}\"\nmax_in_flight = {}\nfailure_budget = {}\n\
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
    if random.one_in(4) {
        let newer = ["queue", "hotfix"];
        let newer = random.pick(&newer).copied().unwrap_or("queue");
        text += &format!("when_newer = \"{newer}\"\n");
    }
    if random.one_in(8) {
        text += "auto = false\n";
    }
    if random.one_in(8) {
        text += "quarantine_after = 3\n";
    }
    text += &care(random);
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
    let stay_up = |random: &mut Random| match random.below(8) {
        0 => "min_healthy = \"50%\"\n",
        1 => "min_healthy = 2\n",
        _ => "",
    };
    text += &format!("[[wave]]\ncount = {}\n{}", 1 + random.below(3), gate(random));
    if random.one_in(2) {
        text += &format!("[[wave]]\npercent = {}\n{}", 30 + random.below(50), gate(random));
        text += stay_up(random);
    }
    text + "[[wave]]\nrest = true\n" + gate(random) + stay_up(random)
}

/// How many hosts may be held, late and bad, ill or silent before the rollout minds.
fn care(random: &mut Random) -> String {
    let mut text = String::new();
    if random.one_in(3) {
        text += &format!("held_budget = {}\n", random.below(3));
    }
    if random.one_in(4) {
        text += &format!("straggler_budget = {}\n", random.below(3));
    }
    if random.one_in(4) {
        text += "order = \"broken-first\"\n";
    }
    if random.one_in(4) {
        text += &format!("absent_after_secs = {}\n", 10 + random.below(600));
    }
    if random.one_in(4) {
        // Shorter than any window: else a rollout that nobody can go on with would wait for ever.
        text += &format!("progress_deadline_secs = {}\n", 120 + random.below(1_500));
    }
    if random.one_in(10) {
        text += "quorum_label = \"role\"\n";
    }
    text
}
