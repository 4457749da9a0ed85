//! `swell`: what people and CI jobs type. Reads the command line, runs one verb, prints the error where
//! there is one. Decides nothing about rollouts; the coordinator does.

mod args;
mod client;
mod context;
mod demo;
mod exit;
mod fit;
mod follow;
mod git;
mod output;
mod pack;
mod profile;
mod rehearsal;
mod spec;
mod svg;
mod verbs;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::args::{Cli, Verb};
use crate::client::ClientError;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Out, clean};
use crate::verbs::Stop;

fn main() -> ExitCode {
    let cli = args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&anyhow::Error::new(error).context("start")).into(),
    };
    match runtime.block_on(run(&cli)) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Done.into(),
        Err(error) => report(&error).into(),
    }
}

async fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let context = Context { out: Out { json: cli.json }, profile: cli.profile.clone() };
    match &cli.verb {
        Verb::Publish(args) => verbs::publish(&context, args).await,
        Verb::Service(verb) => verbs::service(&context, verb).await,
        Verb::Plan(args) => verbs::plan(&context, args).await,
        Verb::Simulate(args) => verbs::simulate(&context, args),
        Verb::Rollout(verb) => verbs::rollout(&context, verb).await,
        Verb::Approve(args) => verbs::approve(&context, args).await,
        Verb::Host(verb) => verbs::host(&context, verb).await,
        Verb::Release(verb) => verbs::release(&context, verb).await,
        Verb::Operator(verb) => verbs::operator(&context, verb).await,
        Verb::Audit(verb) => verbs::audit(&context, verb).await,
        Verb::Status => verbs::status(&context).await,
        Verb::Halt(args) => verbs::stop(&context, Stop::Halt, args).await,
        Verb::Revert(args) => verbs::stop(&context, Stop::Revert, args).await,
        Verb::Demo(args) => demo::demo(&context, args).await,
    }
}

/// Whether the reader of our output went away, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// Prints an error with its whole chain, once, and what to do about it.
fn report(error: &anyhow::Error) -> Exit {
    let mut stderr = io::stderr().lock();
    let hint = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>()?.hint());
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(stderr, "swell: failed to {}", clean(&format!("{error:#}")));
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "  hint: {}", clean(hint));
    }
    Exit::of(error)
}
