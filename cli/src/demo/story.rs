//! What the demo does, step by step, and what it measures on the way. Every step goes through `swell`'s own
//! commands or the API; what hosts run is asked of their services over HTTP. Fails when anything is not as it says.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use groundswell_common::RolloutId;
use groundswell_common::api::{
    HostSummary, HostsAnswer, OutcomeName, PhaseName, PlanPreview, PlanRequest, PublishAnswer,
    ReleasePage, ReleaseState, RolloutPage, VerbAnswer, VerbRequest, WhyAnswer,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::bed::{Bed, Programs};
use super::record::{Record, now_ms, secs};
use super::release::{ALL, BROKEN, FIRST, GOOD, POLICY, SERVICE, write};
use super::screen::{Cell, Screen};
use super::web;
use crate::client::{Client, part};
use crate::follow::{beyond, standing, wave_line};
use crate::output::clean;

/// Time between two looks at the fleet.
const LOOK: Duration = Duration::from_millis(60);
/// Longest wait for one step of the story.
const STEP_MAX: Duration = Duration::from_secs(120);
/// How long the halted fleet is watched: longer than any permit is valid.
const HOLD_MS: u64 = 2_500;

/// What pressing the button did.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Halt {
    /// From the request to its answer, as the operator saw it, in milliseconds.
    pub(super) answered_ms: u64,
    /// From the request to the last switch that began at any host, in milliseconds; 0 when none
    /// began after it.
    pub(super) last_switch_ms: u64,
    /// Hosts that had switched and were still being watched.
    pub(super) in_flight: u64,
    /// Hosts that the halt kept on the release before.
    pub(super) kept: usize,
}

/// What the broken release did.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reverted {
    /// The only host that ever ran it.
    pub(super) host: String,
    /// From its first answer with the broken release to its first with the good one again, in milliseconds.
    pub(super) live_ms: u64,
    /// From publishing it to the end of its rollout, in milliseconds.
    pub(super) whole_ms: u64,
    /// Why, as the coordinator says.
    pub(super) why: String,
}

/// All that was measured.
#[derive(Debug)]
pub(super) struct Told {
    /// The history.
    pub(super) record: Record,
    /// Names of the waves.
    pub(super) waves: Vec<String>,
    /// The button.
    pub(super) halt: Halt,
    /// The broken release.
    pub(super) reverted: Reverted,
    /// What `swell audit verify` said.
    pub(super) ledger_entries: u64,
}

/// The demo under way.
pub(super) struct Story<'a> {
    bed: &'a mut Bed,
    screen: &'a mut Screen,
    programs: &'a Programs,
    client: Client,
    record: Record,
    hosts: Vec<HostSummary>,
    rollout: Option<RolloutId>,
    page: Option<RolloutPage>,
    said: String,
}

/// Tells the whole story on a bed where nothing runs yet; files go below `dir`.
pub(super) async fn tell(
    bed: &mut Bed,
    screen: &mut Screen,
    programs: &Programs,
    (dir, hosts): (&Path, u16),
) -> anyhow::Result<Told> {
    let start_ms = now_ms();
    screen.line(&format!("starting a coordinator and {hosts} hosts below {}", dir.display()))?;
    let client = bed.start_coordinator().await?;
    bed.start_agents(&client, hosts).await?;
    let record = Record::new(bed.hosts.iter().map(|host| host.name.as_str()), start_ms);
    let mut story = Story {
        bed,
        screen,
        programs,
        client,
        record,
        hosts: Vec::new(),
        rollout: None,
        page: None,
        said: String::new(),
    };
    story.run(dir).await
}

