//! One page of what is wrong on this host and the next step, for a person at its terminal: offline, and
//! while the agent runs. Reads only.

use std::fs::File;
use std::path::Path;

use groundswell_common::report::{HostState, Standing, Verdict};
use groundswell_common::{ServiceName, chain};
use rustix::fs::FlockOperation;
use serde::Serialize;

use crate::accepted;
use crate::bring::free;
use crate::clock::wall;
use crate::config::Settings;
use crate::drift;
use crate::hand;
use crate::identity::{self, Credentials, IdentityError, Loaded};
use crate::journal;
use crate::layout::Layout;
use crate::switch;

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
}

/// Looks at everything that the host alone can tell.
#[must_use]
pub fn examine(settings: &Settings) -> Diagnosis {
    let layout = settings.layout();
    let mut diagnosis = Diagnosis::default();
    let enrolled = identity::load(&layout)
        .and_then(|loaded| Credentials::load(&layout).map(|credentials| (loaded, credentials)));
    match enrolled {
        Ok((loaded, credentials)) => diagnosis.enrolled(&loaded, &credentials),
        Err(IdentityError::NotEnrolled) => diagnosis.bad(
            "this host is not enrolled".to_owned(),
            "ask for a line by 'swell host enroll-token' and pass it to 'groundswell-agent enroll'",
        ),
        Err(error) => diagnosis.bad(
            chain(&error),
            "are you root or the agent's user? If the file is damaged, enrol the host again",
        ),
    }
    if layout.is_split() {
        diagnosis.process("the apply side", &layout.lock(), "groundswell-apply");
        diagnosis.process("the network side", &layout.net_lock(), "groundswell-agent");
    } else {
        diagnosis.process("the agent", &layout.lock(), "groundswell-agent");
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
    diagnosis
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

    fn enrolled(&mut self, loaded: &Loaded, credentials: &Credentials) {
        let identity = &loaded.identity;
        self.ok(format!(
            "enrolled as {} ({}) in {} of {}",
            identity.name, identity.host, identity.environment, identity.fleet
        ));
        let now = wall();
        match credentials.validity() {
            Some(validity) if validity.until <= now => self.bad(
                format!("its certificate ended at {}", validity.until),
                "if the clock is right, enrol the host again; services run on meanwhile",
            ),
            Some(validity) => self.ok(format!("its certificate is good until {}", validity.until)),
            None => self.bad("its certificate cannot be read".to_owned(), "enrol the host again"),
        }
        let root = &loaded.trustee.root;
        if root.expires <= now.as_secs() {
            self.warn(
                format!("root {} has expired: nothing switches, what runs goes on", root.version),
                "the fleet's admins must sign a new root; it comes by itself with the next connection",
            );
        } else {
            self.ok(format!("it trusts root {}", root.version));
        }
    }

    fn process(&mut self, who: &str, lock: &Path, unit: &str) {
        // The lock is only looked at: making it here would make it root's.
        let held = File::open(lock).is_ok_and(|lock| {
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
        });
        if held {
            self.ok(format!("{who} runs"));
        } else {
            self.bad(
                format!("{who} does not run"),
                &format!("systemctl start {unit}; 'journalctl -u {unit}' says why it ended"),
            );
        }
    }

    fn room(&mut self, layout: &Layout, keep_bytes: u64) {
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
                self.ok(format!("directive {} was accepted last", accepted.floor().generation));
            }
            Ok(None) => self.warn(
                "no directive was ever accepted".to_owned(),
                "can the coordinator be reached? See the agent's journal, and 'swell host why'",
            ),
            Err(error) => self.bad(chain(&error), "move the file away and start the agent again"),
        }
    }

    fn service(&mut self, layout: &Layout, service: &ServiceName) {
        if let Some(why) = hand::paused(layout, service) {
            self.warn(
                format!("{service} is paused on this host: {why}"),
                "'groundswell-agent resume' lets it switch again",
            );
        }
        let live = match switch::live(layout, service) {
            Ok(live) => live,
            Err(error) => return self.stuck(service, &chain(&error)),
        };
        match journal::load(layout, service) {
            Ok(Some(machine)) => self.standing(service, &machine.standing(service)),
            Ok(None) => {}
            Err(error) => return self.stuck(service, &chain(&error)),
        }
        if let Some(Err(error)) = live.map(|live| drift::check(layout, service, &live, &|| false)) {
            self.warn(
                format!("{service}: {}", chain(&error)),
                "put the file back as it was released; no newer release is staged before",
            );
        }
    }

    fn stuck(&mut self, service: &ServiceName, why: &str) {
        self.bad(
            format!("{service} is stuck: {why}"),
            "see that what is live is what should run; then stop the agent, run \
             'groundswell-agent unstick SERVICE' and start it",
        );
    }

    fn standing(&mut self, service: &ServiceName, standing: &Standing) {
        let failed = standing.failure.as_ref().map(|failure| failure.why.as_str());
        let state = format!("{:?}", standing.state).to_lowercase();
        match (standing.state, standing.health, failed) {
            (HostState::Stuck, _, why) => self.stuck(service, why.unwrap_or("no reason is known")),
            (_, Verdict::Fail, why) => self.bad(
                format!("{service} fails its probes: {}", why.unwrap_or("no reason is known")),
                "see the service's own log; 'swell revert SERVICE' puts the release before back everywhere",
            ),
            (_, Verdict::Pass | Verdict::Inconclusive, Some(why)) => self.warn(
                format!("{service} is {state}; a release failed here: {why}"),
                "nothing: it went back by itself, and is not tried again before somebody clears it",
            ),
            (_, Verdict::Pass | Verdict::Inconclusive, None) => {
                self.ok(format!("{service} is {state}"));
            }
        }
    }
}
