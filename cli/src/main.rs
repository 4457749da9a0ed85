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
mod labels;
mod output;
mod pack;
mod profile;
mod rehearsal;
mod spec;
mod svg;
mod told;
mod usage;
mod verbs;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::args::{Cli, Verb};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Out;
use crate::told::Told;

fn main() -> ExitCode {
    let cli = usage::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&cli, &anyhow::Error::new(error).context("start")).into(),
    };
    match runtime.block_on(run(&cli)) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Done.into(),
        Err(error) => report(&cli, &error).into(),
    }
}

async fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let context = Context { out: Out { json: cli.json }, profile: cli.profile.clone() };
    let context = &context;
    match &cli.verb {
        Verb::Publish(args) => verbs::publish(context, args).await,
        Verb::Service(verb) => verbs::service(context, verb).await,
        Verb::Plan(args) => verbs::plan(context, args).await,
        Verb::Simulate(args) => verbs::simulate(context, args).await,
        Verb::Rollout(verb) => verbs::rollout(context, verb).await,
        Verb::Approve(args) => verbs::approve(context, args).await,
        Verb::Host(verb) => verbs::host(context, verb).await,
        Verb::Release(verb) => verbs::release(context, verb).await,
        Verb::Operator(verb) => verbs::operator(context, verb).await,
        Verb::Audit(verb) => verbs::audit(context, verb).await,
        Verb::Status => verbs::status(context).await,
        Verb::Halt(args) => verbs::halt(context, args).await,
        Verb::Revert(args) => verbs::revert(context, args).await,
        Verb::Pause(args) => verbs::pause(context, args).await,
        Verb::Resume(args) => verbs::resume(context, args).await,
        Verb::Promote(args) => verbs::promote(context, args).await,
        Verb::Watch(args) => verbs::watch(context, args).await,
        Verb::Show { rollout } => verbs::show(context, rollout).await,
        Verb::Demo(args) => demo::demo(context, args).await,
    }
}

/// Whether the reader of our output went away, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// Prints an error with its whole chain, once, and what to do about it.
fn report(cli: &Cli, error: &anyhow::Error) -> Exit {
    let exit = Exit::of(error);
    let told = Told::of(error, exit, cli.verbose);
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{}", if cli.json { told.json() } else { told.text() });
    exit
}
