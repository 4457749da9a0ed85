//! What goes wrong while a seed runs: machines and their owners, network, clocks, the coordinator, persons.

use groundswell_common::ServiceName;
use groundswell_common::report::{FailedStep, Failure, HostState, Report, Verdict};
use groundswell_machine::State;
use groundswell_rollout::Off;

use super::{Mail, Number, World};
use crate::check::Finding;
use crate::draw::release;
use crate::host::Host;
use crate::site::{Lot, Site};

/// Draws of [`World::fault`]; a kind that has more of them is drawn more often.
pub(super) const KINDS: u64 = 45;

impl World {
    pub(super) fn fault(&mut self) -> Result<(), Finding> {
        // Half of the time it hits a host in the middle of something, where there is one.
        let busy = |host: &Host| {
            let staged = |site: &Site| matches!(site.state(), State::Staged { .. });
            host.in_flight() || host.sites.values().any(staged)
        };
        let anyone = self.random.one_in(2) || !self.hosts.values().any(busy);
        let hosts = self.hosts.iter().filter(|(_, host)| anyone || busy(host));
        let numbers: Vec<Number> = hosts.map(|(number, _)| *number).collect();
        let Some(number) = self.random.pick(&numbers).copied() else { return Ok(()) };
        let Some(kind) = self.random.pick(&self.kinds).copied() else { return Ok(()) };
        let services = self.services.clone();
        let Some(service) = self.random.pick(&services) else { return Ok(()) };
        match kind {
            0..=13 => self.old_fault(kind, (number, service)),
            14..=26 | 43 | 44 => self.unkind_fault(kind, (number, service)),
            27..=36 => self.typed(kind, (number, service)),
            _ => self.button(service),
        }
    }

    /// What happens to machines and networks anywhere.
    fn old_fault(
        &mut self,
        kind: u64,
        (number, service): (Number, &ServiceName),
    ) -> Result<(), Finding> {
        match kind {
            0..=2 => {
                self.out.faults.add("connections cut");
                self.cut(number)?;
                let wait = self.random.below(90_000);
                self.post(number, wait, Mail::Reconnect);
            }
            3 | 4 => {
                let left = u32::try_from(self.random.below(3)).unwrap_or(0);
                if let Some(site) = self.site(number, service) {
                    site.fuse = Some(left);
                }
            }
            5 => {
                self.out.faults.add("coordinators replayed");
                let view = self.replay()?;
                if let Some(view) = view.filter(|_| self.random.one_in(4)) {
                    self.out.faults.add("coordinators restarted");
                    self.start_office(view)?;
                }
            }
            6..=8 => {
                self.out.faults.add("newer releases");
                self.publish(service)?;
            }
            9 | 10 => self.set_clock(number),
            11 if self.random.one_in(3) && self.hosts.len() > self.truth.gone.len() + 2 => {
                self.out.faults.add("hosts deleted");
                self.delete(number)?;
            }
            12 => {
                if let Some(site) = self.site(number, service) {
                    site.torn = true;
                }
            }
            13 if self.random.one_in(4) => {
                self.out.faults.add("coordinators restored from old backups");
                self.restore()?;
            }
            _ => {}
        }
        Ok(())
    }

    fn site(&mut self, number: Number, service: &ServiceName) -> Option<&mut Site> {
        self.hosts.get_mut(&number)?.sites.get_mut(service)
    }

