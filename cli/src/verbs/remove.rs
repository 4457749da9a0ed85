//! `swell service remove SERVICE`: off all hosts, or off those that the policy does not target any more. The
//! coordinator says what runs and on how many; a person sees it before it is done.

use std::time::Duration;

use groundswell_common::api::{RemovalPreview, RemovalRequest, RemovalRuns, RevertAnswer};

use super::revert::{gone_back, others};
use super::rollout::why;
use super::watch::watch_to_the_end;
use crate::args::RemoveArgs;
use crate::client::part;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::Until;
use crate::output::{confirm, count, may_ask};

/// Runs `swell service remove`.
pub(crate) async fn remove(context: &Context, args: &RemoveArgs) -> anyhow::Result<Exit> {
    may_ask(&format!("remove {}", args.service), args.decision.yes)?;
    let client = context.client()?;
    let service = part(args.service.as_str());
    if !args.decision.yes {
        let path = format!("/v1/services/{service}/removal?left_over={}", args.left_over);
        let preview: RemovalPreview = client.get(&path).await?;
        for line in others(&preview.others) {
            context.out.note(line)?;
        }
        if !confirm(context.out, &question(&preview, args.left_over), false)? {
            return Ok(Exit::Failed);
        }
    }
    let request = RemovalRequest { why: why("remove", &args.decision), left_over: args.left_over };
    let answer: RevertAnswer =
        client.post(&format!("/v1/services/{service}/remove"), &request).await?;
    context.out.answer(&answer, |answer| {
        let (id, service) = (&answer.rollout.rollout, &answer.rollout.service);
        format!("{service} is being taken off its hosts\nrollout {id}; swell watch {id}")
    })?;
    if !args.wait.wait {
        return Ok(Exit::Done);
    }
    let within = (Until::DoneOrHalted, Duration::from_secs(args.wait.timeout));
    let id = &answer.rollout.rollout;
    let end = watch_to_the_end(context, &client, id, within).await?;
    // A host that could not stop it still has it.
    Ok(end.map_or(Exit::TimedOut, |page| match page.rollout.counts.failed {
        0 => gone_back(&page.rollout),
        _ => Exit::Failed,
    }))
}

/// What is asked: what runs, on how many hosts, and that nothing of it stays.
fn question(preview: &RemovalPreview, left_over: bool) -> String {
    let runs = |runs: &RemovalRuns| {
        let version =
            runs.version.as_ref().map_or("what is not known".to_owned(), ToString::to_string);
        format!("{version} on {}", count(runs.hosts, "host"))
    };
    let runs: Vec<String> = preview.runs.iter().map(runs).collect();
    let which = if left_over { " that its policy does not target" } else { "" };
    format!(
        "remove {} from {}{which} ({}): it stops there and its releases go from the disks, wave by wave",
        preview.service,
        count(preview.hosts, "host"),
        runs.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_what_runs_and_on_how_many_hosts() {
        let preview: RemovalPreview = serde_json::from_value(serde_json::json!({
            "service": "shop", "hosts": 4, "others": [],
            "runs": [{"version": "1.1.0", "hosts": 3}, {"version": null, "hosts": 1}]}))
        .expect("a preview");
        let asked = question(&preview, false);
        let want = "remove shop from 4 hosts (1.1.0 on 3 hosts, what is not known on 1 host): it stops there";
        assert!(asked.starts_with(want), "{asked}");
        assert!(
            question(&preview, true).contains("4 hosts that its policy does not target (1.1.0")
        );
    }
}
