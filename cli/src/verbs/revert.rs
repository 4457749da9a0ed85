//! `swell revert SERVICE`: from what its hosts run to a release that was proven before. The coordinator
//! says what that is and on how many hosts; a person sees it before it is done.

use std::time::Duration;

use groundswell_common::api::{
    OutcomeName, PhaseName, RevertAnswer, RevertOther, RevertPreview, RevertRequest, RolloutHost,
    RolloutPage, RolloutSummary,
};

use super::rollout::why;
use super::watch::watch_to_the_end;
use crate::args::RevertArgs;
use crate::client::{Client, part};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Until, exit_of};
use crate::output::{confirm, count, may_ask, place};

/// Hosts that run something else and are named before the question.
const OTHERS_SHOWN: usize = 10;

/// Runs `swell revert`.
pub(crate) async fn revert(context: &Context, args: &RevertArgs) -> anyhow::Result<Exit> {
    may_ask(&format!("revert {}", args.service), args.decision.yes)?;
    let client = context.client()?;
    let path = format!("/v1/services/{}/revert", part(args.service.as_str()));
    let mut stop = args.stop;
    match (preview(&client, &path, args).await, args.decision.yes) {
        (Ok(preview), yes) => {
            for line in others(&preview.others) {
                context.out.note(line)?;
            }
            if yes {
                context.out.note(question(&preview))?;
            } else if !confirm(context.out, &question(&preview), false)? {
                return Ok(Exit::Failed);
            } else {
                // What was asked said so.
                stop |= preview.to.is_none();
            }
        }
        // Who is sure does not wait for what it would do.
        (Err(error), true) => {
            context.out.note(format!("what it does is not known beforehand: {error:#}"))?
        }
        (Err(error), false) => return Err(error),
    }
    let request = RevertRequest {
        why: why("revert", &args.decision),
        to: args.to.clone(),
        environment: args.environment.clone(),
        stop,
    };
    let answer: RevertAnswer = client.post(&path, &request).await?;
    context.out.answer(&answer, reverted)?;
    if !args.wait.wait {
        return Ok(Exit::Done);
    }
    let within = (Until::DoneOrHalted, Duration::from_secs(args.wait.timeout));
    let id = &answer.rollout.rollout;
    let end = watch_to_the_end(context, &client, id, within).await?;
    let Some(end) = end else { return Ok(Exit::TimedOut) };
    let exit = gone_back(&end.rollout);
    if exit != Exit::Done || end.rollout.counts.failed == 0 {
        return Ok(exit);
    }
    let page: RolloutPage = client.get(&format!("/v1/rollouts/{}", part(id.as_str()))).await?;
    Ok(match not_back(&page.hosts) {
        Some(text) => {
            context.out.note(text)?;
            Exit::Ended
        }
        None => exit,
    })
}

