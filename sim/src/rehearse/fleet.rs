//! A fleet that is made up for a policy: labels that its selectors ask for, failure domains, quorum
//! groups. Owns what is made up, and says so.

use std::collections::BTreeMap;

use groundswell_common::name::NameError;
use groundswell_common::{Digest, HostId, Label, Labels, ReleaseId};
use groundswell_rollout::plan::PLAN_HOSTS_MAX;
use groundswell_rollout::{HostFacts, Policy, Take};

use super::share::{LabelShare, Portion, Share};
use crate::random::Random;

/// Hosts of a fleet that is made up: what a plan may have.
pub const FLEET_HOSTS_MAX: usize = PLAN_HOSTS_MAX;
/// Hosts of a failure domain, where nobody says how many domains there are: a full rack.
const DOMAIN_HOSTS: u32 = 40;
/// Fewest failure domains of a fleet, where nobody says how many.
const DOMAINS_MIN: u32 = 4;
/// Hosts of a quorum group: the fewest of which one may be down.
const QUORUM_HOSTS: u32 = 3;

/// The fleet that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// How many hosts, at least 1.
    pub hosts: u32,
    /// How many failure domains; `None` for one a rack.
    pub domains: Option<u32>,
    /// Labels beyond those that the policy asks for.
    pub labels: Vec<LabelShare>,
}

/// Why there is no such fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// More hosts than there may be, or none.
    #[error("make a fleet of {hosts} hosts: want 1 to {FLEET_HOSTS_MAX}")]
    Size {
        /// How many were wanted.
        hosts: u32,
    },
    /// A label for more hosts than are left without it.
    #[error("make a fleet: {wanted} hosts are to have {key}={value}, and {left} have no {key} yet")]
    Label {
        /// The label's key.
        key: Label,
        /// Its value.
        value: Label,
        /// On how many hosts it is wanted.
        wanted: u32,
        /// How many have none of this key.
        left: usize,
    },
    /// A name or a set of labels that cannot be.
    #[error("make a fleet")]
    Name(#[from] NameError),
}

type Pairs = BTreeMap<Label, Label>;

/// Makes a fleet for a policy; the sentences say what was made up.
///
/// # Errors
/// [`FleetError`], with the bound or the label that does not fit.
pub fn fleet(policy: &Policy, wanted: &Fleet) -> Result<(Vec<HostFacts>, Vec<String>), FleetError> {
    let size = usize::try_from(wanted.hosts).unwrap_or(usize::MAX);
    if size == 0 || size > FLEET_HOSTS_MAX {
        return Err(FleetError::Size { hosts: wanted.hosts });
    }
    let mut hosts: Vec<Pairs> = vec![Pairs::new(); size];
    let mut said = Vec::new();
    for label in &wanted.labels {
        put(&mut hosts, wanted.hosts, label)?;
    }
    by_targets(policy, &mut hosts, &mut said);
    let shares = match wanted.labels.is_empty() {
        true => by_waves(policy, &mut hosts, &mut said),
        false => 1,
    };
    by_groups(policy, wanted, (&mut hosts, shares), &mut said)?;
    let made = hosts.into_iter().zip(0_u32..).map(|(labels, number)| {
        let (id, name) = (host_id(number), format!("host-{:06}", number + 1).parse()?);
        let running = Some(ReleaseId::from_digest(Digest::of(b"the release before")));
        Ok(HostFacts { running, ..HostFacts::new(id, name, Labels::try_from(labels)?) })
    });
    Ok((made.collect::<Result<_, FleetError>>()?, said))
}

/// Marks so many of the hosts that the policy targets as away; how many that are.
pub fn send_away(hosts: &mut [HostFacts], policy: &Policy, away: Share, seed: u64) -> u32 {
    let mut random = Random::new(seed ^ 0x00A3_A9A9);
    let matched = hosts.iter_mut().filter(|host| policy.targets.matches(&host.labels));
    let mut matched: Vec<&mut HostFacts> = matched.collect();
    let count = away.of(u32::try_from(matched.len()).unwrap_or(u32::MAX));
    for host in random.some(&mut matched, count) {
        host.connected = false;
    }
    count
}