    fn lot(
        &mut self,
        (number, service): (Number, &ServiceName),
        (name, set): (&'static str, impl FnOnce(&mut Lot)),
    ) {
        if let Some(site) = self.site(number, service) {
            set(&mut site.lot);
            self.out.faults.add(name);
            self.say(number);
        }
    }

    /// What owners, disks and machines do that no release is to blame for.
    fn unkind_fault(&mut self, kind: u64, at: (Number, &ServiceName)) -> Result<(), Finding> {
        let (number, service) = at;
        match kind {
            14 => {
                self.out.faults.add("hosts paused by their owner");
                let lift = self.random.one_in(2);
                self.host(number, |host, now| {
                    if let Some(site) = host.sites.get_mut(service) {
                        site.pause((!lift).then_some("new memory"), now);
                    }
                })?;
            }
            15 => self.lot(at, ("units not allowed", |lot| lot.allowed = !lot.allowed)),
            16 => self.lot(at, ("units missing", |lot| lot.installed = !lot.installed)),
            17 => self.lot(at, ("disks without room", |lot| lot.room = !lot.room)),
            18 => self.lot(at, ("files changed", |lot| lot.drifted = !lot.drifted)),
            19 => self.lot(at, ("slow disks", |lot| lot.fsync_millis = 5_000)),
            20 => self.fetches_fail(at),
            43 => self.lot(at, ("stops that are not obeyed", |lot| lot.obeys = !lot.obeys)),
            44 => {
                let millis = self.random.below(300_000);
                let stops = |lot: &mut Lot| lot.stopped_millis = Some(millis);
                self.lot(at, ("services stopped by a person in a bake", stops));
            }
            21 => self.snapshot(number)?,
            22 if self.random.one_in(4) => self.clone_machine(number),
            23 => {
                self.out.faults.add("services killed");
                self.host(number, |host, now| {
                    if let Some(site) = host.sites.get_mut(service) {
                        site.kill(now);
                    }
                })?;
            }
            24 => {
                self.out.faults.add("machines suspended");
                let until = self.now.plus_millis(1_000 + self.random.below(120_000));
                self.cut(number)?;
                if let Some(host) = self.hosts.get_mut(&number) {
                    host.asleep_until = Some(until);
                }
            }
            25 => {
                self.out.faults.add("reverts by hand on a host");
                self.host(number, |host, now| {
                    if let Some(site) = host.sites.get_mut(service) {
                        site.revert_by_hand(now);
                    }
                })?;
            }
            26 if self.random.one_in(4) => {
                if let Some(host) = self.hosts.get_mut(&number) {
                    host.lies = true;
                    self.truth.liars.insert(host.key);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Bytes do not arrive, or arrive again: on one host, in a quarter of the fleet, or everywhere.
    fn fetches_fail(&mut self, (number, service): (Number, &ServiceName)) {
        let (name, step) = match self.random.below(3) {
            0 => ("fetches that fail on a host", 0),
            1 => ("fetches that fail on a site", 4),
            _ => ("fetches that fail everywhere", 1),
        };
        self.out.faults.add(name);
        let Some(fetches) = self.site(number, service).map(|site| !site.lot.fetches) else {
            return;
        };
        for (other, host) in &mut self.hosts {
            if *other == number || (step > 0 && other % step == number % step) {
                for site in host.sites.values_mut() {
                    site.lot.fetches = fetches;
                }
            }
        }
    }

    /// A machine becomes what it was when it was photographed; else it is photographed.
    pub(super) fn snapshot(&mut self, number: Number) -> Result<(), Finding> {
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let Some(mut photo) = self.photos.remove(&number) else {
            self.photos.insert(number, host.clone());
            return Ok(());
        };
        self.out.faults.add("snapshots put back");
        self.truth.put_back.insert(photo.key);
        self.cut(number)?;
        if let Some(host) = self.hosts.get(&number) {
            photo.session = host.session;
            for (site, now) in photo.sites.values_mut().zip(host.sites.values()) {
                site.meet_as(now);
            }
        }
        photo.connected = false;
        photo.asleep_until = None;
        photo.crash();
        self.hosts.insert(number, photo);
        self.unconfirmed.retain(|(of, _), _| *of != number);
        self.post(number, 2_000, Mail::Restart);
        Ok(())
    }

    /// A second machine with the same key.
    pub(super) fn clone_machine(&mut self, number: Number) {
        let Some(host) = self.hosts.get(&number) else { return };
        self.out.faults.add("machines cloned");
        let mut twin = host.clone();
        self.truth.twins.insert(twin.key);
        twin.connected = false;
        twin.crash();
        let copy = self.made;
        self.made += 1;
        self.hosts.insert(copy, twin);
        self.post(copy, 2_000, Mail::Restart);
    }

    /// What persons type at `swell`.
    fn typed(
        &mut self,
        kind: u64,
        (number, service): (Number, &ServiceName),
    ) -> Result<(), Finding> {
        let newest = self.truth.of(service).releases;
        match kind {
            27 if self.hosts.len() < 200 => {
                self.out.faults.add("hosts new");
                let number = self.new_host()?;
                self.link(number)
            }
            28 => {
                self.out.faults.add("hosts enrolled again");
                self.enrol(number)?;
                self.link(number)
            }
            29 if self.hosts.len() < 200 => {
                self.out.faults.add("hosts wiped");
                self.delete(number)?;
                let number = self.new_host()?;
                self.link(number)
            }
            30 => {
                self.out.faults.add("releases again");
                self.start_by_hand(service, newest)
            }
            31 => {
                self.out.faults.add("older releases");
                let older = self.random.below(newest);
                self.start_by_hand(service, older)
            }
            32 if self.random.one_in(2) => {
                self.out.faults.add("policies changed");
                self.new_policy(service)
            }
            33 if self.random.one_in(2) => self.clear_host(number),
            34 => {
                let lift = self.random.one_in(2);
                self.drain(number, lift)
            }
            35 => self.relabel(number),
            36 if self.random.one_in(3) => {
                let off = if self.random.one_in(2) { Off::Everyone } else { Off::LeftOver };
                self.take_off(service, off)
            }
            _ => self.clear(service),
        }
    }

    /// The clock of the coordinator is set, or that of a host for its next start.
    fn set_clock(&mut self, number: Number) {
        self.out.faults.add("clocks set");
        let hours = i64::try_from(self.random.below(49)).unwrap_or(0) - 24;
        let minutes = i64::try_from(self.random.below(60)).unwrap_or(0);
        let ahead = (hours * 60 + minutes) * 60_000;
        if self.random.one_in(2) {
            self.hosts.entry(number).and_modify(|host| host.next_ahead = ahead);
            return;
        }
        self.office.ahead = ahead;
        self.office.set_at = Some(self.now);
        self.look_at_the_clock();
    }

    /// An agent starts again, perhaps without its journal.
    pub(super) fn again(&mut self, number: Number) -> Result<(), Finding> {
        let host = self.hosts.get(&number);
        if host.is_some_and(|host| host.sites.values().any(|site| site.torn)) {
            self.out.faults.add("journals torn");
        }
        self.starts += 1;
        let instance = self.starts;
        self.host(number, |host, now| host.restart(instance, now))
    }

    /// What a hostile host reports has nothing to do with what it is.
    pub(super) fn lie(&mut self, report: &mut Report) {
        self.out.faults.add("lies");
        let states = [
            HostState::Idle,
            HostState::Fetching,
            HostState::Staged,
            HostState::Switching,
            HostState::Probing,
            HostState::Baking,
            HostState::Committed,
            HostState::Reverting,
            HostState::Stuck,
        ];
        let steps = [
            FailedStep::Stage,
            FailedStep::Switch,
            FailedStep::Probe,
            FailedStep::Bake,
            FailedStep::Revert,
        ];
        let verdicts = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive];
        for standing in &mut report.services {
            let newest = self.truth.of(&standing.service).releases;
            let random = &mut self.random;
            let some = |random: &mut crate::random::Random| {
                let number = random.below(newest + 2);
                (number <= newest).then(|| release(&standing.service, number).0)
            };
            standing.state = random.pick(&states).copied().unwrap_or(HostState::Idle);
            (standing.running, standing.target) = (some(random), some(random));
            standing.health = random.pick(&verdicts).copied().unwrap_or(Verdict::Pass);
            let step = random.pick(&steps).copied().unwrap_or(FailedStep::Stage);
            let (why, reverted) = ("a lie".to_owned(), random.one_in(2));
            let failed = some(random).filter(|_| random.one_in(2));
            standing.failure = failed.map(|release| Failure { release, step, why, reverted });
            for number in 0..=newest {
                // Nobody can tell it from the truth.
                self.truth.speaks_against(release(&standing.service, number).0);
            }
        }
    }
}