/// Which hosts did not go back, and what to do about the first; `None` where all did.
fn not_back(hosts: &[RolloutHost]) -> Option<String> {
    let stay: Vec<&str> =
        hosts.iter().filter(|host| host.stays).map(|host| host.name.as_str()).collect();
    let first = stay.first()?;
    let shown = stay.iter().take(OTHERS_SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = match stay.len().saturating_sub(OTHERS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let hosts = count(stay.len() as u64, "host");
    Some(format!(
        "{hosts} did not go back: {shown}{more}; 'swell host why {first}' says what to do"
    ))
}

async fn preview(client: &Client, path: &str, args: &RevertArgs) -> anyhow::Result<RevertPreview> {
    let to = args.to.as_ref().map(|to| format!("to={}", part(to.as_str())));
    let place = args.environment.as_ref();
    let place = place.map(|name| format!("environment={}", part(name.as_str())));
    let query: Vec<String> = to.into_iter().chain(place).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(client.get(&format!("{path}{mark}{}", query.join("&"))).await?)
}

/// What is asked: service, versions, number of hosts, and where the service stops.
fn question(preview: &RevertPreview) -> String {
    let RevertPreview { from, to, hosts, stops, .. } = preview;
    let service = format!("{}{}", preview.service, place(preview.environment.as_ref()));
    if *hosts == 0 && *stops == 0 {
        return format!(
            "revert {service} {from}: no host has switched to it, and what runs everywhere stays; 'swell revert \
             {service}' after that leaves what runs"
        );
    }
    let Some(to) = to else {
        return format!(
            "revert {service} {from}, its first release: it stops on {}, and nothing of it runs there then",
            count(*stops, "host")
        );
    };
    let stops = match stops {
        0 => String::new(),
        stops => format!("; it stops on {}, where nothing ran before", count(*stops, "host")),
    };
    format!("revert {service} from {from} to {to} on {}{stops}", count(*hosts, "host"))
}

/// Hosts that the revert leaves as they are, a line each.
pub(crate) fn others(others: &[RevertOther]) -> Vec<String> {
    let line = |other: &RevertOther| {
        if let Some(why) = &other.why {
            return format!("{} is left as it is: {why}", other.host);
        }
        let runs = other.runs.as_ref().map_or("nothing of it".to_owned(), ToString::to_string);
        format!("{} runs {runs} and is left as it is", other.host)
    };
    let mut lines: Vec<String> = others.iter().take(OTHERS_SHOWN).map(line).collect();
    if let Some(more) = others.len().checked_sub(OTHERS_SHOWN).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn reverted(answer: &RevertAnswer) -> String {
    let (id, service) = (&answer.rollout.rollout, &answer.rollout.service);
    let place = place(answer.rollout.environment.as_ref());
    format!(
        "revert of {service}{place} in force after {} ms\nrollout {id}; swell watch {id}",
        answer.answered_ms
    )
}

/// A revert that ended as reverted, or as a rollout of the older release that completed, is done.
pub(crate) fn gone_back(rollout: &RolloutSummary) -> Exit {
    match (rollout.phase, rollout.outcome) {
        (PhaseName::Done, Some(OutcomeName::Reverted)) => Exit::Done,
        _ => exit_of(rollout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(more: serde_json::Value) -> RevertPreview {
        let mut value = serde_json::json!({"service": "shop", "from": "1.1.0", "to": "1.0.0",
            "hosts": 212, "stops": 0, "others": []});
        for (key, more) in more.as_object().expect("an object") {
            value[key] = more.clone();
        }
        serde_json::from_value(value).expect("a preview")
    }

    #[test]
    fn the_question_names_service_versions_and_hosts() {
        let plain = preview(serde_json::json!({}));
        assert_eq!(question(&plain), "revert shop from 1.1.0 to 1.0.0 on 212 hosts");
        let some = preview(serde_json::json!({"hosts": 1, "stops": 3}));
        assert_eq!(
            question(&some),
            "revert shop from 1.1.0 to 1.0.0 on 1 host; it stops on 3 hosts, where nothing ran before"
        );
        let none = preview(serde_json::json!({"hosts": 0, "to": null}));
        assert_eq!(
            question(&none),
            "revert shop 1.1.0: no host has switched to it, and what runs everywhere stays; 'swell revert shop' after \
             that leaves what runs"
        );
        let first =
            preview(serde_json::json!({"from": "1.0.0", "to": null, "hosts": 3, "stops": 3}));
        assert_eq!(
            question(&first),
            "revert shop 1.0.0, its first release: it stops on 3 hosts, and nothing of it runs there then"
        );
    }

    #[test]
    fn hosts_that_did_not_go_back_are_named() {
        let host = |name: &str, progress: &str, stays: bool| RolloutHost {
            name: name.parse().expect("a name"),
            wave: 0,
            progress: progress.into(),
            why: None,
            stays,
        };
        let mut hosts = vec![host("web-1", "reverted", false), host("web-3", "failed", false)];
        assert_eq!(not_back(&hosts), None, "what failed and is back is back");
        hosts.push(host("web-2", "failed", true));
        let want = "1 host did not go back: web-2; 'swell host why web-2' says what to do";
        assert_eq!(not_back(&hosts).as_deref(), Some(want));
    }

    #[test]
    fn hosts_that_run_something_else_are_named() {
        let other = |at: u32| serde_json::json!({"host": format!("web-{at}"), "runs": "1.2.0"});
        let many: Vec<_> = (0..12).map(other).collect();
        let lines = others(&preview(serde_json::json!({"others": many})).others);
        assert_eq!(lines[0], "web-0 runs 1.2.0 and is left as it is");
        assert_eq!((lines.len(), lines[10].as_str()), (11, "and 2 more"));
        let none = serde_json::json!({"others": [{"host": "web-1", "runs": null}]});
        assert_eq!(
            others(&preview(none).others),
            ["web-1 runs nothing of it and is left as it is"]
        );
    }
}
