//! Following a rollout in front of somebody: each change shown, and at the end the hosts that failed.

use std::time::Duration;

use groundswell_common::api::{PhaseName, RolloutHost, RolloutPage, RolloutSummary};
use groundswell_common::{RolloutId, name_of};

use crate::client::{Client, part};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Live, Seen, Until, exit_of, follow};
use crate::output::{cause, clean, last_words};

/// What a shell says of a program that was interrupted.
const INTERRUPTED: i32 = 130;
/// Hosts that failed and are named at the end of a rollout.
const FAILURES_SHOWN: usize = 10;

/// Follows a rollout, shows it, and says at the end which hosts failed and why; `None` when the time was
/// over first, which has been said.
pub(super) async fn watch_to_the_end(
    context: &Context,
    client: &Client,
    rollout: &RolloutId,
    within: (Until, Duration),
) -> anyhow::Result<Option<RolloutPage>> {
    let (out, mut live) = (context.out, Live::on_stderr());
    let each = out.json && within.0 == Until::Done;
    let end = follow(client, rollout, within, |seen| match seen {
        Seen::Page(page) if each => {
            out.line(serde_json::to_string(page).map_err(std::io::Error::other)?)
        }
        Seen::Page(_) if out.json => Ok(()),
        Seen::Page(page) => {
            live.see(seen)?;
            match stands(page).filter(|_| within.0 == Until::Done) {
                Some(line) => live.say_once(&line),
                None => Ok(()),
            }
        }
        Seen::Away(_) | Seen::Back => live.see(seen),
    });
    let end = tokio::select! {
        end = end => end?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            out.note(format_args!("{rollout} goes on without being watched; swell watch {rollout} follows it again"))?;
            std::process::exit(INTERRUPTED);
        }
    };
    let Some(page) = end else {
        let secs = within.1.as_secs();
        out.note(format_args!("{rollout} is not over after {secs} s; it goes on"))?;
        return Ok(None);
    };
    if out.json && !each {
        out.line(serde_json::to_string(&page)?)?;
    }
    for line in failures(client, &page).await {
        out.note(line)?;
    }
    Ok(Some(page))
}

/// That a rollout goes on when a person acts, and not before.
fn stands(page: &RolloutPage) -> Option<String> {
    let RolloutSummary { rollout: id, phase, .. } = &page.rollout;
    match phase {
        PhaseName::Paused | PhaseName::Halted => {
            let why = page.why.iter().map(|why| clean(why)).collect::<Vec<_>>().join("; ");
            Some(format!(
                "{id} is {} until a person acts: {why}; Ctrl-C ends the watching alone",
                name_of(phase)
            ))
        }
        PhaseName::Queued
        | PhaseName::Running
        | PhaseName::Baking
        | PhaseName::Gated
        | PhaseName::Reverting
        | PhaseName::Done => None,
    }
}

/// The hosts that failed or were held and the cause of each, a line a host.
async fn failures(client: &Client, end: &RolloutPage) -> Vec<String> {
    let counts = &end.rollout.counts;
    if exit_of(&end.rollout) == Exit::Done && counts.failed + counts.reverted + counts.held == 0 {
        return Vec::new();
    }
    let id = &end.rollout.rollout;
    let path = format!("/v1/rollouts/{}", part(id.as_str()));
    // The end is known; without the hosts it is told all the same.
    let Ok(page) = client.get::<RolloutPage>(&path).await else {
        return vec![format!("which hosts failed: swell rollout show {id}")];
    };
    let failed: Vec<&RolloutHost> = page.hosts.iter().filter(|host| host.why.is_some()).collect();
    let mut lines: Vec<String> =
        failed.iter().take(FAILURES_SHOWN).map(|host| failure(host)).collect();
    if failed.len() > FAILURES_SHOWN {
        let more = failed.len() - FAILURES_SHOWN;
        lines.push(format!("  and {more} more: swell rollout show {id}"));
    }
    lines
}

fn failure(host: &RolloutHost) -> String {
    let why = host.why.as_deref().unwrap_or_default();
    let words = last_words(why).map(|words| format!("; it said last: {words}"));
    format!(
        "  {} {}: {}{}",
        host.name,
        clean(&host.progress),
        cause(why),
        words.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_watches_what_a_person_stopped_is_told_so_and_how_to_end_that() {
        let mut page = crate::follow::tests::page();
        assert_eq!(stands(&page), None);
        page.rollout.phase = PhaseName::Halted;
        page.why = vec!["ann halted it: smoke; 'swell resume shop-2' goes on in wave 1".into()];
        assert_eq!(
            stands(&page).as_deref(),
            Some(
                "shop-2 is halted until a person acts: ann halted it: smoke; 'swell resume shop-2' goes on in wave 1; \
                 Ctrl-C ends the watching alone"
            )
        );
    }

    #[test]
    fn a_host_that_failed_is_told_with_its_cause_and_the_last_words_of_its_service() {
        let host = |why: &str| RolloutHost {
            name: "web-2".parse().expect("name"),
            wave: 0,
            progress: "reverted".into(),
            why: Some(why.into()),
            stays: false,
        };
        let text = failure(&host(
            "probe http://127.0.0.1:4222: refused; its last output:\nup\nno config\n",
        ));
        assert_eq!(
            text,
            "  web-2 reverted: probe http://127.0.0.1:4222: refused; it said last: no config"
        );
        assert_eq!(failure(&host("no contact")), "  web-2 reverted: no contact");
    }
}
