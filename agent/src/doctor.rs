//! One page of what is wrong on this host and the next step, for a person at its terminal: offline, and
//! while the agent runs. Reads only.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use groundswell_common::condition::UnitLoad;
use groundswell_common::ends::ends_soon;
use groundswell_common::report::{FailedStep, Failure, RefusalNote, Verdict};
use groundswell_common::trust::Root;
use groundswell_common::{HostName, ServiceName, Timestamp, chain, name_of, one_line};
use groundswell_machine::{Service, State, StuckCause};
use groundswell_net::Validity;
use serde::Serialize;

use crate::accepted;
use crate::boot;
use crate::bring::{free, full};
use crate::clock::wall;
use crate::config::{Opened, Settings, Supervisor};
use crate::contact::{self, Contact, Link};
use crate::drift;
use crate::durable;
use crate::enroll::{self, APPLY_USER, NET_USER};
use crate::hand;
use crate::identity::{self, Credentials, IdentityError, Loaded};
use crate::journal;
use crate::layout::Layout;
use crate::stage;
use crate::switch;
use crate::text::span;
use crate::why;

/// What to do about a clock.
const CLOCK_MAYBE: &str = "it is connected: where the clock is right now ('timedatectl'), there is nothing to do; else \
                           set it";
const CLOCK: &str = "set the clock: 'timedatectl' shows it, 'timedatectl set-ntp true' lets the network set it. \
    It connects by itself then";
/// The way to a new identity of a host whose name is still taken.
fn enrol_again(name: Option<&HostName>) -> String {
    let name = name.map_or("this host", HostName::as_str);
    format!(
        "'swell host remove' {name} and 'swell host enroll-token' at a desk, then here 'groundswell-agent enroll \
         --again TOKEN'"
    )
}
/// Less than this is no clock that was set back.
const CLOCKS_APART_MS: u64 = 60_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works; somebody should look at it one day.
    Warn,
    /// It does not work before somebody acts.
    Bad,
}

/// One thing that was looked at. The JSON form is an interface: fields are only added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do; absent where nothing needs to be done.
    pub next: Option<String>,
}

/// Everything that was looked at.
#[derive(Debug, Default, Serialize)]
pub struct Diagnosis {
    /// In the order in which a person would look.
    pub findings: Vec<Finding>,
    /// What this host is called, where that is known.
    #[serde(skip)]
    host: Option<HostName>,
}

/// Looks at everything that the host alone can tell.
#[must_use]
pub fn examine(opened: &Opened) -> Diagnosis {
    let settings = &opened.settings;
    let layout = settings.layout();
    let mut diagnosis = Diagnosis::default();
    diagnosis.settings(opened);
    // What this user may not read would look damaged or gone.
    if let Some(path) = barred(&layout) {
        diagnosis.bad(
            format!("this user may not read {}, so nothing more can be said", path.display()),
            "type it with sudo, or as root",
        );
        return diagnosis;
    }
    diagnosis.owners(&layout);
    let enrolled = identity::load(&layout)
        .and_then(|loaded| Credentials::load(&layout).map(|credentials| (loaded, credentials)));
    match enrolled {
        _ if enroll::is_begun(&layout) => diagnosis.bad(
            "an enrolment was cut short in the middle".to_owned(),
            "type the same 'groundswell-agent enroll' line again; it goes on where it was",
        ),
        Ok((loaded, credentials)) => diagnosis.enrolled(&loaded, &credentials),
        Err(IdentityError::NotEnrolled) => diagnosis.bad(
            "this host is not enrolled".to_owned(),
            "ask for a line by 'swell host enroll-token' and pass it to 'groundswell-agent enroll'",
        ),
        Err(error) => diagnosis.bad(
            chain(&error),
            &format!(
                "are you root or the agent's user? If the file is damaged, {}",
                enrol_again(
                    identity::load(&layout).ok().map(|loaded| loaded.identity.name).as_ref()
                )
            ),
        ),
    }
    let talks = if layout.is_split() {
        diagnosis.process("the apply side", &layout.lock(), "groundswell-apply");
        diagnosis.process("the network side", &layout.net_lock(), "groundswell-agent")
    } else {
        diagnosis.process("the agent", &layout.lock(), "groundswell-agent")
    };
    let dirs =
        if layout.is_split() { vec![layout.state(), layout.net()] } else { vec![layout.state()] };
    for dir in dirs {
        diagnosis.writable(dir);
    }
    // What is noted on a disk that takes nothing is old news.
    if talks && !durable::is_read_only(layout.net()) {
        diagnosis.contact(&layout);
    }
    diagnosis.room(&layout, settings.keep_free_bytes);
    diagnosis.directive(&layout);
    match accepted::services_on_disk(&layout) {
        Ok(services) => {
            for service in &services {
                diagnosis.service(&layout, service);
            }
        }
        Err(error) => diagnosis.bad(chain(&error), "look at the disk and its mount"),
    }
    match settings.supervisor {
        Supervisor::Systemd => diagnosis.units(settings, &layout),
        Supervisor::Process => {}
    }
    diagnosis
}

