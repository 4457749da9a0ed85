//! Waiting for a release that was published: for its first environment, or for one behind it, through all those
//! between.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;
use groundswell_common::api::{
    PublishAnswer, ReleasePage, ReleaseState, RolloutPage, RolloutSummary, ServicePage,
};
use groundswell_common::{Environment, RolloutId, ServiceName};
use tokio::time::{Instant, sleep_until};

use super::service::service_page;
use super::watch::watch_to_the_end;
use crate::client::{Client, ClientError};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Until, exit_of};
use crate::output::{clean, count, place};

/// How often the coordinator is asked whether the release has gone on.
const ASK: Duration = Duration::from_secs(2);

/// Refuses to wait for an environment that the service's policy does not name.
pub(super) fn check(
    service: &ServiceName,
    named: &[Environment],
    wait_for: Option<&Environment>,
) -> anyhow::Result<()> {
    let Some(wanted) = wait_for.filter(|wanted| !named.contains(wanted)) else { return Ok(()) };
    let named: Vec<&str> = named.iter().map(Environment::as_str).collect();
    let named = if named.is_empty() { "no environments".to_owned() } else { named.join(", ") };
    bail!("wait for {service} in {wanted}: its policy names {named}; nothing was published")
}

/// Waits until every host of an environment that could be reached runs the release; without one, of the first.
pub(super) async fn wait(
    context: &Context,
    client: &Client,
    answer: &PublishAnswer,
    (wait_for, within): (Option<&Environment>, Duration),
) -> anyhow::Result<Exit> {
    let end = Instant::now() + within;
    let mut waiter = Waiter { context, client, answer, end, followed: BTreeSet::new() };
    let first = match (&answer.rollout, &answer.behind) {
        (Some(first), _) => first.clone(),
        (None, Some(before)) => match waiter.its_turn(before).await? {
            Ok(first) => first,
            Err(exit) => return Ok(exit),
        },
        (None, None) if answer.existing => return runs_already(context, client, answer).await,
        (None, None) => {
            let why = answer.waiting.as_deref().unwrap_or("no rollout was planned");
            bail!("wait for {} {}: {why}", answer.service, answer.version);
        }
    };
    let page = match waiter.follow(&first).await? {
        Ok(page) => page,
        Err(exit) => return Ok(exit),
    };
    match wait_for {
        None => {
            for line in waiter.what_is_next().await {
                context.out.note(line)?;
            }
            Ok(Exit::Done)
        }
        Some(wanted) => waiter.go_on(wanted, page).await,
    }
}

/// A release that was published before and is rolled out by nothing now: done where nothing else runs.
async fn runs_already(
    context: &Context,
    client: &Client,
    answer: &PublishAnswer,
) -> anyhow::Result<Exit> {
    let (name, version) = (&answer.service, &answer.version);
    let page = service_page(client, name).await?;
    let runs = |its: bool| {
        let of = page.running.iter().filter_map(|count| Some((count.release?, count.hosts)));
        of.filter(|(release, _)| (*release == answer.release) == its).map(|(_, hosts)| hosts).sum()
    };
    let (here, elsewhere): (u64, u64) = (runs(true), runs(false));
    if here > 0 && elsewhere == 0 {
        context
            .out
            .note(format_args!("{name} {version} runs on {} already", count(here, "host")))?;
        return Ok(Exit::Done);
    }
    context.out.note(format_args!(
        "{name} {version} runs on {}, another release on {}; publishing it again rolls nothing out\n  to bring it: \
         swell rollout start {name} {version}",
        count(here, "host"),
        count(elsewhere, "host")
    ))?;
    Ok(Exit::Ended)
}

struct Waiter<'a> {
    context: &'a Context,
    client: &'a Client,
    answer: &'a PublishAnswer,
    end: Instant,
    followed: BTreeSet<RolloutId>,
}

