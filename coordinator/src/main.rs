//! The coordinator's command: arguments, environment, logs, signals, exit codes. Nothing else.
#![expect(clippy::print_stdout, reason = "a command talks to people")]

mod args;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use groundswell_common::Clock as _;
use groundswell_coordinator::app::{Listening, SystemClock, serve};
use groundswell_coordinator::config::{ConfigError, Settings};
use groundswell_coordinator::init::{InitRequest, Layout, init, next_steps};
use groundswell_coordinator::ledger::Log;
use groundswell_coordinator::renew;
use groundswell_net::Notify;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, ConfigVerb, InitArgs, LedgerVerb, OperatorVerb, RootVerb, Verb};

/// Exit code for a failure that may pass by itself.
const EXIT_TEMPORARY: u8 = 75;
/// Exit code for settings that a person must change.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed or full; the exit code still says it.
            drop(writeln!(std::io::stderr(), "groundswell-coordinator: {error:#}"));
            exit_code(&error)
        }
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<ConfigError>().is_some() {
        return ExitCode::from(EXIT_CONFIG);
    }
    let passing = error.chain().filter_map(|e| e.downcast_ref::<std::io::Error>()).any(|e| {
        matches!(e.kind(), std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AddrNotAvailable)
    });
    if passing { ExitCode::from(EXIT_TEMPORARY) } else { ExitCode::FAILURE }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Init(args) => begin(args),
        Verb::Serve { state } => start(state),
        Verb::Config(ConfigVerb::Show { state }) => {
            let settings = Settings::load(&state)?;
            print!("{}", toml::to_string(&settings).context("failed to print the settings")?);
            Ok(())
        }
        Verb::Root(RootVerb::Renew { state, key, days }) => {
            let (version, end) = renew::root(&state, &key, (days, SystemClock.now()))
                .context("failed to renew the root")?;
            println!(
                "root {version} counts until {end}\nnext: restart the coordinator; hosts take it with their next \
                 connection"
            );
            Ok(())
        }
        Verb::Operator(OperatorVerb::Reset { name, state, output }) => {
            let settings = Settings::load(&state)?;
            renew::admin((&state, &settings), &name, (&output, SystemClock.now()))
                .with_context(|| format!("failed to make {name} an admin"))?;
            println!(
                "{} is the profile of {name}, an admin: hand it over safely, it holds a key\n\
                 next: start the coordinator",
                output.display()
            );
            Ok(())
        }
        Verb::Ledger(LedgerVerb::Verify { state }) => {
            let head = Log::verify(&Layout::new(&state).ledger(), &mut |_| {})
                .context("failed to verify the ledger")?;
            println!("{} entries, chain {}", head.seq, head.chain);
            Ok(())
        }
    }
}

fn begin(args: InitArgs) -> anyhow::Result<()> {
    let request = InitRequest {
        state: args.state,
        fleet: args.fleet,
        hosts: args.hosts,
        agents: args.agents,
        api: args.api,
        blobs: args.blobs,
        admin: args.admin,
    };
    let settings = init(&request, SystemClock.now())?;
    let state = request.state.display();
    println!(
        "made fleet {} in {state}\n\
         the root key is {state}/keys/root.pem: move it to a machine that is not on the network\n\
         the admin's profile is {state}/admin.profile: keep it as you keep a key\n\
         {}",
        settings.fleet,
        next_steps(&request.state)
    );
    Ok(())
}

fn start(state: PathBuf) -> anyhow::Result<()> {
    let settings = Settings::load(&state)?;
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|_| ConfigError::Bounds { key: "log", want: "a level, or filters by module" })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say on the same standard error that it cannot write there, and panic over that.
        .log_internal_errors(false)
        .init();
    let environment = |name: &str| std::env::var(name).ok();
    let notify = Notify::new(environment("NOTIFY_SOCKET").as_deref(), None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let served = runtime.block_on(async {
        let (tell, stop) = watch::channel(false);
        tokio::spawn(stop_by_signal(tell));
        serve((&state, &settings), &notify, stop, announce).await
    });
    // What still runs are connections; nothing that was acknowledged is in them.
    runtime.shutdown_background();
    served
}

fn announce(listening: &Listening) {
    let Listening { agents, api, blobs } = listening;
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "ready agents={agents} api={api} blobs={blobs}");
    if let Err(error) = written.and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads the ready line");
    }
}

async fn stop_by_signal(tell: watch::Sender<bool>) {
    let (Ok(mut term), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot wait for signals; stop the process by SIGKILL");
        // Without signals the process must still go on serving.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    tell.send_replace(true);
}
