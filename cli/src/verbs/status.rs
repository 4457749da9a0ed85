//! `swell status`: the fleet at a glance.

use std::fmt::Write as _;

use groundswell_common::api::StatusAnswer;

use super::rollout::rollouts_table;
use super::service::services_table;
use crate::context::Context;
use crate::exit::Exit;

/// Prints the fleet at a glance.
pub(crate) async fn status(context: &Context) -> anyhow::Result<Exit> {
    let answer: StatusAnswer = context.client()?.get("/v1/status").await?;
    context.out.answer(&answer, show)?;
    Ok(Exit::Done)
}

fn show(status: &StatusAnswer) -> String {
    let mut text = format!(
        "fleet {}: {} of {} hosts connected; coordinator {} since {}, ledger at {}\n",
        status.fleet,
        status.connected,
        status.hosts,
        status.version,
        status.started,
        status.ledger_seq
    );
    if status.starting {
        text.push_str("just started: permits are withheld for a moment\n");
    }
    // Writing to a string cannot fail.
    if !status.services.is_empty() {
        let _ = write!(text, "\n{}", services_table(&status.services));
    }
    if !status.rollouts.is_empty() {
        let _ = write!(text, "\n{}", rollouts_table(&status.rollouts));
    }
    text
}