impl Waiter<'_> {
    /// Waits for the rollout that is planned once the one before is over; how the wait ends where none is.
    async fn its_turn(&mut self, before: &RolloutId) -> anyhow::Result<Result<RolloutId, Exit>> {
        self.context.out.note(format_args!("waits: rollout {before} comes first"))?;
        loop {
            match self.look().await {
                Ok((page, service)) => {
                    if let Some(its) = page.rollouts.first() {
                        return Ok(Ok(its.rollout.clone()));
                    }
                    let newer = service.releases.first();
                    if newer.is_some_and(|newer| newer.seq > self.answer.seq) {
                        let (name, version) = (&self.answer.service, &self.answer.version);
                        self.context.out.note(format_args!(
                            "{name} {version} gets no rollout: a newer release was published"
                        ))?;
                        return Ok(Err(Exit::Ended));
                    }
                }
                Err(error) if error.passes() => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= self.end {
                self.context.out.note(format_args!(
                    "rollout {before} is not over in time; {} {} follows it by itself",
                    self.answer.service, self.answer.version
                ))?;
                return Ok(Err(Exit::TimedOut));
            }
            self.pause().await;
        }
    }

    /// Follows one rollout; how the wait ends where it did not complete.
    async fn follow(&mut self, id: &RolloutId) -> anyhow::Result<Result<RolloutPage, Exit>> {
        self.followed.insert(id.clone());
        let left = self.end.saturating_duration_since(Instant::now());
        let within = (Until::DoneOrHalted, left);
        let page = watch_to_the_end(self.context, self.client, id, within).await?;
        Ok(page.ok_or(Exit::TimedOut).and_then(|page| {
            let exit = exit_of(&page.rollout);
            if exit == Exit::Done { Ok(page) } else { Err(exit) }
        }))
    }

    /// Follows the release from environment to environment.
    async fn go_on(&mut self, wanted: &Environment, first: RolloutPage) -> anyhow::Result<Exit> {
        let (mut last, mut said) = (first.rollout, Vec::new());
        loop {
            if last.environment.as_ref() == Some(wanted) {
                return Ok(Exit::Done);
            }
            let (page, service) = match self.look().await {
                Ok(found) => found,
                Err(error) if error.passes() && Instant::now() < self.end => {
                    self.pause().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let news = |found: &&RolloutSummary| !self.followed.contains(&found.rollout);
            if let Some(next) = page.rollouts.iter().rev().find(news).map(|r| r.rollout.clone()) {
                match self.follow(&next).await? {
                    Ok(page) => last = page.rollout,
                    Err(exit) => return Ok(exit),
                }
                continue;
            }
            if let Some(why) = stays(self.answer, (&page, &service), &last) {
                self.context.out.note(why)?;
                return Ok(Exit::Ended);
            }
            if Instant::now() >= self.end {
                let (name, version) = (&self.answer.service, &self.answer.version);
                self.context.out.note(format_args!(
                    "{name} {version} has not reached {wanted} in time; it goes on"
                ))?;
                return Ok(Exit::TimedOut);
            }
            if service.service.waits != said {
                said = service.service.waits;
                for line in &said {
                    self.context.out.note(format_args!("waits: {}", clean(line)))?;
                }
            }
            self.pause().await;
        }
    }

    async fn look(&self) -> Result<(ReleasePage, ServicePage), ClientError> {
        let service = self.service().await?;
        Ok((self.client.get(&format!("/v1/releases/{}", self.answer.release)).await?, service))
    }

    async fn service(&self) -> Result<ServicePage, ClientError> {
        service_page(self.client, &self.answer.service).await
    }

    async fn pause(&self) {
        sleep_until(self.end.min(Instant::now() + ASK)).await;
    }

    /// What becomes of the release in the environments behind, a line each; the wait is over all the same.
    async fn what_is_next(&self) -> Vec<String> {
        let several = |page: &ServicePage| page.service.environments.len() > 1;
        if !self.service().await.is_ok_and(|page| several(&page)) {
            return Vec::new();
        }
        let Ok((page, service)) = self.look().await else { return Vec::new() };
        let news = page.rollouts.iter().filter(|found| !self.followed.contains(&found.rollout));
        let news = news.map(|found| {
            let (id, place) = (&found.rollout, place(found.environment.as_ref()));
            format!("next: rollout {id}{place}; swell watch {id}")
        });
        let waits = service.service.waits.iter();
        news.chain(waits.map(|waits| format!("next: {}", clean(waits)))).collect()
    }
}

/// Why a release that completed in an environment goes on to no other.
fn stays(
    answer: &PublishAnswer,
    (page, service): (&ReleasePage, &ServicePage),
    last: &RolloutSummary,
) -> Option<String> {
    let (name, version) = (&answer.service, &answer.version);
    let poisoned =
        page.release.environments.iter().find(|found| found.state == ReleaseState::Poisoned);
    if let Some(found) = poisoned {
        let why = found.why.as_deref().unwrap_or_default();
        return Some(format!(
            "{name} {version} is poisoned in {}: {}",
            found.environment,
            clean(why)
        ));
    }
    let here = |found: &&groundswell_common::api::ServiceIn| {
        last.environment.as_ref() == Some(&found.environment)
    };
    let proven = service.service.environments.iter().find(here)?.proven;
    (proven != Some(answer.release)).then(|| {
        let place = place(last.environment.as_ref());
        format!("{name} {version} goes no further: it is not what new hosts get{place} any more")
    })
}