impl Story<'_> {
    async fn run(&mut self, dir: &Path) -> anyhow::Result<Told> {
        let count = self.bed.hosts.len();
        let connected = |story: &Self| story.hosts.iter().filter(|h| h.connected).count() == count;
        self.until("every agent is connected", connected).await?;
        self.say(&format!("{count} agents enrolled, each with its own key, over mutual TLS"))?;
        let policy = dir.join("shop.toml");
        std::fs::write(&policy, POLICY).context("write the policy")?;
        let _: serde_json::Value = self.swell(&["service", "apply"], &policy).await?;
        self.goes_out(dir, FIRST).await?;
        let halt = self.is_halted_and_goes_on(dir).await?;
        let (waves, tracks) = self.waves();
        for (track, wave) in self.record.tracks.iter_mut().zip(tracks) {
            track.wave = wave;
        }
        let reverted = self.breaks(dir).await?;
        let ledger_entries = self.is_as_it_says().await?;
        let record = self.record.clone();
        self.screen.keep_block();
        Ok(Told { record, waves, halt, reverted, ledger_entries })
    }

    /// The first release reaches everyone.
    async fn goes_out(&mut self, dir: &Path, version: &str) -> anyhow::Result<()> {
        self.publish(dir, version).await?;
        self.until("the rollout is over", Self::is_done).await?;
        self.ended(OutcomeName::Completed)?;
        self.everyone_answers(version)
    }

    /// The second release is stopped in the middle of its last wave, and goes on; a host whose owner has paused it
    /// holds nobody.
    async fn is_halted_and_goes_on(&mut self, dir: &Path) -> anyhow::Result<Halt> {
        let paused = self.is_paused().await?;
        self.publish(dir, GOOD).await?;
        let busy = |story: &Self| {
            story.page.as_ref().is_some_and(|page| {
                let last = page.waves.last();
                last.is_some_and(|wave| wave.counts.in_flight > 0 && wave.counts.pending == 0)
                    || page.rollout.phase == PhaseName::Done
            })
        };
        self.until("the last wave is under way", busy).await?;
        self.say("$ swell halt shop        (hosts are switching right now)")?;
        self.record.mark("halt");
        let pressed = now_ms();
        let request = VerbRequest { why: "the demo's red button".into(), keep: false };
        let path = format!("/v1/services/{SERVICE}/halt");
        let answer: VerbAnswer = self.client.post(&path, &request).await?;
        let answered = now_ms();
        let end = answered.saturating_add(HOLD_MS);
        self.until("the halted fleet was watched", |_| now_ms() > end).await?;
        let last =
            self.last_switch().context("measure the halt: no host has told when it switched")?;
        if last > answered {
            bail!("stop the rollout: a host switched {} ms after the answer", last - answered);
        }
        let kept = self.record.tracks.len() - self.answering(GOOD);
        let halt = Halt {
            answered_ms: answered.saturating_sub(pressed),
            last_switch_ms: last.saturating_sub(pressed),
            in_flight: answer.in_flight,
            kept,
        };
        self.say(&format!("halted: {}", halt_text(&halt)))?;
        self.say("$ swell rollout resume shop")?;
        self.record.mark("resume");
        let rollout = self.rollout.clone().context("resume: there is no rollout")?;
        let request = VerbRequest { why: "the demo goes on".into(), keep: false };
        let path = format!("/v1/rollouts/{}/resume", part(rollout.as_str()));
        let _: VerbAnswer = self.client.post(&path, &request).await?;
        self.until("the rollout is over", Self::is_done).await?;
        self.ended(OutcomeName::Completed)?;
        self.catches_up(&paused).await?;
        Ok(halt)
    }

    /// The owner of the last host pauses it; its name.
    async fn is_paused(&mut self) -> anyhow::Result<String> {
        let last = self.bed.hosts.last().context("pause a host: there is none")?.name.clone();
        self.say(&format!("{last}$ groundswell-agent pause --reason \"new memory\""))?;
        self.bed.by_hand(&last, &["pause", "--reason", "new memory"]).await?;
        // A plan knows from then on that it would be held.
        let (path, end) = (format!("/v1/services/{SERVICE}/plan"), Instant::now() + STEP_MAX);
        loop {
            let plan: PlanPreview = self.client.post(&path, &PlanRequest::default()).await?;
            if plan.held.iter().any(|held| held.host.as_str() == last) {
                return Ok(last);
            }
            if Instant::now() > end {
                bail!("see {last} held in a plan: it lists {:?}", plan.held);
            }
            sleep(LOOK).await;
        }
    }

    /// The host that was held while everybody else went on comes after them by itself.
    async fn catches_up(&mut self, paused: &str) -> anyhow::Result<()> {
        let count = self.record.tracks.len();
        let others = |story: &Self| story.answering(GOOD) + 1 == count;
        self.until("everyone but the paused host answers", others).await?;
        self.say(&format!("$ swell host why {paused}"))?;
        let path = format!("/v1/hosts/{}/why", part(paused));
        let answer: WhyAnswer = self.client.get(&path).await?;
        let why = answer.why.first().context("ask why the host is behind")?;
        if !why.contains("new memory") {
            bail!("find the pause as the first reason of {paused}: {:?}", answer.why);
        }
        self.say(&format!("  {}", clean(why)))?;
        self.say(&format!("{paused}$ groundswell-agent resume"))?;
        self.bed.by_hand(paused, &["resume"]).await?;
        self.until("the paused host has caught up", |story| story.answering(GOOD) == count).await
    }

    /// The third release is broken: its canary fails, and everything is put back without anybody's doing.
    async fn breaks(&mut self, dir: &Path) -> anyhow::Result<Reverted> {
        let published = now_ms();
        self.publish(dir, BROKEN).await?;
        self.until("the broken release is put back", Self::is_done).await?;
        let whole_ms = now_ms().saturating_sub(published);
        self.ended(OutcomeName::Reverted)?;
        self.record.mark("reverted");
        self.until("its host answers with the release before", |story| {
            story.answering(GOOD) == story.record.tracks.len()
        })
        .await?;
        let touched: Vec<_> =
            self.record.tracks.iter().filter(|track| track.first(BROKEN).is_some()).collect();
        let [track] = touched.as_slice() else {
            bail!("keep {BROKEN} on its canary: {} hosts ran it", touched.len());
        };
        let live = track.first(BROKEN).zip(track.settled());
        let live_ms = live.map(|(from, to)| to.saturating_sub(from));
        let why = self.page.as_ref().and_then(|page| page.rollout.why.clone());
        Ok(Reverted {
            host: track.host.clone(),
            live_ms: live_ms.context("measure the revert")?,
            whole_ms,
            why: why.unwrap_or_default(),
        })
    }

    /// The end is checked by other means than the story used: services, release state, ledger.
    async fn is_as_it_says(&mut self) -> anyhow::Result<u64> {
        self.everyone_answers(GOOD)?;
        for host in &self.bed.hosts {
            match web::get(host.port, "/health").await {
                Some(answer) if answer.status == 200 => {}
                other => bail!("find {} healthy: it answers {other:?}", host.name),
            }
        }
        let path = format!("/v1/releases/{SERVICE}@{BROKEN}");
        let page: ReleasePage = self.client.get(&path).await?;
        if page.release.state != ReleaseState::Poisoned {
            bail!("find {BROKEN} poisoned: it is {:?}", page.release.state);
        }
        self.say("$ swell audit verify")?;
        let proof: serde_json::Value = self.swell_quiet(&["audit", "verify"]).await?;
        proof.get("entries").and_then(serde_json::Value::as_u64).context("verify the ledger")
    }

    async fn publish(&mut self, dir: &Path, version: &str) -> anyhow::Result<()> {
        let tree = write(dir, version, &self.programs.service)
            .with_context(|| format!("write release {version}"))?;
        self.record.mark(&format!("publish {version}"));
        let answer: PublishAnswer = self.swell(&["publish", "--version", version], &tree).await?;
        self.rollout = Some(answer.rollout.with_context(|| {
            format!("roll out {version}: {}", answer.waiting.as_deref().unwrap_or("no rollout"))
        })?);
        self.page = None;
        Ok(())
    }

    /// Runs `swell` as a person would; its JSON answer.
    async fn swell<T: DeserializeOwned>(
        &mut self,
        args: &[&str],
        path: &Path,
    ) -> anyhow::Result<T> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.say(&format!("$ swell {} {name}", args.join(" ")))?;
        let path = path.to_string_lossy();
        self.swell_quiet(&[args, &[path.as_ref()]].concat()).await
    }

    async fn swell_quiet<T: DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<T> {
        let mut command = Command::new(&self.programs.swell);
        command.arg("--json").arg("--profile").arg(self.bed.profile_path()).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.context("run swell")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("run swell {}: {}", args.join(" "), said.trim());
        }
        let first = output.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice(first).with_context(|| format!("read what swell {args:?} prints"))
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + STEP_MAX;
        loop {
            self.look().await?;
            if holds(self) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("wait until {what}: not so after {} s; {}", STEP_MAX.as_secs(), self.said);
            }
            sleep(LOOK).await;
        }
    }

    /// Looks at the whole fleet once: services by HTTP, hosts and rollout by the API.
    async fn look(&mut self) -> anyhow::Result<()> {
        self.bed.alive()?;
        let mut asked = JoinSet::new();
        for (at, host) in self.bed.hosts.iter().enumerate() {
            let port = host.port;
            asked.spawn(async move { (at, web::version(port).await) });
        }
        while let Some(answer) = asked.join_next().await {
            let (at, version) = answer?;
            if let Some(change) = self.record.saw(at, version)
                && !self.screen.terminal
            {
                let before = change.before.as_deref().unwrap_or("nothing");
                self.say(&format!(
                    "  {} answers {} (before: {before})",
                    change.host, change.after
                ))?;
            }
        }
        self.hosts = self.client.get::<HostsAnswer>("/v1/hosts").await?.hosts;
        if let Some(rollout) = &self.rollout {
            let path = format!("/v1/rollouts/{}", part(rollout.as_str()));
            let page: RolloutPage = self.client.get(&path).await?;
            let says = told(&page);
            self.page = Some(page);
            if says != self.said {
                self.say(&says)?;
                self.said = says;
            }
        }
        let lines = self.block();
        self.screen.draw(&lines)?;
        Ok(())
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let at = secs(self.record.elapsed_ms());
        Ok(self.screen.line(&format!("{at:>7}  {text}"))?)
    }

    fn block(&self) -> Vec<String> {
        let state = |name: &str| {
            let host = self.hosts.iter().find(|host| host.name.as_str() == name)?;
            host.services.iter().find(|service| service.service.as_str() == SERVICE)
        };
        let cells: Vec<Cell<'_>> = self
            .bed
            .hosts
            .iter()
            .enumerate()
            .map(|(at, host)| Cell {
                name: &host.name,
                version: self.record.version(at),
                state: state(&host.name).and_then(|service| service.state),
                failed: state(&host.name).is_some_and(|service| service.failure.is_some()),
            })
            .collect();
        let mut lines = vec![String::new()];
        lines.extend(self.screen.map(&cells, &ALL));
        if let Some(page) = &self.page {
            lines.push(format!("  {}", told(page)));
            lines.extend(page.waves.iter().map(|wave| wave_line(wave, self.screen.terminal)));
        }
        lines
    }

    fn is_done(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.rollout.phase == PhaseName::Done)
    }

    fn ended(&self, want: OutcomeName) -> anyhow::Result<()> {
        let outcome = self.page.as_ref().and_then(|page| page.rollout.outcome);
        if outcome == Some(want) {
            return Ok(());
        }
        bail!("see the rollout end {want:?}: it ended {outcome:?}; {}", self.said)
    }

    fn answering(&self, version: &str) -> usize {
        let all = 0..self.record.tracks.len();
        all.filter(|at| self.record.version(*at) == Some(version)).count()
    }

    fn everyone_answers(&self, version: &str) -> anyhow::Result<()> {
        let (have, want) = (self.answering(version), self.record.tracks.len());
        if have == want {
            return Ok(());
        }
        bail!("find {version} on every host: {have} of {want} answer with it over HTTP")
    }

    /// When the last switch of any host began, by the host's own word, in milliseconds of its clock.
    fn last_switch(&self) -> Option<u64> {
        let services = self.hosts.iter().flat_map(|host| &host.services);
        services.filter_map(|service| service.switched).map(|s| s.started.as_millis()).max()
    }

    /// Names of the waves, and each host's wave.
    fn waves(&self) -> (Vec<String>, Vec<Option<u32>>) {
        let Some(page) = &self.page else { return (Vec::new(), Vec::new()) };
        let wave = |name: &str| {
            page.hosts.iter().find(|host| host.name.as_str() == name).map(|host| host.wave)
        };
        let names = page.waves.iter().map(|wave| clean(&wave.name)).collect();
        (names, self.bed.hosts.iter().map(|host| wave(&host.name)).collect())
    }
}

/// A rollout's standing in a line that changes only with its phase.
fn told(page: &RolloutPage) -> String {
    let rollout = &page.rollout;
    // What the host said is on the page of the rollout.
    let short = |why: String| why.split(" (").next().unwrap_or_default().to_owned();
    let why = match beyond(page).map(short) {
        Some(why) if why.starts_with("since ") => format!(", {why}"),
        Some(why) => format!(": {why}"),
        None => String::new(),
    };
    format!("{} {} is {}{why}", rollout.service, rollout.version, standing(page))
}

/// The button in one line.
pub(super) fn halt_text(halt: &Halt) -> String {
    let last = if halt.last_switch_ms == 0 {
        "no switch began after the button".to_owned()
    } else {
        format!("the last switch began {} ms after the button", halt.last_switch_ms)
    };
    format!(
        "answered after {} ms, {last}; it kept {} hosts on {FIRST}",
        halt.answered_ms, halt.kept
    )
}