/// Distinct for each number, and in no order that a rack or a name has.
fn host_id(number: u32) -> HostId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    HostId::from_bytes(id)
}

fn put(hosts: &mut [Pairs], fleet: u32, label: &LabelShare) -> Result<(), FleetError> {
    let LabelShare { key, value, portion } = label;
    let left = hosts.iter().filter(|host| !host.contains_key(key)).count();
    let wanted = match portion {
        Portion::Rest => u32::try_from(left).unwrap_or(u32::MAX),
        Portion::Count(count) => *count,
        Portion::Share(share) => share.of(fleet),
    };
    let many = usize::try_from(wanted).unwrap_or(usize::MAX);
    if many > left || many == 0 {
        let (key, value) = (key.clone(), value.clone());
        return Err(FleetError::Label { key, value, wanted, left });
    }
    for host in hosts.iter_mut().filter(|host| !host.contains_key(key)).take(many) {
        host.insert(key.clone(), value.clone());
    }
    Ok(())
}

/// Gives a host labels, and leaves alone what it has.
fn add(host: &mut Pairs, labels: Pairs) {
    for (key, value) in labels {
        host.entry(key).or_insert(value);
    }
}

fn by_targets(policy: &Policy, hosts: &mut [Pairs], said: &mut Vec<String>) {
    for (turn, host) in hosts.iter_mut().enumerate() {
        add(host, policy.targets.example(turn));
    }
    if !policy.targets.is_everything() {
        said.push(format!("every host has the labels that targets asks for: {}", policy.targets));
    }
}

/// An even share of the hosts for each wave with a selector, and one without; how many shares.
fn by_waves(policy: &Policy, hosts: &mut [Pairs], said: &mut Vec<String>) -> usize {
    let selectors: Vec<_> = policy
        .waves
        .iter()
        .filter_map(|wave| match &wave.take {
            Take::Selector(selector) => Some((wave, selector)),
            Take::Count(_) | Take::Percent(_) | Take::Rest => None,
        })
        .collect();
    let shares = selectors.len() + 1;
    for (at, host) in hosts.iter_mut().enumerate() {
        if let Some((_, selector)) = selectors.get(at % shares) {
            add(host, selector.example(at / shares));
        }
    }
    for (wave, selector) in selectors {
        said.push(format!("1 host in {shares} has the labels of wave {}: {selector}", wave.name));
    }
    shares
}

/// Failure domains and quorum groups; `shares` apart, so that no domain is all of one wave.
fn by_groups(
    policy: &Policy,
    wanted: &Fleet,
    (hosts, shares): (&mut [Pairs], usize),
    said: &mut Vec<String>,
) -> Result<(), FleetError> {
    let usual = (wanted.hosts / DOMAIN_HOSTS).max(DOMAINS_MIN.min(wanted.hosts));
    let domains = wanted.domains.unwrap_or(usual).clamp(1, wanted.hosts);
    let groups = (wanted.hosts / QUORUM_HOSTS).max(1);
    let domain = policy.domain.as_ref().map(|domain| (&domain.label, domains, "failure domains"));
    let quorum = policy.quorum_label.as_ref().map(|label| (label, groups, "quorum groups"));
    for (key, count, what) in domain.into_iter().chain(quorum) {
        if hosts.iter().all(|host| host.contains_key(key)) {
            continue;
        }
        let values: Vec<Label> = (1..=count)
            .map(|number| format!("{key}-{number}").parse())
            .collect::<Result<_, _>>()?;
        for (at, host) in hosts.iter_mut().enumerate() {
            if let Some(value) = values.get((at / shares) % values.len()) {
                add(host, Pairs::from([(key.clone(), value.clone())]));
            }
        }
        said.push(format!("{count} {what}, spread evenly, by the label {key}"));
    }
    Ok(())
}
