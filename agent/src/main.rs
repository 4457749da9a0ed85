//! The agent's command. Reads the environment and the arguments; prints; decides exit codes.

mod args;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Parser as _;
use groundswell_agent::app::{self, Again, AppError, Environment};
use groundswell_agent::config::{self, Settings};
use groundswell_agent::own::{self, RELEASE_VARIABLE, Side};
use groundswell_agent::{doctor, hand, status, why};
use groundswell_common::{HostName, chain};
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Arguments, ConfigVerb, Verb};

/// sysexits.h: the user's input or configuration is wrong.
const EX_CONFIG: u8 = 78;
/// sysexits.h: the same may work later.
const EX_TEMPFAIL: u8 = 75;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One level for everything: filters by module cost a megabyte of program for regular expressions.
    let level = std::env::var("GROUNDSWELL_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // It would say on the same standard error that it cannot write there, and panic over that.
        .log_internal_errors(false)
        .init();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            let code = error.downcast_ref::<AppError>().map_or(EX_CONFIG, AppError::exit_code);
            // Standard error may be closed; the exit code still says it.
            drop(writeln!(
                std::io::stderr(),
                "groundswell-agent: failed to {error:#}{}",
                sudo(&error)
            ));
            ExitCode::from(code)
        }
    }
}

/// The next step of a person who may not.
fn sudo(error: &anyhow::Error) -> &'static str {
    let denied = |cause: &(dyn std::error::Error + 'static)| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        kind == Some(std::io::ErrorKind::PermissionDenied)
    };
    let may = rustix::process::geteuid().is_root();
    if !may && error.chain().any(denied) { "; type it with sudo" } else { "" }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if let Verb::Config { verb: ConfigVerb::Keep } = arguments.verb {
        return keep(&arguments.config);
    }
    let opened = config::open(&arguments.config)?;
    let settings = opened.settings.clone();
    match arguments.verb {
        Verb::Enroll { token, name, again } => {
            config::load(&arguments.config)?;
            let again = if again { Again::Yes } else { Again::No };
            enroll(settings, &token, name, again)?;
        }
        Verb::Run => app::run(opened, &environment())?,
        Verb::Net => {
            hand_over(&settings, Side::Net)?;
            app::net(opened, &environment())?;
        }
        Verb::Apply => {
            hand_over(&settings, Side::Apply)?;
            app::apply(opened, &environment())?;
        }
        Verb::Status { json } => {
            let status = status::status(&settings)?;
            print(&if json { status.to_json() + "\n" } else { status.to_table() })?;
        }
        Verb::Doctor { json } => {
            let diagnosis = doctor::examine(&opened);
            print(&if json { diagnosis.to_json() + "\n" } else { diagnosis.to_text() })?;
            if diagnosis.is_bad() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Why { service, json } => {
            let held = why::why(&settings, service.as_ref())?;
            let text = if json {
                serde_json::to_string_pretty(&held)? + "\n"
            } else {
                why::to_text(&held)
            };
            print(&text)?;
        }
        Verb::Revert { service, reason } => {
            let taken = hand::revert(&settings, &service, &reason)?;
            return said(&taken, &format!("{service} goes back"));
        }
        Verb::Retry { service } => {
            let taken = hand::retry(&settings, &service)?;
            let next = format!("'groundswell-agent why {service}' says how it goes");
            return said(&taken, &format!("{service} is started and probed; {next}"));
        }
        Verb::Pause { service, reason } => {
            let taken = hand::pause(&settings, service.as_ref(), &reason)?;
            let what = service.map_or("this host".to_owned(), |service| service.to_string());
            return said(&taken, &format!("{what} is paused: nothing new is switched to"));
        }
        Verb::Resume { service } => {
            let taken = hand::resume(&settings, service.as_ref())?;
            let what = match service {
                None => "this host is resumed".to_owned(),
                Some(service) => match hand::stays_paused(&settings, &service) {
                    Some(next) => format!("{service} stays paused with the whole host: {next}"),
                    None => format!("{service} is resumed"),
                },
            };
            return said(&taken, &what);
        }
        Verb::Hook { service } => app::hook(&settings, &service)?,
        Verb::Unstick { service } => status::unstick(&settings, &service)?,
        // Handled above.
        Verb::Config { verb: ConfigVerb::Keep } => {}
        Verb::Config { verb: ConfigVerb::Show } => {
            print(&config::load(&arguments.config)?.show())?;
        }
        Verb::Config { verb: ConfigVerb::Allows { unit } } if settings.allows(&unit) => {}
        Verb::Config { verb: ConfigVerb::Ships } if !settings.shipped_units.is_empty() => {}
        Verb::Config { verb: ConfigVerb::Allows { .. } | ConfigVerb::Ships } => {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of a person's request.
fn said(taken: &hand::Taken, what: &str) -> anyhow::Result<ExitCode> {
    print(&hand::to_text(taken, what))?;
    Ok(match taken {
        hand::Taken::InForce { .. } | hand::Taken::NotRunning => ExitCode::SUCCESS,
        hand::Taken::Unseen => ExitCode::from(EX_TEMPFAIL),
    })
}

/// Keeps the configuration for a start at which it cannot be read. That it cannot be written is no reason not to
/// start.
fn keep(file: &Path) -> anyhow::Result<ExitCode> {
    config::load(file)?;
    if let Err(error) = config::keep(file) {
        tracing::warn!(error = %chain(&error), "no copy of the settings is kept");
    }
    Ok(ExitCode::SUCCESS)
}

/// Becomes the released program, where there is one to become; returns where this is the one to run.
fn hand_over(settings: &Settings, side: Side) -> anyhow::Result<()> {
    if std::env::var_os(RELEASE_VARIABLE).is_some() {
        return Ok(());
    }
    let Some((program, release)) = own::successor(settings, side) else { return Ok(()) };
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).env(RELEASE_VARIABLE, release.to_string());
    // It returns only where it failed.
    Err(AppError::System(command.exec())).with_context(|| format!("run {}", program.display()))
}

fn environment() -> Environment {
    Environment {
        notify_socket: std::env::var("NOTIFY_SOCKET").ok(),
        watchdog_usec: std::env::var("WATCHDOG_USEC").ok(),
        release: std::env::var(RELEASE_VARIABLE).ok().and_then(|id| id.parse().ok()),
    }
}

fn enroll(
    mut settings: Settings,
    token: &str,
    name: Option<HostName>,
    again: Again,
) -> anyhow::Result<()> {
    let piped =
        if token == "-" { std::io::read_to_string(std::io::stdin())? } else { String::new() };
    if let Some(name) = name {
        settings.name = name;
    }
    print(&app::enroll(&settings, if token == "-" { &piped } else { token }, again)?)
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