/// The first of the agent's own files that the user at the terminal may not read.
fn barred(layout: &Layout) -> Option<PathBuf> {
    let own = [layout.lock(), layout.identity(), layout.host_key()];
    let denied = |path: &PathBuf| {
        File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    own.into_iter().find(denied)
}

/// Whether half of the time in which the certificate should have been renewed is over.
fn renewal_is_late(validity: &Validity, now: Timestamp) -> bool {
    let (due, until) = (validity.renew_at(), validity.until);
    now.millis_since(due) > until.millis_since(due) / 2
}

impl Diagnosis {
    /// Whether something does not work.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Bad)
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people: what does not work first.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for level in [Level::Bad, Level::Warn, Level::Ok] {
            let word = match level {
                Level::Bad => "BAD ",
                Level::Warn => "warn",
                Level::Ok => "ok  ",
            };
            for finding in self.findings.iter().filter(|finding| finding.level == level) {
                text.push_str(&format!("{word}  {}\n", finding.what));
                if let Some(next) = &finding.next {
                    text.push_str(&format!("      -> {next}\n"));
                }
            }
        }
        text
    }

    fn ok(&mut self, what: String) {
        self.findings.push(Finding { level: Level::Ok, what, next: None });
    }

    fn warn(&mut self, what: String, next: &str) {
        self.findings.push(Finding { level: Level::Warn, what, next: Some(next.to_owned()) });
    }

    fn bad(&mut self, what: String, next: &str) {
        self.findings.push(Finding { level: Level::Bad, what, next: Some(next.to_owned()) });
    }

    fn settings(&mut self, opened: &Opened) {
        let file = opened.file.display();
        match &opened.trouble {
            None => self.ok(format!("{file} can be read")),
            Some(why) => self.bad(
                format!("{file} is not in force: {why}; what an earlier start has read is"),
                "mend the file: it is read again within seconds, by itself",
            ),
        }
    }

    /// Each side can use what is its own: what root has copied or made is often root's still.
    fn owners(&mut self, layout: &Layout) {
        if !layout.is_split() {
            return;
        }
        let (state, net) = (layout.state(), layout.net());
        let sides = [
            (state, APPLY_USER, vec![state.to_owned(), layout.identity(), layout.services()]),
            (net, NET_USER, vec![net.to_owned(), layout.identity_dir(), layout.host_key()]),
        ];
        for (dir, user, paths) in sides {
            if durable::is_no_link(dir).is_err() {
                let next = "stop both sides, put a directory and a bind mount there";
                self.bad(format!("{}: {}", dir.display(), durable::LINKED), next);
            }
            let Ok(Some((id, _))) = durable::account(user) else { continue };
            let foreign = paths
                .iter()
                .find(|path| std::fs::metadata(path).is_ok_and(|found| found.uid() != id));
            if let Some(path) = foreign {
                let dir = dir.display();
                self.bad(
                    format!("{} does not belong to {user}, who must use it", path.display()),
                    &format!("chown --recursive {user}:{NET_USER} {dir}, then restart {user}"),
                );
            }
        }
    }

    fn enrolled(&mut self, loaded: &Loaded, credentials: &Credentials) {
        let identity = &loaded.identity;
        self.host = Some(identity.name.clone());
        self.ok(format!(
            "enrolled as {} ({}) in {} of {}",
            identity.name, identity.host, identity.environment, identity.fleet
        ));
        let now = wall();
        match credentials.validity() {
            Some(validity) if validity.from > now => self.bad(
                format!(
                    "the clock of this host says {now} and is at least {} behind: its certificate begins \
                     at {}",
                    span(validity.from.millis_since(now) / 1000),
                    validity.from
                ),
                CLOCK,
            ),
            Some(validity) if validity.until <= now => self.bad(
                format!(
                    "its certificate ended at {}, by this host's clock {} ago",
                    validity.until,
                    span(now.millis_since(validity.until) / 1000)
                ),
                &format!(
                    "if that clock is wrong, set it. Else {}; services run on meanwhile",
                    enrol_again(Some(&identity.name))
                ),
            ),
            // Renewed by itself ten days before its end: later than that it has failed for days.
            Some(validity) if renewal_is_late(&validity, now) => self.warn(
                format!("its certificate ends at {} and could not be renewed so far", validity.until),
                "'journalctl -u groundswell-agent' says why; past that end the host must be enrolled again",
            ),
            Some(validity) => self.ok(format!("its certificate is good until {}", validity.until)),
            None => self.bad(
                "its certificate cannot be read".to_owned(),
                &enrol_again(Some(&identity.name)),
            ),
        }
        self.root(&loaded.trustee.root, now);
    }

    fn root(&mut self, root: &Root, now: Timestamp) {
        let end = Timestamp::from_secs(root.expires);
        let next = "the fleet's admins make the next one ('groundswell-coordinator root renew' with the root key, on \
                    the coordinator's machine); it comes by itself with the next connection";
        match ends_soon(&format!("root {}", root.version), end, now) {
            None => self.ok(format!("it trusts root {}", root.version)),
            Some(said) if end <= now => self.bad(
                format!("{said}: nothing switches, what runs goes on"),
                &format!("if this host's clock is right, {next}"),
            ),
            Some(said) => self.warn(said, next),
        }
    }

    /// Whether the process runs.
    fn process(&mut self, who: &str, lock: &Path, unit: &str) -> bool {
        let held = hand::is_held(lock);
        if held {
            self.ok(format!("{who} runs"));
        } else {
            self.bad(
                format!("{who} does not run"),
                &format!(
                    "systemctl start {unit}; 'journalctl -u {unit}' says why it ended. Where systemd has it active, \
                     its directory was moved or replaced under it: 'systemctl restart {unit}'"
                ),
            );
        }
        held
    }

    fn contact(&mut self, layout: &Layout) {
        let now = wall();
        match contact::load(layout) {
            None => self.warn(
                "nothing is known of the connection to the coordinator".to_owned(),
                "look again in a minute; then 'journalctl -u groundswell-agent'",
            ),
            Some(Contact { since, link }) if since.millis_since(now) > CLOCKS_APART_MS => {
                let what = format!(
                    "the clock of this host went back by {} or more since the connection changed last",
                    span(since.millis_since(now) / 1000)
                );
                match link {
                    Link::Down { .. } => self.bad(what, CLOCK),
                    // What is connected had its certificates checked by that clock, before or after it went back.
                    Link::Up { .. } => self.warn(what, CLOCK_MAYBE),
                }
            }
            Some(Contact { link: Link::Up { twin: false }, since }) => {
                self.ok(format!("connected to the coordinator since {since}"));
            }
            Some(Contact { link: Link::Up { twin: true }, since }) => self.bad(
                format!(
                    "connected to the coordinator since {since}, and so was {} meanwhile: nothing new comes to either",
                    contact::TWIN
                ),
                contact::TWIN_NEXT,
            ),
            Some(Contact { link: Link::Down { why }, since }) => {
                let next = if why.contains("the clock of this host") {
                    CLOCK
                } else if why.contains(contact::TWIN) {
                    contact::TWIN_NEXT
                } else if why.contains("enrol") {
                    "'swell host enroll-token' at a desk, then here 'groundswell-agent enroll --again TOKEN'"
                } else if why.contains("apply side") {
                    "journalctl -u groundswell-apply; what runs goes on meanwhile"
                } else {
                    "from this host, can the coordinator's address be reached? What runs goes on meanwhile, \
                     and it connects by itself"
                };
                self.bad(format!("not connected to the coordinator since {since}: {why}"), next);
            }
        }
    }

    /// Whether the disk of a side's directory takes what that side must keep.
    fn writable(&mut self, dir: &Path) {
        if durable::is_read_only(dir) {
            let dir = dir.display();
            self.bad(
                format!(
                    "the disk of {dir} is mounted read-only: what runs goes on, and nothing is fetched, \
                     switched or taken back"
                ),
                &format!(
                    "'findmnt --target {dir}' names the mount and 'dmesg' the cause; then 'mount -o \
                     remount,rw' it, and the agent goes on by itself"
                ),
            );
        }
    }

    fn room(&mut self, layout: &Layout, keep_bytes: u64) {
        if let Some(full) = full(layout) {
            return self
                .bad(full, "nothing is fetched, switched or taken back before; what runs goes on");
        }
        match free(layout).map(|free| free.bytes) {
            Ok(free) if free < keep_bytes => self.bad(
                format!("{free} bytes are free, and staging must leave {keep_bytes}"),
                "make room on the disk of state_dir, or lower keep_free_bytes",
            ),
            Ok(free) => self.ok(format!("{free} bytes are free")),
            Err(error) => self.bad(chain(&error), "look at the disk and its mount"),
        }
    }

    fn directive(&mut self, layout: &Layout) {
        match accepted::load(layout) {
            Ok(Some(accepted)) => {
                let last = accepted.floor().generation;
                match accepted::refusal(layout) {
                    None => self.ok(format!("directive {last} was accepted last")),
                    Some(refusal) => self.refused(last, &refusal),
                }
            }
            Ok(None) => self.warn(
                "no directive was ever accepted".to_owned(),
                "it comes with the first connection, which is looked at above",
            ),
            Err(error) => self.bad(
                chain(&error),
                "look at the disk; restore a damaged file from a backup, or enrol the host anew",
            ),
        }
    }

    /// The newest directive is refused.
    fn refused(&mut self, last: u64, refusal: &RefusalNote) {
        let RefusalNote { generation, code } = refusal;
        match code.as_str() {
            "old_generation" | "equivocation" => self.bad(
                format!(
                    "directive {generation} is refused ({code}), since {last} was accepted: was the coordinator's \
                     ledger put back from a backup?"
                ),
                "at a desk 'swell status' says so too; an admin ends it with 'swell audit lift --why TEXT'. What \
                 runs goes on meanwhile",
            ),
            code => self.bad(
                format!("directive {generation} is refused: {code}"),
                "docs/trust.md T3 says what that means; what runs goes on meanwhile",
            ),
        }
    }

    fn service(&mut self, layout: &Layout, service: &ServiceName) {
        if let Some(why) = hand::paused(layout, service) {
            self.warn(
                format!("{service} is paused on this host: {why}"),
                &hand::ends_pause(layout, service),
            );
        }
        let live = match switch::live(layout, service) {
            Ok(live) => live,
            Err(error) => return self.unreadable(service, &chain(&error)),
        };
        match journal::load(layout, service) {
            Ok(Some(machine)) => self.standing(service, &machine),
            Ok(None) => {}
            Err(error) => return self.unreadable(service, &chain(&error)),
        }
        if let Some(Err(error)) = live.map(|live| drift::check(layout, service, &live, &|| false)) {
            self.warn(
                format!("{service}: {}", chain(&error)),
                "put the file back as it was released; no newer release is staged before",
            );
        }
    }

    fn unreadable(&mut self, service: &ServiceName, why: &str) {
        self.bad(
            format!("{service} is stuck: {why}"),
            &format!(
                "see that what is live is what should run; then stop the agent, run 'groundswell-agent \
                 unstick {service}' and start it"
            ),
        );
    }

    fn standing(&mut self, service: &ServiceName, machine: &Service) {
        let standing = machine.standing(service);
        let failure = standing.failure.as_ref().or(machine.failure.as_ref());
        let why = failure.map(|failure| failure.why.as_str());
        let unknown = "no reason is known";
        let cause = why.map_or_else(|| unknown.to_owned(), one_line);
        match &machine.state {
            State::Stuck { cause: StuckCause::Journal | StuckCause::Tree, .. } => {
                return self.unreadable(service, &cause);
            }
            State::Stuck { cause: StuckCause::Revert | StuckCause::Loop, .. } => {
                return self
                    .bad(format!("{service} is stuck: {cause}"), &why::after_mending(service));
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. } => {}
        }
        if let Some(held) = machine.held() {
            self.warn(
                format!("{service} is held: {}", held.why),
                "mend what it names; it is tried again by itself",
            );
        }
        if let Some(unit) = machine.stopped.as_ref().filter(|_| machine.watched().is_some()) {
            self.warn(
                format!(
                    "{unit} of {service} was stopped on this host and stays so until it boots or gets another release"
                ),
                &format!("systemctl start {unit}"),
            );
        }
        // It waits for another release, and what it has may not run meanwhile.
        if machine.is_unproven() {
            let what = format!("{service} was not seen to run since it could not go back: {cause}");
            return self.bad(what, &why::after_mending(service));
        }
        let state = name_of(&standing.state);
        match (standing.health, &standing.failure) {
            (Verdict::Fail, failure) => self.bad(
                format!(
                    "{service} fails its probes: {}",
                    failure.as_ref().map_or(unknown, |failure| failure.why.as_str())
                ),
                &format!(
                    "see the service's own log; where the release is at fault, 'groundswell-agent revert {service} \
                     --reason TEXT' here alone, or 'swell revert {service}' everywhere, puts the one before back"
                ),
            ),
            (Verdict::Pass | Verdict::Inconclusive, Some(failure)) => {
                let failed = machine.failed.iter().find(|failed| failed.release == failure.release);
                let rollout = failed.and_then(|failed| failed.rollout.as_ref());
                let retry = why::retry(rollout, self.host.as_ref());
                let (what, next) = past(failure, machine.running.is_some(), &retry);
                self.warn(format!("{service} is {state}; {what}: {}", failure.why), &next);
            }
            (Verdict::Pass | Verdict::Inconclusive, None) => {
                self.ok(format!("{service} is {state}"));
            }
        }
    }

    /// What systemd says of the units that releases may name, and of those that run.
    fn units(&mut self, settings: &Settings, layout: &Layout) {
        if settings.units.is_empty() {
            self.warn(
                "agent.toml names no service, so no release with units can run here".to_owned(),
                "write [services.NAME] with units = [\"NAME.service\"] for each service of this host; it is read \
                 again by itself",
            );
        }
        for (service, units) in &settings.units {
            let live = switch::live(layout, service).ok().flatten();
            let manifest = live.and_then(|live| stage::reopen(layout, service, &live).ok());
            let runs = |unit: &String| manifest.as_ref().is_some_and(|m| m.units.contains(unit));
            let brings = settings.shipped_units.contains(service);
            // A template is no unit; the agent starts its instances, at boot too.
            for unit in units.iter().filter(|unit| !unit.ends_with("@.service")) {
                if brings && !runs(unit) {
                    continue;
                }
                match boot::unit(unit) {
                    Ok(Some(found)) => self.unit(unit, found, runs(unit)),
                    Ok(None) => {}
                    // Of the others it would say nothing either.
                    Err(boot::Silent) => {
                        return self.bad(
                            format!(
                                "systemd has not answered for {} s, so nothing can be started or stopped here; what \
                                 runs goes on",
                                boot::PATIENCE.as_secs()
                            ),
                            "'systemctl status' should answer at once; where it hangs for good, boot the host",
                        );
                    }
                }
            }
        }
    }

    fn unit(&mut self, unit: &str, found: boot::Unit, runs: bool) {
        match found.load {
            UnitLoad::NotFound => self.bad(
                format!("systemd knows no {unit}, which agent.toml allows"),
                &format!("write /etc/systemd/system/{unit}, then 'systemctl daemon-reload'"),
            ),
            UnitLoad::Masked => {
                self.bad(format!("{unit} is masked"), &format!("systemctl unmask {unit}"));
            }
            UnitLoad::Faulty => self.bad(
                format!("systemd cannot use {unit}"),
                &format!("'systemd-analyze verify {unit}' says why; then 'systemctl daemon-reload'"),
            ),
            UnitLoad::NeedsReload => self.warn(
                format!("the file of {unit} was changed since systemd read it"),
                "systemctl daemon-reload",
            ),
            // A oneshot is started by a switch, once: what starts it at boot runs it at each.
            UnitLoad::Loaded if runs && !found.is_wanted && !found.is_oneshot => self.warn(
                format!("at boot nobody but the agent starts {unit}"),
                &format!(
                    "give it an [Install] section with WantedBy=multi-user.target, then 'systemctl enable \
                     {unit}'"
                ),
            ),
            UnitLoad::Loaded => self.ok(format!("systemd knows {unit}")),
        }
    }
}

/// What a failure that is over says, and what to do.
fn past(failure: &Failure, runs: bool, retry: &str) -> (&'static str, String) {
    match failure.step {
        FailedStep::Revert if !failure.reverted => (
            "going back failed here",
            "mend what it names; see that what is live is what should run".to_owned(),
        ),
        FailedStep::Stage => (
            "a release could not be brought here, and nothing was switched",
            format!("mend what it names, then {retry}, or publish a newer release"),
        ),
        FailedStep::Switch | FailedStep::Probe | FailedStep::Bake | FailedStep::Revert => (
            if runs {
                "a release failed here and the one before is back"
            } else {
                "a release failed here and nothing of it runs, as before"
            },
            format!(
                "publish a corrected release; where the host was the cause, mend it, then {retry}"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use groundswell_common::{Digest, ReleaseId};

    use super::*;
    use crate::contact::Notes;
    use crate::fixture;

    fn only(looked: impl FnOnce(&mut Diagnosis)) -> Finding {
        let mut diagnosis = Diagnosis::default();
        looked(&mut diagnosis);
        assert_eq!(diagnosis.findings.len(), 1, "{:?}", diagnosis.findings);
        diagnosis.findings.remove(0)
    }

    #[test]
    fn a_connection_that_fails_names_its_cause_and_a_step_that_fits() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let look = || only(|diagnosis| diagnosis.contact(&layout));
        assert_eq!(look().level, Level::Warn);
        let mut notes = Notes::new(&layout);
        notes.connected();
        assert_eq!(look().level, Level::Ok);
        notes.twin(true);
        let found = look();
        assert_eq!((found.level, found.next.as_deref()), (Level::Bad, Some(contact::TWIN_NEXT)));
        assert!(
            found.what.contains("connected") && found.what.contains(contact::TWIN),
            "{found:?}"
        );
        notes.twin(false);
        assert_eq!(look().level, Level::Ok);
        for (why, step) in [
            ("the clock of this host is at least 48 h behind: by it ...", "set the clock"),
            (
                "the coordinator sends us away: another machine with the key of this host is connected; enrol",
                "enroll --again --name NAME",
            ),
            ("the coordinator sends us away: the host is not enrolled; enrol it", "enroll --again"),
            ("the apply side is away: it closed the socket", "journalctl -u groundswell-apply"),
            ("reach deploy.example:7443: Connection refused", "can the coordinator's address"),
        ] {
            notes.lost(why);
            let found = look();
            assert_eq!(found.level, Level::Bad, "{why}");
            assert!(found.what.contains(why), "{found:?}");
            assert!(found.next.as_ref().is_some_and(|next| next.contains(step)), "{found:?}");
        }
        let since = wall().plus_secs(400 * 86_400 + 3_600);
        let down = Link::Down { why: "reach deploy.example:7443".to_owned() };
        for (link, level, next) in
            [(down, Level::Bad, CLOCK), (Link::Up { twin: false }, Level::Warn, CLOCK_MAYBE)]
        {
            let ahead = serde_json::to_vec(&Contact { link, since }).unwrap();
            std::fs::write(layout.contact(), ahead).unwrap();
            let found = look();
            assert!(found.what.contains("went back by 400 days or more"), "{found:?}");
            assert_eq!((found.level, found.next.as_deref()), (level, Some(next)));
        }
    }

    #[test]
    fn a_root_and_a_certificate_that_end_are_said_beforehand_with_what_to_do() {
        let root = fixture::trustee(&fixture::root(3, |root| root.expires = 1_000 * 86_400)).root;
        let day = |day: u64| Timestamp::from_secs(day * 86_400);
        for (now, level, what) in [
            (939, Level::Ok, "it trusts root 3"),
            (940, Level::Warn, "root 3 ends in 60 days"),
            (999, Level::Warn, "ends in 1 day"),
            (1_000, Level::Bad, "nothing switches, what runs goes on"),
        ] {
            let found = only(|diagnosis| diagnosis.root(&root, day(now)));
            assert_eq!(found.level, level, "{now}: {found:?}");
            assert!(found.what.contains(what), "{found:?}");
            let next = found.next.unwrap_or_default();
            assert_eq!(next.contains("'groundswell-coordinator root renew'"), level != Level::Ok);
        }
        let validity = Validity { from: day(0), until: day(30) };
        for (now, late) in [(0, false), (20, false), (25, false), (26, true), (29, true)] {
            assert_eq!(renewal_is_late(&validity, day(now)), late, "{now}");
        }
    }

    #[test]
    fn a_refused_directive_says_what_a_backup_has_to_do_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert_eq!(accepted::refusal(&layout), None);
        for (code, want) in [("equivocation", "swell audit lift"), ("wrong_host", "docs/trust.md")]
        {
            let refusal = RefusalNote { generation: 7, code: code.to_owned() };
            accepted::note_refusal(&layout, Some(&refusal));
            let noted = accepted::refusal(&layout).unwrap();
            let found = only(|diagnosis| diagnosis.refused(9, &noted));
            assert_eq!(found.level, Level::Bad);
            assert!(found.what.contains("directive 7 is refused"), "{found:?}");
            assert!(found.next.as_ref().is_some_and(|next| next.contains(want)), "{found:?}");
        }
        accepted::note_refusal(&layout, None);
        assert_eq!(accepted::refusal(&layout), None);
    }

    #[test]
    fn a_failure_that_is_over_says_what_to_do_about_its_cause() {
        let release = ReleaseId::from_digest(Digest::from_bytes([1; 32]));
        let service: ServiceName = "shop".parse().unwrap();
        let before = groundswell_machine::Known {
            id: ReleaseId::from_digest(Digest::from_bytes([2; 32])),
            version: "1.0".parse().unwrap(),
            seq: 1,
            floor: 0,
            one_way: false,
        };
        for (step, running, what, next) in [
            (FailedStep::Stage, None, "nothing was switched", "swell rollout retry"),
            (
                FailedStep::Probe,
                None,
                "nothing of it runs, as before",
                "publish a corrected release",
            ),
            (
                FailedStep::Probe,
                Some(before.clone()),
                "the one before is back",
                "publish a corrected release",
            ),
            (
                FailedStep::Revert,
                Some(before),
                "the one before is back",
                "publish a corrected release",
            ),
        ] {
            let mut machine = Service::new();
            machine.running = running;
            let why = "80 bytes are needed and 7 are free; make room".to_owned();
            machine.failure = Some(Failure { release, step, why, reverted: true });
            let found = only(|diagnosis| diagnosis.standing(&service, &machine));
            assert_eq!(found.level, Level::Warn);
            assert!(found.what.contains(what) && found.what.contains("make room"), "{found:?}");
            assert!(found.next.as_ref().is_some_and(|text| text.contains(next)), "{found:?}");
        }
        let mut machine = Service::new();
        machine.state = State::Stuck { cause: StuckCause::Revert, generation: 1 };
        let found = only(|diagnosis| diagnosis.standing(&service, &machine));
        assert_eq!(found.level, Level::Bad);
        assert!(!found.next.unwrap().contains("unstick"), "its journal is well");
    }

    #[test]
    fn a_unit_is_said_to_be_as_systemd_sees_it() {
        let loaded = boot::Unit { load: UnitLoad::Loaded, is_wanted: true, is_oneshot: false };
        let unit = |found, runs| only(|diagnosis| diagnosis.unit("shop.service", found, runs));
        assert_eq!(unit(loaded, true).level, Level::Ok);
        let forgotten = boot::Unit { is_wanted: false, ..loaded };
        assert_eq!(unit(forgotten, false).level, Level::Ok, "nothing runs that it would start");
        let oneshot = boot::Unit { is_oneshot: true, ..forgotten };
        assert_eq!(unit(oneshot, true).level, Level::Ok, "a switch starts it, once");
        for (found, level, next) in [
            (forgotten, Level::Warn, "systemctl enable shop.service"),
            (
                boot::Unit { load: UnitLoad::NeedsReload, ..loaded },
                Level::Warn,
                "systemctl daemon-reload",
            ),
            (
                boot::Unit { load: UnitLoad::NotFound, ..loaded },
                Level::Bad,
                "write /etc/systemd/system",
            ),
            (boot::Unit { load: UnitLoad::Masked, ..loaded }, Level::Bad, "systemctl unmask"),
            (boot::Unit { load: UnitLoad::Faulty, ..loaded }, Level::Bad, "systemd-analyze verify"),
        ] {
            let found = unit(found, true);
            assert_eq!(found.level, level, "{found:?}");
            assert!(found.next.as_ref().is_some_and(|text| text.contains(next)), "{found:?}");
        }
    }
}
